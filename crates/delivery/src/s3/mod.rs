//! The S3 destination: records into objects.
//!
//! An object is the concatenation of its records, compressed as a whole, of at most the size hint
//! (bytes before compression). Its name and its bytes are a function of what the batch recorded and
//! of the order of its records: not of the time, of chance, or of where reads of the log end. So a
//! batch that is written again makes no second object and no second version (I3; DURABILITY,
//! "Objects"). With dynamic partitioning each partition has its own buffer and its own objects.
//!
//! - [`plan`](S3Plan): a destination's S3 side, checked. [`writer`](S3Writer): records to finished
//!   objects. `codec`: the compressions. `spool`: where bytes wait, in bounded memory (I8).
//! - [`publish`]: a finished object into its bucket.
//!
//! Left to others: what a record becomes on its way (`processing`), lines of error objects
//! ([`crate::error_object`]), when a batch is cut and when it is done ([`crate::engine`]).

mod codec;
mod plan;
mod publish;
mod spool;
#[cfg(test)]
mod tests;
mod writer;

pub use plan::S3Plan;
pub use publish::{Published, publish, publish_all};
pub use spool::SpoolDir;
pub use writer::{
    ACTIVE_PARTITIONS_MAX, BatchIdentity, Finish, FinishedObject, PartitionValues, PushError,
    Refusal, S3Counts, S3Writer,
};
