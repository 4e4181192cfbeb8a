//! Tests of the writer with its codecs, spool and publication.

use super::spool::PIECE_BYTES;
use super::*;
use crate::stream::{
    BufferingHints, Compression, DynamicPartitioning, S3Backup, S3Destination, S3Output,
};
use alluvium_base::{BatchNumber, StreamIncarnation};
use alluvium_store::objects::faulty::{Call, Fault, FaultyObjects};
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::objects::{Objects, ObjectsError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// 2026-01-03T09:05:07.089Z.
const TIME_MS: i64 = 1_767_431_107_089;

fn output(prefix: Option<&str>, compression: Compression) -> S3Output {
    S3Output {
        role_arn: "arn:aws:iam::000000000000:role/r".into(),
        bucket_arn: "arn:aws:s3:::b".into(),
        prefix: prefix.map(Into::into),
        error_prefix: Some("errors/".into()),
        compression,
        logging: None,
    }
}

fn destination(prefix: Option<&str>, compression: Compression) -> S3Destination {
    S3Destination {
        output: output(prefix, compression),
        buffering: BufferingHints { size_mib: 1, interval_s: 60 },
        file_extension: None,
        time_zone: None,
        dynamic_partitioning: None,
        backup: None,
        processing: Default::default(),
        simple: false,
    }
}

fn partitioned(prefix: &str, compression: Compression) -> S3Destination {
    let dynamic_partitioning = Some(DynamicPartitioning { retry_duration_s: 300 });
    S3Destination { dynamic_partitioning, ..destination(Some(prefix), compression) }
}

fn identity(batch: u64) -> BatchIdentity {
    let incarnation = StreamIncarnation(uuid::Uuid::from_u128(7));
    BatchIdentity { incarnation, batch: BatchNumber(batch) }
}

struct Spooled {
    _dir: tempfile::TempDir,
    spool: SpoolDir,
}

fn spool(memory_bytes: usize) -> Spooled {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolDir::with_memory(dir.path(), memory_bytes).unwrap();
    Spooled { _dir: dir, spool }
}

struct Keys(BTreeMap<String, String>);

impl PartitionValues for Keys {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn keys(pairs: &[(&str, &str)]) -> Keys {
    Keys(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

fn writer(destination: &S3Destination, spool: &Spooled) -> S3Writer {
    S3Writer::new(&S3Plan::new(destination).unwrap(), &spool.spool, identity(1), "s", 1)
}

fn finished(writer: &mut S3Writer) -> Vec<FinishedObject> {
    let mut all = writer.take_finished();
    loop {
        let more = writer.finish().unwrap();
        all.extend(writer.take_finished());
        if more == Finish::Done {
            return all;
        }
    }
}

fn bytes(object: &FinishedObject) -> Vec<u8> {
    object.pieces.iter().flat_map(|piece| piece.read().unwrap()).collect()
}

fn decompressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Uncompressed => out.extend_from_slice(bytes),
        Compression::Gzip => {
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        }
        Compression::Zip => {
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
            assert_eq!(archive.len(), 1);
            archive.by_index(0).unwrap().read_to_end(&mut out).unwrap();
        }
        Compression::Snappy => {
            snap::read::FrameDecoder::new(bytes).read_to_end(&mut out).unwrap();
        }
        Compression::HadoopSnappy => {
            let mut rest = bytes;
            let number = |rest: &mut &[u8]| {
                let (four, after) = rest.split_at(4);
                *rest = after;
                u32::from_be_bytes(four.try_into().unwrap()) as usize
            };
            while !rest.is_empty() {
                let whole = number(&mut rest);
                let (chunk, after) = {
                    let n = number(&mut rest);
                    rest.split_at(n)
                };
                let block = snap::raw::Decoder::new().decompress_vec(chunk).unwrap();
                assert_eq!(block.len(), whole);
                out.extend(block);
                rest = after;
            }
        }
    }
    out
}

const ALL: [Compression; 5] = [
    Compression::Uncompressed,
    Compression::Gzip,
    Compression::Zip,
    Compression::Snappy,
    Compression::HadoopSnappy,
];

fn readings(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            format!("{{\"sensor\":{},\"value\":{}}}\n", i % 13, i * 7919 % 10_007).into_bytes()
        })
        .collect()
}

