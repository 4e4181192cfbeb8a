//! The service over streams in memory: errors, encodings, the ends of a subscription. Real clients
//! are in `tests/clients/test_kinesis*.py`.

use super::*;
use crate::testing;
use alluvium_base::{AccountId, Epoch, ManualClock, OsRandom};
use alluvium_log::device::memory::MemoryDevice;
use alluvium_log::{Journal, JournalOptions};
use alluvium_store::records::memory::MemoryRecords;
use alluvium_streams::{Arrivals, DataStreamsOptions, DataStreamsParts};
use alluvium_wire::cbor;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

/// A service with a stream `s` of two shards.
struct House {
    service: KinesisService,
    clock: ManualClock,
    closing: CancellationToken,
}

impl House {
    async fn new() -> Self {
        let clock = ManualClock::new(1_790_000_000_000);
        let shared = Arc::new(clock.clone());
        let account: AccountId = "000000000000".parse().unwrap();
        let arrivals = Arrivals::new();
        let options = JournalOptions::new(Epoch(1), shared.clone(), Arc::new(OsRandom));
        let observer = arrivals.observer(Arc::new(|_| {}));
        let device = Arc::new(MemoryDevice::new());
        let (journal, _) = Journal::open_device(device, options, observer).unwrap();
        let parts = DataStreamsParts {
            records: Arc::new(MemoryRecords::new()),
            journal,
            arrivals,
            clock: shared,
            random: Arc::new(OsRandom),
            account,
            options: DataStreamsOptions::default(),
        };
        let streams = DataStreams::open(parts).await.unwrap();
        let closing = CancellationToken::new();
        let service = KinesisService::new(streams, Arc::default(), closing.clone());
        let house = Self { service, clock, closing };
        house.done("CreateStream", json!({"StreamName": "s", "ShardCount": 2})).await;
        house
    }

    async fn reply(&self, operation: &str, kind: &str, body: Vec<u8>) -> Reply {
        let head = http::Request::builder()
            .method("POST")
            .uri("/")
            .header("content-type", kind)
            .header("x-amz-target", format!("{TARGET}.{operation}"));
        self.service.call(testing::call("kinesis", head, body)).await
    }

