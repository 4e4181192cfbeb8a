//! A table at a glance: files by size, deletes, snapshots, references, manifests, metadata, and what
//! upkeep would do and did last.
//!
//! It reads manifests by way of the cache and holds counts, not files (I8).

use crate::compaction::{Compaction, preview};
use crate::job::{self, Job, table_name};
use crate::settings::{JobKind, Settings};
use crate::unreferenced::earlier_runs;
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_lake::catalog::TableRecord;
use alluvium_lake::commit::{kept_by_others, references};
use alluvium_lake::storage::split_location;
use alluvium_lake::{Lake, LoadError, LoadedTable};
use alluvium_store::objects::{ListRequest, ObjectsError};
use iceberg::spec::{DataContentType, DataFile, DataFileFormat, ManifestContentType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The upper bounds of the classes of files; the last class has none.
const CLASSES: [u64; 6] = [1 << 20, 8 << 20, 32 << 20, 128 << 20, 512 << 20, u64::MAX];

/// Objects of one page of a listing.
const PAGE: usize = 1_000;

/// Files of a size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SizeClass {
    /// Files of the class are smaller; none for the class of the largest.
    pub below_bytes: Option<u64>,
    /// How many there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
}

/// Delete files of the current snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletes {
    /// Position delete files.
    pub position_files: u64,
    /// Rows that they delete.
    pub positions: u64,
    /// Deletion vectors among them.
    pub vectors: u64,
    /// Equality delete files.
    pub equality_files: u64,
    /// Keys that they delete.
    pub keys: u64,
    /// Bytes of all.
    pub bytes: u64,
}

/// A branch or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// `branch` or `tag`.
    pub kind: String,
    /// The snapshot that it names.
    pub snapshot_id: i64,
}

/// The snapshots that a table keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshots {
    /// How many.
    pub count: u64,
    /// The current one.
    pub current_id: Option<i64>,
    /// The time of the oldest.
    pub oldest_ms: Option<i64>,
    /// The time of the newest.
    pub newest_ms: Option<i64>,
}

/// Manifests of the current snapshot, and the table's metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Manifests of data files.
    pub data_manifests: u64,
    /// Manifests of delete files.
    pub delete_manifests: u64,
    /// Bytes of the manifests.
    pub manifest_bytes: u64,
    /// Bytes of the current metadata file: each commit writes as many.
    pub metadata_bytes: u64,
    /// Older metadata files that are kept.
    pub metadata_log: u64,
}

/// One kind of upkeep of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// Which.
    pub kind: JobKind,
    /// Whether it is to run.
    pub enabled: bool,
    /// Its settings, as S3 Tables has them.
    pub settings: Value,
    /// What it would do now, in words.
    pub would: String,
    /// What it did last.
    pub last: Option<Job>,
}

/// A table at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectReport {
    /// The table, as `bucket/namespace.name`.
    pub table: String,
    /// Its id.
    pub table_id: String,
    /// The version of the Iceberg format; none before it has a schema.
    pub format_version: Option<u8>,
    /// Where its metadata is.
    pub metadata_location: Option<String>,
    /// Data files of the current snapshot by size.
    pub data_files: Vec<SizeClass>,
    /// Delete files of the current snapshot.
    pub deletes: Deletes,
    /// Its snapshots.
    pub snapshots: Snapshots,
    /// Branches and tags beside `main`.
    pub references: Vec<Reference>,
    /// Manifests and metadata.
    pub metadata: Metadata,
    /// Files under the table's location, of whatever kind.
    pub stored_files: u64,
    /// Their bytes; what current files do not take is older snapshots' or nobody's.
    pub stored_bytes: u64,
    /// What upkeep would do and did.
    pub upkeep: Vec<Kind>,
}

impl InspectReport {
    /// Data files, bytes and rows of all classes.
    pub fn data(&self) -> SizeClass {
        self.data_files.iter().fold(SizeClass::default(), |sum, class| SizeClass {
            below_bytes: None,
            files: sum.files + class.files,
            bytes: sum.bytes + class.bytes,
            rows: sum.rows + class.rows,
        })
    }

    fn empty(record: &TableRecord) -> Self {
        let class = |below: u64| SizeClass {
            below_bytes: (below < u64::MAX).then_some(below),
            ..SizeClass::default()
        };
        Self {
            table: table_name(record),
            table_id: record.id.to_string(),
            format_version: None,
            metadata_location: record.metadata_location.clone(),
            data_files: CLASSES.map(class).to_vec(),
            deletes: Deletes::default(),
            snapshots: Snapshots::default(),
            references: Vec::new(),
            metadata: Metadata::default(),
            stored_files: 0,
            stored_bytes: 0,
            upkeep: Vec::new(),
        }
    }

