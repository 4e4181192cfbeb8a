//! One run over a table's warehouse: what is needed, then object by object.

use super::live::LiveKeys;
use super::marks::{FileRemoval, Mark, Marks};
use super::{Removal, RemovalReport};
use crate::elapsed::look;
use crate::{Upkeep, UpkeepError};
use alluvium_base::{TableId, kill_point};
use alluvium_lake::catalog::{TableRecord, WarehouseState};
use alluvium_lake::claims::ClaimsError;
use alluvium_lake::named_files::NamedFiles;
use alluvium_lake::{Lake, LoadError, LoadedTable};
use alluvium_store::objects::versions::{Removal as ObjectRemoval, RemoveCondition};
use alluvium_store::objects::{ListRequest, ObjectMeta, ObjectsError};
use alluvium_store::records::Operation;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Instant;

/// Objects that are listed at a time.
const PAGE: usize = 1_000;
/// Objects that are deleted while commits to the table wait: tens of milliseconds.
const CHUNK: usize = 100;
/// Deletions at once.
const DELETES: usize = 16;

/// An object that is to be deleted.
#[derive(Debug, Clone)]
struct Due {
    key: String,
    version: u64,
    size_bytes: u64,
}

/// Who needs what, and what was seen of it.
struct Needs {
    lake: Lake,
    table: TableId,
    live: LiveKeys,
    named: NamedFiles,
    /// The metadata that was gone through last.
    seen: String,
}

/// What a run goes by.
struct Terms {
    now_ms: i64,
    passed_ms: i64,
    /// Younger objects are not marked: somebody may be about to name them.
    before_ms: i64,
    /// The same for what released snapshots named.
    released_before_ms: i64,
    may_remove: bool,
}

pub(super) async fn once(
    upkeep: &Upkeep,
    table: TableId,
    request: &Removal,
) -> Result<RemovalReport, UpkeepError> {
    let (worker, request) = (upkeep.clone(), request.clone());
    upkeep.run(async move { run(&worker, table, &request).await }).await
}

async fn run(
    upkeep: &Upkeep,
    table: TableId,
    request: &Removal,
) -> Result<RemovalReport, UpkeepError> {
    // Taken before the look, which judges it: a clock that jumps after the look is not asked again.
    let now_ms = upkeep.clock().now_ms();
    let elapsed = look(upkeep).await?;
    if let Some(reason) = elapsed.unsettled.filter(|_| !request.by_hand) {
        let waits = Some(reason);
        return Ok(RemovalReport { at_ms: now_ms, waits, ..RemovalReport::default() });
    }
    let lake = upkeep.lake();
    let loaded = match lake.load(table).await {
        Ok(loaded) => loaded,
        // Created without a schema: a client may be about to write its first metadata.
        Err(LoadError::NoMetadata(_)) => return Ok(RemovalReport::default()),
        Err(error) => return Err(error.into()),
    };
    check_home(lake, &loaded).await?;
    let record = loaded.record.clone();
    let marks = Marks::new(upkeep, &record.warehouse_bucket);
    let earlier = marks.removal().await?.filter(|removal| removal.table == table);
    let named = NamedFiles::new(lake).count(&loaded.metadata).await?;
    drop(loaded);
    let passes = named.div_ceil(request.names_max.max(1)).max(1);
    let first = earlier.is_none();
    let mut report = RemovalReport { first, ..RemovalReport::default() };
    for pass in 0..passes {
        let live = LiveKeys::new(&record.warehouse_bucket, pass, passes);
        let mut needs = Needs {
            lake: lake.clone(),
            table,
            live,
            named: NamedFiles::new(lake),
            seen: String::new(),
        };
        let writing_since_ms = needs.gather().await?;
        let since_ms = writing_since_ms.unwrap_or(i64::MAX);
        let terms = Terms {
            now_ms,
            passed_ms: elapsed.passed_ms,
            before_ms: now_ms.saturating_sub(request.unreferenced_ms).min(since_ms),
            released_before_ms: now_ms.min(since_ms),
            may_remove: !first,
        };
        let released = released(lake, &record, request, (pass, passes)).await?;
        let mut sweep =
            Sweep { upkeep, request, record: &record, marks: &marks, terms, released, report };
        sweep.run(needs).await?;
        report = sweep.report;
    }
    report.at_ms = upkeep.clock().now_ms();
    let removal = next_removal(earlier, table, &report);
    marks.put_removal(&removal).await?;
    kill_point("unreferenced-reported");
    tell(&record, &report);
    Ok(report)
}

