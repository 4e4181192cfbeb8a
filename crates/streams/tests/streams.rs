//! Data streams as a client sees them, over restarts.

#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod world;

use alluvium_base::LaneId;
use alluvium_streams::{
    HashKey, NewStream, PutEntry, PutResult, Resource, ShardFilter, StartAfter, StartingPosition,
    StreamError, StreamMode,
};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use world::*;

#[tokio::test]
async fn records_are_read_in_order_from_every_kind_of_position() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let first = done(&put(&streams, &stream, &[("a", "0"), ("b", "1")]).await);
    world.clock.advance(1000);
    let second = done(&put(&streams, &stream, &[("a", "2"), ("b", "3")]).await);
    let shard = "shardId-000000000000";
    let sequences: Vec<_> = first.iter().chain(&second).map(|(_, text)| text.clone()).collect();
    let mut sorted = sequences.clone();
    sorted.sort();
    assert_eq!(sequences, sorted, "56 digits each, so texts sort as numbers");
    let from = |position: StartingPosition| streams.iterator(&stream, shard, &position).unwrap();
    let latest = from(StartingPosition::Latest);
    let cases = [
        (StartingPosition::TrimHorizon, &["0", "1", "2", "3"][..]),
        (StartingPosition::AtSequenceNumber(sequences[1].clone()), &["1", "2", "3"]),
        (StartingPosition::AfterSequenceNumber(sequences[1].clone()), &["2", "3"]),
        (StartingPosition::AtTimestamp { at_ms: NOW_MS }, &["0", "1", "2", "3"]),
        (StartingPosition::AtTimestamp { at_ms: NOW_MS + 1 }, &["2", "3"]),
        (StartingPosition::Latest, &[]),
    ];
    for (position, wanted) in cases {
        let page = page(&streams, &from(position.clone()), 100).await;
        assert_eq!(texts(&page.records), wanted, "{position:?}");
        assert_eq!(page.millis_behind_latest, 0);
    }
    put(&streams, &stream, &[("a", "4")]).await;
    assert_eq!(texts(&page(&streams, &latest, 100).await.records), ["4"]);
    world.clock.advance(500);
    let some = page(&streams, &from(StartingPosition::TrimHorizon), 1).await;
    assert_eq!(some.millis_behind_latest, 1500);
    assert_eq!(some.records[0].partition_key(), "a");
    assert_eq!(some.records[0].arrival_ms, NOW_MS);
}

#[tokio::test]
async fn records_go_to_the_shard_of_their_hash_key() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 3)).await.unwrap();
    let document = stream.document();
    let edges = document.shards.iter().flat_map(|shard| {
        [(shard.range.start, shard.id.to_string()), (shard.range.end, shard.id.to_string())]
    });
    for (key, shard) in edges {
        let entry = PutEntry { explicit_hash_key: Some(key), ..entry("x", b"d") };
        let outcome = streams.put(&stream, &[entry], None).await.unwrap();
        assert_eq!(done(&outcome)[0].0, shard, "{key}");
    }
    let outcome = put(&streams, &stream, &[("a", "1")]).await;
    let own = document.shards.iter().find(|s| s.range.contains(HashKey::of("a"))).unwrap();
    assert_eq!(done(&outcome)[0].0, own.id.to_string());
}

#[tokio::test]
async fn a_repeated_call_gets_its_first_outcome_also_after_a_reshard_and_a_restart() {
    let mut world = World::new();
    let mut streams = world.open().await;
    let stream = streams.create(provisioned("s", 2)).await.unwrap();
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| entry(name, name.as_bytes())).collect();
    let first = streams.put(&stream, &entries, Some(call(1))).await.unwrap();
    assert!(!first.repeated);
    let again = streams.put(&stream, &entries, Some(call(1))).await.unwrap();
    assert!(again.repeated);
    assert_eq!(done(&again), done(&first));
    streams.update_shard_count(&stream, 4).await.unwrap();
    let again = streams.put(&stream, &entries, Some(call(1))).await.unwrap();
    assert_eq!(done(&again), done(&first));
    streams = world.kill().await;
    let stream = streams.find(&region(), "s").unwrap();
    let again = streams.put(&stream, &entries, Some(call(1))).await.unwrap();
    assert!(again.repeated);
    assert_eq!(done(&again), done(&first));
    let other = streams.create(provisioned("other", 1)).await.unwrap();
    let of_other = streams.put(&other, &entries, Some(call(1))).await.unwrap();
    assert!(!of_other.repeated, "another stream's call is another call");
    let mut held = 0;
    for shard in &stream.document().shards {
        held += read_shard(&streams, &stream, &shard.id.to_string()).await.len();
    }
    assert_eq!(held, 20);
}

