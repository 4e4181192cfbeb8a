//! Whole calls to the catalog's services, with a lake in memory that has a bucket, a namespace and a
//! table: each is answered, none with a server error, whatever was asked before.
//!
//! A line is a call: the service (`iceberg`, `s3tables`, `glue`, `token`), the method or, for
//! `glue`, the operation, the path, the body. `{arn}` and `{table}` stand for the bucket's and the
//! table's ARN, `{prefix}` for the bucket's as a path has it.

use super::finish;
use alluvium_base::{Clock, ManualClock, Random, RequestId, Secret};
use alluvium_lake::catalog::{Catalog, NewTable};
use alluvium_lake::commit::TableDefinition;
use alluvium_lake::{Lake, LakeOptions};
use alluvium_services::glue::GlueService;
use alluvium_services::iceberg_rest::IcebergRest;
use alluvium_services::s3tables::S3TablesService;
use alluvium_store::objects::memory::MemoryObjects;
use alluvium_store::records::memory::MemoryRecords;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use alluvium_wire::{Call, Caller, Service, UnsignedCall};
use http::request::Parts;
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, Type, UnboundPartitionSpec,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// More calls of one input would only make it slow.
const CALLS_MAX: usize = 12;

/// The target.
pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    finish(async {
        let house = House::new().await;
        for line in text.lines().take(CALLS_MAX) {
            house.answer(line).await;
        }
    });
}

/// Counts instead of drawing, so that an input means the same every time.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            byte.copy_from_slice(&next[..byte.len()]);
        }
    }
}

#[derive(Debug)]
struct OneKey(Arc<Credential>);

impl CredentialLookup for OneKey {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == "AK").then(|| self.0.clone())
    }
}

struct House {
    caller: Caller,
    iceberg: IcebergRest,
    s3tables: S3TablesService,
    glue: GlueService,
    words: [(&'static str, String); 3],
}

impl House {
    async fn new() -> Self {
        let records = Arc::new(MemoryRecords::new());
        let objects = Arc::new(MemoryObjects::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_790_000_000_000));
        let account: alluvium_base::AccountId = "000000000000".parse().expect("an account");
        let random = Arc::new(Counting::default());
        let catalog =
            Catalog::new(records.clone(), objects, clock.clone(), random, account.clone());
        let region = "us-east-1".parse().expect("a region");
        let bucket = catalog.create_table_bucket(&region, "lake").await.expect("a bucket");
        catalog.create_namespace(&bucket, "ns", BTreeMap::new()).await.expect("a namespace");
        let options = LakeOptions { commit_interval: Duration::ZERO, ..LakeOptions::default() };
        let lake = Lake::new(catalog, options);
        let new = NewTable { bucket, namespace: "ns".into(), name: "t".into() };
        let table = lake.create_table(&new, definition()).await.expect("a table").record;
        let caller = Caller {
            access_key_id: "AK".into(),
            account,
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
        };
        let credential = Credential { secret: Secret::new("SK".into()), caller: caller.clone() };
        let keys = Arc::new(OneKey(Arc::new(credential)));
        let arn = "arn:aws:s3tables:us-east-1:000000000000:bucket/lake";
        let words = [
            ("{arn}", arn.replace('/', "%2F")),
            ("{table}", format!("{arn}/table/{}", table.id)),
            ("{prefix}", arn.replace(':', "%3A").replace('/', "%2F")),
        ];
        Self {
            caller,
            iceberg: IcebergRest::new(lake.clone(), records, keys, clock),
            s3tables: S3TablesService::new(lake.clone()),
            glue: GlueService::new(lake),
            words,
        }
    }

    async fn answer(&self, line: &str) {
        let mut line = line.to_string();
        for (word, meaning) in &self.words {
            line = line.replace(word, meaning);
        }
        let mut parts = line.splitn(4, ' ');
        let mut next = || parts.next().unwrap_or_default().to_string();
        let (service, method, path, body) = (next(), next(), next(), next());
        let glue = service == "glue";
        let mut request = http::Request::builder().uri(path.as_str());
        request = match glue {
            true => request.method("POST").header("x-amz-target", format!("AWSGlue.{method}")),
            false => request.method(method.as_str()),
        };
        let Ok(request) = request.body(()) else { return };
        let head = request.into_parts().0;
        let reply = match service.as_str() {
            "iceberg" => self.iceberg.call(self.signed(head, body, "s3tables")).await,
            "s3tables" => self.s3tables.call(self.signed(head, body, "s3tables")).await,
            "glue" => self.glue.call(self.signed(head, body, "glue")).await,
            "token" => match self.iceberg.call_unsigned(unsigned(head, body)).await {
                Some(reply) => reply,
                None => return,
            },
            _ => return,
        };
        let status = reply.status();
        assert!(!status.is_server_error(), "{status} to {line}");
    }

    fn signed(&self, head: Parts, body: String, signing_name: &str) -> Call {
        Call {
            request_id: RequestId(uuid::Uuid::nil()),
            signing_name: signing_name.into(),
            region: "us-east-1".parse().expect("a region"),
            caller: self.caller.clone(),
            head: Arc::new(head),
            body: body.into(),
            body_sha256: [0; 32],
            invocation: None,
            arrival_ms: 1_790_000_000_000,
            endpoint: "http://127.0.0.1:4566".into(),
        }
    }
}

fn unsigned(head: Parts, body: String) -> UnsignedCall {
    UnsignedCall {
        request_id: RequestId(uuid::Uuid::nil()),
        head: Arc::new(head),
        body: body.into(),
        body_sha256: [0; 32],
        arrival_ms: 1_790_000_000_000,
        endpoint: "http://127.0.0.1:4566".into(),
    }
}

fn definition() -> TableDefinition {
    let fields = [
        NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "at", Type::Primitive(PrimitiveType::Timestamptz)).into(),
    ];
    TableDefinition::Schema {
        schema: Box::new(Schema::builder().with_fields(fields).build().expect("a schema")),
        spec: UnboundPartitionSpec::builder().build(),
        order: SortOrder::unsorted_order(),
        properties: HashMap::new(),
        version: FormatVersion::V2,
    }
}
