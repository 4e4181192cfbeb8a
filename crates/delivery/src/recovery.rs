//! What the log must know before it is opened: how far each lane was cut, and which log that was.
//!
//! The server asks [`floors`] before it opens the log, so that sequences never go back (DURABILITY
//! section 2) and what is prepared is not read again.

use crate::batch::{
    BATCHES, BatchDocument, BatchState, PARTS, PROGRESS, PartDocument, ProgressDocument,
};
use crate::streams::{StreamsError, decode, scan_all};
use alluvium_base::LaneId;
use alluvium_log::LaneFloor;
use alluvium_store::records::Records;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What the documents say about the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Floors {
    /// Every lane that a stream has.
    pub lanes: BTreeMap<LaneId, LaneFloor>,
    /// The log that the newest cut is of; none before the first.
    pub log_id: Option<Uuid>,
}

/// Reads the floors.
pub async fn floors(records: &dyn Records) -> Result<Floors, StreamsError> {
    let mut floors = Floors::default();
    let mut newest = 0;
    for document in scan_all(records, PROGRESS, "").await? {
        let progress: ProgressDocument = decode(&document)?;
        let floor = LaneFloor { released: progress.cut_to, highest: progress.cut_to, kept: false };
        floors.lanes.insert(progress.lane, floor);
        if document.version > newest && progress.log_id.is_some() {
            newest = document.version;
            floors.log_id = progress.log_id;
        }
    }
    for document in scan_all(records, BATCHES, "").await? {
        let batch: BatchDocument = decode(&document)?;
        for range in batch.ranges {
            let Some(floor) = floors.lanes.get_mut(&range.lane) else { continue };
            if batch.state == BatchState::Cut {
                floor.released = floor.released.min(range.after);
            }
            floor.highest = floor.highest.max(range.to);
        }
    }
    for document in scan_all(records, PARTS, "").await? {
        let part: PartDocument = decode(&document)?;
        for range in part.ranges {
            let Some(floor) = floors.lanes.get_mut(&range.lane) else { continue };
            floor.highest = floor.highest.max(range.to);
        }
    }
    Ok(floors)
}
