//! Encryption, policies, tags, metrics and storage classes: kept and returned.

use super::address::{bucket, table_by_arn};
use super::error::{NotChanged, bad_request, catalog, not_changed, not_found};
use super::model::{Encryption, PutEncryption, PutPolicy, PutStorageClass, StorageClass, Tags};
use super::{Answer, Request, empty, no_content, ok, unknown};
use alluvium_access::policy::check_policy;
use alluvium_lake::catalog::{SettingsOf, TableBucketRecord, TableRecord};
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Tags of one resource.
const TAGS_MAX: usize = 50;

/// Refuses what would need keys that this release does not have.
pub(super) fn checked_encryption(encryption: Encryption) -> Result<Value, Problem> {
    match (encryption.sse_algorithm.as_str(), &encryption.kms_key_arn) {
        ("AES256", None) => Ok(json!(encryption)),
        ("AES256", Some(_)) => {
            Err(bad_request("encryptionConfiguration.kmsKeyArn goes with sseAlgorithm aws:kms"))
        }
        ("aws:kms", _) => Err(bad_request(
            "encryptionConfiguration.sseAlgorithm 'aws:kms' is not supported by this release: \
             use AES256",
        )),
        (other, _) => Err(bad_request(format!(
            "encryptionConfiguration.sseAlgorithm '{other}' is not known: use AES256"
        ))),
    }
}

pub(super) fn checked_class(class: StorageClass) -> Result<Value, Problem> {
    match class.storage_class.as_str() {
        "STANDARD" => Ok(json!(class)),
        other => Err(bad_request(format!(
            "storageClassConfiguration.storageClass '{other}' is not supported by this release: \
             use STANDARD"
        ))),
    }
}

pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Problem> {
    if tags.len() > TAGS_MAX {
        return Err(bad_request(format!("a resource has at most {TAGS_MAX} tags")));
    }
    for (key, value) in tags {
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if !fits || key.starts_with("aws:") {
            return Err(bad_request(
                "a tag's key has 1 to 128 characters and does not begin with aws:, its value has \
                 at most 256",
            ));
        }
    }
    Ok(())
}

/// A policy is kept without effect, so one that denies would be a false promise (I7).
fn checked_policy(policy: String) -> Result<Value, Problem> {
    check_policy(&policy).map_err(|e| bad_request(format!("resourcePolicy: {e}")))?;
    Ok(policy.into())
}

/// The settings that a new bucket or table begins with.
pub(super) fn first(
    encryption: Option<Value>,
    class: Option<Value>,
    tags: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let tags = (!tags.is_empty()).then(|| json!(tags));
    let given = [("encryption", encryption), ("storage-class", class), ("tags", tags)];
    given.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
}

fn aes256() -> Value {
    json!({ "sseAlgorithm": "AES256" })
}

fn standard() -> Value {
    json!({ "storageClass": "STANDARD" })
}

async fn get_or(
    request: &Request<'_>,
    of: SettingsOf,
    name: &str,
    default: impl FnOnce() -> Option<Value>,
) -> Result<Value, Problem> {
    let found = request.lake.catalog().settings(of).await.map_err(catalog)?;
    let value = found.get(name).cloned().or_else(default);
    value.ok_or_else(|| not_found(format!("there is no {name} configuration")))
}

async fn put(request: &Request<'_>, of: SettingsOf, name: &str, value: Option<Value>) -> Answer {
    request.lake.catalog().put_setting(of, name, value).await.map_err(catalog)?;
    Ok((http::StatusCode::OK, None))
}

async fn removed(request: &Request<'_>, of: SettingsOf, name: &str) -> Answer {
    request.lake.catalog().put_setting(of, name, None).await.map_err(catalog)?;
    no_content()
}

