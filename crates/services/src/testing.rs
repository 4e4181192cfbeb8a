//! What this crate's tests stand on: a lake in a directory, and verified calls.

use alluvium_base::{AccountId, ManualClock, OsRandom, Region, RequestId};
use alluvium_lake::catalog::TableBucketRecord;
use alluvium_lake::{Catalog, Lake, LakeOptions};
use alluvium_store::objects::Objects;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::Records;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_wire::{Call, Caller, Service};
use http::request::Builder;
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;

/// 2026-09-21 14:13:20 UTC.
const NOW_MS: i64 = 1_790_000_000_000;

/// A lake, and what it stands on.
pub(crate) struct Ground {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<OsRandom>,
    pub(crate) account: AccountId,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) lake: Lake,
    pub(crate) directory: tempfile::TempDir,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(ManualClock::new(NOW_MS)), Arc::new(OsRandom));
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let dir = directory.path().join("objects");
        let objects =
            LocalObjects::open(&dir, records.clone(), clock.clone(), random.clone()).await.unwrap();
        let objects: Arc<dyn Objects> = Arc::new(objects);
        let account: AccountId = "000000000000".parse().unwrap();
        let catalog = Catalog::new(
            records.clone(),
            objects.clone(),
            clock.clone(),
            random.clone(),
            account.clone(),
        );
        let lake = Lake::new(catalog, LakeOptions::default());
        Self { clock, random, account, records, objects, lake, directory }
    }

    /// Makes the table bucket `lake` with the namespace `ns`.
    pub(crate) async fn namespace(&self) -> TableBucketRecord {
        let catalog = self.lake.catalog();
        let region: Region = "us-east-1".parse().unwrap();
        let bucket = catalog.create_table_bucket(&region, "lake").await.unwrap();
        catalog.create_namespace(&bucket, "ns", Default::default()).await.unwrap();
        bucket
    }
}

/// A call whose signature the door has verified.
pub(crate) fn call(signing_name: &str, head: Builder, body: impl Into<bytes::Bytes>) -> Call {
    Call {
        request_id: RequestId(uuid::Uuid::from_u128(1)),
        signing_name: signing_name.into(),
        region: "us-east-1".parse().unwrap(),
        caller: Caller {
            access_key_id: "AKIA".into(),
            account: "000000000000".parse().unwrap(),
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
        },
        head: Arc::new(head.body(()).unwrap().into_parts().0),
        body: body.into(),
        body_sha256: [0; 32],
        invocation: None,
        arrival_ms: 0,
        endpoint: "http://127.0.0.1:4566".into(),
    }
}

/// What an AWS JSON operation answers.
pub(crate) async fn json(
    service: &dyn Service,
    signing_name: &str,
    target: &str,
    body: &Value,
) -> (http::StatusCode, Value) {
    let head = http::Request::builder().method("POST").uri("/").header("x-amz-target", target);
    let reply = service.call(call(signing_name, head, body.to_string())).await;
    let status = reply.status();
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}
