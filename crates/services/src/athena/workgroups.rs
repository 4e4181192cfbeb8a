//! Work groups, and where a query's result goes.

use super::documents::{self, BY_TIME, Changed, NAMED, Place, WORK_GROUPS};
use super::error::{internal, invalid, missing};
use super::{AthenaService, executions, model, tags};
use alluvium_base::Region;
use alluvium_store::records::{Key, Operation, Precondition};
use alluvium_wire::json_protocol::EpochSeconds;
use alluvium_wire::{Call, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The work group that always exists.
pub(super) const PRIMARY: &str = "primary";
/// The dialect's version.
pub(super) const ENGINE_VERSION: &str = "Athena engine version 3";
/// The bucket of results that have no location: no S3 name has underscores.
pub(super) const MANAGED_BUCKET: &str = "alluvium_athena_results";
/// Athena's quota is 1,000.
const WORK_GROUPS_MAX: usize = 1000;

/// A work group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WorkGroup {
    pub(super) name: String,
    pub(super) enabled: bool,
    #[serde(default)]
    description: Option<String>,
    created_ms: i64,
    #[serde(default)]
    output_location: Option<String>,
    #[serde(default)]
    encryption: Option<String>,
    #[serde(default)]
    managed: bool,
    enforce: bool,
    publish_metrics: bool,
    selected_engine: String,
}

impl WorkGroup {
    fn primary() -> Self {
        Self {
            name: PRIMARY.into(),
            enabled: true,
            description: None,
            created_ms: 0,
            output_location: None,
            encryption: None,
            managed: true,
            enforce: false,
            publish_metrics: false,
            selected_engine: "AUTO".into(),
        }
    }
}

fn key(region: &Region, name: &str) -> Key {
    Key::new(WORK_GROUPS, format!("{region}/{name}"))
}

fn tags_key(region: &Region, name: &str) -> Key {
    tags::key(region, &format!("workgroup/{name}"))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(invalid(format!(
        "the name '{}' is not allowed: 1 to 128 letters, digits, '.', '_' and '-'",
        name.chars().take(128).collect::<String>()
    )))
}

async fn read(
    service: &AthenaService,
    region: &Region,
    name: &str,
) -> Result<Option<(Option<u64>, WorkGroup)>, Problem> {
    let found = documents::get(&*service.parts.records, &key(region, name)).await?;
    Ok(match found {
        Some((version, group)) => Some((Some(version), group)),
        None if name == PRIMARY => Some((None, WorkGroup::primary())),
        None => None,
    })
}

/// The work group of that name.
pub(super) async fn find(
    service: &AthenaService,
    region: &Region,
    name: &str,
) -> Result<WorkGroup, Problem> {
    check_name(name)?;
    let found = read(service, region, name).await?;
    found.map(|(_, group)| group).ok_or_else(|| missing("WorkGroup", name))
}

/// Splits `s3://bucket/prefix/`.
fn split(location: &str) -> Result<(String, String), Problem> {
    let bad = || {
        invalid(format!(
            "OutputLocation '{}' is not of the form s3://BUCKET/PREFIX/",
            location.chars().take(256).collect::<String>()
        ))
    };
    let rest = location.strip_prefix("s3://").ok_or_else(bad)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(letter) || bucket.contains("..") {
        return Err(bad());
    }
    if bucket.ends_with("--table-s3") {
        return Err(invalid("OutputLocation may not be in a table's own bucket"));
    }
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    Ok((bucket.to_string(), format!("{prefix}{slash}")))
}

fn check_results(
    service: &AthenaService,
    owner: Option<&String>,
    encryption: Option<&model::EncryptionConfiguration>,
) -> Result<(), Problem> {
    if let Some(owner) = owner
        && owner != service.parts.account.as_str()
    {
        return Err(invalid(format!("ExpectedBucketOwner {owner} is not the owner of the bucket")));
    }
    match encryption.map(|e| e.encryption_option.as_str()) {
        None | Some("SSE_S3") => Ok(()),
        Some(other) => Err(invalid(format!(
            "ResultConfiguration.EncryptionConfiguration.EncryptionOption {other} is not supported; \
             use SSE_S3 or leave it out"
        ))),
    }
}