#[test]
fn every_codec_gives_back_the_concatenated_records() {
    let records = readings(8000);
    for compression in ALL {
        let spool = spool(usize::MAX);
        let mut writer = writer(&destination(None, compression), &spool);
        for record in &records {
            writer.push(record, TIME_MS, None).unwrap();
        }
        let objects = finished(&mut writer);
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].records, 8000);
        assert_eq!(decompressed(compression, &bytes(&objects[0])), records.concat());
        let extension = ["", ".gz", ".zip", ".snappy", ".hsnappy"]
            [ALL.iter().position(|c| *c == compression).unwrap()];
        let name = objects[0].key.rsplit('/').next().unwrap();
        assert_eq!(name.find('.').map_or("", |dot| &name[dot..]), extension);
        assert!(objects[0].key.starts_with("2026/01/03/09/s-1-2026-01-03-09-05-07-"));
        assert_eq!(objects[0].size_bytes, bytes(&objects[0]).len() as u64);
    }
}

#[test]
fn objects_are_the_same_whether_they_wait_in_memory_or_in_files() {
    let records = readings(60_000);
    for compression in ALL {
        for destination in [
            destination(None, compression),
            partitioned("!{partitionKeyFromQuery:k}/", compression),
        ] {
            let all = [0, 3 * PIECE_BYTES, usize::MAX].map(|memory_bytes| {
                let spool = spool(memory_bytes);
                let mut writer = writer(&destination, &spool);
                for (i, record) in records.iter().enumerate() {
                    let keys = keys(&[("k", ["a", "b", "c"][i % 3])]);
                    writer.push(record, TIME_MS + i as i64, Some(&keys)).unwrap();
                }
                let objects = finished(&mut writer);
                objects.iter().map(|o| (o.key.clone(), o.records, bytes(o))).collect::<Vec<_>>()
            });
            assert!(all[0].len() > 1);
            assert!(all[0] == all[1] && all[1] == all[2], "{compression:?}");
        }
    }
}

#[test]
fn objects_end_at_the_size_hint_and_a_larger_record_has_its_own() {
    let spool = spool(usize::MAX);
    let mut writer = writer(&destination(None, Compression::Uncompressed), &spool);
    let record = vec![b'x'; 300 << 10];
    for _ in 0..7 {
        writer.push(&record, TIME_MS, None).unwrap();
    }
    writer.push(&vec![b'y'; 2 << 20], TIME_MS, None).unwrap();
    writer.push(b"z", TIME_MS - 3_600_000, None).unwrap();
    let objects = finished(&mut writer);
    let records: Vec<_> = objects.iter().map(|object| object.records).collect();
    assert_eq!(records, [3, 3, 1, 1, 1]);
    assert_eq!(writer.counts().records, 9);
    let keys: std::collections::BTreeSet<_> = objects.iter().map(|object| &object.key).collect();
    assert_eq!(keys.len(), 5, "names never meet");
    assert!(objects[4].key.starts_with("2026/01/03/08/"), "{}", objects[4].key);
}

#[test]
fn partitions_fill_objects_of_their_own() {
    let spool = spool(usize::MAX);
    let prefix = "c=!{partitionKeyFromQuery:c}/d=!{partitionKeyFromQuery:d}/";
    let mut writer = writer(&partitioned(prefix, Compression::Gzip), &spool);
    for i in 0..300 {
        let keys =
            keys(&[("c", ["UA", "DL", "B6"][i % 3]), ("d", "1"), ("unused", &i.to_string())]);
        writer.push(format!("{i}\n").as_bytes(), TIME_MS, Some(&keys)).unwrap();
    }
    let objects = finished(&mut writer);
    assert_eq!(objects.len(), 3);
    assert!(objects[0].key.starts_with("c=UA/d=1/s-1-2026-01-03-09-05-07-"));
    let text = String::from_utf8(decompressed(Compression::Gzip, &bytes(&objects[1]))).unwrap();
    assert_eq!(text.lines().take(3).collect::<Vec<_>>(), ["1", "4", "7"]);
    assert_eq!(text.lines().count(), 100);
}

