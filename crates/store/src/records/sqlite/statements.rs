//! The SQL. Ids are blobs, so that their order is that of their bytes, whatever they contain.
//!
//! Statements over many documents come in limited widths, so that they stay in the connection's
//! cache of prepared statements: any up to [`ANY_WIDTH`], for each statement costs two hops between
//! threads, and powers of two above.

/// Makes the tables; `user_version` is the format.
pub(super) const CREATE: &str = "
BEGIN IMMEDIATE;
CREATE TABLE document (
    collection TEXT NOT NULL,
    id BLOB NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (collection, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('epoch', 0), ('version', 0), ('settled', 0);
PRAGMA user_version = 1;
COMMIT;
";

/// One document.
pub(super) const GET: &str = "SELECT version, body FROM document WHERE collection = ?1 AND id = ?2";

/// Documents from an id on.
pub(super) const SCAN_FROM: &str = "SELECT id, version, body FROM document \
     WHERE collection = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT ?4";

/// Documents after an id.
pub(super) const SCAN_AFTER: &str = "SELECT id, version, body FROM document \
     WHERE collection = ?1 AND id > ?2 AND id < ?3 ORDER BY id LIMIT ?4";

/// The first id at or after one, of a collection.
pub(super) const FIRST_ID: &str =
    "SELECT id FROM document WHERE collection = ?1 AND id >= ?2 ORDER BY id LIMIT 1";

/// Begins a group: locks out every other writer, takes as many versions as the group may need,
/// then tells the epoch and the last version taken. One call, for each costs a thread hop.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE; \
     UPDATE counter SET value = value + ?1 WHERE name = 'version'; \
     SELECT value FROM counter WHERE name IN ('epoch', 'version') ORDER BY name;";

/// A commit of our own that settles one that failed: it overwrites what was left of it.
pub(super) const SETTLE: &str = "BEGIN IMMEDIATE; \
     UPDATE counter SET value = value + 1 WHERE name = 'settled'; COMMIT;";

/// The epoch, and the last version that was committed.
pub(super) const EPOCH_AND_VERSION: &str =
    "SELECT value FROM counter WHERE name IN ('epoch', 'version') ORDER BY name";

/// The most documents that one statement names: four values each is far below SQLite's 32,766.
const WIDEST: usize = 256;

/// Up to here one statement does for all: of the three kinds of statement over many documents there
/// are 35 each, and the connection keeps 128.
const ANY_WIDTH: usize = 32;

/// The widest statement for `left` documents.
pub(super) fn width(left: usize) -> usize {
    if left <= ANY_WIDTH {
        return left.max(1);
    }
    let floor = if left.is_power_of_two() { left } else { left.next_power_of_two() / 2 };
    floor.clamp(1, WIDEST)
}

fn repeated(values: &str, times: usize) -> String {
    vec![values; times].join(",")
}

/// The versions of `times` documents, as far as they exist.
pub(super) fn versions(times: usize) -> String {
    let values = repeated("(?,?)", times);
    format!(
        "WITH named(c, i) AS (VALUES {values}) SELECT d.collection, d.id, d.version \
         FROM named CROSS JOIN document d ON d.collection = named.c AND d.id = named.i"
    )
}

/// Writes `times` documents.
pub(super) fn upsert(times: usize) -> String {
    let values = repeated("(?,?,?,?)", times);
    format!(
        "INSERT INTO document (collection, id, version, body) VALUES {values} \
         ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version, body = excluded.body"
    )
}

/// Removes `times` documents.
pub(super) fn delete(times: usize) -> String {
    let values = repeated("(?,?)", times);
    format!("DELETE FROM document WHERE (collection, id) IN (VALUES {values})")
}
