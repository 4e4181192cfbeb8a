//! ARNs in paths, and paging.

use super::Request;
use super::error::{bad_request, catalog, not_found};
use alluvium_base::{Arn, TableId};
use alluvium_lake::catalog::{TableBucketRecord, TableRecord};
use alluvium_wire::{Problem, rest_json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Entries of one page (S3 Tables API, `maxTables`).
const PAGE_MAX: usize = 1000;

/// The decoded segments of a path. A client that does not encode the slashes of an ARN is
/// understood all the same.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Problem> {
    let mut segments = rest_json::segments(path)?;
    let tag = segments.first().is_some_and(|first| first == "tag");
    if tag && segments.len() > 2 {
        let arn = segments.split_off(1).join("/");
        segments.push(arn);
    } else if segments.len() > 2
        && segments[1].starts_with("arn:")
        && segments[1].ends_with(":bucket")
    {
        let name = segments.remove(2);
        segments[1] = format!("{}/{name}", segments[1]);
    }
    Ok(segments)
}

fn own(request: &Request<'_>, text: &str) -> Result<Arn, Problem> {
    let arn: Arn = text.parse().map_err(|e| bad_request(format!("{e}")))?;
    if arn.service != "s3tables" {
        return Err(bad_request(format!("'{arn}' is not an ARN of S3 Tables")));
    }
    let here = arn.region == request.call.region.as_str();
    if arn.partition != "aws" || !here || arn.account != request.lake.catalog().account().as_str() {
        return Err(not_found(format!(
            "'{arn}' is not in region {} of account {}",
            request.call.region,
            request.lake.catalog().account()
        )));
    }
    Ok(arn)
}

/// The bucket that an ARN names.
pub(super) async fn bucket(
    request: &Request<'_>,
    text: &str,
) -> Result<TableBucketRecord, Problem> {
    let arn = own(request, text)?;
    let name = arn.resource.strip_prefix("bucket/");
    let name = name.filter(|name| !name.is_empty() && !name.contains('/'));
    let name = name.ok_or_else(|| bad_request(format!("'{arn}' is not a table bucket's ARN")))?;
    request.lake.catalog().table_bucket(&request.call.region, name).await.map_err(catalog)
}

/// The table of those names.
pub(super) async fn table(
    request: &Request<'_>,
    bucket_arn: &str,
    namespace: &str,
    name: &str,
) -> Result<TableRecord, Problem> {
    let bucket = bucket(request, bucket_arn).await?;
    request.lake.catalog().table(bucket.id, namespace, name).await.map_err(catalog)
}

/// The table that an ARN names.
pub(super) async fn table_by_arn(
    request: &Request<'_>,
    text: &str,
) -> Result<TableRecord, Problem> {
    let arn = own(request, text)?;
    let parts: Vec<&str> = arn.resource.split('/').collect();
    let ["bucket", bucket, "table", id] = parts[..] else {
        return Err(bad_request(format!("'{arn}' is not a table's ARN")));
    };
    let absent = || not_found(format!("the table '{arn}' does not exist"));
    let id: TableId = id.parse().map_err(|_| absent())?;
    let table = request.lake.catalog().table_by_id(id).await.map_err(catalog)?;
    if table.bucket_name != bucket || table.region != request.call.region {
        return Err(absent());
    }
    Ok(table)
}

/// A page that was asked for: how many entries, after which.
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
}

impl Page {
    pub(super) fn of(request: &Request<'_>, limit_name: &str) -> Result<Self, Problem> {
        let limit = match request.parameter(limit_name) {
            None => PAGE_MAX,
            Some(text) => {
                let number = text.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n));
                number.ok_or_else(|| {
                    bad_request(format!("{limit_name} is a number from 1 to {PAGE_MAX}"))
                })?
            }
        };
        let after = match request.parameter("continuationToken") {
            None => None,
            Some(token) => {
                let bytes = URL_SAFE_NO_PAD.decode(token).ok();
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                Some(text.ok_or_else(foreign_token)?)
            }
        };
        Ok(Self { limit, after })
    }

    /// Cuts a list that holds one entry more than the page, and names where the next begins.
    pub(super) fn cut<T>(&self, list: &mut Vec<T>, key: impl Fn(&T) -> String) -> Option<String> {
        if list.len() <= self.limit {
            return None;
        }
        list.truncate(self.limit);
        list.last().map(|last| URL_SAFE_NO_PAD.encode(key(last)))
    }
}

/// A token that no list returned.
pub(super) fn foreign_token() -> Problem {
    bad_request("continuationToken is not one that a list returned")
}

/// ISO 8601 with milliseconds.
pub(super) fn iso(time_ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
