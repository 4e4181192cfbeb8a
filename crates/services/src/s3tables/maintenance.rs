//! Maintenance settings and what the jobs report.
//!
//! Snapshot management takes effect in every commit besides; a status is that of the last real run
//! ([`alluvium_upkeep::job`]).

use super::address::bucket;
use super::error::{NotChanged, bad_request, catalog, load, not_changed};
use super::model::{MaintenanceValue, PutMaintenance};
use super::{Answer, Request, no_content, ok};
use alluvium_lake::LoadError;
use alluvium_lake::catalog::{SettingsOf, TableRecord};
use alluvium_lake::commit::{kept_by_others, references};
use alluvium_upkeep::job::{self, Job, JobOutcome};
use alluvium_upkeep::settings::{JobKind, Settings};
use alluvium_wire::Problem;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const COMPACTION: &str = "icebergCompaction";
const SNAPSHOTS: &str = "icebergSnapshotManagement";
const UNREFERENCED: &str = "icebergUnreferencedFileRemoval";

/// What holds where nothing was set (S3 Tables user guide, maintenance).
fn default_of(kind: &str) -> Value {
    let settings = match kind {
        COMPACTION => json!({ "targetFileSizeMB": 512, "strategy": "auto" }),
        SNAPSHOTS => json!({ "minSnapshotsToKeep": 1, "maxSnapshotAgeHours": 120 }),
        _ => json!({ "unreferencedDays": 3, "nonCurrentDays": 10 }),
    };
    json!({ "status": "enabled", "settings": { kind: settings } })
}

/// The value with the call's members in the place of those that were there.
fn merged(kind: &str, mut value: Value, input: &MaintenanceValue) -> Result<Value, Problem> {
    match input.status.as_deref() {
        None => {}
        Some(status @ ("enabled" | "disabled")) => value["status"] = status.into(),
        Some(other) => {
            return Err(bad_request(format!("value.status '{other}' is enabled or disabled")));
        }
    }
    for (name, members) in input.settings.iter().flatten() {
        if name != kind {
            return Err(bad_request(format!("value.settings.{name} does not go with {kind}")));
        }
        for (member, setting) in members {
            check_setting(member, setting, &value["settings"][kind])?;
            value["settings"][kind][member] = setting.clone();
        }
    }
    Ok(value)
}

fn check_setting(member: &str, setting: &Value, known: &Value) -> Result<(), Problem> {
    if known.get(member).is_none() {
        return Err(bad_request(format!("value.settings member '{member}' is not supported")));
    }
    let (least, most) = match member {
        "strategy" => {
            let strategies = ["auto", "binpack", "sort", "z-order"];
            let fits = setting.as_str().is_some_and(|s| strategies.contains(&s));
            return match fits {
                true => Ok(()),
                false => Err(bad_request("strategy is auto, binpack, sort or z-order")),
            };
        }
        "targetFileSizeMB" => (64, 512),
        _ => (1, i64::from(i32::MAX)),
    };
    match setting.as_i64().is_some_and(|number| (least..=most).contains(&number)) {
        true => Ok(()),
        false => Err(bad_request(format!("{member} is a number from {least} to {most}"))),
    }
}

fn table_configuration(table: &TableRecord) -> BTreeMap<&'static str, Value> {
    let of = |kind: &'static str| {
        (kind, table.maintenance.get(kind).cloned().unwrap_or_else(|| default_of(kind)))
    };
    BTreeMap::from([of(COMPACTION), of(SNAPSHOTS)])
}

pub(super) fn get_table(request: &Request<'_>, table: &TableRecord) -> Answer {
    ok(json!({
        "tableARN": request.lake.catalog().table_arn(table).to_string(),
        "configuration": table_configuration(table),
    }))
}

