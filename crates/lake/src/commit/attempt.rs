//! Runs a commit: attempts until one lands, one is known to have landed, or none can.

use super::append::append;
use super::change::Work;
use super::checkpoints::{Moves, plan_moves};
use super::expiry::expire;
use super::files::{NewFile, stage_all};
use super::groups::{DeleteCounts, Memo, staged_keys};
use super::properties::deletes_old_metadata;
use super::rewrite::rewrite;
use super::update::{swap, update};
use super::{CommitError, Committed, TableChange};
use crate::catalog::{ATTEMPTS_MAX, CatalogError, Found, TableRecord, body_of, table_key};
use crate::delta::Gone;
use crate::lake::{Lake, LoadError, LoadedTable};
use crate::manifest_cache::Manifests;
use crate::storage::split_location;
use alluvium_base::{TableId, kill_point};
use alluvium_store::objects::{Fate, Staged};
use alluvium_store::records::{Operation, Outcome, Precondition, Transaction};
use iceberg::spec::TableMetadataRef;
use std::time::Instant;

/// Commits that a table's document remembers. A lost answer is looked for among them, and that
/// happens at once; each costs 20 bytes in the document.
pub(crate) const RECENT_COMMITS: usize = 32;

/// Tables of one commit (the REST catalog's multi-table transaction).
pub(crate) const TABLES_MAX: usize = 100;

/// New metadata of a table and the files that it needs, not yet written.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) metadata: TableMetadataRef,
    pub(crate) location: String,
    /// All files, the metadata itself included.
    pub(crate) files: Vec<(NewFile, &'static str)>,
    /// What its position delete files say.
    pub(crate) gone: Vec<(String, Gone)>,
    /// Length of the metadata's JSON.
    pub(crate) metadata_bytes: usize,
    pub(crate) list: Option<(String, Manifests)>,
    pub(crate) snapshot_id: Option<i64>,
    /// Metadata files that fell out of the metadata log.
    pub(crate) expired: Vec<String>,
}

/// One table's part of an attempt.
struct Part {
    record: TableRecord,
    draft: Option<Draft>,
    previous: Option<String>,
    transaction: Transaction,
    deletes: DeleteCounts,
    already: bool,
}

impl Part {
    /// Moves checkpoints and documents; the table stays as it is.
    fn without_commit(
        record: TableRecord,
        transaction: Transaction,
        deletes: DeleteCounts,
    ) -> Self {
        let previous = record.metadata_location.clone();
        Self { record, draft: None, previous, transaction, deletes, already: false }
    }
}

impl Lake {
    /// Commits a change of one table. A caller that goes away does not cancel it.
    pub async fn commit(
        &self,
        table: TableId,
        change: TableChange,
    ) -> Result<Committed, CommitError> {
        let mut committed = self.commit_all(vec![(table, change)]).await?;
        committed.pop().ok_or_else(|| CommitError::Internal("a commit without a result".into()))
    }