/// Where the result of a new query goes.
pub(super) async fn place(
    service: &AthenaService,
    group: &WorkGroup,
    asked: &model::ResultConfiguration,
    id: Uuid,
) -> Result<Place, Problem> {
    check_results(
        service,
        asked.expected_bucket_owner.as_ref(),
        asked.encryption_configuration.as_ref(),
    )?;
    let own = asked.output_location.as_ref().filter(|l| !l.is_empty() && !group.enforce);
    let Some(location) = own.or(group.output_location.as_ref()) else {
        if group.managed {
            let stem = id.to_string();
            return Ok(Place { bucket: MANAGED_BUCKET.into(), stem, managed: true });
        }
        return Err(invalid(
            "No output location provided. An output location is required either through the \
             Workgroup result configuration setting or as an API input.",
        ));
    };
    let (bucket, prefix) = split(location)?;
    let known = service.parts.objects.has_bucket(&bucket).await;
    if !known.map_err(|e| internal(e.to_string()))? {
        return Err(invalid(format!("Unable to verify/create output bucket {bucket}")));
    }
    Ok(Place { bucket, stem: format!("{prefix}{id}"), managed: false })
}

fn refuse_some(
    requester_pays: Option<bool>,
    engine: Option<&model::EngineVersion>,
) -> Result<(), Problem> {
    if requester_pays == Some(true) {
        return Err(invalid("RequesterPaysEnabled = true is not supported"));
    }
    match engine.and_then(|e| e.selected_engine_version.as_deref()) {
        None | Some("AUTO" | ENGINE_VERSION) => Ok(()),
        Some(other) => Err(invalid(format!(
            "SelectedEngineVersion '{other}' is not supported; use AUTO or '{ENGINE_VERSION}'"
        ))),
    }
}

pub(super) async fn create(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::CreateWorkGroup = service.input(call)?;
    check_name(&input.name)?;
    let given = input.configuration;
    refuse_some(given.requester_pays_enabled, given.engine_version.as_ref())?;
    let results = given.result_configuration.unwrap_or_default();
    check_results(
        service,
        results.expected_bucket_owner.as_ref(),
        results.encryption_configuration.as_ref(),
    )?;
    if let Some(location) = &results.output_location {
        split(location)?;
    }
    let managed = given.managed_query_results_configuration.and_then(|m| m.enabled);
    let managed = managed.unwrap_or(false);
    if managed && results.output_location.is_some() {
        return Err(invalid(
            "ManagedQueryResultsConfiguration.Enabled and ResultConfiguration.OutputLocation \
             exclude each other",
        ));
    }
    let records = &*service.parts.records;
    let prefix = format!("{}/", call.region);
    let (all, _) = documents::page(records, WORK_GROUPS, prefix, None, WORK_GROUPS_MAX).await?;
    if all.len() >= WORK_GROUPS_MAX {
        return Err(invalid(format!("a region has at most {WORK_GROUPS_MAX} work groups")));
    }
    let group = WorkGroup {
        enabled: true,
        description: input.description,
        created_ms: service.parts.clock.now_ms(),
        output_location: results.output_location,
        encryption: results.encryption_configuration.map(|e| e.encryption_option),
        managed,
        enforce: given.enforce_work_group_configuration.unwrap_or(true),
        publish_metrics: given.publish_cloud_watch_metrics_enabled.unwrap_or(true),
        selected_engine: given
            .engine_version
            .and_then(|e| e.selected_engine_version)
            .unwrap_or_else(|| "AUTO".into()),
        name: input.name,
    };
    let key = key(&call.region, &group.name);
    let exists = || invalid(format!("WorkGroup {} is already created", group.name));
    if group.name == PRIMARY {
        return Err(exists());
    }
    let mut tags = BTreeMap::new();
    tags::add(&mut tags, &input.tags)?;
    let operations = vec![
        Operation::Put(key.clone(), documents::body(&group)?),
        Operation::Put(tags_key(&call.region, &group.name), documents::body(&tags)?),
    ];
    match documents::change(records, vec![Precondition::Absent(key)], operations).await? {
        Changed::Done => Ok(json!({})),
        Changed::Conflict => Err(exists()),
    }
}

