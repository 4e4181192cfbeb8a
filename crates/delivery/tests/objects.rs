//! Records into objects of a bucket: each in one object, whatever is lost or repeated.

#![allow(clippy::unwrap_used)] // tests unwrap

mod rig;

use alluvium_delivery::batch::BATCHES;
use alluvium_delivery::stream::{
    BufferingHints, Compression, Destination, DynamicPartitioning, Processing, S3Backup,
    S3Destination, S3Output,
};
use alluvium_store::objects::faulty::{Call, Fault as ObjectFault};
use alluvium_store::objects::versions::VersionsRequest;
use alluvium_store::objects::{ListRequest, Objects, ObjectsError};
use alluvium_store::records::faulty::{Fault, Release};
use rig::{AT_ONCE, Run, World, extraction};

const BUCKET: &str = "objects-bucket";

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

fn destination(prefix: &str, processing: Processing, dynamic: bool) -> Destination {
    Destination::S3(S3Destination {
        output: output(prefix),
        buffering: BufferingHints { size_mib: 1, ..AT_ONCE },
        file_extension: None,
        time_zone: None,
        dynamic_partitioning: dynamic.then_some(DynamicPartitioning { retry_duration_s: 0 }),
        backup: Some(S3Backup { enabled: true, output: output("raw/"), buffering: AT_ONCE }),
        processing,
        simple: false,
    })
}

/// Every version in the bucket, delete markers too.
async fn versions(run: &Run) -> Vec<String> {
    let request = VersionsRequest { limit: 1000, ..VersionsRequest::default() };
    let page = run.objects.list_versions(BUCKET, request).await.unwrap();
    page.versions.into_iter().map(|version| version.meta.key).collect()
}

async fn objects(run: &Run, prefix: &str) -> Vec<(String, String)> {
    let request = ListRequest { limit: 1000, prefix: prefix.into(), ..ListRequest::default() };
    let mut found = Vec::new();
    for object in run.objects.list(BUCKET, request).await.unwrap().objects {
        let range = 0..object.size_bytes;
        let bytes = run.objects.get_ranges(BUCKET, &object.key, &[range]).await.unwrap();
        found.push((object.key, String::from_utf8(bytes.concat()).unwrap()));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_an_object_and_a_raw_copy_over_a_crash_at_every_step() {
    for at in ["data", "raw", "prepared"] {
        let mut world = World::new();
        let (run, _, _) = world.begin(AT_ONCE).await;
        run.objects.create_bucket(BUCKET).await.unwrap();
        run.objects.set_versioning(BUCKET, true).await.unwrap();
        let to = destination("data/", Processing::default(), false);
        let stream = run.create_stream_to("s3", to).await;
        let gate = Release::new();
        let object = if at == "prepared" { "raw/" } else { at };
        run.objects.arm(Call::Put, object, ObjectFault::Stall(gate.clone()), 1);
        run.put_raw(&stream, &[b"one;".to_vec(), Vec::new(), b"two;".to_vec()]).await;
        tokio::time::timeout(rig::PATIENCE, gate.stalled()).await.unwrap();
        if at == "prepared" {
            let prepared = Release::new();
            run.records.arm(Some(BATCHES), Fault::Stall(prepared.clone()), 1);
            gate.release();
            tokio::time::timeout(rig::PATIENCE, prepared.stalled()).await.unwrap();
        }
        run.crash().await;
        let run = world.start().await;
        run.settle().await;
        for prefix in ["data/", "raw/"] {
            let found = objects(&run, prefix).await;
            assert_eq!(found.len(), 1, "{at} {prefix}: {found:?}");
            assert_eq!(found[0].1, "one;two;");
        }
        assert_eq!(versions(&run).await.len(), 2, "{at}: a retry makes no second version");
        assert_eq!(run.documents(BATCHES).await, 0);
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_fail_or_whose_answers_are_lost_make_no_second_object_or_version() {
    for (prefix, dynamic) in [("data/", false), ("data/!{partitionKeyFromQuery:k}/", true)] {
        let mut world = World::new();
        let (run, _, _) = world.begin(AT_ONCE).await;
        run.objects.create_bucket(BUCKET).await.unwrap();
        run.objects.set_versioning(BUCKET, true).await.unwrap();
        let processing = if dynamic { extraction("{k: .k}") } else { Processing::default() };
        let Destination::S3(mut to) = destination(prefix, processing, dynamic) else {
            unreachable!()
        };
        to.output.compression = Compression::Gzip;
        let stream = run.create_stream_to("s3", Destination::S3(to)).await;
        let unavailable = || ObjectsError::Unavailable("no".into());
        let unknown = || ObjectsError::Unknown("lost".into());
        for prefix in ["data/", "raw/", "err/"] {
            run.objects.arm(Call::Put, prefix, ObjectFault::Before(unavailable()), 2);
            run.objects.arm(Call::Put, prefix, ObjectFault::After(unavailable()), 2);
            run.objects.arm(Call::Put, prefix, ObjectFault::After(unknown()), 2);
            run.objects.arm(Call::Get, prefix, ObjectFault::Before(unavailable()), 1);
        }
        let record = |i: usize| match i % 4 {
            3 => format!("{{\"k\":null,\"n\":{i}}}"),
            key => format!("{{\"k\":\"{key}\",\"n\":{i}}}"),
        };
        let records: Vec<Vec<u8>> = (0..400).map(|i| record(i).into_bytes()).collect();
        run.put_raw(&stream, &records).await;
        run.settle().await;
        let keys = versions(&run).await;
        let expected = if dynamic { ["data/", "err/", "raw/"].len() + 2 } else { 2 };
        assert_eq!(keys.len(), expected, "{keys:?}");
        assert_eq!(keys.iter().filter(|key| key.starts_with("raw/")).count(), 1);
        run.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_partitioned_by_their_keys_and_those_without_go_to_the_error_prefix() {
    let mut world = World::new();
    let (run, _, _) = world.begin(AT_ONCE).await;
    run.objects.create_bucket(BUCKET).await.unwrap();
    let to = destination("data/!{partitionKeyFromQuery:k}/", extraction("{k: .k}"), true);
    let stream = run.create_stream_to("parts", to).await;
    let records =
        [r#"{"k":"x","n":1}"#, r#"{"k":"y","n":2}"#, r#"{"k":null}"#, r#"{"k":"x","n":3}"#];
    run.put_raw(&stream, &records.map(|record| record.as_bytes().to_vec())).await;
    run.settle().await;
    let found = objects(&run, "data/").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].0.starts_with("data/x/") && found[1].0.starts_with("data/y/"));
    assert_eq!(found[0].1, format!("{}{}", records[0], records[3]));
    let errors = objects(&run, "err/processing-failed/").await;
    assert_eq!(errors.len(), 1);
    assert!(errors[0].1.contains("MetadataExtractionFailed"), "{errors:?}");
    run.crash().await;
}
