//! Files of a commit: put under fresh names, each durable before the pointer moves.

use super::CommitError;
use crate::storage::split_location;
use alluvium_store::objects::{Objects, ObjectsError, PutCondition, PutOptions};
use bytes::Bytes;
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
    /// Puts the file if nothing is there. Its name is fresh, so that what is there after a lost
    /// answer is ours.
    pub(crate) async fn put(self, objects: &Arc<dyn Objects>) -> Result<(), CommitError> {
        let (bucket, key) = split_location(&self.location)
            .ok_or_else(|| CommitError::Invalid(format!("location '{}'", self.location)))?;
        let mut asked_before = false;
        for _ in 0..PUTS_MAX {
            let options = PutOptions {
                condition: PutCondition::IfAbsent,
                expected_size_bytes: u64::try_from(self.bytes.len()).ok(),
                ..PutOptions::default()
            };
            match objects.put_bytes(bucket, key, self.bytes.clone(), options).await {
                Ok(_) => return Ok(()),
                Err(ObjectsError::Unknown(_)) => asked_before = true,
                Err(ObjectsError::Precondition { .. }) if asked_before => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Unavailable(format!("'{}' could not be written", self.location)))
    }
}
