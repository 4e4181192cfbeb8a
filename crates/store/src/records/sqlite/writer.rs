//! The one writer: gathers transactions into groups and commits each group with one sync.
//!
//! A group is evaluated in memory, inside the SQLite transaction that commits it: one query reads
//! the versions of all documents that preconditions name, every transaction of the group is judged
//! in turn on these and on what those before it in the group change, then the sum of the changes is
//! written. So a group costs a handful of statements however many transactions share it, and a
//! transaction whose preconditions fail leaves nothing to undo.
//!
//! What can go wrong: a statement before COMMIT fails - the group is rolled back, nothing was done,
//! and its transactions are tried one by one so that one cannot spoil the others; COMMIT is refused
//! for want of room - rolled back, nothing was done; COMMIT fails otherwise - settled, see
//! [`Writer::settle`].

use super::cache::DocumentCache;
use super::connection::{self, SQLITE_BUSY, SQLITE_FULL};
use super::group::{Group, Request};
use super::statements;
use crate::records::{Key, Operation, Outcome, Precondition, Transaction};
use alluvium_base::{Epoch, kill_point};
use bytes::Bytes;
use metrics::{counter, gauge, histogram};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long after a failed try a failed commit's outcome is settled again.
const SETTLE_AGAIN: Duration = Duration::from_millis(250);

/// A document's new state within a group.
#[derive(Debug)]
struct Change {
    version: u64,
    body: Option<Bytes>,
}

/// What a group would do to the documents, and what its transactions will be answered.
#[derive(Debug, Default)]
struct Plan {
    outcomes: Vec<Outcome>,
    changes: HashMap<Key, Change>,
    /// The version of the last transaction judged so far.
    last_version: u64,
    /// The last of the versions that the group took; in the file once it is committed.
    taken: u64,
}

/// Why a group was not committed.
#[derive(Debug)]
enum Failure {
    Fenced,
    /// Nothing was done.
    Refused(sqlx::Error),
    /// COMMIT failed after this was planned: it may have been done.
    Commit(sqlx::Error, Plan),
}

/// What is committed once a failed commit is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settled {
    last_version: u64,
    /// Another process has raised the epoch.
    fenced: bool,
}