pub(super) async fn get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneWorkGroup = service.input(call)?;
    let group = find(service, &call.region, &input.work_group).await?;
    let mut results = json!({});
    if let Some(location) = &group.output_location {
        results["OutputLocation"] = location.clone().into();
    }
    if let Some(encryption) = &group.encryption {
        results["EncryptionConfiguration"] = json!({ "EncryptionOption": encryption });
    }
    let mut shown = summary(&group);
    shown["Configuration"] = json!({
        "ResultConfiguration": results,
        "ManagedQueryResultsConfiguration": { "Enabled": group.managed },
        "EnforceWorkGroupConfiguration": group.enforce,
        "PublishCloudWatchMetricsEnabled": group.publish_metrics,
        "RequesterPaysEnabled": false,
        "EngineVersion": engine(&group),
    });
    if let Some(map) = shown.as_object_mut() {
        map.remove("EngineVersion");
    }
    Ok(json!({ "WorkGroup": shown }))
}

fn engine(group: &WorkGroup) -> Value {
    json!({
        "SelectedEngineVersion": group.selected_engine,
        "EffectiveEngineVersion": ENGINE_VERSION,
    })
}

fn summary(group: &WorkGroup) -> Value {
    let mut shown = json!({
        "Name": group.name,
        "State": if group.enabled { "ENABLED" } else { "DISABLED" },
        "CreationTime": EpochSeconds(group.created_ms),
        "EngineVersion": engine(group),
    });
    if let Some(description) = &group.description {
        shown["Description"] = description.clone().into();
    }
    shown
}

pub(super) async fn list(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::Listing = service.input(call)?;
    if input.work_group.is_some() {
        return Err(invalid("member 'WorkGroup' is not supported here: leave it out"));
    }
    let limit = executions::limit(input.max_results, 50)?;
    let prefix = format!("{}/", call.region);
    let (records, after) = (&*service.parts.records, input.next_token);
    // `primary` is shown on the first page, whether it has a document or not.
    let first = after.is_none();
    let after = after.map(|token| format!("{prefix}{token}"));
    let room = limit - usize::from(first).min(limit - 1);
    let (found, next) = documents::page(records, WORK_GROUPS, prefix.clone(), after, room).await?;
    let mut shown = Vec::new();
    if first {
        shown.push(summary(&find(service, &call.region, PRIMARY).await?));
    }
    for document in &found {
        let group: WorkGroup = documents::parse(document)?;
        if group.name != PRIMARY {
            shown.push(summary(&group));
        }
    }
    let mut answer = json!({ "WorkGroups": shown });
    if let Some(next) = next {
        answer["NextToken"] = next.strip_prefix(&prefix).unwrap_or_default().into();
    }
    Ok(answer)
}