pub(super) async fn of_bucket(
    request: &Request<'_>,
    method: &str,
    found: &TableBucketRecord,
    part: &str,
) -> Answer {
    let of = SettingsOf::Bucket(found.id);
    match (method, part) {
        ("PUT", "encryption") => {
            let input: PutEncryption = request.input()?;
            let value = checked_encryption(input.encryption_configuration)?;
            put(request, of, "encryption", Some(value)).await
        }
        ("DELETE", "encryption") => removed(request, of, "encryption").await,
        ("PUT", "storage-class") => {
            let input: PutStorageClass = request.input()?;
            let value = checked_class(input.storage_class_configuration)?;
            put(request, of, "storage-class", Some(value)).await
        }
        ("PUT", "metrics") => {
            // One id for as long as there is a configuration.
            let lake = request.lake.catalog();
            let settings = lake.settings(of).await.map_err(catalog)?;
            if !settings.contains_key("metrics") {
                let id = json!(found.id.to_string());
                lake.put_setting(of, "metrics", Some(id)).await.map_err(catalog)?;
            }
            no_content()
        }
        ("GET", "metrics") => {
            let id = get_or(request, of, "metrics", || None).await?;
            let arn = request.lake.catalog().bucket_arn(&found.region, &found.name);
            ok(json!({ "tableBucketARN": arn.to_string(), "id": id }))
        }
        ("DELETE", "metrics") => removed(request, of, "metrics").await,
        _ => shared(request, method, of, part).await,
    }
}

pub(super) async fn of_table(
    request: &Request<'_>,
    method: &str,
    table: &TableRecord,
    part: &str,
) -> Answer {
    shared(request, method, SettingsOf::Table(table.id), part).await
}

/// What buckets and tables have alike.
async fn shared(request: &Request<'_>, method: &str, of: SettingsOf, part: &str) -> Answer {
    match (method, part) {
        ("GET", "encryption") => {
            let value = get_or(request, of, "encryption", || Some(aes256())).await?;
            ok(json!({ "encryptionConfiguration": value }))
        }
        ("GET", "storage-class") => {
            let value = get_or(request, of, "storage-class", || Some(standard())).await?;
            ok(json!({ "storageClassConfiguration": value }))
        }
        ("PUT", "policy") => {
            let input: PutPolicy = request.input()?;
            put(request, of, "policy", Some(checked_policy(input.resource_policy)?)).await
        }
        ("GET", "policy") => {
            let value = get_or(request, of, "policy", || None).await?;
            ok(json!({ "resourcePolicy": value }))
        }
        ("DELETE", "policy") => removed(request, of, "policy").await,
        _ => Err(unknown(request)),
    }
}

async fn tagged(request: &Request<'_>, arn: &str) -> Result<SettingsOf, Problem> {
    if arn.contains("/table/") {
        Ok(SettingsOf::Table(table_by_arn(request, arn).await?.id))
    } else {
        Ok(SettingsOf::Bucket(bucket(request, arn).await?.id))
    }
}

fn tags_of(stored: Option<&Value>) -> Result<BTreeMap<String, String>, Problem> {
    let Some(tags) = stored else { return Ok(BTreeMap::new()) };
    serde_json::from_value(tags.clone()).map_err(|e| Problem::internal(format!("stored tags: {e}")))
}

pub(super) async fn list_tags(request: &Request<'_>, arn: &str) -> Answer {
    let of = tagged(request, arn).await?;
    let settings = request.lake.catalog().settings(of).await.map_err(catalog)?;
    ok(json!({ "tags": tags_of(settings.get("tags"))? }))
}

pub(super) async fn tag(request: &Request<'_>, arn: &str) -> Answer {
    let input: Tags = request.input()?;
    let of = tagged(request, arn).await?;
    let added = |stored: Option<&Value>| -> Result<Option<Value>, NotChanged> {
        let mut tags = tags_of(stored)?;
        tags.extend(input.tags.clone());
        check_tags(&tags)?;
        Ok(Some(json!(tags)))
    };
    request.lake.catalog().change_setting(of, "tags", added).await.map_err(not_changed)?;
    empty()
}

pub(super) async fn untag(request: &Request<'_>, arn: &str) -> Answer {
    let of = tagged(request, arn).await?;
    let keys: Vec<&str> =
        request.query.iter().filter(|(k, _)| k == "tagKeys").map(|(_, v)| v.as_str()).collect();
    if keys.is_empty() {
        return Err(bad_request("tagKeys is missing: name the tags to remove"));
    }
    let kept = |stored: Option<&Value>| -> Result<Option<Value>, NotChanged> {
        let mut tags = tags_of(stored)?;
        tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok((!tags.is_empty()).then(|| json!(tags)))
    };
    request.lake.catalog().change_setting(of, "tags", kept).await.map_err(not_changed)?;
    no_content()
}
