//! Records out: positions, iterators and pages.
//!
//! Records older than the stream keeps are not returned, whether the log still has them or not. A
//! shard's children are told of when it is read to its end, so whoever follows them reads parents
//! first (I4).

use crate::data_streams::{DataStreams, Inner};
use crate::error::StreamError;
use crate::hash_key::HashRange;
use crate::quotas::ShardQuotas;
use crate::record::{Frames, split_frame};
use crate::sequence_text::SequenceText;
use crate::shard::{Shard, ShardId};
use crate::stream::{Stream, StreamDocument};
use crate::tokens::{Kind, Position};
use alluvium_base::{LaneId, Region, SequenceNumber};
use alluvium_log::LaneBlock;
use bytes::Bytes;
use std::sync::Arc;

/// The most records of a page, and what a page has when no limit is given.
pub const PAGE_RECORDS_MAX: usize = 10_000;
/// The most bytes of a page; one record is always returned.
pub const PAGE_BYTES_MAX: usize = 10 << 20;
/// Blocks that are all too old are passed over so often before an empty page is answered.
const OLD_PAGES_MAX: usize = 8;

/// Where to begin in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartingPosition {
    /// With the oldest record that is kept.
    TrimHorizon,
    /// After the newest record.
    Latest,
    /// With this record.
    AtSequenceNumber(String),
    /// After this record.
    AfterSequenceNumber(String),
    /// With the first record that arrived at or after a moment.
    AtTimestamp {
        /// The moment.
        at_ms: i64,
    },
}

/// A record, as it is read.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its sequence number.
    pub sequence: SequenceText,
    /// When it arrived.
    pub arrival_ms: i64,
    frame: Bytes,
    key_bytes: usize,
}

impl Record {
    fn of(sequence: SequenceText, arrival_ms: i64, frame: Bytes) -> Option<Self> {
        let key_bytes = split_frame(&frame)?.0.len();
        Some(Self { sequence, arrival_ms, frame, key_bytes })
    }

    /// Its partition key.
    pub fn partition_key(&self) -> &str {
        let key = self.frame.get(2..2 + self.key_bytes);
        key.and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default()
    }

    /// Its data.
    pub fn data(&self) -> Bytes {
        self.frame.slice(2 + self.key_bytes..)
    }

    fn size_bytes(&self) -> usize {
        self.frame.len() - 2
    }
}

/// A shard that came from one that is read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildShard {
    /// It.
    pub id: ShardId,
    /// The one or two that it came from.
    pub parents: Vec<ShardId>,
    /// Its range.
    pub range: HashRange,
}

/// A page of records.
#[derive(Debug, Clone)]
pub struct GetOutcome {
    /// The iterator's stream.
    pub stream: Arc<Stream>,
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on; none when a closed shard is read to its end.
    pub next_iterator: Option<String>,
    /// How far the page is behind the newest record; 0 when it has reached it.
    pub millis_behind_latest: i64,
    /// The shard's children, when it is read to its end.
    pub child_shards: Vec<ChildShard>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Nothing up to here is wanted.
    pub(crate) after: SequenceNumber,
    /// Nor anything before the first record that arrived at or after this moment.
    pub(crate) from_ms: Option<i64>,
}

/// What was read of a shard.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// All up to here is read.
    pub(crate) after: SequenceNumber,
    /// The first record that is wanted is still to come.
    pub(crate) from_ms: Option<i64>,
    pub(crate) millis_behind_latest: i64,
    /// The shard is closed, and nothing of it is left.
    pub(crate) drained: bool,
    pub(crate) size_bytes: usize,
}

impl DataStreams {
    /// An iterator (`GetShardIterator`). It is valid for five minutes.
    pub fn iterator(
        &self,
        stream: &Arc<Stream>,
        shard: &str,
        position: &StartingPosition,
    ) -> Result<String, StreamError> {
        let inner = &self.0;
        let document = stream.document();
        let shard = inner.shard(&document, shard)?;
        let Start { after, from_ms } = inner.start(&document, shard, position)?;
        let (incarnation, lane) = (stream.incarnation, shard.lane);
        let position = Position { incarnation, lane, after, from_ms };
        Ok(inner.sealer.seal(Kind::Iterator, inner.clock.now_ms(), &position.encode()))
    }

    /// Whether a text is a sequence number that a shard of the stream has given out, or could have.
    pub fn is_sequence_of(&self, stream: &Stream, text: &str) -> bool {
        let Ok((lane, sequence)) = self.0.sequences.decode(text) else { return false };
        let document = stream.document();
        let shard = document.shards.iter().find(|shard| shard.lane == lane);
        shard.is_some_and(|shard| sequence <= self.0.boundary().max(shard.starting))
    }