fn apply(
    service: &AthenaService,
    group: &mut WorkGroup,
    input: &model::UpdateWorkGroup,
) -> Result<(), Problem> {
    let updates = &input.configuration_updates;
    refuse_some(updates.requester_pays_enabled, updates.engine_version.as_ref())?;
    if let Some(results) = &updates.result_configuration_updates {
        check_results(
            service,
            results.expected_bucket_owner.as_ref(),
            results.encryption_configuration.as_ref(),
        )?;
        let _ = results.remove_expected_bucket_owner; // none is kept: there is one account
        if results.remove_output_location {
            group.output_location = None;
        }
        if results.remove_encryption_configuration {
            group.encryption = None;
        }
        if let Some(location) = &results.output_location {
            split(location)?;
            group.output_location = Some(location.clone());
            group.managed = false;
        }
        if let Some(encryption) = &results.encryption_configuration {
            group.encryption = Some(encryption.encryption_option.clone());
        }
    }
    if let Some(managed) = &updates.managed_query_results_configuration_updates {
        group.managed = managed.enabled.unwrap_or(group.managed);
    }
    if group.managed && group.output_location.is_some() {
        return Err(invalid(
            "ManagedQueryResultsConfiguration.Enabled and ResultConfiguration.OutputLocation \
             exclude each other",
        ));
    }
    group.enforce = updates.enforce_work_group_configuration.unwrap_or(group.enforce);
    group.publish_metrics =
        updates.publish_cloud_watch_metrics_enabled.unwrap_or(group.publish_metrics);
    let engine = updates.engine_version.as_ref().and_then(|e| e.selected_engine_version.clone());
    group.selected_engine = engine.unwrap_or_else(|| group.selected_engine.clone());
    if input.description.is_some() {
        group.description.clone_from(&input.description);
    }
    match input.state.as_deref() {
        None => {}
        Some("ENABLED") => group.enabled = true,
        Some("DISABLED") => group.enabled = false,
        Some(other) => return Err(invalid(format!("State '{other}' is not ENABLED or DISABLED"))),
    }
    Ok(())
}

pub(super) async fn update(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::UpdateWorkGroup = service.input(call)?;
    check_name(&input.work_group)?;
    let key = key(&call.region, &input.work_group);
    // A lost race is tried again with what the other left.
    for _ in 0..5 {
        let found = read(service, &call.region, &input.work_group).await?;
        let (version, mut group) = found.ok_or_else(|| missing("WorkGroup", &input.work_group))?;
        apply(service, &mut group, &input)?;
        let precondition = match version {
            Some(version) => Precondition::AtVersion(key.clone(), version),
            None => Precondition::Absent(key.clone()),
        };
        let operations = vec![Operation::Put(key.clone(), documents::body(&group)?)];
        let records = &*service.parts.records;
        if let Changed::Done = documents::change(records, vec![precondition], operations).await? {
            return Ok(json!({}));
        }
    }
    Err(internal("the work group changed too often while the call ran; try again"))
}

pub(super) async fn delete(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::DeleteWorkGroup = service.input(call)?;
    if input.work_group == PRIMARY {
        return Err(invalid("The primary workgroup cannot be deleted"));
    }
    find(service, &call.region, &input.work_group).await?;
    let records = &*service.parts.records;
    let prefix = format!("{}/{}/", call.region, input.work_group);
    let (history, _) = documents::page(records, BY_TIME, prefix, None, 1).await?;
    let by_group = format!("{}/", call.region);
    let (named, _) = documents::page(records, NAMED, by_group, None, 1000).await?;
    let mut own = Vec::new();
    for document in named {
        let body: Value = documents::parse(&document)?;
        if body["work_group"] == json!(input.work_group) {
            own.push(Operation::Delete(document.key));
        }
    }
    if !input.recursive_delete_option && (!history.is_empty() || !own.is_empty()) {
        return Err(invalid(format!(
            "WorkGroup {} is not empty; set RecursiveDeleteOption to delete what it holds",
            input.work_group
        )));
    }
    own.push(Operation::Delete(key(&call.region, &input.work_group)));
    own.push(Operation::Delete(tags_key(&call.region, &input.work_group)));
    documents::change(records, Vec::new(), own).await?;
    Ok(json!({}))
}

pub(super) fn engine_versions(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let _: model::Listing = service.input(call)?;
    Ok(json!({ "EngineVersions": [{
        "SelectedEngineVersion": "AUTO", "EffectiveEngineVersion": ENGINE_VERSION,
    }]}))
}