#[test]
fn a_record_whose_partition_is_one_too_many_is_refused_and_nothing_else() {
    let spool = spool(usize::MAX);
    let destination = partitioned("!{partitionKeyFromQuery:k}/", Compression::Uncompressed);
    let mut writer = writer(&destination, &spool);
    let push = |writer: &mut S3Writer, key: &str, data: &[u8]| {
        writer.push(data, TIME_MS, Some(&keys(&[("k", key)])))
    };
    for i in 0..ACTIVE_PARTITIONS_MAX {
        push(&mut writer, &i.to_string(), b"x").unwrap();
    }
    let Err(PushError::Refused(refusal)) = push(&mut writer, "500", b"x") else { panic!() };
    assert_eq!(refusal.code, "DynamicPartitioning.ActivePartitionsLimitExceeded");
    push(&mut writer, "499", b"y").unwrap();
    let counts = writer.counts();
    assert_eq!((counts.records, counts.excess, counts.partitions), (501, 1, 500));
    let objects = finished(&mut writer);
    assert_eq!(objects.iter().map(|object| object.records).sum::<u64>(), 501);
}

#[test]
fn records_without_a_usable_key_are_refused_by_what_is_wrong() {
    let spool = spool(usize::MAX);
    let destination = partitioned("!{partitionKeyFromQuery:k}/", Compression::Uncompressed);
    let mut writer = writer(&destination, &spool);
    let long = "x".repeat(600);
    for (keys, code) in [
        (None, "DynamicPartitioning.MetadataExtractionFailed"),
        (Some(keys(&[("other", "x")])), "DynamicPartitioning.MetadataExtractionFailed"),
        (Some(keys(&[("k", "")])), "DynamicPartitioning.MetadataExtractionFailed"),
        (Some(keys(&[("k", "..")])), "DynamicPartitioning.InvalidS3Prefix"),
        (Some(keys(&[("k", "a/../b")])), "DynamicPartitioning.InvalidS3Prefix"),
        (Some(keys(&[("k", "\u{0}")])), "DynamicPartitioning.InvalidS3Prefix"),
        (Some(keys(&[("k", &long)])), "DynamicPartitioning.InvalidS3Prefix"),
    ] {
        let keys = keys.as_ref().map(|keys| keys as &dyn PartitionValues);
        let Err(PushError::Refused(refusal)) = writer.push(b"x", TIME_MS, keys) else { panic!() };
        assert_eq!(refusal.code, code);
    }
    assert_eq!(writer.counts(), S3Counts::default());
    assert!(finished(&mut writer).is_empty());
}

#[test]
fn raw_copies_have_names_and_hints_of_their_own() {
    let mut destination = destination(Some("d/"), Compression::Gzip);
    destination.file_extension = Some(".json".into());
    destination.backup = Some(S3Backup {
        output: output(Some("d/"), Compression::Uncompressed),
        buffering: BufferingHints { size_mib: 2, interval_s: 60 },
        enabled: true,
    });
    let spool = spool(usize::MAX);
    let backup = S3Plan::backup(&destination).unwrap().unwrap();
    let plans = [S3Plan::new(&destination).unwrap(), backup];
    let names = plans.map(|plan| {
        let mut writer = S3Writer::new(&plan, &spool.spool, identity(1), "s", 1);
        writer.push(b"x", TIME_MS, None).unwrap();
        finished(&mut writer).remove(0).key
    });
    assert!(names[0].ends_with(".json") && !names[1].contains('.'));
    assert_ne!(names[0].trim_end_matches(".json"), names[1]);
}