    fn add(&mut self, file: &DataFile) {
        let (bytes, rows) = (file.file_size_in_bytes(), file.record_count());
        match file.content_type() {
            DataContentType::Data => {
                let class = CLASSES.iter().position(|below| bytes < *below);
                if let Some(class) = class.and_then(|at| self.data_files.get_mut(at)) {
                    class.files += 1;
                    class.bytes += bytes;
                    class.rows += rows;
                }
            }
            DataContentType::PositionDeletes => {
                self.deletes.position_files += 1;
                self.deletes.positions += rows;
                self.deletes.bytes += bytes;
                let vector = file.file_format() == DataFileFormat::Puffin;
                self.deletes.vectors += u64::from(vector);
            }
            DataContentType::EqualityDeletes => {
                self.deletes.equality_files += 1;
                self.deletes.keys += rows;
                self.deletes.bytes += bytes;
            }
        }
    }
}

/// Looks at a table.
pub async fn inspect(upkeep: &Upkeep, id: TableId) -> Result<InspectReport, LoadError> {
    let lake = upkeep.lake();
    let record = lake.catalog().table_by_id(id).await?;
    let mut report = InspectReport::empty(&record);
    if record.metadata_location.is_some() {
        let table = lake.load(id).await?;
        files(lake, &table, &mut report).await?;
        metadata(lake, &table, &mut report).await?;
    }
    stored(lake, &record, &mut report).await?;
    kinds(upkeep, &record, &mut report).await?;
    Ok(report)
}

async fn files(
    lake: &Lake,
    table: &LoadedTable,
    report: &mut InspectReport,
) -> Result<(), LoadError> {
    let Some(snapshot) = table.metadata.current_snapshot() else { return Ok(()) };
    let list = lake.manifest_list(&table.metadata, snapshot).await?;
    for file in list.iter() {
        match file.content {
            ManifestContentType::Data => report.metadata.data_manifests += 1,
            ManifestContentType::Deletes => report.metadata.delete_manifests += 1,
        }
        report.metadata.manifest_bytes += u64::try_from(file.manifest_length).unwrap_or(0);
        let manifest = lake.manifests().manifest(file).await?;
        for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
            report.add(entry.data_file());
        }
    }
    Ok(())
}

async fn metadata(
    lake: &Lake,
    table: &LoadedTable,
    report: &mut InspectReport,
) -> Result<(), LoadError> {
    let metadata = &table.metadata;
    report.format_version = Some(metadata.format_version() as u8);
    report.metadata_location = Some(table.metadata_location.clone());
    report.metadata.metadata_log = metadata.metadata_log().len() as u64;
    if let Some((bucket, key)) = split_location(&table.metadata_location) {
        let found = lake.objects().head(bucket, key).await;
        report.metadata.metadata_bytes =
            found.map_err(|error| unavailable(&table.metadata_location, &error))?.size_bytes;
    }
    let times = || metadata.snapshots().map(|snapshot| snapshot.timestamp_ms());
    report.snapshots = Snapshots {
        count: metadata.snapshots().len() as u64,
        current_id: metadata.current_snapshot_id(),
        oldest_ms: times().min(),
        newest_ms: times().max(),
    };
    let all = references(metadata).map_err(|error| LoadError::Corrupt(error.to_string()))?;
    for (name, reference) in all.into_iter().filter(|(name, _)| name != "main") {
        let kind = if reference.is_branch() { "branch" } else { "tag" };
        let snapshot_id = reference.snapshot_id;
        report.references.push(Reference { name, kind: kind.into(), snapshot_id });
    }
    Ok(())
}

fn unavailable(what: &str, error: &ObjectsError) -> LoadError {
    match error {
        ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_) | ObjectsError::Corrupt(_) => {
            LoadError::Corrupt(format!("{what}: {error}"))
        }
        _ => LoadError::Unavailable(format!("{what}: {error}")),
    }
}