    /// A page of records (`GetRecords`), at most `limit`, 10,000 when it is not said. The stream is the
    /// one that the iterator was made for; it must lie in `region`, and be `expected` if that is said.
    pub async fn get_records(
        &self,
        region: &Region,
        iterator: &str,
        limit: Option<usize>,
        expected: Option<&Arc<Stream>>,
    ) -> Result<GetOutcome, StreamError> {
        let inner = &self.0;
        let limit = limit.unwrap_or(PAGE_RECORDS_MAX);
        if limit == 0 || limit > PAGE_RECORDS_MAX {
            let text = format!("Limit is 1 to {PAGE_RECORDS_MAX}; {limit} is not.");
            return Err(StreamError::InvalidArgument(text));
        }
        let now_ms = inner.clock.now_ms();
        let opened = inner.sealer.open(Kind::Iterator, now_ms, iterator);
        let body = opened.map_err(crate::tokens::BadToken::of_iterator)?;
        let forged = crate::tokens::BadToken::Forged;
        let position = Position::decode(&body).ok_or_else(|| forged.of_iterator())?;
        let stream = self.find_incarnation(position.incarnation).ok_or_else(|| {
            let account = &inner.account;
            let text = format!("The iterator's stream under account {account} is deleted.");
            StreamError::ResourceNotFound(text)
        })?;
        let document = stream.document();
        if document.region != *region {
            let text = format!("The iterator is of a stream in region {}.", document.region);
            return Err(StreamError::InvalidArgument(text));
        }
        if let Some(other) = expected.filter(|one| one.incarnation != stream.incarnation) {
            let (is, wanted) = (&document.name, &other.document().name);
            let text = format!("The iterator is of stream {is}, not of this stream {wanted}.");
            return Err(StreamError::InvalidArgument(text));
        }
        let shard = document.shards.iter().find(|shard| shard.lane == position.lane);
        let Some(shard) = shard else {
            // It is closed and older than all that is kept: read to its end.
            return Ok(GetOutcome {
                stream,
                records: Vec::new(),
                next_iterator: None,
                millis_behind_latest: 0,
                child_shards: Vec::new(),
            });
        };
        inner.begin_read(&stream, &document, shard, now_ms)?;
        let start = Start { after: position.after, from_ms: position.from_ms };
        let page = inner.page(&document, shard, start, limit, PAGE_BYTES_MAX).await?;
        inner.end_read(&stream, shard.lane, page.size_bytes, now_ms);
        let next = Position { after: page.after, from_ms: page.from_ms, ..position };
        let sealed = || inner.sealer.seal(Kind::Iterator, inner.clock.now_ms(), &next.encode());
        Ok(GetOutcome {
            stream,
            next_iterator: (!page.drained).then(sealed),
            child_shards: if page.drained { children(&document, shard.id) } else { Vec::new() },
            records: page.records,
            millis_behind_latest: page.millis_behind_latest,
        })
    }
}

/// A shard's children, as a reader is told of them.
pub(crate) fn children(document: &StreamDocument, id: ShardId) -> Vec<ChildShard> {
    let child = |shard: &Shard| ChildShard {
        id: shard.id,
        parents: shard.parents().collect(),
        range: shard.range,
    };
    document.children(id).map(child).collect()
}

/// Just before a sequence.
fn before(sequence: SequenceNumber) -> SequenceNumber {
    SequenceNumber::new(sequence.generation, sequence.offset.saturating_sub(1))
}