#[tokio::test]
async fn an_object_is_put_once_and_what_is_there_is_success() {
    let objects = MemoryObjects::new();
    objects.create_bucket("b").await.unwrap();
    let spool = spool(0);
    for (compression, count) in [(Compression::Uncompressed, 100_000), (Compression::Gzip, 10)] {
        let make = || {
            let mut writer = writer(&destination(None, compression), &spool);
            readings(count).iter().for_each(|r| writer.push(r, TIME_MS, None).unwrap());
            finished(&mut writer).remove(0)
        };
        let first = make();
        assert_eq!(publish(&objects, "b", &first).await.unwrap(), Published::New);
        let version = objects.head("b", &first.key).await.unwrap().version;
        assert_eq!(publish(&objects, "b", &make()).await.unwrap(), Published::Same);
        assert_eq!(objects.head("b", &first.key).await.unwrap().version, version);
        let whole = 0..first.size_bytes;
        let whole = std::slice::from_ref(&whole);
        let there = objects.get_ranges("b", &first.key, whole).await.unwrap();
        assert_eq!(there.concat(), bytes(&first));
        // Of the same length, but not the same.
        let mut other = there.concat();
        *other.last_mut().unwrap() ^= 1;
        objects.put_bytes("b", &first.key, other.into(), Default::default()).await.unwrap();
        assert_eq!(publish(&objects, "b", &first).await.unwrap(), Published::Replaced);
        assert_eq!(publish(&objects, "b", &first).await.unwrap(), Published::Same);
    }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_found_done() {
    let memory: Arc<dyn Objects> = Arc::new(MemoryObjects::new());
    memory.create_bucket("b").await.unwrap();
    let faulty = FaultyObjects::new(memory.clone());
    let spool = spool(0);
    let object = make_small(&spool);
    faulty.arm(Call::Put, "", Fault::Before(ObjectsError::Unavailable("no".into())), 1);
    assert!(publish(&faulty, "b", &object).await.is_err());
    faulty.arm(Call::Put, "", Fault::After(ObjectsError::Unknown("lost".into())), 1);
    assert!(matches!(publish(&faulty, "b", &object).await, Err(ObjectsError::Unknown(_))));
    let version = memory.head("b", &object.key).await.unwrap().version;
    assert_eq!(publish(&faulty, "b", &object).await.unwrap(), Published::Same);
    assert_eq!(memory.head("b", &object.key).await.unwrap().version, version);
    let refused = publish(&faulty, "absent", &object).await;
    assert!(matches!(refused, Err(ObjectsError::NoBucket(_))));
}

fn make_small(spool: &Spooled) -> FinishedObject {
    let mut writer = writer(&destination(None, Compression::Zip), spool);
    writer.push(b"x", TIME_MS, None).unwrap();
    finished(&mut writer).remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_record_is_lost_doubled_or_moved(
        records in proptest::collection::vec((0usize..200_000, 0u8..4), 0..40),
        compression in 0usize..5, memory_bytes in prop_oneof![Just(0usize), Just(usize::MAX)],
        by_key: bool,
    ) {
        let compression = ALL[compression];
        let prefix = "!{partitionKeyFromQuery:k}/";
        let destination = match by_key {
            true => partitioned(prefix, compression),
            false => destination(None, compression),
        };
        let spool = spool(memory_bytes);
        let mut writer = writer(&destination, &spool);
        let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut objects = Vec::new();
        for (i, (length, key)) in records.iter().enumerate() {
            let key = key.to_string();
            let data: Vec<u8> = (0..*length).map(|at| (at * (i + 3) % 253) as u8).collect();
            writer.push(&data, TIME_MS, Some(&keys(&[("k", &key)]))).unwrap();
            let place = if by_key { key } else { String::new() };
            expected.entry(place).or_default().extend(&data);
            if i % 5 == 0 {
                objects.extend(writer.take_finished());
            }
        }
        objects.extend(finished(&mut writer));
        let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for object in &objects {
            let raw = decompressed(compression, &bytes(object));
            prop_assert_eq!(raw.len() as u64, object.raw_bytes);
            let place = match by_key {
                true => object.key.split('/').next().unwrap().to_string(),
                false => String::new(),
            };
            found.entry(place).or_default().extend(raw);
        }
        prop_assert_eq!(found, expected);
        let total: u64 = objects.iter().map(|object| object.records).sum();
        prop_assert_eq!(total, writer.counts().records);
        prop_assert_eq!(total, records.len() as u64);
    }
}
