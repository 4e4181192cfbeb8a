//! Whether a table is sound: every file that its metadata names is there, and all counts agree.
//!
//! Everything is read as it is stored now, past the caches, of all snapshots and not only of the
//! current one:
//!
//! - metadata, manifest lists and manifests exist and can be read; a manifest has the length, the
//!   files and the rows that its list says;
//! - every live file exists and has the size of its entry, and the rows that its Parquet footer
//!   says ([`file`]);
//! - the totals of each snapshot's summary are those of its manifests;
//! - in the current snapshot and those of branches and tags no file is named twice, and position
//!   deletes aim at rows that their files have ([`head`]).
//!
//! A check changes nothing. Its memory is bounded (I8): one manifest at a time, a few footers, and
//! 16 bytes for each of at most [`FILES_REMEMBERED`] files; a file beyond that may be looked at
//! twice. Rows themselves are not read.
//!
//! What upkeep lets go of while the check runs is no damage: when something was found and snapshots
//! went meanwhile, the check begins anew.

mod file;
mod head;
mod manifest;
mod snapshot;

use crate::job::table_name;
use alluvium_base::TableId;
use alluvium_lake::commit::parse_metadata;
use alluvium_lake::storage::split_location;
use alluvium_lake::{Lake, LoadError};
use alluvium_store::objects::{Objects, ObjectsError};
use bytes::Bytes;
use iceberg::spec::TableMetadata;
use manifest::Sums;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Findings that a report names; more are counted.
pub const FINDINGS_NAMED: usize = 1_000;

/// Files that are remembered as looked at.
pub const FILES_REMEMBERED: usize = 1 << 20;

/// The check begins anew at most this often when snapshots go meanwhile.
const PASSES_MAX: usize = 3;

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The file that it is wrong with, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A snapshot that needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<i64>,
    /// What was expected, and what was found.
    pub detail: String,
}

/// The kinds of what can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A file is not there.
    Missing,
    /// A file has another size than its entry says.
    Size,
    /// A file cannot be read as what it is.
    Unreadable,
    /// A file has other rows than its entry says.
    Rows,
    /// A manifest holds other entries than its list says.
    Manifest,
    /// A snapshot's summary states other totals than its manifests have.
    Summary,
    /// A file is named twice in one snapshot: its rows are doubled.
    Twice,
    /// A delete aims at a row that its file does not have.
    Delete,
}

impl FindingKind {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Size => "size",
            Self::Unreadable => "unreadable",
            Self::Rows => "rows",
            Self::Manifest => "manifest",
            Self::Summary => "summary",
            Self::Twice => "twice",
            Self::Delete => "delete",
        }
    }
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The table, as `bucket/namespace.name`.
    pub table: String,
    /// Its id.
    pub table_id: String,
    /// Where its metadata is; none before it has a schema.
    pub metadata_location: Option<String>,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Manifests that were looked at.
    pub manifests: u64,
    /// Files that were looked at.
    pub files: u64,
    /// Their bytes.
    pub files_bytes: u64,
    /// Rows of the current snapshot's data files, deleted ones included.
    pub rows: u64,
    /// True when nothing was found.
    pub sound: bool,
    /// What was found, the first [`FINDINGS_NAMED`].
    pub findings: Vec<Finding>,
    /// What was found besides.
    pub findings_left_out: u64,
    /// What is no damage, and what was not looked at.
    pub notes: Vec<String>,
}

/// Checks a table. An error says that the check itself could not be done.
pub async fn check(lake: &Lake, id: TableId) -> Result<CheckReport, LoadError> {
    let mut last = None;
    for _ in 0..PASSES_MAX {
        let mut pass = Pass::new(lake, id).await?;
        let seen = pass.run().await?;
        let report = pass.end();
        if report.sound || !snapshots_went(lake, id, &seen).await? {
            return Ok(report);
        }
        last = Some(report);
    }
    last.ok_or_else(|| LoadError::Unavailable("the table changes too often to be checked".into()))
}

