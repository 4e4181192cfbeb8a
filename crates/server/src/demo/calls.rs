//! The signed calls that make the demonstration's pipeline, as any client would send them.

use super::{NAME, NAMESPACE, TABLE};
use alluvium_base::{OsRandom, Random};
use alluvium_wire::client::Connection;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Error objects are written with the batch that they belong to; this is ample.
const ERRORS_WITHIN: Duration = Duration::from_secs(60);

/// The SHA-256 of no bytes; S3 wants a body's hash as a header too.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What was made.
pub(super) struct Pipeline {
    pub(super) bucket_arn: String,
    pub(super) error_bucket: String,
}

impl Pipeline {
    /// Makes the table bucket, the table, the error bucket and the delivery stream.
    pub(super) async fn create(connection: &mut Connection) -> Result<Self, String> {
        let made = rest(connection, Method::PUT, "/buckets", Some(json!({"name": NAME}))).await?;
        let bucket_arn = text(&made, "arn")?;
        let arn = utf8_percent_encode(&bucket_arn, NON_ALPHANUMERIC).to_string();
        let namespace = json!({"namespace": [NAMESPACE]});
        rest(connection, Method::PUT, &format!("/namespaces/{arn}"), Some(namespace)).await?;
        let column = |name: &str, kind: &str, required: bool| json!({"name": name, "type": kind, "required": required});
        let fields = [
            column("sensor_id", "string", true),
            column("timestamp", "long", false),
            column("location", "string", false),
            column("temperature", "double", false),
            column("humidity", "double", false),
            column("pressure", "double", false),
        ];
        let table = json!({
            "name": TABLE,
            "format": "ICEBERG",
            "metadata": {"iceberg": {"schema": {"fields": fields}}},
        });
        rest(connection, Method::PUT, &format!("/tables/{arn}/{NAMESPACE}"), Some(table)).await?;
        let error_bucket = format!("{NAME}-errors-{}", &OsRandom.uuid().simple().to_string()[..8]);
        s3(connection, Method::PUT, &format!("/{error_bucket}")).await?;
        let pipeline = Self { bucket_arn, error_bucket };
        pipeline.create_stream(connection).await?;
        Ok(pipeline)
    }

    async fn create_stream(&self, connection: &mut Connection) -> Result<(), String> {
        let mut parts = self.bucket_arn.split(':').skip(3);
        let region = parts.next().unwrap_or_default();
        let account = parts.next().unwrap_or_default();
        let role = format!("arn:aws:iam::{account}:role/firehose");
        let catalog = format!("arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{NAME}");
        let input = json!({
            "DeliveryStreamName": NAME,
            "DeliveryStreamType": "DirectPut",
            "IcebergDestinationConfiguration": {
                "RoleARN": role,
                "CatalogConfiguration": {"CatalogARN": catalog},
                "DestinationTableConfigurationList": [
                    {"DestinationDatabaseName": NAMESPACE, "DestinationTableName": TABLE}
                ],
                "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 5},
                "S3Configuration": {
                    "RoleARN": role,
                    "BucketARN": format!("arn:aws:s3:::{}", self.error_bucket),
                    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
                },
            },
        });
        firehose(connection, "CreateDeliveryStream", &input).await?;
        let name = json!({"DeliveryStreamName": NAME});
        loop {
            let found = firehose(connection, "DescribeDeliveryStream", &name).await?;
            match found["DeliveryStreamDescription"]["DeliveryStreamStatus"].as_str() {
                Some("ACTIVE") => return Ok(()),
                Some("CREATING") => tokio::time::sleep(Duration::from_millis(10)).await,
                other => return Err(format!("the delivery stream is {other:?}, not ACTIVE")),
            }
        }
    }

    /// Sends a reading without the field that every reading must have.
    pub(super) async fn put_bad_record(&self, connection: &mut Connection) -> Result<(), String> {
        let record = STANDARD.encode(r#"{"location":"nowhere","temperature":21.5}"#);
        let input = json!({"DeliveryStreamName": NAME, "Record": {"Data": record}});
        firehose(connection, "PutRecord", &input).await.map(drop)
    }

    /// The error object of that reading, as it lies in the bucket.
    pub(super) async fn errors(&self, connection: &mut Connection) -> Result<String, String> {
        let deadline = Instant::now() + ERRORS_WITHIN;
        let list = format!("/{}?list-type=2&prefix=errors%2F", self.error_bucket);
        loop {
            let listing = s3(connection, Method::GET, &list).await?;
            if let Some(key) =
                listing.split("<Key>").nth(1).and_then(|rest| rest.split("</Key>").next())
            {
                let body =
                    s3(connection, Method::GET, &format!("/{}/{key}", self.error_bucket)).await?;
                return Ok(format!("  s3://{}/{key}\n  {}", self.error_bucket, body.trim()));
            }
            if Instant::now() > deadline {
                return Err("the bad reading's error object did not appear".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text(answer: &Value, member: &str) -> Result<String, String> {
    let found = answer[member].as_str().map(str::to_string);
    found.ok_or_else(|| format!("the answer has no '{member}': {answer}"))
}

async fn firehose(
    connection: &mut Connection,
    operation: &str,
    input: &Value,
) -> Result<Value, String> {
    let target = format!("Firehose_20150804.{operation}");
    let answer = connection.json("firehose", &target, input).await;
    answer.map_err(|error| format!("{operation}: {error}"))
}

async fn rest(
    connection: &mut Connection,
    method: Method,
    path: &str,
    input: Option<Value>,
) -> Result<Value, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = input.map(|input| Bytes::from(input.to_string())).unwrap_or_default();
    let sent = connection.send("s3tables", method, path, headers, body).await;
    let (status, body) = sent.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)));
    }
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

async fn s3(connection: &mut Connection, method: Method, path: &str) -> Result<String, String> {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-content-sha256", HeaderValue::from_static(EMPTY_SHA256));
    let sent = connection.send("s3", method, path, headers, Bytes::new()).await;
    let (status, body) = sent.map_err(|error| error.to_string())?;
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() { Ok(body) } else { Err(format!("{path}: {status}: {body}")) }
}
