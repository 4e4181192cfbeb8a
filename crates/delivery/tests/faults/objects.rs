//! Records into objects of a bucket with versions: partitioned by a key or not, with a raw copy of
//! every record.

use super::rig::chaos::{Case, Dice, once, told_once};
use super::rig::{AT_ONCE, Run, extraction};
use alluvium_delivery::stream::{
    Compression, Destination, DynamicPartitioning, Processing, S3Backup, S3Destination, S3Output,
};
use alluvium_store::objects::versions::VersionsRequest;
use alluvium_store::objects::{ListRequest, Objects};
use std::collections::BTreeSet;

const BUCKET: &str = "objects-bucket";
/// More objects than any seed makes.
const OBJECTS_MAX: usize = 1_000;

pub(crate) struct InObjects {
    dynamic: bool,
    good: BTreeSet<Vec<u8>>,
    bad: BTreeSet<Vec<u8>>,
    next: i64,
}

impl InObjects {
    pub(crate) fn new(dynamic: bool) -> Self {
        Self { dynamic, good: BTreeSet::new(), bad: BTreeSet::new(), next: 1 }
    }
}

fn output(prefix: &str) -> S3Output {
    S3Output {
        role_arn: "r".into(),
        bucket_arn: format!("arn:aws:s3:::{BUCKET}"),
        prefix: Some(prefix.into()),
        error_prefix: Some("err/!{firehose:error-output-type}/".into()),
        compression: Compression::Uncompressed,
        logging: None,
    }
}

/// The lines of all objects below a prefix, with their keys.
async fn lines(run: &Run, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let request = ListRequest { limit: OBJECTS_MAX, prefix: prefix.into(), ..Default::default() };
    let page = run.objects.list(BUCKET, request).await.unwrap();
    assert!(page.next.is_none(), "one page has them all");
    let mut lines = Vec::new();
    for object in page.objects {
        let range = 0..object.size_bytes;
        let bytes = run.objects.get_ranges(BUCKET, &object.key, &[range]).await.unwrap().concat();
        let of_object = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.extend(of_object.map(|line| (object.key.clone(), line.to_vec())));
    }
    lines
}

impl Case for InObjects {
    const KEYS: &'static [&'static str] = &["data/", "raw/", "err/", ""];
    const STREAM: &'static str = "objects";

    async fn begin(&mut self, run: &Run) {
        run.objects.create_bucket(BUCKET).await.unwrap();
        run.objects.set_versioning(BUCKET, true).await.unwrap();
        let (prefix, processing) = match self.dynamic {
            true => ("data/!{partitionKeyFromQuery:k}/", extraction("{k: .k}")),
            false => ("data/", Processing::default()),
        };
        let to = Destination::S3(S3Destination {
            output: output(prefix),
            buffering: AT_ONCE,
            file_extension: None,
            time_zone: None,
            dynamic_partitioning: self
                .dynamic
                .then_some(DynamicPartitioning { retry_duration_s: 0 }),
            backup: Some(S3Backup { enabled: true, output: output("raw/"), buffering: AT_ONCE }),
            processing,
            simple: false,
        });
        run.create_stream_to(Self::STREAM, to).await;
    }

    fn records(&mut self, dice: &mut Dice) -> Vec<Vec<u8>> {
        let count = 1 + dice.below(20);
        let record = |_| {
            let id = self.next;
            self.next += 1;
            match dice.below(8) {
                0 => format!("{{\"k\":null,\"n\":{id}}}\n"),
                key => format!("{{\"k\":\"k{}\",\"n\":{id}}}\n", key % 3),
            }
            .into_bytes()
        };
        (0..count).map(record).collect()
    }

    fn acknowledged(&mut self, records: &[Vec<u8>]) {
        for bytes in records {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let bad = self.dynamic && value["k"].is_null();
            let ledger = if bad { &mut self.bad } else { &mut self.good };
            ledger.insert(bytes.clone());
        }
    }

    async fn compare(&self, run: &Run, seed: u64) {
        let mut data = Vec::new();
        for (key, line) in lines(run, "data/").await {
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            if let (true, Some(k)) = (self.dynamic, value["k"].as_str()) {
                assert!(key.starts_with(&format!("data/{k}/")), "seed {seed}: {k} in {key}");
            }
            data.push(line);
        }
        assert_eq!(once(data, "a record", seed), self.good, "seed {seed}: objects");
        let raw = lines(run, "raw/").await.into_iter().map(|(_, line)| line).collect();
        let all: BTreeSet<Vec<u8>> = self.good.union(&self.bad).cloned().collect();
        assert_eq!(once(raw, "a raw copy", seed), all, "seed {seed}: raw copies");
        let told = lines(run, "err/").await.into_iter();
        let told = told.map(|(_, line)| serde_json::from_slice(&line).unwrap()).collect();
        assert_eq!(told_once(told, seed), self.bad, "seed {seed}: errors");
        let request = VersionsRequest { limit: OBJECTS_MAX, ..VersionsRequest::default() };
        let page = run.objects.list_versions(BUCKET, request).await.unwrap();
        let keys = page.versions.into_iter().map(|version| version.meta.key).collect();
        once(keys, "a version of an object", seed);
    }
}
