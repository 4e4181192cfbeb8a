//! Files of a commit: put under fresh names, each durable before the pointer moves.

use super::CommitError;
use crate::storage::split_location;
use alluvium_store::objects::{NewObject, Objects, ObjectsError, PutCondition, PutOptions};
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

/// Puts files, those of one bucket together. When the answer is lost, each is asked for alone.
pub(crate) async fn put_all(
    files: &[NewFile],
    objects: &Arc<dyn Objects>,
) -> Result<(), CommitError> {
    let mut by_bucket: BTreeMap<&str, Vec<(&NewFile, NewObject)>> = BTreeMap::new();
    for file in files {
        let (bucket, key) = file.place()?;
        let object = NewObject { key: key.to_string(), bytes: file.bytes.clone() };
        by_bucket.entry(bucket).or_default().push((file, object));
    }
    for (bucket, files) in by_bucket {
        let (files, new): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        match objects.put_all(bucket, new).await {
            Ok(()) => {}
            Err(ObjectsError::Unknown(_)) => {
                try_join_all(files.iter().map(|file| file.put_again(objects))).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