    /// Commits changes of several tables in one transaction: all or none (I5). The results are in
    /// the order of the changes.
    pub async fn commit_all(
        &self,
        changes: Vec<(TableId, TableChange)>,
    ) -> Result<Vec<Committed>, CommitError> {
        let mut tables: Vec<TableId> = changes.iter().map(|(table, _)| *table).collect();
        tables.sort_unstable();
        tables.dedup();
        if tables.len() != changes.len() || tables.is_empty() || tables.len() > TABLES_MAX {
            let reason = format!("a commit is of 1 to {TABLES_MAX} tables, each named once");
            return Err(CommitError::Invalid(reason));
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let lake = self.clone();
        tokio::spawn(async move {
            let mut turns = Vec::with_capacity(tables.len());
            // In order of their ids, so that two commits never wait for each other.
            for table in &tables {
                turns.push(lake.inner.turns.take(*table).await);
            }
            let started = Instant::now();
            let outcome = lake.run(&changes).await;
            metrics::histogram!("alluvium_commit_seconds").record(started.elapsed().as_secs_f64());
            let (answer_with, expired) = match outcome {
                Ok((committed, expired)) => (Ok(committed), expired),
                Err(error) => (Err(error), Vec::new()),
            };
            if answer_with.is_ok() {
                lake.remove_staged(&changes).await;
            }
            // The caller may have gone away; the commit stands all the same.
            let _ = answer.send(answer_with);
            // Before the turns end: a swap must not bring back what is about to go.
            lake.remove_expired(&tables, expired).await;
        });
        answered.await.map_err(|_| CommitError::Unknown("the commit was interrupted".into()))?
    }

    async fn run(
        &self,
        changes: &[(TableId, TableChange)],
    ) -> Result<(Vec<Committed>, Vec<(TableId, String)>), CommitError> {
        let mut memos: Vec<Memo> = changes.iter().map(|_| Memo::default()).collect();
        let mut unanswered: Vec<String> = Vec::new();
        let mut reason = String::new();
        for _ in 0..ATTEMPTS_MAX {
            if let Some(landed) = self.landed(changes, &unanswered, &reason).await? {
                return Ok((landed, Vec::new()));
            }
            let id = self.fresh_commit_id();
            let mut parts = Vec::with_capacity(changes.len());
            for ((table, change), memo) in changes.iter().zip(&mut memos) {
                parts.push(self.prepare(*table, change, &id, memo).await?);
            }
            if parts.iter().all(|part| part.already) {
                return Ok(finish_all(self, parts));
            }
            let staged = write_files(self, &mut parts).await?;
            let transaction = joined(&mut parts, &staged);
            kill_point("commit-before-swap");
            let outcome = self.inner.catalog.records.transact(transaction).await;
            staged.into_iter().for_each(|staged| staged.ended(Fate::of(&outcome)));
            match outcome {
                Outcome::Committed { .. } => {
                    kill_point("commit-after-swap");
                    metrics::counter!("alluvium_commits_total").increment(1);
                    return Ok(finish_all(self, parts));
                }
                Outcome::Conflict(precondition) => {
                    metrics::counter!("alluvium_commit_conflicts_total").increment(1);
                    let callers =
                        changes.iter().any(|(_, c)| c.preconditions.contains(&precondition));
                    if callers {
                        // What changed may have been changed by an attempt of ours.
                        let landed = self.landed(changes, &unanswered, &reason).await?;
                        return match landed {
                            Some(landed) => Ok((landed, Vec::new())),
                            None => Err(CommitError::Precondition(precondition)),
                        };
                    }
                }
                Outcome::Fenced => return Err(CommitError::Fenced),
                Outcome::Unavailable(reason) => return Err(CommitError::Unavailable(reason)),
                Outcome::Unknown(why) => {
                    metrics::counter!("alluvium_commit_unknown_total").increment(1);
                    tracing::warn!(attempt = id, "the answer of a commit was lost: {why}");
                    unanswered.push(id);
                    reason = why;
                }
            }
        }
        match unanswered.is_empty() {
            true => Err(CommitError::Busy(ATTEMPTS_MAX)),
            false => Err(CommitError::Unknown(reason)),
        }
    }

    fn fresh_commit_id(&self) -> String {
        let mut bytes = [0u8; 8];
        self.inner.catalog.random.fill(&mut bytes);
        hex::encode(bytes)
    }

    /// After lost answers: the results, if one of those attempts was done (I9).
    async fn landed(
        &self,
        changes: &[(TableId, TableChange)],
        unanswered: &[String],
        reason: &str,
    ) -> Result<Option<Vec<Committed>>, CommitError> {
        if unanswered.is_empty() {
            return Ok(None);
        }
        let unknown = |e: &dyn std::fmt::Display| {
            CommitError::Unknown(format!("{reason}; and it could not be read back: {e}"))
        };
        let mut committed = Vec::with_capacity(changes.len());
        for (table, change) in changes {
            if matches!(change.work, Work::Nothing) {
                // Its checkpoints tell: the next attempt looks at them.
                return Ok(None);
            }
            let found = self.inner.catalog.find_table(*table).await;
            let record = found.map_err(|e| unknown(&e))?.value;
            if !record.recent_commits.iter().any(|id| unanswered.contains(id)) {
                return Ok(None);
            }
            let metadata = match &record.metadata_location {
                Some(location) => Some(self.metadata_at(location).await.map_err(|e| unknown(&e))?),
                None => None,
            };
            let snapshot_id = metadata.as_ref().and_then(|m| m.current_snapshot_id());
            let deletes = DeleteCounts::default();
            committed.push(Committed { record, metadata, snapshot_id, deletes, already: true });
        }
        Ok(Some(committed))
    }

    async fn prepare(
        &self,
        table: TableId,
        change: &TableChange,
        id: &str,
        memo: &mut Memo,
    ) -> Result<Part, CommitError> {
        let catalog = &self.inner.catalog;
        let found = match catalog.find_table(table).await {
            Err(CatalogError::NotFound { .. }) => return Err(CommitError::NoTable(table)),
            found => found?,
        };
        let moves = match plan_moves(catalog, table, &change.checkpoints).await? {
            Moves::Done if !change.checkpoints.is_empty() => return self.done(found.value).await,
            Moves::Done => Transaction::default(),
            Moves::Move(moves) => moves,
        };
        let mut transaction = Transaction {
            preconditions: change.preconditions.clone(),
            operations: moves.operations.clone(),
        };
        transaction.preconditions.extend(moves.preconditions);
        transaction.operations.extend(change.operations.iter().cloned());
        let key = table_key(table);
        let previous = found.value.metadata_location.clone();
        let mut deletes = DeleteCounts::default();
        let draft = match &change.work {
            Work::Nothing => {
                transaction.preconditions.push(Precondition::Present(key));
                return Ok(Part::without_commit(found.value, transaction, deletes));
            }
            Work::Append { appends, summary } => {
                let loaded = self.loaded(&found).await?;
                let moves = &change.checkpoints;
                let made = append(self, &loaded, appends, summary, moves, memo).await?;
                deletes = made.1;
                made.0
            }
            Work::Rewrite(work) => Some(rewrite(self, &self.loaded(&found).await?, work).await?),
            Work::Update { requirements, updates } => {
                let loaded = self.loaded(&found).await?;
                Some(update(self, &loaded, requirements, updates).await?)
            }
            Work::Swap { location, token } => {
                Some(swap(self, &found.value, location, token.as_deref()).await?)
            }
            Work::Expire { policy, expired } => {
                expire(self, &self.loaded(&found).await?, policy, expired).await?
            }
        };
        let Some(draft) = draft else {
            // No key was found, or nothing is too old, in the table as it is at this version.
            transaction.preconditions.push(Precondition::AtVersion(key, found.version));
            return Ok(Part::without_commit(found.value, transaction, deletes));
        };
        let mut record = found.value;
        record.previous_metadata_location.clone_from(&previous);
        record.metadata_location = Some(draft.location.clone());
        record.version_token = catalog.fresh_token();
        record.modified_ms = catalog.clock.now_ms();
        record.recent_commits.push(id.to_string());
        let surplus = record.recent_commits.len().saturating_sub(RECENT_COMMITS);
        record.recent_commits.drain(..surplus);
        transaction.preconditions.push(Precondition::AtVersion(key.clone(), found.version));
        transaction.operations.push(Operation::Put(key, body_of(&record)));
        let draft = Some(draft);
        Ok(Part { record, draft, previous, transaction, deletes, already: false })
    }

    async fn loaded(&self, found: &Found<TableRecord>) -> Result<LoadedTable, CommitError> {
        let record = found.value.clone();
        let Some(metadata_location) = record.metadata_location.clone() else {
            let name = format!("{}.{}", record.namespace, record.name);
            return Err(LoadError::NoMetadata(name).into());
        };
        let metadata = self.metadata_at(&metadata_location).await?;
        Ok(LoadedTable { record, record_version: found.version, metadata, metadata_location })
    }

    async fn done(&self, record: TableRecord) -> Result<Part, CommitError> {
        let part = Part::without_commit(record, Transaction::default(), DeleteCounts::default());
        Ok(Part { already: true, ..part })
    }

    /// Removes staged keys that a commit has used up; what stays is unreferenced.
    async fn remove_staged(&self, changes: &[(TableId, TableChange)]) {
        for (_, change) in changes {
            let Work::Append { appends, .. } = &change.work else { continue };
            for file in staged_keys(appends) {
                let Some((bucket, key)) = split_location(file.file_path()) else { continue };
                if let Err(error) = self.inner.objects.delete(bucket, key).await {
                    tracing::info!("staged keys {} stay for now: {error}", file.file_path());
                }
            }
        }
    }

    /// Removes metadata files that fell out of these tables' logs, unless a reader holds them (I6).
    /// A log may have come in with a client's metadata file: only metadata files of the table's own
    /// warehouse go, and never the current one.
    async fn remove_expired(&self, tables: &[TableId], mut expired: Vec<(TableId, String)>) {
        {
            let mut spared = self.inner.spared.lock();
            for table in tables {
                let of_table = spared.remove(table).unwrap_or_default();
                expired.extend(of_table.into_iter().map(|location| (*table, location)));
            }
        }
        for (table, location) in expired {
            // What cannot be judged now stays for the removal of unreferenced files.
            let Ok(found) = self.inner.catalog.find_table(table).await else { continue };
            let current = found.value.metadata_location.as_deref() == Some(&*location);
            if current || !is_own_metadata(&location, &found.value) {
                continue;
            }
            if self.inner.metadata.is_held(&location) {
                let mut spared = self.inner.spared.lock();
                if spared.len() < SPARED_TABLES_MAX {
                    spared.entry(table).or_default().push(location);
                }
            } else if let Err(error) = self.inner.file_io.delete(&location).await {
                tracing::info!("old metadata {location} stays for now: {error}");
            }
        }
    }
}

/// Tables whose spared files are remembered (I8).
const SPARED_TABLES_MAX: usize = 10_000;

fn is_own_metadata(location: &str, record: &TableRecord) -> bool {
    let named = location.ends_with(".metadata.json") || location.ends_with(".metadata.json.gz");
    let bucket = split_location(location).map(|(bucket, _)| bucket);
    named && bucket == Some(record.warehouse_bucket.as_str())
}

/// Writes all files of an attempt at once, or stages them for the transaction that moves the
/// pointer. Their order among themselves is free, because nothing can see them before the pointer
/// moves; that all are durable no later than it moves is what counts.
async fn write_files(lake: &Lake, parts: &mut [Part]) -> Result<Vec<Staged>, CommitError> {
    let drafts = parts.iter_mut().filter_map(|part| part.draft.as_mut());
    let files = drafts.flat_map(|draft| std::mem::take(&mut draft.files));
    let (files, points): (Vec<_>, Vec<_>) = files.unzip();
    let staged = stage_all(&files, &lake.inner.objects, &lake.inner.catalog.records).await?;
    points.into_iter().for_each(kill_point);
    Ok(staged)
}

/// The transaction of an attempt. What the caller and the catalog ask for is judged first: a
/// conflict is told by what it means to them.
fn joined(parts: &mut [Part], staged: &[Staged]) -> Transaction {
    let mut all = Transaction::default();
    for part in parts.iter_mut().filter(|part| !part.already) {
        let transaction = std::mem::take(&mut part.transaction);
        all.preconditions.extend(transaction.preconditions);
        all.operations.extend(transaction.operations);
    }
    for staged in staged {
        all.preconditions.extend(staged.preconditions.iter().cloned());
        all.operations.extend(staged.operations.iter().cloned());
    }
    all
}

/// After success: caches what was written, and names what may go.
fn finish_all(lake: &Lake, parts: Vec<Part>) -> (Vec<Committed>, Vec<(TableId, String)>) {
    let mut expired = Vec::new();
    let mut committed = Vec::with_capacity(parts.len());
    for part in parts {
        let Part { record, draft, previous, deletes, already, .. } = part;
        let Some(draft) = draft else {
            let metadata = previous.and_then(|location| lake.inner.metadata.get(&location));
            committed.push(Committed { record, metadata, snapshot_id: None, deletes, already });
            continue;
        };
        lake.inner.activity.committed(record.id);
        lake.inner.metadata.insert(&draft.location, &draft.metadata, draft.metadata_bytes);
        for (path, gone) in draft.gone {
            lake.inner.positions.insert(path, gone);
        }
        if let Some((location, list)) = draft.list {
            lake.inner.manifests.insert_list(&location, list);
        }
        if let Some(previous) = previous {
            lake.inner.metadata.forget(&previous);
        }
        if deletes_old_metadata(draft.metadata.properties()) {
            expired.extend(draft.expired.into_iter().map(|location| (record.id, location)));
        }
        let (metadata, snapshot_id) = (Some(draft.metadata), draft.snapshot_id);
        committed.push(Committed { record, metadata, snapshot_id, deletes, already });
    }
    (committed, expired)
}
