//! Enhanced fan-out: a shard's records as they come, for five minutes.
//!
//! A subscription is pulled: it holds a position and no records, so one that is not read costs
//! nothing (I8). It is woken by the log's progress, a reshard, or its end. A consumer has one
//! subscription to a shard: a later one takes over, but not within five seconds of the one before
//! (Kinesis API reference, `SubscribeToShard`).

use crate::arrivals::Listening;
use crate::data_streams::{DataStreams, Inner};
use crate::error::StreamError;
use crate::quotas::READ_BYTES;
use crate::reads::{ChildShard, PAGE_RECORDS_MAX, Record, Start, StartingPosition, children};
use crate::sequence_text::SequenceText;
use crate::shard::Shard;
use crate::stream::{Consumer, Stream};
use alluvium_base::{LaneId, SequenceNumber, StreamIncarnation};
use futures::stream::{BoxStream, StreamExt, unfold};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A subscription ends after this long, unless the options say otherwise.
pub(crate) const LIFE: Duration = Duration::from_secs(300);
/// No second one of the same consumer and shard within this time of the first.
pub(crate) const EXCLUSIVE_MS: i64 = 5000;
/// When nothing comes, the consumer is told so this often, as by AWS.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// Records of one event: a frame of an event stream stays well under its limit.
const EVENT_BYTES_MAX: usize = 2 << 20;

/// `SubscribeToShardEvent`.
#[derive(Debug, Clone)]
pub struct ShardEvent {
    /// The records; none in a heartbeat.
    pub records: Vec<Record>,
    /// A later subscription goes on after this one.
    pub continuation: SequenceText,
    /// How far the event is behind the newest record.
    pub millis_behind_latest: i64,
    /// The shard's children, when it is read to its end; the last event.
    pub child_shards: Vec<ChildShard>,
}

/// Events until the end; an error is the last.
pub type Events = BoxStream<'static, Result<ShardEvent, StreamError>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    TakenOver,
    Gone,
}

#[derive(Debug)]
struct Active {
    id: u64,
    begun_ms: i64,
    ended: bool,
    end: watch::Sender<Option<End>>,
}

type Name = (StreamIncarnation, String, LaneId);

/// Who subscribes, and who else waits for reshards.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    active: Mutex<HashMap<Name, Active>>,
    watchers: Mutex<HashMap<StreamIncarnation, Vec<Weak<Notify>>>>,
    next: AtomicU64,
}

impl Subscriptions {
    /// Wakes `notify` when the stream is resharded or deleted, as long as it lives.
    pub(crate) fn watch(&self, incarnation: StreamIncarnation, notify: &Arc<Notify>) {
        let mut watchers = self.watchers.lock();
        let of_stream = watchers.entry(incarnation).or_default();
        of_stream.retain(|watcher| watcher.strong_count() > 0);
        of_stream.push(Arc::downgrade(notify));
    }

    /// The stream's shards changed.
    pub(crate) fn resharded(&self, incarnation: StreamIncarnation) {
        for watcher in self.watchers.lock().get(&incarnation).into_iter().flatten() {
            if let Some(notify) = watcher.upgrade() {
                notify.notify_one();
            }
        }
    }

    /// The stream is deleted.
    pub(crate) fn end_all(&self, incarnation: StreamIncarnation) {
        for (_, active) in self.active.lock().iter().filter(|(name, _)| name.0 == incarnation) {
            active.end.send_replace(Some(End::Gone));
        }
        self.resharded(incarnation);
        self.watchers.lock().remove(&incarnation);
    }

    /// The consumer is deregistered.
    pub(crate) fn end_consumer(&self, incarnation: StreamIncarnation, consumer: &str) {
        let active = self.active.lock();
        let of_consumer = |name: &Name| name.0 == incarnation && name.1 == consumer;
        for (_, active) in active.iter().filter(|(name, _)| of_consumer(name)) {
            active.end.send_replace(Some(End::Gone));
        }
    }

    fn begin(
        &self,
        name: &Name,
        now_ms: i64,
    ) -> Result<(u64, watch::Receiver<Option<End>>), StreamError> {
        let mut active = self.active.lock();
        active.retain(|_, one| !one.ended || now_ms - one.begun_ms < EXCLUSIVE_MS);
        if let Some(before) = active.get(name) {
            if (0..EXCLUSIVE_MS).contains(&(now_ms - before.begun_ms)) {
                return Err(StreamError::ResourceInUse(format!(
                    "Another active subscription exists for this consumer: {}. Subscribe again \
                     to the shard {EXCLUSIVE_MS} ms after the last subscription.",
                    name.1
                )));
            }
            before.end.send_replace(Some(End::TakenOver));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (end, heard) = watch::channel(None);
        active.insert(name.clone(), Active { id, begun_ms: now_ms, ended: false, end });
        Ok((id, heard))
    }

    fn finish(&self, name: &Name, id: u64) {
        if let Some(active) = self.active.lock().get_mut(name)
            && active.id == id
        {
            active.ended = true;
        }
    }
}

/// Says that a subscription is over when it is dropped.
#[derive(Debug)]
struct Guard {
    inner: Arc<Inner>,
    name: Name,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.subscriptions.finish(&self.name, self.id);
    }
}