/// Owns the writing connection.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    epoch: Epoch,
    unsettled: Arc<AtomicBool>,
    cache: Arc<DocumentCache>,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        connection: SqliteConnection,
        epoch: Epoch,
        unsettled: Arc<AtomicBool>,
        cache: Arc<DocumentCache>,
    ) -> Self {
        Self { path, connection: Some(connection), epoch, unsettled, cache }
    }

    /// Serves until it is told to close or every sender is gone.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut next = None;
        let closing = loop {
            let first = match next.take() {
                Some(request) => Some(request),
                None if self.connection.is_some() => queue.recv().await,
                // Reads are refused until it is settled, so nobody may ever come to ask for more.
                None => match tokio::time::timeout(SETTLE_AGAIN, queue.recv()).await {
                    Ok(request) => request,
                    Err(_elapsed) => {
                        self.settle_again().await;
                        continue;
                    }
                },
            };
            match first {
                Some(Request::Transact(transaction, reply)) => {
                    let group = Group::gather(transaction, reply, &mut queue, &mut next);
                    self.serve(group).await;
                }
                Some(Request::Close(done)) => break Some(done),
                None => break None,
            }
        };
        queue.close();
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "closing the records");
        }
        if let Some(done) = closing {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }

    async fn serve(&mut self, group: Group) {
        let started = Instant::now();
        let Group { transactions, replies } = group;
        histogram!("alluvium_records_group_transactions").record(transactions.len() as f64);
        let outcomes = match self.commit(&transactions).await {
            Err(Failure::Refused(error)) if transactions.len() > 1 && !is_full(&error) => {
                let mut outcomes = Vec::with_capacity(transactions.len());
                for transaction in transactions.chunks(1) {
                    let result = self.commit(transaction).await;
                    outcomes.extend(self.outcomes(1, result).await);
                }
                outcomes
            }
            result => self.outcomes(transactions.len(), result).await,
        };
        histogram!("alluvium_records_commit_seconds").record(started.elapsed().as_secs_f64());
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // The caller may have gone; its transaction was done all the same.
            let _ = reply.send(outcome);
        }
    }

    /// One outcome per transaction, with a failed commit settled.
    async fn outcomes(&mut self, count: usize, result: Result<Plan, Failure>) -> Vec<Outcome> {
        match result {
            Ok(plan) => plan.outcomes,
            Err(Failure::Fenced) => vec![Outcome::Fenced; count],
            Err(Failure::Refused(error)) => {
                counter!("alluvium_records_refused_total").increment(count as u64);
                tracing::error!(%error, "records could not be written");
                let reason =
                    if is_full(&error) { "the disk is full".into() } else { error.to_string() };
                vec![Outcome::Unavailable(reason); count]
            }
            Err(Failure::Commit(error, plan)) => {
                counter!("alluvium_records_failed_commits_total").increment(1);
                tracing::error!(%error, "a commit of records failed; settling its outcome");
                self.unsettled.store(true, Ordering::SeqCst);
                self.settle_outcomes(plan, &error).await
            }
        }
    }

    async fn settle_outcomes(&mut self, plan: Plan, cause: &sqlx::Error) -> Vec<Outcome> {
        match self.settle().await {
            // The versions that are there may be those of the process that has taken over.
            Ok(Settled { fenced: true, .. }) => {
                let reason = format!("the commit failed and another process took over: {cause}");
                vec![Outcome::Unknown(reason); plan.outcomes.len()]
            }
            Ok(settled) if settled.last_version >= plan.taken => plan.outcomes,
            Ok(_) => {
                let reason = format!("the commit failed and nothing was done: {cause}");
                vec![Outcome::Unavailable(reason); plan.outcomes.len()]
            }
            Err(error) => {
                tracing::error!(%error, "the outcome of a failed commit is not settled");
                let reason = format!("the commit failed: {cause}");
                vec![Outcome::Unknown(reason); plan.outcomes.len()]
            }
        }
    }

    /// Settles a failed commit whose waiters were told "unknown": they read back what it became.
    async fn settle_again(&mut self) {
        match self.settle().await {
            Ok(_) => {
                tracing::info!("the outcome of a failed commit is settled; records are read again")
            }
            Err(error) => tracing::warn!(%error, "a failed commit is still not settled"),
        }
    }

    /// Makes a failed commit's outcome final and tells what is committed.
    ///
    /// The failed commit may have left whole frames in the write-ahead log that no connection
    /// counts, yet a restart would. A commit of our own, on a new connection, either comes after
    /// them (they were counted: done) or overwrites the first of them and so ends the chain of
    /// checksums there (not done). Only then can anyone read back.
    async fn settle(&mut self) -> Result<Settled, String> {
        self.connection = None;
        let mut connection =
            connection::connect_writer(&self.path).await.map_err(|error| error.to_string())?;
        let settled = async {
            sqlx::raw_sql(statements::SETTLE).execute(&mut connection).await?;
            let rows =
                sqlx::query(statements::EPOCH_AND_VERSION).fetch_all(&mut connection).await?;
            rows.iter().map(|row| row.try_get::<i64, _>(0)).collect::<Result<Vec<_>, _>>()
        }
        .await;
        let settled = settled.map_err(|error| error.to_string())?;
        let [epoch, version]: [i64; 2] = settled.try_into().map_err(|_| "counters are missing")?;
        self.connection = Some(connection);
        // What the failed commit was to change is as the file says.
        self.cache.reset();
        self.unsettled.store(false, Ordering::SeqCst);
        let fenced = epoch.unsigned_abs() != self.epoch.0;
        Ok(Settled { last_version: version.unsigned_abs(), fenced })
    }

    async fn commit(&mut self, group: &[Transaction]) -> Result<Plan, Failure> {
        if self.connection.is_none()
            && let Err(reason) = self.settle().await
        {
            return Err(Failure::Refused(sqlx::Error::Protocol(reason)));
        }
        let Some(connection) = self.connection.as_mut() else {
            return Err(Failure::Refused(sqlx::Error::WorkerCrashed));
        };
        let plan = match plan_and_write(connection, self.epoch, group).await {
            Ok(plan) => plan,
            Err(failure) => {
                roll_back(connection).await;
                return Err(failure);
            }
        };
        if plan.changes.is_empty() {
            roll_back(connection).await;
            return Ok(plan);
        }
        plan.changes.keys().for_each(|key| self.cache.open(key));
        kill_point("records-before-commit");
        match sqlx::query("COMMIT").execute(&mut *connection).await {
            Ok(_) => {
                kill_point("records-after-commit");
                gauge!("alluvium_records_version").set(plan.last_version as f64);
                for (key, Change { version, body }) in &plan.changes {
                    self.cache.close(key, body.clone().map(|body| (*version, body)));
                }
                Ok(plan)
            }
            Err(error) if is_full(&error) || is_busy(&error) => {
                roll_back(connection).await;
                plan.changes.keys().for_each(|key| self.cache.close(key, None));
                Err(Failure::Refused(error))
            }
            // They stay open until it is settled.
            Err(error) => Err(Failure::Commit(error, plan)),
        }
    }
}

fn is_full(error: &sqlx::Error) -> bool {
    connection::primary_code(error) == Some(SQLITE_FULL)
}