#[tokio::test]
async fn a_closed_shard_is_read_to_its_end_and_tells_its_children() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    put(&streams, &stream, &[("a", "0"), ("b", "1")]).await;
    let half = HashKey(1 << 127).to_string();
    streams.split_shard(&stream, "shardId-000000000000", &half).await.unwrap();
    put(&streams, &stream, &[("a", "2"), ("b", "3")]).await;
    let start = StartingPosition::TrimHorizon;
    let iterator = streams.iterator(&stream, "shardId-000000000000", &start).unwrap();
    let some = page(&streams, &iterator, 1).await;
    assert!(some.child_shards.is_empty());
    let rest = page(&streams, &some.next_iterator.unwrap(), 10).await;
    assert_eq!((texts(&rest.records), rest.next_iterator), (vec!["1".to_string()], None));
    let children: Vec<_> = rest.child_shards.iter().map(|child| child.id.to_string()).collect();
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
    let document = stream.document();
    let (parent, child) = (&document.shards[0], &document.shards[1]);
    let ending = streams.sequence_text(parent.lane, parent.closed.unwrap().ending);
    assert!(streams.sequence_text(child.lane, child.starting) > ending);
    assert!(read_shard(&streams, &stream, "shardId-000000000001").await[0].sequence > ending);
    let [one, two] = ["shardId-000000000001", "shardId-000000000002"];
    streams.merge_shards(&stream, two, one).await.unwrap();
    let document = stream.document();
    let merged = document.shards.last().unwrap();
    assert_eq!(merged.parent.unwrap().to_string(), two);
    assert_eq!(merged.adjacent_parent.unwrap().to_string(), one);
}

#[tokio::test]
async fn reshards_that_cannot_be_are_refused_and_change_nothing() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 4)).await.unwrap();
    let name = |id: u64| format!("shardId-{id:012}");
    let before = stream.document();
    let range = before.shards[1].range;
    for at in [range.start.to_string(), "0".into(), u128::MAX.to_string(), "x".into()] {
        let refused = streams.split_shard(&stream, &name(1), &at).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException", "{at}");
    }
    for (a, b) in [(0, 2), (1, 1), (3, 0)] {
        let refused = streams.merge_shards(&stream, &name(a), &name(b)).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException", "{a} {b}");
    }
    let absent = streams.merge_shards(&stream, &name(0), &name(9)).await.unwrap_err();
    assert_eq!(absent.code(), "ResourceNotFoundException");
    for target in [0, 1, 4, 9] {
        let refused = streams.update_shard_count(&stream, target).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException", "{target}");
    }
    assert_eq!(*stream.document(), *before);
    streams.merge_shards(&stream, &name(0), &name(1)).await.unwrap();
    let closed = streams.merge_shards(&stream, &name(0), &name(1)).await.unwrap_err();
    assert_eq!(closed.code(), "InvalidArgumentException");
    for target in [6, 3, 5, 4, 8, 5, 3, 6, 7, 8] {
        streams.update_shard_count(&stream, target).await.unwrap();
        assert_eq!(stream.document().open_shards() as u32, target);
    }
    let often = streams.update_shard_count(&stream, 9).await.unwrap_err();
    assert_eq!(often.code(), "LimitExceededException");
    world.clock.advance(24 * 3_600_000);
    streams.update_shard_count(&stream, 9).await.unwrap();
}

