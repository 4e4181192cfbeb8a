//! The one commit path (DURABILITY sections 5 and 6).
//!
//! An attempt writes manifests, the manifest list and metadata.json under fresh names, each
//! durable, and then runs one transaction: the pointer from where it was, the checkpoints from
//! their exact predecessors, and the caller's own operations. Only then is anything let go.
//!
//! - **I3, I5**: pointer, checkpoints and the caller's documents move together or not at all.
//! - **I6**: an attempt deletes nothing that it wrote. After success, metadata files that fell out
//!   of the metadata log go, unless a reader holds them.
//! - **I9**: every attempt has an id that lands in the table's document; after a lost answer, the
//!   document tells. Two attempts of one commit can never both land, because both expect the same
//!   version of the document.
//! - **I8**: the snapshot list, the manifest list and the metadata log are bounded in the commit
//!   itself, so that the 10,000th commit costs what the 10th did.
//!
//! Parts: [`change`](self) is what a caller asks for; `attempt` runs it; `append`, `rewrite` and `update`
//! make new metadata, `groups` which rows staged keys delete and in how many snapshots, `judge` what a client's snapshots name; `merge`, `thinning` and `expiry` keep lists short; `mirror` keeps the checkpoint
//! properties; `create` makes tables, `fill` with their first rows, `column_types` judges their columns; `queue` lets waiting
//! appends share one commit.

mod append;
mod attempt;
mod change;
mod checkpoints;
mod column_types;
mod create;
mod error;
mod expiry;
mod files;
mod fill;
mod groups;
mod judge;
mod merge;
mod metadata_file;
mod mirror;
mod properties;
mod queue;
mod rewrite;
mod summary;
mod thinning;
mod update;

pub use change::{Append, Committed, TableChange};
pub use create::{BesideTable, CreateError, StagedTable, TableDefinition};
pub use error::CommitError;
pub use expiry::{ExpiredSnapshots, OtherRetention, SnapshotPolicy};
pub use groups::DeleteCounts;
pub use metadata_file::{parse_metadata, references};
pub use mirror::RESERVED_PREFIX;
pub use queue::QueuedAppend;
pub use rewrite::{MergedDeletes, Moved, Origin, Rewrite};
pub use thinning::kept_by_others;

pub(crate) use queue::Committers;

#[cfg(test)]
mod tests;