impl Inner {
    /// A shard of a stream by its text.
    pub(crate) fn shard<'a>(
        &self,
        document: &'a StreamDocument,
        text: &str,
    ) -> Result<&'a Shard, StreamError> {
        let horizon_ms = document.horizon_ms(self.clock.now_ms());
        let found = text.parse().ok().and_then(|id| document.shard(id));
        found.filter(|shard| !shard.is_expired(horizon_ms)).ok_or_else(|| {
            let shown: String = text.chars().take(128).collect();
            StreamError::ResourceNotFound(format!(
                "Shard {shown} in stream {} under account {} does not exist.",
                document.name, document.account
            ))
        })
    }

    /// The sequence after which a reader begins.
    pub(crate) fn start(
        &self,
        document: &StreamDocument,
        shard: &Shard,
        position: &StartingPosition,
    ) -> Result<Start, StreamError> {
        let at = |after| Ok(Start { after, from_ms: None });
        // Before it is looked for: what arrives meanwhile is wanted.
        let newest = self.newest(shard);
        match position {
            StartingPosition::TrimHorizon => at(SequenceNumber::ZERO),
            StartingPosition::Latest => at(newest),
            StartingPosition::AtSequenceNumber(text) => {
                at(before(self.sequence(document, shard, text)?))
            }
            StartingPosition::AfterSequenceNumber(text) => {
                at(self.sequence(document, shard, text)?)
            }
            StartingPosition::AtTimestamp { at_ms } => {
                let now_ms = self.clock.now_ms();
                if *at_ms > now_ms {
                    return Err(StreamError::InvalidArgument(format!(
                        "The timestamp {at_ms} (milliseconds) is later than now, {now_ms}."
                    )));
                }
                let after = self.journal.seek_arrival(shard.lane, *at_ms).unwrap_or(newest);
                Ok(Start { after, from_ms: Some(*at_ms) })
            }
        }
    }

    /// The newest durable record of a shard, zero when there was none.
    pub(crate) fn newest(&self, shard: &Shard) -> SequenceNumber {
        self.journal.lane_state(shard.lane).map_or(SequenceNumber::ZERO, |state| state.last)
    }

    /// A sequence number that a client names: one of this shard, not beyond what there is.
    fn sequence(
        &self,
        document: &StreamDocument,
        shard: &Shard,
        text: &str,
    ) -> Result<SequenceNumber, StreamError> {
        let refused = |why: String| {
            let shown: String = text.chars().take(128).collect();
            StreamError::InvalidArgument(format!(
                "StartingSequenceNumber {shown} used in GetShardIterator on shard {} in stream {} \
                 under account {} is invalid because {why}.",
                shard.id, document.name, document.account
            ))
        };
        let (lane, sequence) =
            self.sequences.decode(text).map_err(|bad| refused(bad.to_string()))?;
        if lane != shard.lane {
            return Err(refused("it did not come from this shard".into()));
        }
        if sequence > self.boundary().max(shard.starting) {
            return Err(refused(
                "it is greater than every one that the shard has given out".into(),
            ));
        }
        Ok(sequence)
    }

    pub(crate) fn begin_read(
        &self,
        stream: &Stream,
        document: &StreamDocument,
        shard: &Shard,
        now_ms: i64,
    ) -> Result<(), StreamError> {
        if !self.options.enforce_quotas {
            return Ok(());
        }
        let mut quotas = stream.quotas.lock();
        let quota = quotas.entry(shard.lane).or_insert_with(|| ShardQuotas::new(now_ms));
        if quota.begin_read(now_ms) {
            return Ok(());
        }
        let message = self.rate_exceeded(document, shard.id);
        Err(StreamError::ProvisionedThroughputExceeded(message))
    }

    fn end_read(&self, stream: &Stream, lane: LaneId, size_bytes: usize, now_ms: i64) {
        if self.options.enforce_quotas
            && let Some(quota) = stream.quotas.lock().get_mut(&lane)
        {
            quota.end_read(size_bytes, now_ms);
        }
    }

    /// Records after a sequence.
    pub(crate) async fn page(
        &self,
        document: &StreamDocument,
        shard: &Shard,
        start: Start,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Page, StreamError> {
        let horizon_ms = document.horizon_ms(self.clock.now_ms());
        let (lane, newest) = (shard.lane, self.newest(shard));
        let mut page = Page {
            records: Vec::new(),
            after: start.after,
            from_ms: start.from_ms,
            millis_behind_latest: 0,
            drained: false,
            size_bytes: 0,
        };
        let mut next_arrival_ms = None;
        for _ in 0..OLD_PAGES_MAX {
            let blocks = self.journal.read(lane, page.after, None, bytes_max as u64).await?;
            let Some(last) = blocks.last() else {
                // What is up to `newest` was read or is kept no longer.
                page.after = page.after.max(newest);
                break;
            };
            next_arrival_ms = Some(last.arrival_ms);
            for block in blocks {
                let too_early = page.from_ms.is_some_and(|from_ms| block.arrival_ms < from_ms);
                if block.arrival_ms < horizon_ms || too_early {
                    page.after = page.after.max(block.last);
                } else if !self.take(lane, &block, &mut page, limit, bytes_max)? {
                    break;
                }
            }
            if !page.records.is_empty() {
                break;
            }
        }
        if page.after < newest {
            let last = page.records.last().map(|record| record.arrival_ms).or(next_arrival_ms);
            let behind = last.map_or(0, |at_ms| self.clock.now_ms().saturating_sub(at_ms));
            page.millis_behind_latest = behind.max(0);
        }
        page.drained = shard.closed.is_some_and(|closed| page.after >= closed.last);
        Ok(page)
    }

    /// Takes the records of a block that fit; false when the page is full.
    fn take(
        &self,
        lane: LaneId,
        block: &LaneBlock,
        page: &mut Page,
        limit: usize,
        bytes_max: usize,
    ) -> Result<bool, StreamError> {
        let LaneBlock { arrival_ms, first, .. } = *block;
        page.from_ms = None;
        for (frame, more) in Frames::of(block.frames.clone()).zip(0..) {
            let sequence = SequenceNumber::new(first.generation, first.offset + more);
            if sequence <= page.after {
                continue;
            }
            let text = self.sequences.encode(lane, sequence);
            let record = Record::of(text, arrival_ms, frame).ok_or_else(|| {
                StreamError::Corrupt(format!("record {sequence} of lane {lane} is damaged"))
            })?;
            let size = record.size_bytes();
            let full = page.records.len() >= limit || page.size_bytes + size > bytes_max;
            if full && !page.records.is_empty() {
                return Ok(false);
            }
            page.size_bytes += size;
            page.after = sequence;
            page.records.push(record);
        }
        Ok(true)
    }
}
