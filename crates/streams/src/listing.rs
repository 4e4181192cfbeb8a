//! Lists in pages: streams, shards, consumers.
//!
//! A page's token names where it ended, what it lists and with which filter; with a token nothing
//! else may be said. Pages are of what is now: a shard that is opened meanwhile is on a later page.

use crate::data_streams::{DataStreams, Known};
use crate::error::StreamError;
use crate::shard::{Shard, ShardId};
use crate::stream::{Consumer, Stream, StreamDocument, StreamMode};
use crate::tokens::{BadToken, Kind};
use alluvium_base::{Region, StreamIncarnation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// A page when nothing is said (Kinesis API reference, `ListStreams`).
pub const STREAMS_PAGE: usize = 100;
/// A page of shards, and the most of one.
pub const SHARDS_PAGE: usize = 1000;
/// The most of a page.
pub const PAGE_MAX: usize = 10_000;

/// Which shards are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardFilter {
    /// Those after this one.
    AfterShardId(ShardId),
    /// Those that were open at the oldest moment that is kept.
    AtTrimHorizon,
    /// All.
    FromTrimHorizon,
    /// The open ones.
    AtLatest,
    /// Those that were open at a moment (ms).
    AtTimestamp(i64),
    /// Those that were open at or after a moment (ms).
    FromTimestamp(i64),
}