#[tokio::test]
async fn iterators_that_are_expired_forged_or_of_a_deleted_stream_are_refused() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 2)).await.unwrap();
    let outcome = done(&put(&streams, &stream, &[("a", "0")]).await);
    let start = StartingPosition::TrimHorizon;
    let iterator = streams.iterator(&stream, "shardId-000000000000", &start).unwrap();
    world.clock.advance(300_001);
    let expired = streams.get_records(&region(), &iterator, None, None).await.unwrap_err();
    assert_eq!(expired.code(), "ExpiredIteratorException");
    let iterator = streams.iterator(&stream, "shardId-000000000000", &start).unwrap();
    let forged = iterator.replace(&iterator[20..22], "zz");
    let forged = streams.get_records(&region(), &forged, None, None).await.unwrap_err();
    assert_eq!(forged.code(), "InvalidArgumentException");
    let elsewhere = "eu-west-1".parse().unwrap();
    let elsewhere = streams.get_records(&elsewhere, &iterator, None, None).await.unwrap_err();
    assert_eq!(elsewhere.code(), "InvalidArgumentException");
    let other = if outcome[0].0.ends_with('0') { 1 } else { 0 };
    let other = format!("shardId-{other:012}");
    for text in [outcome[0].1.clone(), "0".into(), "4".repeat(56)] {
        let position = StartingPosition::AfterSequenceNumber(text);
        let refused = streams.iterator(&stream, &other, &position).unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException");
    }
    let later = StartingPosition::AtTimestamp { at_ms: NOW_MS + 400_000 };
    let later = streams.iterator(&stream, &other, &later).unwrap_err();
    assert_eq!(later.code(), "InvalidArgumentException");
    let iterator = streams.iterator(&stream, &other, &start).unwrap();
    streams.delete(&stream, false).await.unwrap();
    let again = streams.create(provisioned("s", 2)).await.unwrap();
    let gone = streams.get_records(&region(), &iterator, None, None).await.unwrap_err();
    assert_eq!(gone.code(), "ResourceNotFoundException");
    let late = streams.put(&stream, &[entry("a", b"0")], None).await.unwrap_err();
    assert_eq!(late.code(), "ResourceNotFoundException");
    assert!(read_shard(&streams, &again, &other).await.is_empty());
}

#[tokio::test]
async fn a_deleted_stream_stays_deleted_and_its_lanes_are_never_used_again() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 2)).await.unwrap();
    put(&streams, &stream, &[("a", "0"), ("b", "1")]).await;
    streams.register_consumer(&stream, "c", BTreeMap::new()).await.unwrap();
    let refused = streams.delete(&stream, false).await.unwrap_err();
    assert_eq!(refused.code(), "ResourceInUseException");
    let lanes: BTreeSet<LaneId> = stream.document().shards.iter().map(|s| s.lane).collect();
    streams.delete(&stream, true).await.unwrap();
    let streams = world.kill().await;
    assert!(matches!(streams.find(&region(), "s"), Err(StreamError::ResourceNotFound(_))));
    let again = streams.create(provisioned("s", 2)).await.unwrap();
    assert!(again.document().shards.iter().all(|shard| !lanes.contains(&shard.lane)));
    assert!(again.incarnation != stream.incarnation);
}

#[tokio::test]
async fn calls_over_the_limits_are_refused_whole() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let data = vec![0; (1 << 20) + 1];
    let (full, long) = (&data[..1 << 20], "k".repeat(257));
    let many: Vec<_> = (0..501).map(|_| entry("k", b"")).collect();
    let over: Vec<_> = (0..10).map(|_| entry("k", full)).collect();
    let bad = [
        vec![],
        many,
        vec![entry("k", b"good"), entry("k", &data)],
        vec![entry("", b"")],
        vec![entry(&long, b"")],
        over,
    ];
    for entries in bad {
        let refused = streams.put(&stream, &entries, None).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException");
    }
    assert!(read_shard(&streams, &stream, "shardId-000000000000").await.is_empty());
    for new in [provisioned("", 1), provisioned("a/b", 1), provisioned("z", 0)] {
        let refused = streams.create(new).await.unwrap_err();
        assert_eq!(refused.code(), "InvalidArgumentException");
    }
    let twice = streams.create(provisioned("s", 1)).await.unwrap_err();
    assert_eq!(twice.code(), "ResourceInUseException");
    let too_many = streams.create(provisioned("big", 1000)).await.unwrap_err();
    assert_eq!(too_many.code(), "LimitExceededException");
}

