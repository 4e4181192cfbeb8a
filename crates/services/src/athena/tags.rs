//! Tags of work groups and data catalogs.

use super::documents::{self, Changed};
use super::error::{internal, invalid};
use super::{AthenaService, model, workgroups};
use alluvium_base::Arn;
use alluvium_store::records::{Key, Operation, Precondition};
use alluvium_wire::{Call, Problem};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Tags by region and resource.
const TAGS: &str = "athena-tags";
/// AWS's limit for one resource.
const TAGS_MAX: usize = 50;
/// Tries against other writers.
const TRIES: usize = 5;

type Tags = BTreeMap<String, String>;

fn no_resource(name: &str) -> Problem {
    let name: String = name.chars().take(256).collect();
    let message = format!("resource '{name}' does not exist");
    Problem::new("ResourceNotFoundException", StatusCode::BAD_REQUEST, message)
}

/// Adds to tags, within the limits.
pub(super) fn add(tags: &mut Tags, given: &[model::Tag]) -> Result<(), Problem> {
    for tag in given {
        let (key, value) = (&tag.key, tag.value.clone().unwrap_or_default());
        if key.is_empty() || key.chars().count() > 128 || key.starts_with("aws:") {
            return Err(invalid(
                "a tag's Key has 1 to 128 characters and does not begin with aws:",
            ));
        }
        if value.chars().count() > 256 {
            return Err(invalid(format!("the Value of tag '{key}' has at most 256 characters")));
        }
        tags.insert(key.clone(), value);
    }
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("a resource has at most {TAGS_MAX} tags")));
    }
    Ok(())
}

pub(super) fn key(region: &impl std::fmt::Display, resource: &str) -> Key {
    Key::new(TAGS, format!("{region}/{resource}"))
}

/// The tags' document of an ARN whose resource exists.
async fn resolve(service: &AthenaService, call: &Call, text: &str) -> Result<Key, Problem> {
    let arn: Arn = text.parse().map_err(|_| invalid("ResourceARN is not an ARN"))?;
    let own = Arn::new("athena", call.region.as_str(), service.parts.account.as_str(), "");
    let prefix = own.to_string();
    let resource = text.strip_prefix(&prefix).ok_or_else(|| no_resource(&arn.to_string()))?;
    let Some(name) = resource.strip_prefix("workgroup/") else {
        return Err(invalid(format!(
            "ResourceARN '{resource}' cannot be tagged: only work groups have tags here"
        )));
    };
    workgroups::find(service, &call.region, name).await.map_err(|_| no_resource(resource))?;
    Ok(key(&call.region, resource))
}

async fn change(
    service: &AthenaService,
    key: Key,
    edit: impl Fn(&mut Tags) -> Result<(), Problem>,
) -> Result<Value, Problem> {
    let records = &*service.parts.records;
    for _ in 0..TRIES {
        let found = documents::get::<Tags>(records, &key).await?;
        let (precondition, mut tags) = match found {
            Some((version, tags)) => (Precondition::AtVersion(key.clone(), version), tags),
            None => (Precondition::Absent(key.clone()), Tags::new()),
        };
        edit(&mut tags)?;
        let operations = vec![Operation::Put(key.clone(), documents::body(&tags)?)];
        if let Changed::Done = documents::change(records, vec![precondition], operations).await? {
            return Ok(json!({}));
        }
    }
    Err(internal("the tags changed too often while the call ran; try again"))
}

pub(super) async fn tag(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::TagResource = service.input(call)?;
    let key = resolve(service, call, &input.resource_arn).await?;
    change(service, key, |tags| add(tags, &input.tags)).await
}

pub(super) async fn untag(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::UntagResource = service.input(call)?;
    let key = resolve(service, call, &input.resource_arn).await?;
    let drop = |tags: &mut Tags| {
        tags.retain(|key, _| !input.tag_keys.contains(key));
        Ok(())
    };
    change(service, key, drop).await
}

pub(super) async fn list(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::ListTags = service.input(call)?;
    if input.max_results.is_some_and(|max| max < 75) {
        return Err(invalid("MaxResults is at least 75"));
    }
    let key = resolve(service, call, &input.resource_arn).await?;
    // All tags of a resource fit one page.
    if input.next_token.is_some() {
        return Err(invalid("NextToken is not one that this operation gave"));
    }
    let found = documents::get::<Tags>(&*service.parts.records, &key).await?;
    let tags = found.map(|(_, tags)| tags).unwrap_or_default();
    let shown: Vec<Value> =
        tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": shown }))
}