/// A page of shards.
#[derive(Debug, Clone)]
pub struct ShardPage {
    /// The shards, in order of their numbers.
    pub shards: Vec<Shard>,
    /// For the next page, if there is one.
    pub next_token: Option<String>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAfter<T> {
    /// At its beginning.
    Beginning,
    /// After this one.
    Item(T),
    /// Where the page of this token ended.
    Token(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct ShardsToken {
    incarnation: StreamIncarnation,
    after: ShardId,
    filter: Option<ShardFilter>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NamesToken {
    /// The region, or the stream's incarnation.
    of: String,
    after: String,
}

/// What a region has.
#[derive(Debug, Default)]
pub(crate) struct ListOfStreams {
    /// In all regions.
    pub(crate) total: usize,
    pub(crate) open_shards: u32,
    pub(crate) on_demand: u32,
}

impl ListOfStreams {
    pub(crate) fn of(known: &Known, region: &Region) -> Self {
        let mut list = Self { total: known.by_incarnation.len(), ..Self::default() };
        for stream in known.by_name.get(region).into_iter().flat_map(BTreeMap::values) {
            let document = stream.document();
            match document.mode {
                StreamMode::OnDemand => list.on_demand += 1,
                StreamMode::Provisioned => list.open_shards += document.open_shards() as u32,
            }
        }
        list
    }
}

fn check_limit(limit: Option<usize>, usual: usize) -> Result<usize, StreamError> {
    let limit = limit.unwrap_or(usual);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(StreamError::InvalidArgument(format!("A page has 1 to {PAGE_MAX} entries; not {limit}.")))
}

impl DataStreams {
    fn sealed<T: Serialize>(&self, kind: Kind, token: &T) -> Result<String, StreamError> {
        let body = serde_json::to_vec(token)
            .map_err(|error| StreamError::Corrupt(format!("a token: {error}")))?;
        Ok(self.0.sealer.seal(kind, self.0.clock.now_ms(), &body))
    }

    fn opened<T: for<'de> Deserialize<'de>>(
        &self,
        kind: Kind,
        text: &str,
    ) -> Result<T, StreamError> {
        let body = self.0.sealer.open(kind, self.0.clock.now_ms(), text);
        let body = body.map_err(BadToken::of_page)?;
        serde_json::from_slice(&body).map_err(|_| BadToken::Forged.of_page())
    }

    /// Streams by name, and the token of the next page, if there is one.
    pub fn list(
        &self,
        region: &Region,
        start: StartAfter<String>,
        limit: Option<usize>,
    ) -> Result<(Vec<Arc<StreamDocument>>, Option<String>), StreamError> {
        let limit = check_limit(limit, STREAMS_PAGE)?;
        let after = match start {
            StartAfter::Beginning => None,
            StartAfter::Item(name) => Some(name),
            StartAfter::Token(text) => {
                let token: NamesToken = self.opened(Kind::Streams, &text)?;
                if token.of != region.as_str() {
                    return Err(BadToken::Forged.of_page());
                }
                Some(token.after)
            }
        };
        let known = self.0.known.read();
        let from = after.as_deref().map_or(Unbounded, Excluded);
        let names = known.by_name.get(region);
        let mut found = names.into_iter().flat_map(|n| n.range::<str, _>((from, Unbounded)));
        let page: Vec<_> = found.by_ref().take(limit).map(|(_, s)| s.document()).collect();
        let token = match (found.next(), page.last()) {
            (Some(_), Some(last)) => {
                let token = NamesToken { of: region.to_string(), after: last.name.clone() };
                Some(self.sealed(Kind::Streams, &token)?)
            }
            _ => None,
        };
        Ok((page, token))
    }

    /// Shards (`ListShards`; `DescribeStream` lists all of them with no filter). A shard that is
    /// older than all that is kept is not listed.
    pub fn list_shards(
        &self,
        stream: &Arc<Stream>,
        filter: Option<ShardFilter>,
        exclusive_start: Option<ShardId>,
        limit: Option<usize>,
    ) -> Result<ShardPage, StreamError> {
        self.shard_page(stream, filter, exclusive_start, limit)
    }

    /// The next page of shards. The stream is the token's, and is answered with it.
    pub fn list_more_shards(
        &self,
        token: &str,
        limit: Option<usize>,
    ) -> Result<(Arc<Stream>, ShardPage), StreamError> {
        let token: ShardsToken = self.opened(Kind::Shards, token)?;
        let stream = self.find_incarnation(token.incarnation);
        let stream = stream.ok_or_else(|| {
            StreamError::ResourceNotFound("The token's stream is deleted.".to_string())
        })?;
        let page = self.shard_page(&stream, token.filter, Some(token.after), limit)?;
        Ok((stream, page))
    }

    fn shard_page(
        &self,
        stream: &Arc<Stream>,
        filter: Option<ShardFilter>,
        after: Option<ShardId>,
        limit: Option<usize>,
    ) -> Result<ShardPage, StreamError> {
        let limit = check_limit(limit, SHARDS_PAGE)?;
        let document = stream.document();
        let horizon_ms = document.horizon_ms(self.0.clock.now_ms());
        let listed = document.shards.iter().filter(|shard| {
            !shard.is_expired(horizon_ms)
                && after.is_none_or(|after| shard.id > after)
                && filter.is_none_or(|filter| passes(filter, shard, &document, horizon_ms))
        });
        let mut listed = listed.cloned();
        let shards: Vec<Shard> = listed.by_ref().take(limit).collect();
        let next_token = match (listed.next(), shards.last()) {
            (Some(_), Some(last)) => {
                let incarnation = stream.incarnation;
                let token = ShardsToken { incarnation, after: last.id, filter };
                Some(self.sealed(Kind::Shards, &token)?)
            }
            _ => None,
        };
        Ok(ShardPage { shards, next_token })
    }

    /// Consumers by name, and the token of the next page, if there is one.
    pub fn list_consumers(
        &self,
        stream: &Arc<Stream>,
        token: Option<&str>,
        limit: Option<usize>,
    ) -> Result<(Vec<Consumer>, Option<String>), StreamError> {
        let limit = check_limit(limit, STREAMS_PAGE)?;
        let of = stream.incarnation.to_string();
        let after = match token {
            None => None,
            Some(text) => {
                let token: NamesToken = self.opened(Kind::Consumers, text)?;
                if token.of != of {
                    return Err(BadToken::Forged.of_page());
                }
                Some(token.after)
            }
        };
        let document = stream.document();
        let from = after.as_deref().map_or(Unbounded, Excluded);
        let mut found = document.consumers.range::<str, _>((from, Unbounded));
        let page: Vec<Consumer> = found.by_ref().take(limit).map(|(_, c)| c.clone()).collect();
        let token = match (found.next(), page.last()) {
            (Some(_), Some(last)) => {
                let token = NamesToken { of, after: last.name.clone() };
                Some(self.sealed(Kind::Consumers, &token)?)
            }
            _ => None,
        };
        Ok((page, token))
    }
}

fn passes(filter: ShardFilter, shard: &Shard, document: &StreamDocument, horizon_ms: i64) -> bool {
    // Nothing is older than the stream, and nothing is asked for that is older than what is kept.
    let oldest_ms = horizon_ms.max(document.created_ms);
    match filter {
        ShardFilter::AfterShardId(after) => shard.id > after,
        ShardFilter::AtTrimHorizon => shard.was_open_at(oldest_ms),
        ShardFilter::FromTrimHorizon => true,
        ShardFilter::AtLatest => shard.is_open(),
        ShardFilter::AtTimestamp(at_ms) => shard.was_open_at(at_ms.max(oldest_ms)),
        ShardFilter::FromTimestamp(at_ms) => {
            shard.closed.is_none_or(|closed| closed.at_ms >= at_ms.max(oldest_ms))
        }
    }
}