fn tell(record: &TableRecord, report: &RemovalReport) {
    metrics::counter!("alluvium_unreferenced_marked_total").increment(report.marked);
    metrics::counter!("alluvium_unreferenced_removed_total").increment(report.removed);
    metrics::counter!("alluvium_unreferenced_removed_bytes_total").increment(report.removed_bytes);
    tracing::info!(
        table = %record.id,
        name = format!("{}.{}", record.namespace, record.name),
        first = report.first,
        "unreferenced files: {} of {} objects ({} bytes), {} marked, {} named again, {} deleted \
         ({} bytes)",
        report.unreferenced,
        report.objects,
        report.unreferenced_bytes,
        report.marked,
        report.unmarked,
        report.removed,
        report.removed_bytes
    );
}

fn next_removal(
    earlier: Option<FileRemoval>,
    table: TableId,
    report: &RemovalReport,
) -> FileRemoval {
    let mut removal = earlier.unwrap_or_else(|| FileRemoval {
        table,
        runs: 0,
        first_ms: report.at_ms,
        last: RemovalReport::default(),
        removed_total: 0,
        removed_bytes_total: 0,
    });
    removal.runs += 1;
    removal.removed_total += report.removed;
    removal.removed_bytes_total += report.removed_bytes;
    removal.last = report.clone();
    removal
}

/// A table's files are in a bucket that is its own, and nobody else's.
async fn check_home(lake: &Lake, loaded: &LoadedTable) -> Result<(), UpkeepError> {
    let record = &loaded.record;
    let home = record.warehouse_location();
    let location = loaded.metadata.location();
    if location != home && !location.starts_with(&format!("{home}/")) {
        return Err(UpkeepError::Unsupported(format!(
            "its location is '{location}', outside of its warehouse '{home}': files there may be \
             another table's"
        )));
    }
    match lake.catalog().warehouse(&record.warehouse_bucket).await? {
        Some(found) if found.state == WarehouseState::Live && found.table == record.id => Ok(()),
        _ => Err(UpkeepError::Unsupported(format!(
            "its warehouse '{home}' is not its own: files there may be another table's"
        ))),
    }
}