#[tokio::test]
async fn quotas_are_kept_to_the_record_when_they_are_enforced() {
    let mut world = World::new();
    world.options.enforce_quotas = true;
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let entries: Vec<_> = (0..400).map(|_| entry("k", b"x")).collect();
    for (id, wanted) in [(1, 0), (2, 0), (3, 200), (4, 400)] {
        let outcome = streams.put(&stream, &entries, Some(call(id))).await.unwrap();
        assert_eq!(outcome.throttled(), wanted, "call {id}");
    }
    let again = streams.put(&stream, &entries, Some(call(3))).await.unwrap();
    assert_eq!((again.repeated, again.throttled()), (true, 200));
    world.clock.advance(999);
    assert_eq!(streams.put(&stream, &entries[..1], None).await.unwrap().throttled(), 1);
    world.clock.advance(1);
    streams.put(&stream, &entries, None).await.unwrap();
    streams.put(&stream, &entries, None).await.unwrap();
    world.clock.advance(500);
    let more = streams.put(&stream, &entries, None).await.unwrap();
    assert_eq!(more.throttled(), 200);
    let results: Vec<_> = more.results().collect();
    assert!(matches!(&results[199], PutResult::Done { .. }));
    let PutResult::Throttled { message, .. } = &results[200] else { panic!("throttled") };
    assert_eq!(
        *message,
        "Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012."
    );
    let start = StartingPosition::TrimHorizon;
    let iterator = streams.iterator(&stream, "shardId-000000000000", &start).unwrap();
    for _ in 0..5 {
        page(&streams, &iterator, 10).await;
    }
    let refused = streams.get_records(&region(), &iterator, None, None).await.unwrap_err();
    assert_eq!(refused.code(), "ProvisionedThroughputExceededException");
    world.clock.advance(1000);
    assert_eq!(page(&streams, &iterator, 10_000).await.records.len(), 2000);
}

#[tokio::test]
async fn old_records_are_not_returned_and_leave_the_log() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let shard = "shardId-000000000000";
    put(&streams, &stream, &[("a", "0")]).await;
    world.clock.advance(23 * 3_600_000);
    put(&streams, &stream, &[("a", "1")]).await;
    world.clock.advance(3_600_001);
    assert_eq!(texts(&read_shard(&streams, &stream, shard).await), ["1"]);
    streams.reclaim().await.unwrap();
    let lane = stream.document().shards[0].lane;
    let held = world.journal.as_ref().unwrap().lane_state(lane).unwrap();
    assert_eq!(held.unreleased_parts, 1);
    let streams = world.kill().await;
    let stream = streams.find(&region(), "s").unwrap();
    assert_eq!(texts(&read_shard(&streams, &stream, shard).await), ["1"]);
    streams.update_shard_count(&stream, 2).await.unwrap();
    world.clock.advance(24 * 3_600_000 + 1);
    let page = streams.list_shards(&stream, None, None, None).unwrap();
    assert_eq!(page.shards.len(), 2, "an expired shard is not listed");
    streams.reclaim().await.unwrap();
    assert_eq!(stream.document().shards.len(), 2);
    let streams = world.kill().await;
    let stream = streams.find(&region(), "s").unwrap();
    put(&streams, &stream, &[("a", "2"), ("b", "3")]).await;
    assert!(streams.iterator(&stream, shard, &StartingPosition::TrimHorizon).is_err());
}

#[tokio::test]
async fn shards_are_listed_by_every_filter_and_in_pages() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 2)).await.unwrap();
    world.clock.advance(1000);
    streams.update_shard_count(&stream, 3).await.unwrap();
    world.clock.advance(1000);
    let ids = |filter| {
        let page = streams.list_shards(&stream, filter, None, None).unwrap();
        page.shards.iter().map(|shard| shard.id.0).collect::<Vec<_>>()
    };
    let all = ids(None);
    let open: Vec<_> =
        stream.document().shards.iter().filter(|s| s.is_open()).map(|s| s.id.0).collect();
    assert_eq!(ids(Some(ShardFilter::AtLatest)), open);
    assert_eq!(open.len(), 3);
    assert_eq!(ids(Some(ShardFilter::AtTrimHorizon)), [0, 1]);
    assert_eq!(ids(Some(ShardFilter::FromTrimHorizon)), all);
    assert_eq!(ids(Some(ShardFilter::AtTimestamp(NOW_MS + 999))), [0, 1]);
    assert_eq!(ids(Some(ShardFilter::AtTimestamp(NOW_MS + 1000))), open);
    assert_eq!(ids(Some(ShardFilter::FromTimestamp(NOW_MS + 1001))), open);
    assert_eq!(ids(Some(ShardFilter::FromTimestamp(NOW_MS + 1000))), all);
    let after = stream.document().shards[1].id;
    assert_eq!(ids(Some(ShardFilter::AfterShardId(after))), all[2..]);
    let first = streams.list_shards(&stream, None, None, Some(2)).unwrap();
    let (_, rest) = streams.list_more_shards(&first.next_token.unwrap(), None).unwrap();
    let paged = first.shards.iter().chain(&rest.shards).map(|shard| shard.id.0);
    assert_eq!(paged.collect::<Vec<_>>(), all);
    assert!(streams.list_more_shards("forged", None).is_err());
    streams.create(provisioned("r", 1)).await.unwrap();
    let (page, token) = streams.list(&region(), StartAfter::Beginning, Some(1)).unwrap();
    assert_eq!(page[0].name, "r");
    let (page, token) = streams.list(&region(), StartAfter::Token(token.unwrap()), None).unwrap();
    assert_eq!((page[0].name.as_str(), token), ("s", None));
}

