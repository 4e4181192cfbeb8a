//! The SQL. Ids are blobs, so that their order is that of their bytes, whatever they contain.
//!
//! A call to the connection costs two hops between threads, whatever it does: statements that follow
//! each other go as one. Those over many documents come in powers of two, filled up with nothing,
//! so that all of them stay in the connection's cache of prepared statements.

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
/// then tells the epoch and the last version taken.
const BEGIN: &str = "BEGIN IMMEDIATE; \
     UPDATE counter SET value = value + ? WHERE name = 'version'; \
     SELECT value FROM counter WHERE name IN ('epoch', 'version') ORDER BY name;";

/// A commit of our own that settles one that failed: it overwrites what was left of it.
pub(super) const SETTLE: &str = "BEGIN IMMEDIATE; \
     UPDATE counter SET value = value + 1 WHERE name = 'settled'; COMMIT;";

/// The epoch, and the last version that was committed.
pub(super) const EPOCH_AND_VERSION: &str =
    "SELECT value FROM counter WHERE name IN ('epoch', 'version') ORDER BY name";

/// The most documents that one statement names: four values each is far below SQLite's 32,766.
pub(super) const WIDEST: usize = 256;

/// The width of a statement for so many documents, of which there are at most [`WIDEST`].
pub(super) fn width(documents: usize) -> usize {
    documents.next_power_of_two().min(WIDEST)
}

fn repeated(values: &str, times: usize) -> String {
    vec![values; times].join(",")
}

/// Begins a group and tells the versions of so many documents after the counters.
pub(super) fn begin(documents: usize) -> String {
    match documents {
        0 => BEGIN.to_string(),
        times => format!("{BEGIN} {}", versions(times)),
    }
}

/// The versions of `times` documents, as far as they exist. One may be named twice.
pub(super) fn versions(times: usize) -> String {
    let values = repeated("(?,?)", times);
    format!(
        "WITH named(c, i) AS (VALUES {values}) SELECT d.collection, d.id, d.version \
         FROM named CROSS JOIN document d ON d.collection = named.c AND d.id = named.i"
    )
}

/// Writes `puts` documents and removes `deletes`. A document without a collection is none.
pub(super) fn write(puts: usize, deletes: usize) -> String {
    let mut sql = String::new();
    if puts > 0 {
        let values = repeated("(?,?,?,?)", puts);
        sql = format!(
            "INSERT INTO document (collection, id, version, body) \
             SELECT column1, column2, column3, column4 FROM (VALUES {values}) \
             WHERE column1 IS NOT NULL ON CONFLICT (collection, id) \
             DO UPDATE SET version = excluded.version, body = excluded.body;"
        );
    }
    if deletes > 0 {
        let values = repeated("(?,?)", deletes);
        sql.push_str("DELETE FROM document WHERE (collection, id) IN (VALUES ");
        sql.push_str(&values);
        sql.push_str(");");
    }
    sql
}
