//! What the log must know of shards' lanes before it is opened: how far each was released.
//!
//! The server asks [`floors`] beside delivery's own, so that what aged and went is not missed, and
//! sequences never go back (DURABILITY section 2).

use crate::documents::{RETIRED, RetiredLane, STREAMS, TRIMS, decode, scan_all};
use crate::error::StreamError;
use crate::stream::StreamDocument;
use alluvium_base::{LaneId, SequenceNumber};
use alluvium_log::LaneFloor;
use alluvium_store::records::Records;
use std::collections::BTreeMap;

/// Nothing of it was released.
const KEPT: LaneFloor =
    LaneFloor { released: SequenceNumber::ZERO, highest: SequenceNumber::ZERO, kept: true };

/// Every lane that a shard has or had, unless the log has let go of it.
pub async fn floors(records: &dyn Records) -> Result<BTreeMap<LaneId, LaneFloor>, StreamError> {
    let mut floors = BTreeMap::new();
    for document in scan_all(records, STREAMS).await? {
        let stream: StreamDocument = decode(&document)?;
        floors.extend(stream.shards.iter().map(|shard| (shard.lane, KEPT)));
    }
    for document in scan_all(records, RETIRED).await? {
        let RetiredLane { lane, last } = decode(&document)?;
        floors.insert(lane, LaneFloor { released: last, ..KEPT });
    }
    for document in scan_all(records, TRIMS).await? {
        let trims: BTreeMap<LaneId, SequenceNumber> = decode(&document)?;
        for (lane, released) in trims {
            if let Some(floor) = floors.get_mut(&lane) {
                *floor = LaneFloor { released, highest: released, kept: true };
            }
        }
    }
    Ok(floors)
}