fn is_busy(error: &sqlx::Error) -> bool {
    connection::primary_code(error) == Some(SQLITE_BUSY)
}

async fn roll_back(connection: &mut SqliteConnection) {
    // SQLite may have rolled back by itself: then this fails, and nothing is open either way.
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

/// Judges the group and writes its changes, all inside an open SQLite transaction.
async fn plan_and_write(
    connection: &mut SqliteConnection,
    epoch: Epoch,
    group: &[Transaction],
) -> Result<Plan, Failure> {
    let wanted = i64::try_from(group.len()).unwrap_or(i64::MAX);
    let keys = named_keys(group);
    let Begun { epoch: stored_epoch, version, named } =
        begin(connection, wanted, &keys).await.map_err(Failure::Refused)?;
    if stored_epoch.unsigned_abs() != epoch.0 {
        return Err(Failure::Fenced);
    }
    let mut plan = Plan { taken: version.unsigned_abs(), ..Plan::default() };
    plan.last_version = (version - wanted).unsigned_abs();
    for transaction in group {
        let outcome =
            plan.judge(connection, &named, transaction).await.map_err(Failure::Refused)?;
        plan.outcomes.push(outcome);
    }
    write(connection, &plan).await.map_err(Failure::Refused)?;
    Ok(plan)
}

/// All documents that preconditions of the group name, in order.
fn named_keys(group: &[Transaction]) -> Vec<&Key> {
    let mut keys: Vec<&Key> = group
        .iter()
        .flat_map(|transaction| &transaction.preconditions)
        .filter(|precondition| !matches!(precondition, Precondition::NoneUnder(_)))
        .map(Precondition::key)
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What the file says at the beginning of a group.
struct Begun {
    epoch: i64,
    /// The last version, with those that the group took.
    version: i64,
    /// The versions of the documents that were asked for, as far as they exist.
    named: HashMap<Key, u64>,
}

/// Begins a group, in one call unless it names very many documents.
async fn begin(
    connection: &mut SqliteConnection,
    wanted: i64,
    keys: &[&Key],
) -> Result<Begun, sqlx::Error> {
    let (first, rest) = keys.split_at(keys.len().min(statements::WIDEST));
    let sql = match first.len() {
        0 => statements::begin(0),
        some => statements::begin(statements::width(some)),
    };
    let query = sqlx::query(AssertSqlSafe(sql)).bind(wanted);
    let rows = bind_keys(query, first).fetch_all(&mut *connection).await?;
    let missing = || sqlx::Error::Protocol("counters are missing".into());
    let (counters, versions) = rows.split_at_checked(2).ok_or_else(missing)?;
    let [epoch, version] = counters else { return Err(missing()) };
    let mut begun = Begun {
        epoch: epoch.try_get(0)?,
        version: version.try_get(0)?,
        named: HashMap::with_capacity(keys.len()),
    };
    begun.add(keys, versions)?;
    for part in rest.chunks(statements::WIDEST) {
        let sql = statements::versions(statements::width(part.len()));
        let query = sqlx::query(AssertSqlSafe(sql));
        let rows = bind_keys(query, part).fetch_all(&mut *connection).await?;
        begun.add(keys, &rows)?;
    }
    Ok(begun)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Binds keys, the last again and again up to the statement's width.
fn bind_keys<'q>(mut query: Query<'q>, keys: &[&'q Key]) -> Query<'q> {
    let Some(last) = keys.last() else { return query };
    let width = statements::width(keys.len());
    let filled = keys.iter().chain(std::iter::repeat(last)).take(width);
    for key in filled {
        query = query.bind(key.collection).bind(key.id.as_bytes());
    }
    query
}

impl Begun {
    /// Adds versions that were read of some of these keys, which are in order.
    fn add(&mut self, keys: &[&Key], rows: &[SqliteRow]) -> Result<(), sqlx::Error> {
        for row in rows {
            let (collection, id): (&str, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
            let read = (collection, id);
            let at = keys.binary_search_by(|key| (key.collection, key.id.as_bytes()).cmp(&read));
            if let Some(key) = at.ok().and_then(|at| keys.get(at)) {
                self.named.insert((*key).clone(), row.try_get::<i64, _>(2)?.unsigned_abs());
            }
        }
        Ok(())
    }
}

impl Plan {
    /// The version of a document after the transactions judged so far.
    fn version_of(&self, named: &HashMap<Key, u64>, key: &Key) -> Option<u64> {
        match self.changes.get(key) {
            Some(change) => change.body.is_some().then_some(change.version),
            None => named.get(key).copied(),
        }
    }

    async fn judge(
        &mut self,
        connection: &mut SqliteConnection,
        named: &HashMap<Key, u64>,
        transaction: &Transaction,
    ) -> Result<Outcome, sqlx::Error> {
        for precondition in &transaction.preconditions {
            let holds = match precondition {
                Precondition::Absent(key) => self.version_of(named, key).is_none(),
                Precondition::Present(key) => self.version_of(named, key).is_some(),
                Precondition::AtVersion(key, version) => {
                    self.version_of(named, key) == Some(*version)
                }
                // Such a transaction is the first of its group (see `Group`): the file is the truth.
                Precondition::NoneUnder(key) => none_under(connection, key).await?,
            };
            if !holds {
                return Ok(Outcome::Conflict(precondition.clone()));
            }
        }
        if transaction.operations.is_empty() {
            return Ok(Outcome::Committed { version: self.last_version });
        }
        self.last_version += 1;
        for operation in &transaction.operations {
            let (key, body) = match operation {
                Operation::Put(key, body) => (key, Some(body.clone())),
                Operation::Delete(key) => (key, None),
            };
            self.changes.insert(key.clone(), Change { version: self.last_version, body });
        }
        Ok(Outcome::Committed { version: self.last_version })
    }
}

async fn none_under(connection: &mut SqliteConnection, key: &Key) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(statements::FIRST_ID)
        .bind(key.collection)
        .bind(key.id.as_bytes())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(true) };
    let id: Vec<u8> = row.try_get(0)?;
    Ok(!id.starts_with(key.id.as_bytes()))
}

/// Writes what the plan changes, in key order.
async fn write(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    if plan.changes.is_empty() {
        return Ok(());
    }
    let mut changes: Vec<_> = plan.changes.iter().collect();
    changes.sort_unstable_by_key(|(key, _)| *key);
    let (puts, deletes): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|(_, change)| change.body.is_some());
    let deletes: Vec<&Key> = deletes.into_iter().map(|(key, _)| key).collect();
    let mut puts = puts.chunks(statements::WIDEST).peekable();
    let mut deletes = deletes.chunks(statements::WIDEST).peekable();
    while puts.peek().is_some() || deletes.peek().is_some() {
        let puts = puts.next().unwrap_or_default();
        let deletes = deletes.next().unwrap_or_default();
        let width = |some: usize| if some == 0 { 0 } else { statements::width(some) };
        let sql = statements::write(width(puts.len()), width(deletes.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (key, change) in puts {
            query = query
                .bind(key.collection)
                .bind(key.id.as_bytes())
                .bind(i64::try_from(change.version).unwrap_or(i64::MAX))
                .bind(change.body.as_deref().unwrap_or_default());
        }
        for _ in puts.len()..width(puts.len()) {
            query = query.bind(None::<&str>).bind(None::<&[u8]>).bind(None::<i64>);
            query = query.bind(None::<&[u8]>);
        }
        bind_keys(query, deletes).execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::sqlite::{SqliteOptions, SqliteRecords};
    use tempfile::TempDir;

    fn cache() -> Arc<DocumentCache> {
        Arc::new(DocumentCache::new())
    }

    #[tokio::test]
    async fn settling_counts_no_versions_of_a_process_that_has_taken_over() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("records.sqlite");
        let (connection, epoch) = connection::open_writer(&path, Epoch(1)).await.unwrap();
        let unsettled = Arc::new(AtomicBool::new(true));
        let mut writer = Writer::new(path.clone(), connection, epoch, unsettled.clone(), cache());
        assert_eq!(writer.settle().await, Ok(Settled { last_version: 0, fenced: false }));
        assert!(!unsettled.load(Ordering::SeqCst));
        let _other = SqliteRecords::open(&path, SqliteOptions::default()).await.unwrap();
        assert!(writer.settle().await.unwrap().fenced);
        let cause = sqlx::Error::WorkerCrashed;
        let plan = Plan { outcomes: vec![Outcome::Fenced], ..Plan::default() };
        let outcomes = writer.settle_outcomes(plan, &cause).await;
        assert!(matches!(outcomes[..], [Outcome::Unknown(_)]), "{outcomes:?}");
    }

    #[tokio::test]
    async fn what_is_not_settled_is_settled_without_being_asked() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("records.sqlite");
        let (connection, epoch) = connection::open_writer(&path, Epoch(1)).await.unwrap();
        let unsettled = Arc::new(AtomicBool::new(true));
        let mut writer = Writer::new(path.clone(), connection, epoch, unsettled.clone(), cache());
        // As after a commit and a settling that both failed.
        writer.connection = None;
        let (_requests, queue) = mpsc::channel(1);
        tokio::spawn(writer.run(queue));
        let settled = async {
            while unsettled.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(180), settled).await.unwrap();
    }
}
