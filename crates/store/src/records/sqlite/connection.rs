//! Connections: what is set, what is checked, how the file is made and its epoch raised.

use super::OpenError;
use alluvium_base::Epoch;
use rustix::fs::{Mode, OFlags};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::Path;
use std::time::Duration;

/// What [`user_version`](https://www.sqlite.org/pragma.html#pragma_user_version) says of our tables.
const FORMAT: i64 = 1;

/// `SQLITE_BUSY`: another connection holds the lock.
pub(super) const SQLITE_BUSY: i32 = 5;
/// `SQLITE_CORRUPT`: the file is malformed.
pub(super) const SQLITE_CORRUPT: i32 = 11;
/// `SQLITE_FULL`: no room.
pub(super) const SQLITE_FULL: i32 = 13;
/// `SQLITE_NOTADB`: another kind of file.
pub(super) const SQLITE_NOTADB: i32 = 26;

/// Nobody but us should hold the lock; a backup tool may for a moment.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// SQLite's primary result code of an error, when it is SQLite's.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

pub(super) fn failed(path: &Path, error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Failed { path: path.display().to_string(), reason: error.to_string() }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_WAIT)
        .foreign_keys(false)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("temp_store", "MEMORY")
        // After a burst the write-ahead log is cut back to this.
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(128)
        .disable_statement_logging()
}

/// How readers connect.
pub(super) fn reader_options(path: &Path) -> SqliteConnectOptions {
    options(path).pragma("query_only", "ON").pragma("cache_size", "-1024")
}

/// A writing connection with every setting that durability stands on checked.
pub(super) async fn connect_writer(path: &Path) -> Result<SqliteConnection, OpenError> {
    let mut connection = options(path)
        .pragma("cache_size", "-8192")
        .connect()
        .await
        .map_err(|error| failed(path, &error))?;
    let mut pragma = async |sql: &'static str| {
        let row = sqlx::query(sql).fetch_one(&mut connection).await;
        row.map_err(|error| failed(path, &error))
    };
    let refused = |setting| OpenError::Setting { path: path.display().to_string(), setting };
    let journal: String =
        pragma("PRAGMA journal_mode").await?.try_get(0).map_err(|e| failed(path, &e))?;
    if journal != "wal" {
        return Err(refused("journal_mode=WAL"));
    }
    let synchronous: i64 =
        pragma("PRAGMA synchronous").await?.try_get(0).map_err(|e| failed(path, &e))?;
    if synchronous != 2 {
        return Err(refused("synchronous=FULL"));
    }
    Ok(connection)
}

/// Makes the file if need be, checks its format, raises its epoch: the writer's connection.
pub(super) async fn open_writer(
    path: &Path,
    floor: Epoch,
) -> Result<(SqliteConnection, Epoch), OpenError> {
    make_file(path).map_err(|error| failed(path, &error))?;
    let mut connection = connect_writer(path).await?;
    let opened = async {
        let found: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&mut connection).await?.try_get(0)?;
        if found == 0 {
            sqlx::raw_sql(super::statements::CREATE).execute(&mut connection).await?;
        } else if found != FORMAT {
            return Ok(Err(found));
        }
        raise_epoch(&mut connection, floor).await.map(Ok)
    }
    .await;
    match opened {
        Ok(Ok(epoch)) => Ok((connection, epoch)),
        Ok(Err(found)) => {
            let path = path.display().to_string();
            Err(OpenError::Format { path, found, known: FORMAT })
        }
        Err(error) => {
            let error: sqlx::Error = error;
            Err(failed(path, &error))
        }
    }
}

/// SQLite does not sync the directory of a new database file, so we make it ourselves. The files
/// that it puts beside this one take over its mode.
fn make_file(path: &Path) -> std::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    drop(file);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(directory)?.sync_all()
}

async fn raise_epoch(
    connection: &mut SqliteConnection,
    floor: Epoch,
) -> Result<Epoch, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let stored: i64 = sqlx::query("SELECT value FROM counter WHERE name = 'epoch'")
        .fetch_one(&mut *transaction)
        .await?
        .try_get(0)?;
    let floor = i64::try_from(floor.0).unwrap_or(i64::MAX);
    let raised = stored.saturating_add(1).max(floor);
    sqlx::query("UPDATE counter SET value = ? WHERE name = 'epoch'")
        .bind(raised)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Epoch(raised.unsigned_abs()))
}