/// Counts what lies in the table's bucket of objects.
async fn stored(
    lake: &Lake,
    record: &TableRecord,
    report: &mut InspectReport,
) -> Result<(), LoadError> {
    let bucket = &record.warehouse_bucket;
    let mut after = None;
    loop {
        let request = ListRequest { after: after.take(), limit: PAGE, ..ListRequest::default() };
        let page = lake.objects().list(bucket, request).await;
        let page = page.map_err(|error| unavailable(bucket, &error))?;
        report.stored_files += page.objects.len() as u64;
        report.stored_bytes += page.objects.iter().map(|object| object.size_bytes).sum::<u64>();
        let last = page.objects.last().map(|object| object.key.clone());
        match last.filter(|_| page.objects.len() >= PAGE) {
            Some(key) => after = Some(key),
            None => return Ok(()),
        }
    }
}

async fn kinds(
    upkeep: &Upkeep,
    record: &TableRecord,
    report: &mut InspectReport,
) -> Result<(), LoadError> {
    let lake = upkeep.lake();
    let settings = Settings::of(lake, record).await?;
    for (kind, last) in job::last_of_all(lake, record.id).await? {
        let enabled = settings.enabled(kind);
        let would = match enabled && report.format_version.is_some() {
            true => would(upkeep, record, &settings, kind).await,
            false if enabled => "nothing: the table has no schema yet".into(),
            false => "nothing: it is disabled".into(),
        };
        report.upkeep.push(Kind { kind, enabled, settings: shown(&settings, kind), would, last });
    }
    Ok(())
}

/// What a kind of upkeep would do now; why it cannot is said, too.
async fn would(
    upkeep: &Upkeep,
    record: &TableRecord,
    settings: &Settings,
    kind: JobKind,
) -> String {
    let said = match kind {
        JobKind::Compaction => would_compact(upkeep, record).await,
        JobKind::Snapshots => would_expire(upkeep, record, settings).await,
        JobKind::Unreferenced => would_remove(upkeep, record, settings).await,
    };
    said.unwrap_or_else(|error| format!("nothing: {error}"))
}

async fn would_compact(upkeep: &Upkeep, record: &TableRecord) -> Result<String, UpkeepError> {
    let request = Compaction::background(&record.maintenance)?;
    let preview = preview(upkeep, record.id, &request).await?;
    if preview.files + preview.delete_files == 0 {
        return Ok("nothing".into());
    }
    Ok(format!(
        "rewrite {} data files of {} bytes in {} groups, merge {} delete files",
        preview.files, preview.bytes, preview.groups, preview.delete_files
    ))
}

/// Commits thin the list besides; this is what only age takes.
async fn would_expire(
    upkeep: &Upkeep,
    record: &TableRecord,
    settings: &Settings,
) -> Result<String, UpkeepError> {
    let loaded = upkeep.lake().load(record.id).await?;
    let metadata = &loaded.metadata;
    if let Some(why) = kept_by_others(metadata, &references(metadata)?) {
        return Err(UpkeepError::Unsupported(why));
    }
    let mut times: Vec<i64> = metadata.snapshots().map(|s| s.timestamp_ms()).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let oldest_ms = upkeep.clock().now_ms().saturating_sub(settings.max_snapshot_age_ms);
    let older = times.iter().skip(settings.min_snapshots).filter(|time| **time < oldest_ms);
    Ok(match older.count() {
        0 => "nothing".into(),
        count => format!("let go of {count} snapshots"),
    })
}

async fn would_remove(
    upkeep: &Upkeep,
    record: &TableRecord,
    settings: &Settings,
) -> Result<String, UpkeepError> {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let days = (settings.unreferenced_ms / DAY_MS, settings.noncurrent_ms / DAY_MS);
    Ok(match earlier_runs(upkeep, record.id).await? {
        None => format!("look for files that nothing names and that are {} days old", days.0),
        Some(earlier) if earlier.last.noncurrent == 0 => "look again; no file is marked".into(),
        Some(earlier) => format!(
            "delete those of {} marked files ({} bytes) that have been marked for {} days",
            earlier.last.noncurrent, earlier.last.noncurrent_bytes, days.1
        ),
    })
}

fn shown(settings: &Settings, kind: JobKind) -> Value {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    match kind {
        JobKind::Compaction => json!({
            "targetFileSizeMB": settings.target_bytes >> 20,
            "strategy": settings.strategy.as_str(),
        }),
        JobKind::Snapshots => json!({
            "minSnapshotsToKeep": settings.min_snapshots,
            "maxSnapshotAgeHours": settings.max_snapshot_age_ms / HOUR_MS,
        }),
        JobKind::Unreferenced => json!({
            "unreferencedDays": settings.unreferenced_ms / (24 * HOUR_MS),
            "nonCurrentDays": settings.noncurrent_ms / (24 * HOUR_MS),
        }),
    }
}
