//! What a caller asks of a commit, and what it gets.

use super::expiry::{ExpiredSnapshots, SnapshotPolicy};
use super::groups::DeleteCounts;
use super::rewrite::Rewrite;
use crate::catalog::{CheckpointMove, TableRecord};
use alluvium_store::records::{Operation, Precondition};
use iceberg::spec::{DataFile, TableMetadataRef};
use iceberg::{TableRequirement, TableUpdate};
use std::collections::BTreeMap;

/// Files to add, all of one partition spec: data files and staged keys, whose order is meaning (see
/// [`crate::delta`]).
#[derive(Debug, Clone)]
pub struct Append {
    /// The partition spec that the files were written by.
    pub spec_id: i32,
    /// The files; they exist already.
    pub files: Vec<DataFile>,
}

#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Nothing but checkpoints and the caller's operations.
    Nothing,
    /// Adds files; rebased when it loses a race.
    Append { appends: Vec<Append>, summary: BTreeMap<String, String> },
    /// Files take the place of others that say the same; judged again when it loses a race.
    Rewrite(Box<Rewrite>),
    /// The REST catalog's commit; what it requires is checked again when it loses a race.
    Update { requirements: Vec<TableRequirement>, updates: Vec<TableUpdate> },
    /// Another metadata file takes the place of the current one.
    Swap { location: String, token: Option<String> },
    /// Snapshots go; which ones is decided anew when it loses a race.
    Expire { policy: SnapshotPolicy, expired: ExpiredSnapshots },
}

/// A change of one table.
#[derive(Debug, Clone)]
pub struct TableChange {
    pub(crate) work: Work,
    pub(crate) checkpoints: Vec<CheckpointMove>,
    pub(crate) preconditions: Vec<Precondition>,
    pub(crate) operations: Vec<Operation>,
}

impl TableChange {
    fn of(work: Work) -> Self {
        let (checkpoints, preconditions, operations) = (Vec::new(), Vec::new(), Vec::new());
        Self { work, checkpoints, preconditions, operations }
    }

    /// Adds data files of one partition spec. Without files the table's pointer stays where it is
    /// and only checkpoints and operations move: no rows, no table commit. `summary` becomes part
    /// of the snapshot's summary.
    pub fn append(spec_id: i32, files: Vec<DataFile>, summary: BTreeMap<String, String>) -> Self {
        Self::append_all(vec![Append { spec_id, files }], summary)
    }

    /// Adds data files of several partition specs in one snapshot.
    pub fn append_all(mut appends: Vec<Append>, summary: BTreeMap<String, String>) -> Self {
        appends.retain(|append| !append.files.is_empty());
        if appends.is_empty() {
            return Self::of(Work::Nothing);
        }
        Self::of(Work::Append { appends, summary })
    }

    /// Puts files in the place of others that say the same.
    pub fn rewrite(rewrite: Rewrite) -> Self {
        Self::of(Work::Rewrite(Box::new(rewrite)))
    }

    /// The REST catalog's commit: all requirements hold and all updates apply, or nothing is done.
    pub fn update(requirements: Vec<TableRequirement>, updates: Vec<TableUpdate>) -> Self {
        Self::of(Work::Update { requirements, updates })
    }

    /// Makes a metadata file that is in the table's warehouse the current one (S3 Tables'
    /// `UpdateTableMetadataLocation`). `token` must be the table's current version token.
    pub fn swap(location: impl Into<String>, token: Option<String>) -> Self {
        Self::of(Work::Swap { location: location.into(), token })
    }

    /// Removes the snapshots that a policy lets go of. The table stays as it is when there are
    /// none. Which they were is in the second part once the commit is done.
    pub fn expire(policy: SnapshotPolicy) -> (Self, ExpiredSnapshots) {
        let expired = ExpiredSnapshots::default();
        (Self::of(Work::Expire { policy, expired: expired.clone() }), expired)
    }

    /// Moves a stream's checkpoint with the change. When it stands at or past `to` already, the
    /// change was done before and is not done again.
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: CheckpointMove) -> Self {
        self.checkpoints.push(checkpoint);
        self
    }

    /// Adds documents to the transaction that moves the pointer.
    #[must_use]
    pub fn with_records(
        mut self,
        preconditions: Vec<Precondition>,
        operations: Vec<Operation>,
    ) -> Self {
        self.preconditions.extend(preconditions);
        self.operations.extend(operations);
        self
    }
}

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The table's document now.
    pub record: TableRecord,
    /// Its metadata now; `None` when the table has none and only checkpoints moved.
    pub metadata: Option<TableMetadataRef>,
    /// The snapshot that the commit added.
    pub snapshot_id: Option<i64>,
    /// What its staged keys came to; nothing is known when it was done already.
    pub deletes: DeleteCounts,
    /// True when it was found to be done already, by an earlier attempt or an earlier call.
    pub already: bool,
}