#[tokio::test]
async fn on_demand_streams_double_their_shards_when_much_is_put() {
    let mut world = World::new();
    let streams = world.open().await;
    let on_demand =
        NewStream { mode: StreamMode::OnDemand, shard_count: None, ..provisioned("grows", 0) };
    let grows = streams.create(on_demand).await.unwrap();
    let stays = streams.create(provisioned("stays", 4)).await.unwrap();
    let data = [b'x'; 10];
    let keys: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let many: Vec<_> = keys.iter().map(|key| entry(key, &data)).collect();
    streams.grow_on_demand().await;
    for (seconds, calls, shards) in [(1, 4, 4), (1, 5, 8), (1, 8, 8), (4, 20, 8), (1, 9, 16)] {
        for _ in 0..calls {
            for stream in [&grows, &stays] {
                assert_eq!(streams.put(stream, &many, None).await.unwrap().throttled(), 0);
            }
        }
        world.clock.advance(seconds * 1000);
        streams.grow_on_demand().await;
        assert_eq!(grows.document().open_shards(), shards, "{calls} calls in {seconds} s");
        assert_eq!(stays.document().open_shards(), 4);
    }
    assert!(grows.document().scalings_ms.is_empty(), "nobody called UpdateShardCount");
    let arn = grows.document().arn();
    let streams = world.kill().await;
    let grows = streams.find_arn(&arn).unwrap();
    assert_eq!(grows.document().open_shards(), 16);
    let children = grows.document().shards.iter().filter(|shard| !shard.is_open()).count();
    assert_eq!(children, 4 + 8, "those before are still read");
    streams.grow_on_demand().await;
    world.clock.advance(1000);
    streams.grow_on_demand().await;
    assert_eq!(grows.document().open_shards(), 16, "what is quiet does not grow");
}

