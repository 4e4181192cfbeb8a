//! What a write does to the versions before it: the changes that go with it in one transaction.

use super::Shared;
use super::blob::BlobRef;
use super::index::{self, Entry, Found};
use crate::objects::ObjectsError;
use crate::objects::versions::{Versioning, next_order, version_id};
use crate::records::{Operation, Precondition, Scan};

/// The changes of a key's history, beside that of its current version.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) preconditions: Vec<Precondition>,
    pub(super) operations: Vec<Operation>,
    /// What nothing names afterwards.
    pub(super) gone: Vec<BlobRef>,
    /// What another document names afterwards.
    pub(super) moved: Vec<BlobRef>,
}

/// An older version: the version of its document, and what it says.
pub(super) type Older = (u64, Entry);

impl Shared {
    /// Makes `entry` the version that follows `old`, and says what becomes of that.
    pub(super) async fn succeed(
        &self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
        old: Option<&Found>,
        entry: &mut Entry,
    ) -> Result<Step, ObjectsError> {
        let mut step = Step::default();
        if versioning == Versioning::Never {
            step.gone = old.map(|old| old.1.blobs.clone()).unwrap_or_default();
            return Ok(step);
        }
        entry.order = next_order(entry.last_modified_ms, old.map(|old| old.1.order));
        let kept = versioning == Versioning::Enabled;
        entry.version_id = kept.then(|| version_id(entry.order, entry.attempt.fingerprint()));
        let Some((_, before)) = old.map(|old| &**old) else { return Ok(step) };
        if !kept && before.version_id.is_none() {
            // The null version gives way to the null version.
            entry.older = before.older;
            step.gone.clone_from(&before.blobs);
            return Ok(step);
        }
        if !kept && let Some(order) = before.null_at {
            self.drop_older(bucket, key, order, &mut step).await?;
        }
        entry.older = true;
        entry.null_at = match before.version_id {
            _ if !kept => None,
            None => Some(before.order),
            Some(_) => before.null_at,
        };
        let superseded = Entry {
            older: false,
            null_at: None,
            superseded_ms: Some(entry.last_modified_ms),
            ..before.clone()
        };
        let place = index::version_key(bucket, key, before.order);
        step.moved.clone_from(&before.blobs);
        step.preconditions.push(Precondition::Absent(place.clone()));
        step.operations.push(Operation::Put(place, index::encode(&superseded)));
        Ok(step)
    }

    /// Takes an older version away, if it is there.
    pub(super) async fn drop_older(
        &self,
        bucket: &str,
        key: &str,
        order: u64,
        step: &mut Step,
    ) -> Result<(), ObjectsError> {
        let place = index::version_key(bucket, key, order);
        let Some((at, entry)) = self.older(bucket, key, order).await? else { return Ok(()) };
        step.preconditions.push(Precondition::AtVersion(place.clone(), at));
        step.operations.push(Operation::Delete(place));
        step.gone.extend(entry.blobs);
        Ok(())
    }

    /// The older version of an order.
    pub(super) async fn older(
        &self,
        bucket: &str,
        key: &str,
        order: u64,
    ) -> Result<Option<Older>, ObjectsError> {
        let place = index::version_key(bucket, key, order);
        let document = self.records.get(&place).await.map_err(index::read_error)?;
        document.map(|d| Ok((d.version, index::decode(&d)?))).transpose()
    }

    /// The older versions of a key, newest first, behind one of an order.
    pub(super) async fn older_after(
        &self,
        bucket: &str,
        key: &str,
        order: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Older>, ObjectsError> {
        let scan = Scan {
            collection: index::VERSION,
            prefix: index::versions_prefix(bucket, key),
            after: order.map(|order| index::version_key(bucket, key, order).id),
            limit,
        };
        let documents = self.records.scan(scan).await.map_err(index::read_error)?;
        documents.iter().map(|d| Ok((d.version, index::decode(d)?))).collect()
    }

    /// What a key's history is without its current version: the next older one takes its place.
    pub(super) async fn without_current(
        &self,
        bucket: &str,
        key: &str,
        current: &Entry,
    ) -> Result<Step, ObjectsError> {
        let object = index::object_key(bucket, key)?;
        let mut step = Step { gone: current.blobs.clone(), ..Step::default() };
        let next = match current.older {
            true => self.older_after(bucket, key, None, 1).await?.pop(),
            false => None,
        };
        let Some((at, next)) = next else {
            step.operations.push(Operation::Delete(object));
            return Ok(step);
        };
        let place = index::version_key(bucket, key, next.order);
        let null_at = next.version_id.as_ref().and(current.null_at);
        step.moved.clone_from(&next.blobs);
        step.preconditions.push(Precondition::AtVersion(place.clone(), at));
        step.operations.push(Operation::Delete(place));
        let entry = Entry { older: true, null_at, superseded_ms: None, ..next };
        step.operations.push(Operation::Put(object, index::encode(&entry)));
        Ok(step)
    }
}
