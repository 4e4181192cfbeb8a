//! Documents of this crate in the records: their keys, and JSON in and out.

use crate::error::StreamError;
use alluvium_base::{LaneId, Region, SequenceNumber, StreamIncarnation};
use alluvium_store::records::{Document, Key, Records, Scan};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The collection of streams, by `REGION/NAME`.
pub(crate) const STREAMS: &str = "data-stream";
/// How far each stream's lanes were released because of their age, by incarnation.
pub(crate) const TRIMS: &str = "data-stream-trim";
/// Lanes whose shards are gone, until the log has let go of them, by lane.
pub(crate) const RETIRED: &str = "data-stream-retired-lane";
/// The secret of iterators and sequence numbers.
pub(crate) const SECRETS: &str = "data-stream-secret";
/// A page of documents.
const PAGE: usize = 1000;

pub(crate) fn stream_key(region: &Region, name: &str) -> Key {
    Key::new(STREAMS, format!("{region}/{name}"))
}

pub(crate) fn trim_key(incarnation: StreamIncarnation) -> Key {
    Key::new(TRIMS, incarnation.to_string())
}

pub(crate) fn retired_key(lane: LaneId) -> Key {
    Key::new(RETIRED, format!("{:020}", lane.0))
}

/// A lane whose shard is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetiredLane {
    pub(crate) lane: LaneId,
    /// Nothing up to here is needed, nor missed.
    pub(crate) last: SequenceNumber,
}

/// A document's bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("our documents have text keys only"))
}

/// A document's value.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(document: &Document) -> Result<T, StreamError> {
    serde_json::from_slice(&document.body).map_err(|error| {
        let Key { collection, id } = &document.key;
        StreamError::Corrupt(format!("the stored document {collection} '{id}' is damaged: {error}"))
    })
}

/// Every document of a collection.
pub(crate) async fn scan_all(
    records: &dyn Records,
    collection: &'static str,
) -> Result<Vec<Document>, StreamError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let scan = Scan { collection, prefix: String::new(), after, limit: PAGE };
        let page = records.scan(scan).await?;
        let full = page.len() >= PAGE;
        after = page.last().map(|document| document.key.id.clone());
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}
