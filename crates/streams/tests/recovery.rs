//! Reshards under load, with kills: nothing is lost or doubled, each key's order is kept.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod world;

use alluvium_log::Invocation;
use alluvium_streams::{DataStreams, HashKey, ShardId, StartingPosition, Stream, StreamError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use world::*;

const RESHARDS: u32 = 50;
const WORKERS: u32 = 4;
const KEYS_A_WORKER: u32 = 5;

/// A writer of some keys: each call has the next number of each key.
struct Worker {
    id: u32,
    /// The next number of its keys.
    next: u32,
    /// A call without an answer: it is repeated.
    open: bool,
    /// The sequence numbers it was told, by key and number.
    told: BTreeMap<(String, u32), String>,
}

impl Worker {
    fn entries(&self) -> Vec<(String, String)> {
        let keys = (0..KEYS_A_WORKER).map(|key| format!("{}-{key}", self.id));
        keys.map(|key| (key, self.next.to_string())).collect()
    }

    /// One call, repeated as an SDK would, until it is answered.
    async fn call(&mut self, streams: &DataStreams, stream: &Arc<Stream>) {
        let entries = self.entries();
        let borrowed: Vec<_> = entries.iter().map(|(k, d)| entry(k, d.as_bytes())).collect();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.id.to_le_bytes());
        id[4..8].copy_from_slice(&self.next.to_le_bytes());
        let call = Invocation { id, caller: [1; 16], body_sha256: [self.id as u8; 32] };
        self.open = true;
        loop {
            match streams.put(stream, &borrowed, Some(call.clone())).await {
                Ok(outcome) => {
                    for ((key, _), (_, text)) in entries.iter().zip(done(&outcome)) {
                        self.told.insert((key.clone(), self.next), text);
                    }
                    self.next += 1;
                    self.open = false;
                    return;
                }
                Err(StreamError::Unavailable(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// A split, a merge or a scaling, whichever the shards allow.
async fn reshard(streams: &DataStreams, stream: &Arc<Stream>, round: u32) {
    let document = stream.document();
    let mut open: Vec<_> = document.shards.iter().filter(|shard| shard.is_open()).collect();
    open.sort_by_key(|shard| shard.range.start);
    let at = round as usize * 7 % open.len();
    let done = match round % 3 {
        0 if open.len() < 8 => {
            let range = open[at].range;
            let middle = HashKey(range.start.0 / 2 + range.end.0 / 2 + 1);
            streams.split_shard(stream, &open[at].id.to_string(), &middle.to_string()).await
        }
        1 if at + 1 < open.len() => {
            let (a, b) = (open[at].id.to_string(), open[at + 1].id.to_string());
            streams.merge_shards(stream, &b, &a).await
        }
        _ => {
            let target = if open.len() > 4 { open.len() - 1 } else { open.len() + 1 };
            streams.update_shard_count(stream, target as u32).await.map(|_| ())
        }
    };
    done.unwrap();
}

/// Every record, each shard after its parents, by the iterators that clients use.
async fn read_all(streams: &DataStreams, stream: &Arc<Stream>) -> Vec<(String, u32, String)> {
    let document = stream.document();
    let mut read: BTreeSet<ShardId> = BTreeSet::new();
    let mut records = Vec::new();
    let mut wait: Vec<ShardId> = document.shards.iter().map(|shard| shard.id).collect();
    while !wait.is_empty() {
        let (ready, later): (Vec<_>, Vec<_>) = wait.into_iter().partition(|id| {
            document.shard(*id).unwrap().parents().all(|parent| read.contains(&parent))
        });
        assert!(!ready.is_empty(), "every shard's parents are there");
        for id in ready {
            let shard = document.shard(id).unwrap();
            let mut last = streams.sequence_text(shard.lane, shard.starting).to_string();
            for record in read_shard(streams, stream, &id.to_string()).await {
                let text = record.sequence.to_string();
                assert!(text > last, "sequence numbers grow within a shard");
                last.clone_from(&text);
                let number = std::str::from_utf8(&record.data()).unwrap().parse().unwrap();
                records.push((record.partition_key().to_string(), number, text));
            }
            if let Some(closed) = shard.closed {
                assert!(last <= streams.sequence_text(shard.lane, closed.ending).to_string());
            }
            read.insert(id);
        }
        wait = later;
    }
    records
}

#[tokio::test]
async fn fifty_reshards_under_load_with_kills_lose_and_double_nothing_and_keep_each_keys_order() {
    let mut world = World::new();
    world.budget_bytes = 8 * world.segment_bytes;
    (world.page_bytes, world.move_above_bytes) = (1 << 10, Some(0));
    let mut streams = world.open().await;
    let mut stream = streams.create(provisioned("s", 2)).await.unwrap();
    let worker = |id| Worker { id, next: 0, open: false, told: BTreeMap::new() };
    let mut workers: Vec<Worker> = (0..WORKERS).map(worker).collect();
    for round in 0..RESHARDS {
        let calls = Arc::new(AtomicU32::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for mut worker in workers.drain(..) {
            let (streams, stream, calls) = (streams.clone(), stream.clone(), calls.clone());
            tasks.spawn(async move {
                while calls.fetch_add(1, Ordering::SeqCst) < 24 {
                    worker.call(&streams, &stream).await;
                }
                worker
            });
        }
        while calls.load(Ordering::SeqCst) < 6 {
            tokio::task::yield_now().await;
        }
        // Ten scalings a day are AWS's limit.
        world.clock.advance(3 * 3_600_000);
        streams.increase_retention(&stream, 24 * 30).await.unwrap();
        reshard(&streams, &stream, round).await;
        while let Some(worker) = tasks.join_next().await {
            workers.push(worker.unwrap());
        }
        if round % 5 == 4 {
            // Calls that are under way when the process dies: their answers are lost.
            for worker in &mut workers {
                worker.open = true;
                let entries = worker.entries();
                let mut id = [0; 16];
                id[..4].copy_from_slice(&worker.id.to_le_bytes());
                id[4..8].copy_from_slice(&worker.next.to_le_bytes());
                let call = Invocation { id, caller: [1; 16], body_sha256: [worker.id as u8; 32] };
                let (streams, stream) = (streams.clone(), stream.clone());
                tokio::spawn(async move {
                    let entries: Vec<_> =
                        entries.iter().map(|(k, d)| entry(k, d.as_bytes())).collect();
                    let _ = streams.put(&stream, &entries, Some(call)).await;
                });
                tokio::task::yield_now().await;
            }
            streams = world.kill().await;
            stream = streams.find(&region(), "s").unwrap();
        }
    }
    let records = read_all(&streams, &stream).await;
    let mut by_key: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for (key, number, text) in records {
        by_key.entry(key).or_default().push((number, text));
    }
    for worker in &workers {
        for key in (0..KEYS_A_WORKER).map(|key| format!("{}-{key}", worker.id)) {
            let held = &by_key[&key];
            let numbers: Vec<u32> = held.iter().map(|(number, _)| *number).collect();
            // The last call may be there without its answer.
            let there = worker.next + u32::from(numbers.len() as u32 > worker.next);
            assert!(there == worker.next || worker.open);
            assert_eq!(numbers, (0..there).collect::<Vec<_>>(), "{key}");
            assert!(held.windows(2).all(|pair| pair[0].1 < pair[1].1), "{key} over reshards");
            for (number, text) in held.iter().take(worker.next as usize) {
                assert_eq!(worker.told[&(key.clone(), *number)], *text);
            }
        }
    }
    assert!(stream.document().shards.len() > 50);
    let (home, _) = world.journal.as_ref().unwrap().homes_bytes();
    assert!(home > 0, "lanes were moved meanwhile");
}

#[tokio::test]
async fn an_iterator_at_a_moment_is_exact_also_when_its_records_were_moved() {
    let mut world = World::new();
    (world.page_bytes, world.move_above_bytes) = (1 << 10, Some(0));
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    for number in 0..200 {
        put(&streams, &stream, &[("key", &format!("{number:032}"))]).await;
        world.clock.advance(10);
    }
    let journal = world.journal.clone().unwrap();
    while journal.homes_bytes().0 < 8 << 10 {
        tokio::task::yield_now().await;
    }
    for number in [0, 1, 57, 58, 150, 199] {
        let at_ms = NOW_MS + number * 10;
        for (at_ms, first) in [(at_ms, number), (at_ms - 3, number)] {
            let position = StartingPosition::AtTimestamp { at_ms };
            let iterator = streams.iterator(&stream, "shardId-000000000000", &position).unwrap();
            let page = page(&streams, &iterator, 2).await;
            assert_eq!(texts(&page.records)[0], format!("{first:032}"), "{at_ms}");
        }
    }
}

#[tokio::test]
async fn old_records_leave_their_lane_segments_and_new_ones_stay() {
    let mut world = World::new();
    (world.page_bytes, world.move_above_bytes) = (1 << 10, Some(0));
    let mut streams = world.open().await;
    let mut stream = streams.create(provisioned("s", 1)).await.unwrap();
    for number in 0..100 {
        put(&streams, &stream, &[("key", &format!("{number:064}"))]).await;
        world.clock.advance(3_600_000);
        if number % 10 == 9 {
            streams.reclaim().await.unwrap();
            let shown = texts(&read_shard(&streams, &stream, "shardId-000000000000").await);
            let kept: Vec<_> =
                (0..=number).filter(|n| number - n < 24).map(|n| format!("{n:064}")).collect();
            assert_eq!(shown, kept);
        }
        if number % 30 == 29 {
            streams = world.kill().await;
            stream = streams.find(&region(), "s").unwrap();
        }
    }
    world.clock.advance(48 * 3_600_000);
    streams.reclaim().await.unwrap();
    let journal = world.journal.clone().unwrap();
    while journal.homes_bytes().0 > 0 {
        tokio::task::yield_now().await;
    }
    let lane = stream.document().shards[0].lane;
    assert_eq!(journal.lane_state(lane).unwrap().unreleased_parts, 0);
    assert!(read_shard(&streams, &stream, "shardId-000000000000").await.is_empty());
    put(&streams, &stream, &[("key", "again")]).await;
    let streams = world.kill().await;
    let stream = streams.find(&region(), "s").unwrap();
    let shown = read_shard(&streams, &stream, "shardId-000000000000").await;
    assert_eq!(texts(&shown), ["again"]);
}

#[tokio::test]
async fn a_deleted_stream_is_not_missed_when_a_part_of_its_lanes_is_still_in_the_journal() {
    let mut world = World::new();
    (world.page_bytes, world.move_above_bytes) = (1 << 10, Some(0));
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    for number in 0..60 {
        put(&streams, &stream, &[("key", &format!("{number:064}"))]).await;
    }
    let journal = world.journal.clone().unwrap();
    while journal.homes_bytes().0 < 3 << 10 {
        tokio::task::yield_now().await;
    }
    let lane = stream.document().shards[0].lane;
    streams.delete(&stream, false).await.unwrap();
    while journal.homes_bytes().0 > 0 {
        tokio::task::yield_now().await;
    }
    // What was moved is gone, what was not is still in the newest segment. `open` finds no damage.
    for _ in 0..3 {
        let streams = world.kill().await;
        assert!(streams.all().is_empty());
        let journal = world.journal.clone().unwrap();
        assert!(journal.lane_state(lane).is_none_or(|state| state.unreleased_parts == 0));
    }
}