/// Whether any of these snapshots, or the metadata that they were of, is not the table's any more.
async fn snapshots_went(lake: &Lake, id: TableId, seen: &Seen) -> Result<bool, LoadError> {
    let record = lake.catalog().table_by_id(id).await?;
    let (Some(before), Some(now)) = (&seen.location, &record.metadata_location) else {
        return Ok(seen.location != record.metadata_location);
    };
    if before == now {
        return Ok(false);
    }
    match lake.metadata_at(now).await {
        Ok(now) => Ok(seen.snapshots.iter().any(|id| now.snapshot_by_id(*id).is_none())),
        // The new metadata is what is damaged: the next pass says so.
        Err(LoadError::Corrupt(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// What a pass read the table by.
#[derive(Debug, Default)]
struct Seen {
    location: Option<String>,
    snapshots: Vec<i64>,
}

/// One run over a table.
struct Pass<'a> {
    lake: &'a Lake,
    report: CheckReport,
    /// Files that were looked at, by [`identity`].
    looked_at: HashSet<u128>,
    /// What the manifests that were looked at hold, by path; none when one cannot be read.
    sums: HashMap<String, Option<Sums>>,
    /// Files whose rows are not counted, because they are not Parquet.
    not_parquet: u64,
    /// Deletes of rows of files that their snapshot does not have.
    aimless: u64,
}

/// A file's path in 16 bytes: two files fall together once in 2^88 tables of a million.
fn identity(path: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, path).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

impl<'a> Pass<'a> {
    async fn new(lake: &'a Lake, id: TableId) -> Result<Self, LoadError> {
        let record = lake.catalog().table_by_id(id).await?;
        let report = CheckReport {
            table: table_name(&record),
            table_id: record.id.to_string(),
            metadata_location: record.metadata_location,
            ..CheckReport::default()
        };
        Ok(Self {
            lake,
            report,
            looked_at: HashSet::new(),
            sums: HashMap::new(),
            not_parquet: 0,
            aimless: 0,
        })
    }

    fn objects(&self) -> &dyn Objects {
        self.lake.objects().as_ref()
    }

    /// Adds what was found.
    fn found(&mut self, finding: Finding) {
        if self.report.findings.len() < FINDINGS_NAMED {
            self.report.findings.push(finding);
        } else {
            self.report.findings_left_out += 1;
        }
    }

    fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    async fn run(&mut self) -> Result<Seen, LoadError> {
        let mut seen = Seen { location: self.report.metadata_location.clone(), snapshots: vec![] };
        let Some(location) = seen.location.clone() else {
            self.note("the table has no schema yet, and so no files".into());
            return Ok(seen);
        };
        let Some(metadata) = self.metadata(&location).await? else { return Ok(seen) };
        seen.snapshots = metadata.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
        self.metadata_log(&metadata).await?;
        self.statistics(&metadata).await?;
        let mut snapshots: Vec<_> = metadata.snapshots().cloned().collect();
        // The newest first: what is found of a file is told of the newest snapshot that needs it.
        snapshots.sort_unstable_by_key(|snapshot| std::cmp::Reverse(snapshot.sequence_number()));
        for snapshot in &snapshots {
            self.snapshot(&metadata, snapshot).await?;
        }
        self.heads(&metadata).await?;
        Ok(seen)
    }

    /// The report, complete.
    fn end(mut self) -> CheckReport {
        if self.not_parquet > 0 {
            let count = self.not_parquet;
            self.note(format!("rows of {count} files are not counted: they are not Parquet"));
        }
        if self.aimless > 0 {
            let count = self.aimless;
            self.note(format!("{count} deletes are of rows of files that are not there any more"));
        }
        self.report.sound = self.report.findings.is_empty();
        self.report
    }

    /// The table's metadata as it is stored.
    async fn metadata(&mut self, location: &str) -> Result<Option<TableMetadata>, LoadError> {
        let read = match read_whole(self.objects(), location, None).await {
            Ok(bytes) => parse_metadata(&bytes)
                .map_err(|reason| of_file(FindingKind::Unreadable, location, reason)),
            Err(problem) => Err(problem.finding(location)?),
        };
        match read {
            Ok(metadata) => Ok(Some(metadata)),
            Err(finding) => {
                self.found(finding);
                Ok(None)
            }
        }
    }

    /// Metadata files of the log are a convenience: readers need the current one only.
    async fn metadata_log(&mut self, metadata: &TableMetadata) -> Result<(), LoadError> {
        let mut gone = 0u64;
        for entry in metadata.metadata_log() {
            if let Err(Problem::Missing(_)) = size_of(self.objects(), &entry.metadata_file).await {
                gone += 1;
            }
        }
        if gone > 0 {
            let all = metadata.metadata_log().len();
            self.note(format!("{gone} of {all} older metadata files of the log are gone"));
        }
        Ok(())
    }

    /// Files of statistics must be there; what they say is not read.
    async fn statistics(&mut self, metadata: &TableMetadata) -> Result<(), LoadError> {
        let of_tables = metadata
            .statistics_iter()
            .map(|s| (s.snapshot_id, s.statistics_path.clone(), s.file_size_in_bytes));
        let of_partitions = metadata
            .partition_statistics_iter()
            .map(|s| (s.snapshot_id, s.statistics_path.clone(), s.file_size_in_bytes));
        for (snapshot_id, path, size_bytes) in of_tables.chain(of_partitions).collect::<Vec<_>>() {
            let finding = match size_of(self.objects(), &path).await {
                Ok(found) if i64::try_from(found) == Ok(size_bytes) => continue,
                Ok(found) => {
                    let detail = format!("{found} bytes; the metadata says {size_bytes}");
                    of_file(FindingKind::Size, &path, detail)
                }
                Err(problem) => problem.finding(&path)?,
            };
            self.found(Finding { snapshot_id: Some(snapshot_id), ..finding });
        }
        Ok(())
    }
}

/// A finding about a file.
fn of_file(kind: FindingKind, path: &str, detail: impl Into<String>) -> Finding {
    Finding { kind, path: Some(path.to_string()), snapshot_id: None, detail: detail.into() }
}

/// Why a file's bytes are not at hand.
#[derive(Debug)]
enum Problem {
    /// It is not there.
    Missing(String),
    /// It is there and cannot be read.
    Unreadable(String),
    /// Nothing can be told about it now.
    Unknown(LoadError),
}

impl Problem {
    fn of(error: ObjectsError) -> Self {
        let text = error.to_string();
        match error {
            ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_) => Self::Missing(text),
            ObjectsError::Unavailable(_) | ObjectsError::Full(_) | ObjectsError::Unknown(_) => {
                Self::Unknown(LoadError::Unavailable(text))
            }
            ObjectsError::Fenced => Self::Unknown(LoadError::Unavailable(text)),
            ObjectsError::NoUpload(_)
            | ObjectsError::Precondition { .. }
            | ObjectsError::InvalidPart { .. }
            | ObjectsError::BadBody(_)
            | ObjectsError::BadKey(_)
            | ObjectsError::Corrupt(_) => Self::Unreadable(text),
        }
    }

    /// What to report of it; an error when the check cannot go on.
    fn finding(self, path: &str) -> Result<Finding, LoadError> {
        match self {
            Self::Missing(text) => Ok(of_file(FindingKind::Missing, path, text)),
            Self::Unreadable(text) => Ok(of_file(FindingKind::Unreadable, path, text)),
            Self::Unknown(error) => Err(error),
        }
    }
}

fn place(location: &str) -> Result<(&str, &str), Problem> {
    split_location(location)
        .ok_or_else(|| Problem::Unreadable("it is not of the form s3://bucket/key".into()))
}

/// The size of a file as it is stored. The blob must be readable, not only listed: a blob that was
/// removed by hand is still in the index.
async fn size_of(objects: &dyn Objects, location: &str) -> Result<u64, Problem> {
    let (bucket, key) = place(location)?;
    let size_bytes = objects.head(bucket, key).await.map_err(Problem::of)?.size_bytes;
    if size_bytes > 0 {
        let last = size_bytes - 1..size_bytes;
        objects.get_ranges(bucket, key, &[last]).await.map_err(Problem::of)?;
    }
    Ok(size_bytes)
}

/// All bytes of a file, or its last `tail_bytes`.
async fn read_whole(
    objects: &dyn Objects,
    location: &str,
    tail: Option<(u64, u64)>,
) -> Result<Bytes, Problem> {
    let (bucket, key) = place(location)?;
    let (size_bytes, tail_bytes) = match tail {
        Some((size_bytes, tail_bytes)) => (size_bytes, tail_bytes.min(size_bytes)),
        None => {
            let size_bytes = objects.head(bucket, key).await.map_err(Problem::of)?.size_bytes;
            (size_bytes, size_bytes)
        }
    };
    let range = size_bytes - tail_bytes..size_bytes;
    let read = objects.get_ranges(bucket, key, &[range]).await.map_err(Problem::of)?;
    Ok(read.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
