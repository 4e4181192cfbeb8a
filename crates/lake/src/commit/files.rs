//! Files of a commit: put under fresh names, each durable before the pointer moves, or with it: where
//! the objects' index is in the same records, one transaction puts them and moves the pointer.

use super::CommitError;
use crate::storage::split_location;
use alluvium_store::objects::{NewObject, Objects, ObjectsError, PutCondition, PutOptions, Staged};
use alluvium_store::records::Records;
use bytes::Bytes;
use futures::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A lost answer is asked for again at most this often.
const PUTS_MAX: usize = 4;

/// A file to be written.
#[derive(Debug, Clone)]
pub(crate) struct NewFile {
    pub(crate) location: String,
    pub(crate) bytes: Bytes,
}

impl NewFile {
    fn place(&self) -> Result<(&str, &str), CommitError> {
        let location = &self.location;
        split_location(location)
            .ok_or_else(|| CommitError::Invalid(format!("location '{location}'")))
    }

    /// Puts the file after an answer was lost. Its name is fresh, so that what is there is ours.
    async fn put_again(&self, objects: &Arc<dyn Objects>) -> Result<(), CommitError> {
        let (bucket, key) = self.place()?;
        for _ in 0..PUTS_MAX {
            let options = PutOptions {
                condition: PutCondition::IfAbsent,
                expected_size_bytes: u64::try_from(self.bytes.len()).ok(),
                ..PutOptions::default()
            };
            match objects.put_bytes(bucket, key, self.bytes.clone(), options).await {
                Ok(_) | Err(ObjectsError::Precondition { .. }) => return Ok(()),
                Err(ObjectsError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Unavailable(format!("'{}' could not be written", self.location)))
    }
}

/// Files of one bucket, and as objects of it.
type OfBucket<'a> = (Vec<&'a NewFile>, Vec<NewObject>);

fn by_bucket(files: &[NewFile]) -> Result<BTreeMap<&str, OfBucket<'_>>, CommitError> {
    let mut buckets: BTreeMap<&str, OfBucket<'_>> = BTreeMap::new();
    for file in files {
        let (bucket, key) = file.place()?;
        let (files, objects) = buckets.entry(bucket).or_default();
        files.push(file);
        let bytes = file.bytes.clone();
        objects.push(NewObject { key: key.to_string(), bytes, lasting: false });
    }
    Ok(buckets)
}

/// Puts files, those of one bucket together. When the answer is lost, each is asked for alone.
pub(crate) async fn put_all(
    files: &[NewFile],
    objects: &Arc<dyn Objects>,
) -> Result<(), CommitError> {
    for (bucket, files) in by_bucket(files)? {
        put_of_bucket(bucket, files, objects).await?;
    }
    Ok(())
}

async fn put_of_bucket(
    bucket: &str,
    (files, new): OfBucket<'_>,
    objects: &Arc<dyn Objects>,
) -> Result<(), CommitError> {
    match objects.put_all(bucket, new).await {
        Ok(()) => Ok(()),
        Err(ObjectsError::Unknown(_)) => {
            try_join_all(files.iter().map(|file| file.put_again(objects))).await.map(drop)
        }
        Err(error) => Err(error.into()),
    }
}

/// Stages files for a transaction on these records where that can be, and puts them otherwise.
pub(crate) async fn stage_all(
    files: &[NewFile],
    objects: &Arc<dyn Objects>,
    records: &Arc<dyn Records>,
) -> Result<Vec<Staged>, CommitError> {
    let mut all = Vec::new();
    for (bucket, of_bucket) in by_bucket(files)? {
        match objects.stage_all(records, bucket, &of_bucket.1).await? {
            Some(staged) => all.push(staged),
            None => put_of_bucket(bucket, of_bucket, objects).await?,
        }
    }
    Ok(all)
}
