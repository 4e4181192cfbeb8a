//! `GET /v1/config`: what a client must know before anything else.

use super::error::bad_request;
use super::route::ENDPOINTS;
use super::warehouse::Warehouse;
use super::{Answer, IcebergRest, Request, idempotency};
use alluvium_base::Region;
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};

impl IcebergRest {
    pub(super) async fn configuration(&self, request: &Request) -> Result<Answer, Problem> {
        let Some(name) = request.parameter("warehouse").filter(|name| !name.is_empty()) else {
            return Err(bad_request(
                "name the warehouse: a table bucket's ARN, such as \
                 arn:aws:s3tables:us-east-1:000000000000:bucket/NAME",
            ));
        };
        let region = match self.warehouse(request, name).await? {
            Warehouse::Bucket(bucket) => bucket.region,
            Warehouse::Links(region) => region,
        };
        let mut overrides = storage(request, &region);
        overrides.insert("prefix".into(), Warehouse::prefix_of(name).into());
        Ok(Answer::ok(json!({
            "defaults": {},
            "overrides": overrides,
            "endpoints": ENDPOINTS,
            "idempotency-key-lifetime": idempotency::LIFETIME_ISO,
        })))
    }
}

/// How the client reaches the tables' files. No credentials: it uses its own.
pub(super) fn storage(request: &Request, region: &Region) -> Map<String, Value> {
    let region = region.as_str();
    [
        ("s3.endpoint", request.endpoint.as_str()),
        ("s3.region", region),
        ("client.region", region),
        ("s3.path-style-access", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value.into()))
    .collect()
}