/// What the released snapshots named.
async fn released(
    lake: &Lake,
    record: &TableRecord,
    request: &Removal,
    (pass, passes): (u64, u64),
) -> Result<LiveKeys, UpkeepError> {
    let mut keys = LiveKeys::new(&record.warehouse_bucket, pass, passes);
    let mut files = NamedFiles::new(lake);
    for snapshot in &request.released {
        let read = files.visit_snapshot(snapshot, &mut |location| keys.keep(location)).await;
        match read {
            // Its files are gone already, or damaged: they are no concern of anybody any more.
            Ok(()) | Err(LoadError::Corrupt(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(keys)
}

pub(super) fn of_claims(error: ClaimsError) -> UpkeepError {
    match error {
        ClaimsError::Read(error) => UpkeepError::Unavailable(error.to_string()),
        ClaimsError::Damaged(reason) => UpkeepError::Damaged(reason),
    }
}

impl Needs {
    /// Asks everybody, in the order in which a file goes: since when work that is not recorded may
    /// have written files.
    async fn gather(&mut self) -> Result<Option<i64>, UpkeepError> {
        let claims = self.lake.claims().ok_or_else(|| {
            UpkeepError::Internal("nobody said which files delivery needs".into())
        })?;
        let since_ms = claims.writing_since_ms().await.map_err(of_claims)?;
        let live = &mut self.live;
        let claimed = claims.claimed(self.table, &mut |location| live.keep(location)).await;
        claimed.map_err(of_claims)?;
        self.catch_up().await?;
        Ok(since_ms)
    }

    /// Goes through what the table and its readers name now and did not before.
    async fn catch_up(&mut self) -> Result<Arc<LoadedTable>, UpkeepError> {
        let loaded = self.lake.load(self.table).await?;
        let live = &mut self.live;
        if loaded.metadata_location != self.seen {
            live.keep(&loaded.metadata_location);
            loaded.record.previous_metadata_location.iter().for_each(|l| live.keep(l));
            self.named.visit(&loaded.metadata, &mut |location| live.keep(location)).await?;
            self.seen.clone_from(&loaded.metadata_location);
        }
        for held in self.lake.held_metadata(&loaded.record, &loaded.metadata_location) {
            self.named.visit(&held, &mut |location| live.keep(location)).await?;
        }
        Ok(loaded)
    }

    /// Deletes what is still needed by nobody while commits wait: those that are gone.
    async fn remove(&mut self, due: Vec<Due>, marks: &Marks) -> Result<Vec<Due>, UpkeepError> {
        // Most of what happened since is read before anybody waits.
        self.catch_up().await?;
        let _held = self.lake.hold_commits(self.table).await;
        let loaded = self.catch_up().await?;
        check_home(&self.lake, &loaded).await?;
        let bucket = &loaded.record.warehouse_bucket;
        let objects = self.lake.objects();
        let due = due.into_iter().filter(|due| !self.live.holds(&due.key));
        let mut deletes = futures::stream::iter(due.map(|due| async move {
            let condition = RemoveCondition::IfUnchanged(due.version);
            let removal = ObjectRemoval { version: None, condition };
            match objects.remove(bucket, &due.key, removal).await {
                Ok(_) => Ok(Some(due)),
                // Somebody was faster, or wrote another object of this name.
                Err(ObjectsError::NotFound { .. } | ObjectsError::Precondition { .. }) => Ok(None),
                Err(error) => Err(UpkeepError::from(error)),
            }
        }))
        .buffer_unordered(DELETES);
        let (mut gone, mut failure) = (Vec::new(), None);
        while let Some(outcome) = deletes.next().await {
            match outcome {
                Ok(removed) => gone.extend(removed),
                Err(error) => failure = Some(error),
            }
        }
        drop(deletes);
        kill_point("unreferenced-removed");
        marks.transact(gone.iter().map(|due| marks.forget(&due.key)).collect()).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(gone),
        }
    }
}

/// One pass over the objects.
struct Sweep<'a> {
    upkeep: &'a Upkeep,
    request: &'a Removal,
    record: &'a TableRecord,
    marks: &'a Marks,
    terms: Terms,
    released: LiveKeys,
    report: RemovalReport,
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Something names it.
    Needed,
    /// Nothing does, but somebody may be about to.
    Young,
    /// It becomes noncurrent.
    Mark,
    /// It is noncurrent.
    Waits,
    /// It has been noncurrent for long enough.
    Due,
}

impl Sweep<'_> {
    async fn run(&mut self, mut needs: Needs) -> Result<(), UpkeepError> {
        let objects = Arc::clone(needs.lake.objects());
        let bucket = self.record.warehouse_bucket.clone();
        let mut pages = self.marks.all();
        let mut due: Vec<Due> = Vec::new();
        let mut after = None;
        loop {
            let request = ListRequest { after, limit: PAGE, ..ListRequest::default() };
            let page = objects.list(&bucket, request).await?;
            let mut operations = Vec::new();
            let mut orphans = Vec::new();
            for object in &page.objects {
                let mark = pages.of(&object.key, &mut orphans).await?;
                if needs.live.judges(&object.key) {
                    let named = needs.live.holds(&object.key);
                    self.take(object, named, mark, &mut operations, &mut due)?;
                }
            }
            operations.extend(orphans.iter().map(|key| self.marks.forget(key)));
            kill_point("unreferenced-before-marks");
            self.marks.transact(operations).await?;
            kill_point("unreferenced-marked");
            while due.len() >= CHUNK {
                let chunk = due.drain(..CHUNK).collect();
                needs = self.remove(needs, chunk).await?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        loop {
            let rest = pages.rest().await?;
            if rest.is_empty() {
                break;
            }
            self.marks.transact(rest.iter().map(|key| self.marks.forget(key)).collect()).await?;
        }
        if !due.is_empty() {
            self.remove(needs, due).await?;
        }
        Ok(())
    }

    fn verdict(&self, object: &ObjectMeta, named: bool, mark: Option<&Mark>) -> Verdict {
        if named || self.upkeep.in_flight().holds(&object.key) {
            return Verdict::Needed;
        }
        let terms = &self.terms;
        let before_ms = match self.released.holds(&object.key) {
            true => terms.released_before_ms,
            false => terms.before_ms,
        };
        if object.last_modified_ms >= before_ms {
            return Verdict::Young;
        }
        let Some(mark) = mark.filter(|mark| mark.version == object.version) else {
            return Verdict::Mark;
        };
        let noncurrent_ms = terms.passed_ms.saturating_sub(mark.passed_ms);
        if terms.may_remove && noncurrent_ms >= self.request.noncurrent_ms {
            return Verdict::Due;
        }
        Verdict::Waits
    }

    fn take(
        &mut self,
        object: &ObjectMeta,
        named: bool,
        mark: Option<Mark>,
        operations: &mut Vec<Operation>,
        due: &mut Vec<Due>,
    ) -> Result<(), UpkeepError> {
        let verdict = self.verdict(object, named, mark.as_ref());
        let size_bytes = object.size_bytes;
        self.report.objects += 1;
        self.report.bytes += size_bytes;
        let is_due = match verdict {
            Verdict::Needed => {
                if mark.is_some() {
                    operations.push(self.marks.forget(&object.key));
                    self.report.unmarked += 1;
                }
                return Ok(());
            }
            Verdict::Young | Verdict::Waits => false,
            Verdict::Mark => {
                let Terms { now_ms, passed_ms, .. } = self.terms;
                let mark = Mark { version: object.version, at_ms: now_ms, passed_ms };
                operations.push(self.marks.put(&object.key, &mark)?);
                self.report.marked += 1;
                self.report.marked_bytes += size_bytes;
                self.terms.may_remove && self.request.noncurrent_ms == 0
            }
            Verdict::Due => true,
        };
        self.report.unreferenced += 1;
        self.report.unreferenced_bytes += size_bytes;
        if matches!(verdict, Verdict::Mark | Verdict::Waits | Verdict::Due) {
            self.report.noncurrent += 1;
            self.report.noncurrent_bytes += size_bytes;
        }
        if is_due {
            due.push(Due { key: object.key.clone(), version: object.version, size_bytes });
        }
        Ok(())
    }

    /// Deletes a chunk on the server's threads, because commits wait for it, and then lets others
    /// have as much time as it took.
    async fn remove(&mut self, mut needs: Needs, chunk: Vec<Due>) -> Result<Needs, UpkeepError> {
        let started = Instant::now();
        let marks = self.marks.clone();
        let (needs, gone) = self
            .upkeep
            .on_server(async move {
                let gone = needs.remove(chunk, &marks).await?;
                Ok((needs, gone))
            })
            .await?;
        for due in &gone {
            self.report.removed += 1;
            self.report.removed_bytes += due.size_bytes;
        }
        self.report.noncurrent -= gone.len() as u64;
        self.report.noncurrent_bytes -= gone.iter().map(|due| due.size_bytes).sum::<u64>();
        tokio::time::sleep(started.elapsed()).await;
        Ok(needs)
    }
}