    async fn json(&self, operation: &str, body: Value) -> (StatusCode, Value) {
        let kind = "application/x-amz-json-1.1";
        let reply = self.reply(operation, kind, body.to_string().into_bytes()).await;
        let status = reply.status();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn done(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.json(operation, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn refused(&self, operation: &str, body: Value) -> (String, String) {
        let (status, answer) = self.json(operation, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let text = |name: &str| answer[name].as_str().unwrap().to_string();
        (text("__type"), text("message"))
    }
}

#[tokio::test]
async fn an_iterator_expires_after_five_minutes() {
    let house = House::new().await;
    let asked = json!({"StreamName": "s", "ShardId": "shardId-000000000001",
        "ShardIteratorType": "LATEST"});
    let answer = house.done("GetShardIterator", asked).await;
    let read = json!({"ShardIterator": answer["ShardIterator"]});
    house.clock.advance(300_000);
    house.done("GetRecords", read.clone()).await;
    house.clock.advance(1);
    assert_eq!(house.refused("GetRecords", read).await.0, "ExpiredIteratorException");
}

#[tokio::test]
async fn a_token_of_a_list_expires_too() {
    let house = House::new().await;
    let page = house.done("ListShards", json!({"StreamName": "s", "MaxResults": 1})).await;
    let next = json!({"NextToken": page["NextToken"]});
    assert_eq!(
        house.done("ListShards", next.clone()).await["Shards"][0]["ShardId"],
        "shardId-000000000001"
    );
    house.clock.advance(300_001);
    assert_eq!(house.refused("ListShards", next).await.0, "ExpiredNextTokenException");
}

#[tokio::test]
async fn records_older_than_the_retention_are_not_returned() {
    let house = House::new().await;
    let put = |data: &str| {
        json!({"StreamName": "s", "Data": data, "PartitionKey": "k",
        "ExplicitHashKey": "0"})
    };
    house.done("PutRecord", put("b2xk")).await;
    house.clock.advance(24 * 3_600_000);
    house.done("PutRecord", put("bmV3")).await;
    house.clock.advance(1);
    let asked = json!({"StreamName": "s", "ShardId": "shardId-000000000000",
        "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = house.done("GetShardIterator", asked).await["ShardIterator"].clone();
    let page = house.done("GetRecords", json!({"ShardIterator": iterator})).await;
    let data: Vec<_> = page["Records"].as_array().unwrap().iter().map(|r| &r["Data"]).collect();
    assert_eq!(data, ["bmV3"]);
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_its_name() {
    let house = House::new().await;
    for (operation, body, name) in [
        ("DescribeStream", json!({"StreamName": "s", "StreamId": "x"}), "StreamId"),
        (
            "StartStreamEncryption",
            json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "k"}),
            "StartStreamEncryption",
        ),
        (
            "UpdateAccountSettings",
            json!({"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}}),
            "MinimumThroughputBillingCommitment",
        ),
        (
            "PutResourcePolicy",
            json!({"ResourceARN": ARN,
                "Policy": "{\"Statement\":{\"Sid\":\"no\",\"Effect\":\"Deny\",\"Action\":\"x\"}}"}),
            "Deny",
        ),
        ("DescribeStream", json!({"StreamName": "s", "Odd": 1}), "Odd"),
    ] {
        let (code, message) = house.refused(operation, body).await;
        assert_eq!(code, "InvalidArgumentException", "{operation}: {message}");
        assert!(message.contains(name), "{operation}: {message}");
    }
    let (code, message) = house.refused("Odd", json!({})).await;
    assert_eq!(code, "UnknownOperationException");
    assert!(message.contains("Odd"));
}

#[tokio::test]
async fn arns_of_other_forms_regions_and_accounts_find_nothing() {
    let house = House::new().await;
    for (arn, expected) in [
        (ARN.to_string(), None),
        (ARN.replace("us-east-1", "eu-west-1"), Some("ResourceNotFoundException")),
        (ARN.replace("000000000000", "111111111111"), Some("ResourceNotFoundException")),
        (format!("{ARN}/x"), Some("ResourceNotFoundException")),
        (format!("{ARN}/consumer/c:1"), Some("ResourceNotFoundException")),
        (ARN.replace("kinesis", "firehose"), Some("ValidationException")),
        (ARN.replace("stream/s", "table/s"), Some("ValidationException")),
        (ARN.replace("stream/s", "stream/"), Some("ValidationException")),
        ("s".into(), Some("ValidationException")),
        (String::new(), Some("ValidationException")),
    ] {
        let body = json!({"StreamARN": arn});
        match expected {
            None => drop(house.done("DescribeStreamSummary", body).await),
            Some(code) => {
                assert_eq!(house.refused("DescribeStreamSummary", body).await.0, code, "{arn}");
            }
        }
    }
}

#[tokio::test]
async fn both_encodings_say_the_same() {
    let house = House::new().await;
    let kind = cbor::CONTENT_TYPE;
    for operation in ["DescribeStreamSummary", "ListShards", "DescribeStream"] {
        let input = json!({"StreamName": "s"});
        let reply = house.reply(operation, kind, cbor::to_vec(&input).unwrap()).await;
        assert_eq!(reply.headers()["content-type"], kind);
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        let mut answer: Value = alluvium_wire::input::parse_cbor(&bytes).unwrap();
        let expected = house.done(operation, input).await;
        for member in ["StreamDescription", "StreamDescriptionSummary"] {
            // Milliseconds there, seconds here.
            if let Some(created) = answer.pointer_mut(&format!("/{member}/StreamCreationTimestamp"))
            {
                *created = (created.as_i64().unwrap() / 1000).into();
            }
        }
        assert_eq!(answer, expected, "{operation}");
    }
}

#[tokio::test]
async fn odd_partition_keys_and_data_come_back_as_they_were() {
    let house = House::new().await;
    let keys = ["a\"\\b", "\n\u{1}\u{7f}", "é\u{2028}𝄞", "{\"k\":[", " "];
    for key in keys {
        let put = json!({"StreamName": "s", "Data": "AP8K", "PartitionKey": key,
            "ExplicitHashKey": "0"});
        house.done("PutRecord", put).await;
    }
    let asked = json!({"StreamName": "s", "ShardId": "shardId-000000000000",
        "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = house.done("GetShardIterator", asked).await["ShardIterator"].clone();
    let input = json!({ "ShardIterator": iterator });
    let page = house.done("GetRecords", input.clone()).await;
    let reply = house.reply("GetRecords", cbor::CONTENT_TYPE, cbor::to_vec(&input).unwrap()).await;
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    let other: CborPage = alluvium_wire::input::parse_cbor(&bytes).unwrap();
    let records = page["Records"].as_array().unwrap();
    assert_eq!((records.len(), other.records.len()), (keys.len(), keys.len()));
    for ((record, other), key) in records.iter().zip(&other.records).zip(keys) {
        assert_eq!(record["PartitionKey"], key);
        assert_eq!(record["Data"], "AP8K");
        assert_eq!(other.partition_key, key);
        assert_eq!(other.data.0, [0, 255, 10]);
        assert_eq!(record["SequenceNumber"], other.sequence_number);
        assert_eq!(record["EncryptionType"], other.encryption_type);
        let ms = other.approximate_arrival_timestamp.0;
        assert_eq!(record["ApproximateArrivalTimestamp"], ms as f64 / 1000.0);
    }
    assert_eq!(page["MillisBehindLatest"], other.millis_behind_latest);
    assert!(other.next_shard_iterator.is_some());
}

/// The whole of an answer: a member more would be refused.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CborPage {
    records: Vec<CborRecord>,
    millis_behind_latest: i64,
    next_shard_iterator: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CborRecord {
    sequence_number: String,
    approximate_arrival_timestamp: alluvium_wire::member::Timestamp,
    data: alluvium_wire::member::Blob,
    partition_key: String,
    encryption_type: String,
}

#[tokio::test]
async fn a_subscription_ends_when_the_server_does() {
    let house = House::new().await;
    let registered = json!({"StreamARN": ARN, "ConsumerName": "c"});
    let consumer = house.done("RegisterStreamConsumer", registered).await;
    let input = json!({"ConsumerARN": consumer["Consumer"]["ConsumerARN"],
        "ShardId": "shardId-000000000000", "StartingPosition": {"Type": "LATEST"}});
    let kind = "application/x-amz-json-1.1";
    let reply = house.reply("SubscribeToShard", kind, input.to_string().into_bytes()).await;
    assert_eq!(reply.status(), StatusCode::OK);
    let mut body = reply.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("initial-response"));
    house.closing.cancel();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
}