#[derive(Debug)]
struct Subscription {
    guard: Guard,
    stream: Arc<Stream>,
    lane: LaneId,
    start: Start,
    notify: Arc<Notify>,
    _listening: Listening,
    end: watch::Receiver<Option<End>>,
    until: Instant,
    heartbeat: Instant,
    not_before: Instant,
    finished: bool,
}

impl DataStreams {
    /// Subscribes a consumer to a shard (`SubscribeToShard`).
    pub fn subscribe(
        &self,
        stream: &Arc<Stream>,
        consumer: &Consumer,
        shard: &str,
        position: &StartingPosition,
    ) -> Result<Events, StreamError> {
        let inner = self.0.clone();
        let document = stream.document();
        let shard = inner.shard(&document, shard)?;
        let start = inner.start(&document, shard, position)?;
        let name = (stream.incarnation, consumer.name.clone(), shard.lane);
        let (id, end) = inner.subscriptions.begin(&name, inner.clock.now_ms())?;
        let notify = Arc::new(Notify::new());
        inner.subscriptions.watch(stream.incarnation, &notify);
        let listening = inner.arrivals.wake(shard.lane, notify.clone());
        let now = Instant::now();
        let until = now + inner.options.subscription_life;
        let subscription = Subscription {
            lane: shard.lane,
            guard: Guard { inner, name, id },
            stream: stream.clone(),
            start,
            notify,
            _listening: listening,
            end,
            until,
            heartbeat: now,
            not_before: now,
            finished: false,
        };
        Ok(unfold(subscription, |mut subscription| async move {
            let event = subscription.next().await?;
            Some((event, subscription))
        })
        .boxed())
    }
}

impl Subscription {
    async fn next(&mut self) -> Option<Result<ShardEvent, StreamError>> {
        while !self.finished {
            if let Some(ended) = self.ended() {
                self.finished = true;
                return Some(Err(ended));
            }
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            if now < self.not_before {
                self.wait(self.not_before, false).await;
                continue;
            }
            match self.event(now).await {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => self.wait(self.heartbeat, true).await,
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    fn ended(&self) -> Option<StreamError> {
        let consumer = &self.guard.name.1;
        match *self.end.borrow() {
            None => None,
            Some(End::TakenOver) => Some(StreamError::ResourceInUse(format!(
                "A later subscription of consumer {consumer} to the shard took over."
            ))),
            Some(End::Gone) => Some(StreamError::ResourceNotFound(format!(
                "Consumer {consumer} or its stream is deleted."
            ))),
        }
    }

    /// Waits for a moment, the end, or (with `records`) more records.
    async fn wait(&mut self, until: Instant, records: bool) {
        tokio::select! {
            () = self.notify.notified(), if records => {}
            _ = self.end.changed() => {}
            () = tokio::time::sleep_until(until.min(self.until)) => {}
        }
    }

    async fn event(&mut self, now: Instant) -> Result<Option<ShardEvent>, StreamError> {
        let document = self.stream.document();
        let Some(shard) = document.shards.iter().find(|shard| shard.lane == self.lane) else {
            self.finished = true;
            return Ok(None);
        };
        let inner = &self.guard.inner;
        let page =
            inner.page(&document, shard, self.start, PAGE_RECORDS_MAX, EVENT_BYTES_MAX).await?;
        self.start = Start { after: page.after, from_ms: page.from_ms };
        if page.records.is_empty() && !page.drained && now < self.heartbeat {
            return Ok(None);
        }
        self.heartbeat = now + inner.options.heartbeat;
        if inner.options.enforce_quotas {
            let pause = page.size_bytes as f64 / READ_BYTES as f64;
            self.not_before = now + Duration::from_secs_f64(pause);
        }
        self.finished = page.drained;
        Ok(Some(ShardEvent {
            continuation: inner.sequences.encode(self.lane, continuation(shard, page.after)),
            child_shards: if page.drained { children(&document, shard.id) } else { Vec::new() },
            records: page.records,
            millis_behind_latest: page.millis_behind_latest,
        }))
    }
}

/// Never before the shard's own beginning, which a client can name.
fn continuation(shard: &Shard, after: SequenceNumber) -> SequenceNumber {
    after.max(shard.starting)
}