#[tokio::test]
async fn settings_are_kept_over_a_restart_and_their_limits_hold() {
    let mut world = World::new();
    world.segment_bytes = 4 << 20;
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    streams.increase_retention(&stream, 48).await.unwrap();
    assert!(streams.increase_retention(&stream, 24).await.is_err());
    assert!(streams.increase_retention(&stream, 8761).await.is_err());
    assert!(streams.decrease_retention(&stream, 23).await.is_err());
    streams.update_max_record_size(&stream, 2048).await.unwrap();
    assert!(streams.update_max_record_size(&stream, 1023).await.is_err());
    let tags = |count: u32| (0..count).map(|n| (n.to_string(), "v".into())).collect();
    streams.add_tags(&stream, Resource::Stream, tags(50)).await.unwrap();
    assert!(streams.add_tags(&stream, Resource::Stream, tags(51)).await.is_err());
    let policy = Some(r#"{"Version":"2012-10-17"}"#.to_string());
    streams.set_policy(&stream, Resource::Stream, policy.clone()).await.unwrap();
    let warm = streams.update_warm_throughput(&stream, 10).await.unwrap_err();
    assert_eq!(warm.code(), "ValidationException");
    streams.update_mode(&stream, StreamMode::OnDemand, Some(10)).await.unwrap();
    let by_hand = streams.update_shard_count(&stream, 2).await.unwrap_err();
    assert_eq!(by_hand.code(), "ValidationException");
    let before = stream.document();
    let streams = world.kill().await;
    let stream = streams.find_arn(&before.arn()).unwrap();
    assert_eq!(*stream.document(), *before);
    assert_eq!(streams.tags_and_policy(&stream, &Resource::Stream).unwrap().1, policy);
    let data = vec![0; 2 << 20];
    streams.put(&stream, &[entry("k", &data)], None).await.unwrap();
}

#[tokio::test]
async fn a_subscription_hears_of_records_until_the_shard_ends() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let consumer = streams.register_consumer(&stream, "c", BTreeMap::new()).await.unwrap();
    let arn = stream.document().consumer_arn(&consumer);
    assert_eq!(streams.find_consumer(&arn).unwrap().1, consumer);
    let shard = "shardId-000000000000";
    put(&streams, &stream, &[("a", "0")]).await;
    let latest = StartingPosition::Latest;
    let mut events = streams.subscribe(&stream, &consumer, shard, &latest).unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert!(first.records.is_empty() && first.child_shards.is_empty());
    put(&streams, &stream, &[("a", "1")]).await;
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(texts(&event.records), ["1"]);
    let soon = streams.subscribe(&stream, &consumer, shard, &latest);
    assert!(matches!(soon.map(|_| ()), Err(StreamError::ResourceInUse(_))));
    world.clock.advance(5000);
    let position = StartingPosition::AfterSequenceNumber(event.continuation.to_string());
    let mut later = streams.subscribe(&stream, &consumer, shard, &position).unwrap();
    let taken = loop {
        match events.next().await.unwrap() {
            Ok(event) => assert!(event.records.is_empty()),
            Err(error) => break error,
        }
    };
    assert_eq!(taken.code(), "ResourceInUseException");
    assert!(events.next().await.is_none());
    put(&streams, &stream, &[("a", "2")]).await;
    streams.update_shard_count(&stream, 2).await.unwrap();
    let mut heard = Vec::new();
    let mut children = Vec::new();
    while let Some(event) = later.next().await {
        let event = event.unwrap();
        heard.extend(texts(&event.records));
        children.extend(event.child_shards);
    }
    assert_eq!((heard, children.len()), (vec!["2".to_string()], 2));
}

#[tokio::test]
async fn a_subscription_tells_that_nothing_came_until_its_life_is_over() {
    let mut world = World::new();
    assert_eq!(world.options.subscription_life.as_secs(), 300);
    world.options.subscription_life = Duration::from_millis(60);
    world.options.heartbeat = Duration::from_millis(5);
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let consumer = streams.register_consumer(&stream, "c", BTreeMap::new()).await.unwrap();
    let shard = "shardId-000000000000";
    let start = StartingPosition::TrimHorizon;
    let events = streams.subscribe(&stream, &consumer, shard, &start).unwrap();
    let heartbeats = events.map(Result::unwrap).collect::<Vec<_>>().await;
    assert!(!heartbeats.is_empty() && heartbeats.iter().all(|event| event.records.is_empty()));
    let continuation = heartbeats.last().unwrap().continuation;
    put(&streams, &stream, &[("a", "0")]).await;
    let position = StartingPosition::AfterSequenceNumber(continuation.to_string());
    let iterator = streams.iterator(&stream, shard, &position).unwrap();
    assert_eq!(texts(&page(&streams, &iterator, 10).await.records), ["0"]);
}

#[tokio::test]
async fn a_source_sees_reshards_and_is_woken() {
    let mut world = World::new();
    let streams = world.open().await;
    let stream = streams.create(provisioned("s", 1)).await.unwrap();
    let source = streams.source(&stream);
    put(&streams, &stream, &[("a", "0")]).await;
    source.changed().await;
    let before = source.shards();
    assert!(before[0].newest > before[0].starting);
    streams.update_shard_count(&stream, 2).await.unwrap();
    source.changed().await;
    let shards = source.shards();
    assert_eq!(shards[0].closed.unwrap().last, before[0].newest);
    assert_eq!(shards[1].parents, [shards[0].id]);
    put(&streams, &stream, &[("a", "1"), ("b", "2")]).await;
    source.changed().await;
    streams.delete(&stream, false).await.unwrap();
    source.changed().await;
    assert!(source.is_gone());
}
