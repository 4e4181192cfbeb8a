//! The one counter from which all lanes of the log come, those of delivery streams and of shards.
//!
//! It never goes back, so lanes are never used twice. Whoever takes lanes puts [`Lanes::holds`] and
//! [`Lanes::change`] into the transaction that writes the document that names them; a conflict over
//! the counter means: take again.

use crate::documents::{decode, encode};
use crate::error::StreamError;
use alluvium_base::LaneId;
use alluvium_store::records::{Key, Operation, Precondition, Records};

/// The collection of the counter. Its name is of the time when only delivery streams had lanes.
const COUNTERS: &str = "delivery-counter";
/// Lane 0 stays free: it can then mean "none" in the log's own files.
const FIRST_LANE: u64 = 1;

/// Lanes to be taken by a transaction.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// The counter is as it was.
    pub holds: Precondition,
    /// The lanes, in order.
    pub lanes: Vec<LaneId>,
    /// The counter moves on.
    pub change: Operation,
}

/// The next `count` lanes.
pub async fn take(records: &dyn Records, count: usize) -> Result<Lanes, StreamError> {
    let key = Key::new(COUNTERS, "lane");
    let stored = records.get(&key).await?;
    let (holds, first) = match &stored {
        None => (Precondition::Absent(key.clone()), FIRST_LANE),
        Some(counter) => {
            (Precondition::AtVersion(key.clone(), counter.version), decode::<u64>(counter)?)
        }
    };
    let next = first + count as u64;
    let lanes = (first..next).map(LaneId).collect();
    Ok(Lanes { holds, lanes, change: Operation::Put(key, encode(&next)) })
}

/// Whether a conflict is about the counter.
pub fn is_about(precondition: &Precondition) -> bool {
    precondition.key().collection == COUNTERS
}