pub(super) async fn put_table(request: &Request<'_>, table: &TableRecord, kind: &str) -> Answer {
    let input: PutMaintenance = request.input()?;
    if !table_configuration(table).contains_key(kind) {
        return Err(bad_request(format!("type '{kind}' is {COMPACTION} or {SNAPSHOTS}")));
    }
    let sorted = match request.lake.load(table.id).await {
        Ok(loaded) => !loaded.metadata.default_sort_order().is_unsorted(),
        Err(LoadError::NoMetadata(_)) => false,
        Err(error) => return Err(load(error)),
    };
    let changed = |found: &TableRecord| -> Result<Value, NotChanged> {
        let before = table_configuration(found).remove(kind).unwrap_or_default();
        let value = merged(kind, before, &input.value)?;
        // One whose order went since can still be switched off; its job says what it misses.
        let strategy =
            input.value.settings.iter().flatten().find_map(|(_, set)| set.get("strategy"));
        let ordered = matches!(strategy.and_then(Value::as_str), Some("sort" | "z-order"));
        if ordered && !sorted {
            let reason = "strategy sort and z-order need a table with a sort order";
            return Err(bad_request(reason).into());
        }
        Ok(value)
    };
    let lake = request.lake.catalog();
    lake.change_table_maintenance(table.id, kind, changed).await.map_err(not_changed)?;
    no_content()
}

pub(super) async fn get_bucket(request: &Request<'_>, arn: &str) -> Answer {
    let found = bucket(request, arn).await?;
    let lake = request.lake.catalog();
    let settings = lake.settings(SettingsOf::Bucket(found.id)).await.map_err(catalog)?;
    let value = settings.get(UNREFERENCED).cloned().unwrap_or_else(|| default_of(UNREFERENCED));
    ok(json!({
        "tableBucketARN": lake.bucket_arn(&found.region, &found.name).to_string(),
        "configuration": { UNREFERENCED: value },
    }))
}

pub(super) async fn put_bucket(request: &Request<'_>, arn: &str, kind: &str) -> Answer {
    let input: PutMaintenance = request.input()?;
    if kind != UNREFERENCED {
        return Err(bad_request(format!("type '{kind}' is {UNREFERENCED}")));
    }
    let found = bucket(request, arn).await?;
    let (lake, of) = (request.lake.catalog(), SettingsOf::Bucket(found.id));
    let changed = |stored: Option<&Value>| -> Result<Option<Value>, NotChanged> {
        let before = stored.cloned().unwrap_or_else(|| default_of(kind));
        Ok(Some(merged(kind, before, &input.value)?))
    };
    lake.change_setting(of, kind, changed).await.map_err(not_changed)?;
    no_content()
}

pub(super) async fn job_status(request: &Request<'_>, table: &TableRecord) -> Answer {
    let settings = Settings::of(request.lake, table).await.map_err(catalog)?;
    let mut status = Map::new();
    for (kind, last) in job::last_of_all(request.lake, table.id).await.map_err(catalog)? {
        let said = match last {
            _ if !settings.enabled(kind) => json!({ "status": "Disabled" }),
            Some(last) => last_run(&last),
            None if kind == JobKind::Snapshots && table.metadata_location.is_some() => {
                within_commits(request, table).await?
            }
            None => json!({ "status": "Not_Yet_Run" }),
        };
        status.insert(kind.to_string(), said);
    }
    ok(json!({
        "tableARN": request.lake.catalog().table_arn(table).to_string(),
        "status": status,
    }))
}

fn last_run(last: &Job) -> Value {
    let status = match last.outcome {
        JobOutcome::Successful => "Successful",
        JobOutcome::Failed => "Failed",
    };
    let at = super::address::iso(last.last_run_ms);
    let mut said = json!({ "status": status, "lastRunTimestamp": at });
    if let Some(why) = &last.failure_message {
        said["failureMessage"] = why.as_str().into();
    }
    said
}

/// Commits manage snapshots, too: before the first run in the background theirs is the last word.
async fn within_commits(request: &Request<'_>, table: &TableRecord) -> Result<Value, Problem> {
    let loaded = request.lake.load(table.id).await.map_err(load)?;
    let metadata = &loaded.metadata;
    let references = references(metadata).map_err(super::error::commit)?;
    if let Some(why) = kept_by_others(metadata, &references) {
        return Ok(json!({ "status": "Failed", "failureMessage": why }));
    }
    Ok(match metadata.current_snapshot() {
        None => json!({ "status": "Not_Yet_Run" }),
        Some(snapshot) => json!({
            "status": "Successful",
            "lastRunTimestamp": super::address::iso(snapshot.timestamp_ms()),
        }),
    })
}
