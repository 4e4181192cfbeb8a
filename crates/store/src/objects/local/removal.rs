//! Removals: of a version for good, or of the current one, which gives way as the bucket says.

use super::Shared;
use super::history::Step;
use super::index::{self, Entry, Found};
use super::publish::{Publication, ROUNDS_MAX};
use super::small;
use crate::objects::versions::{
    NULL_VERSION, Removal, RemoveCondition, Removed, Versioning, order_of,
};
use crate::objects::{Attributes, ObjectMeta, ObjectsError, PutCondition};
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use alluvium_base::kill_point;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A version that a call is about.
pub(super) struct Located {
    /// Its document's version and what it says.
    pub(super) found: Found,
    /// The current version's: the same, if this is the current one.
    pub(super) current: Found,
}

impl Located {
    fn current(found: Found) -> Self {
        Self { current: Arc::clone(&found), found }
    }

    /// Versions of documents do not tell: two that one transaction wrote have the same.
    pub(super) fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.found, &self.current)
    }
}

/// What became of one attempt.
enum Attempt {
    Done(Removed),
    /// Somebody else was faster.
    Again,
}

impl Shared {
    /// A version by its id, or the current one.
    pub(super) async fn locate(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<Located>, ObjectsError> {
        index::bucket_key(bucket)?;
        let object = index::object_key(bucket, key)?;
        for _ in 0..ROUNDS_MAX {
            let Some(current) = self.entry(&object).await? else { return Ok(None) };
            let order = match version {
                None => return Ok(Some(Located::current(current))),
                Some(version) if current.1.is_version(version) => {
                    return Ok(Some(Located::current(current)));
                }
                Some(NULL_VERSION) => current.1.null_at,
                Some(version) => order_of(version).filter(|_| current.1.older),
            };
            let Some(order) = order else { return Ok(None) };
            let older = self.older(bucket, key, order).await?;
            if let Some(found) = older.filter(|(_, e)| version.is_some_and(|v| e.is_version(v))) {
                return Ok(Some(Located { found: Arc::new(found), current }));
            }
            // It may have become the current one between the two looks.
            let now = self.records.get(&object).await.map_err(index::read_error)?;
            if now.is_some_and(|now| now.version == current.0) {
                return Ok(None);
            }
            self.cache.forget(&object);
        }
        Err(self.too_busy(key))
    }

    pub(super) fn too_busy(&self, key: &str) -> ObjectsError {
        let reason = format!("'{key}' was changed by others {ROUNDS_MAX} times meanwhile");
        ObjectsError::Unavailable(reason)
    }

    pub(super) async fn remove(
        &self,
        bucket: &str,
        key: &str,
        removal: &Removal,
    ) -> Result<Removed, ObjectsError> {
        for _ in 0..ROUNDS_MAX {
            let found = self.bucket(bucket).await?;
            let versioning = found.1.versioning;
            let located = self.locate(bucket, key, removal.version.as_deref()).await?;
            check(bucket, key, &removal.condition, located.as_ref())?;
            let attempt = match (located, &removal.version) {
                (Some(located), Some(_)) => {
                    self.remove_located(bucket, key, versioning, found.0, located).await?
                }
                (None, Some(version)) => {
                    let version_id = (versioning != Versioning::Never).then(|| version.clone());
                    Attempt::Done(Removed { version_id, ..Removed::default() })
                }
                (located, None) if versioning != Versioning::Never => {
                    self.mark(bucket, key, located, &removal.condition).await?
                }
                (Some(located), None) => {
                    self.remove_located(bucket, key, versioning, found.0, located).await?
                }
                (None, None) => Attempt::Done(Removed::default()),
            };
            if let Attempt::Done(removed) = attempt {
                return Ok(removed);
            }
        }
        Err(self.too_busy(key))
    }

    /// Puts a delete marker over what is current.
    async fn mark(
        &self,
        bucket: &str,
        key: &str,
        located: Option<Located>,
        condition: &RemoveCondition,
    ) -> Result<Attempt, ObjectsError> {
        let existed = located.as_ref().is_some_and(|located| !located.found.1.marker);
        let preconditions = match (condition, &located) {
            (RemoveCondition::None, _) | (_, None) => vec![],
            (_, Some(located)) => {
                let object = index::object_key(bucket, key)?;
                vec![Precondition::AtVersion(object, located.found.0)]
            }
        };
        let publication = Publication {
            bucket: bucket.to_string(),
            key: key.to_string(),
            entry: Entry {
                attempt: self.blob_id(),
                blobs: vec![],
                etag: String::new(),
                last_modified_ms: self.clock.now_ms(),
                upload: None,
                part_sizes: vec![],
                attributes: Attributes::default(),
                version_id: None,
                order: 0,
                marker: true,
                older: false,
                null_at: None,
                superseded_ms: None,
            },
            condition: PutCondition::None,
            preconditions,
            operations: vec![],
        };
        match self.publish(&publication, vec![]).await? {
            super::publish::Published::Done(meta) => {
                let version_id = meta.version_id;
                Ok(Attempt::Done(Removed { version_id, is_marker: true, existed }))
            }
            super::publish::Published::Changed => Ok(Attempt::Again),
        }
    }

    /// Removes a version for good.
    async fn remove_located(
        &self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
        bucket_version: u64,
        located: Located,
    ) -> Result<Attempt, ObjectsError> {
        let object = index::object_key(bucket, key)?;
        let target = &located.found.1;
        let mut step = if located.is_current() {
            self.without_current(bucket, key, target).await?
        } else {
            let mut step = Step::default();
            let place = index::version_key(bucket, key, target.order);
            step.preconditions.push(Precondition::AtVersion(place.clone(), located.found.0));
            step.operations.push(Operation::Delete(place));
            step.gone.clone_from(&target.blobs);
            if target.version_id.is_none() {
                let current = Entry { null_at: None, ..located.current.1.clone() };
                step.operations.push(Operation::Put(object.clone(), index::encode(&current)));
            }
            step
        };
        step.preconditions.extend([
            Precondition::AtVersion(index::bucket_key(bucket)?, bucket_version),
            Precondition::AtVersion(object.clone(), located.current.0),
        ]);
        let watched = match located.is_current() {
            true => object.clone(),
            false => index::version_key(bucket, key, target.order),
        };
        self.moves.note(&step.moved);
        kill_point("version-before-removal");
        let Step { preconditions, mut operations, gone, .. } = step;
        operations.extend(small::removals(&gone));
        let outcome = self.records.transact(Transaction { preconditions, operations }).await;
        self.cache.forget(&object);
        match outcome {
            Outcome::Committed { .. } => {}
            Outcome::Conflict(failed) => {
                self.buckets.forget(failed.key());
                return Ok(Attempt::Again);
            }
            Outcome::Fenced => return Err(ObjectsError::Fenced),
            Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
            Outcome::Unknown(reason) => match self.records.get(&watched).await {
                Err(_) => return Err(ObjectsError::Unknown(reason)),
                Ok(Some(document)) if document.version == located.found.0 => {
                    return Err(ObjectsError::Unavailable(reason));
                }
                // Somebody put another version over it: it may be among the older ones.
                Ok(Some(_)) if versioning != Versioning::Never && located.is_current() => {
                    match self.older(bucket, key, target.order).await {
                        Ok(None) => {}
                        Ok(Some(_)) => return Err(ObjectsError::Unavailable(reason)),
                        Err(_) => return Err(ObjectsError::Unknown(reason)),
                    }
                }
                // That version is gone, which is all that was asked.
                Ok(_) => {}
            },
        }
        kill_point("version-after-removal");
        let meta = target.meta(key, located.found.0, versioning);
        let removed =
            Removed { version_id: meta.version_id, is_marker: target.marker, existed: true };
        self.remove_blobs(gone);
        Ok(Attempt::Done(removed))
    }

    /// Replaces the tags of a version.
    pub(super) async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<ObjectMeta, ObjectsError> {
        let object = index::object_key(bucket, key)?;
        for _ in 0..ROUNDS_MAX {
            let versioning = self.versioning(bucket).await?;
            let located = self.locate(bucket, key, version).await?;
            let Some(located) = located.filter(|located| !located.found.1.marker) else {
                return Err(self.missing(bucket, key).await);
            };
            let place: Key = match located.is_current() {
                true => object.clone(),
                false => index::version_key(bucket, key, located.found.1.order),
            };
            let mut entry = Entry { attempt: self.blob_id(), ..located.found.1.clone() };
            entry.attributes.tags.clone_from(&tags);
            let transaction = Transaction {
                preconditions: vec![Precondition::AtVersion(place.clone(), located.found.0)],
                operations: vec![Operation::Put(place.clone(), index::encode(&entry))],
            };
            let outcome = self.records.transact(transaction).await;
            self.cache.forget(&object);
            match outcome {
                Outcome::Committed { version } => return Ok(entry.meta(key, version, versioning)),
                Outcome::Conflict(_) => {}
                Outcome::Fenced => return Err(ObjectsError::Fenced),
                Outcome::Unavailable(reason) => return Err(ObjectsError::Unavailable(reason)),
                Outcome::Unknown(reason) => {
                    let Ok(Some(now)) = self.records.get(&place).await else {
                        return Err(ObjectsError::Unknown(reason));
                    };
                    if index::decode::<Entry>(&now)?.attempt == entry.attempt {
                        return Ok(entry.meta(key, now.version, versioning));
                    }
                    if now.version == located.found.0 {
                        return Err(ObjectsError::Unavailable(reason));
                    }
                    return Err(ObjectsError::Unknown(reason));
                }
            }
        }
        Err(self.too_busy(key))
    }
}

fn check(
    bucket: &str,
    key: &str,
    condition: &RemoveCondition,
    located: Option<&Located>,
) -> Result<(), ObjectsError> {
    let live = located.filter(|located| !located.found.1.marker);
    let met = match (condition, live) {
        (RemoveCondition::None, _) | (RemoveCondition::IfExists, Some(_)) => true,
        (RemoveCondition::IfMatch(etag), Some(live)) => *etag == live.found.1.etag,
        (RemoveCondition::IfMatch(_) | RemoveCondition::IfExists, None) => {
            return Err(ObjectsError::NotFound { bucket: bucket.into(), key: key.into() });
        }
        (RemoveCondition::IfUnchanged(version), _) => {
            located.is_some_and(|located| located.found.0 == *version)
        }
    };
    if met { Ok(()) } else { Err(ObjectsError::Precondition { key: key.into() }) }
}
