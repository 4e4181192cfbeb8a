//! What SQLite records do beyond the common contract: restarts, fencing, formats, plans.

use super::*;
use crate::records::{Operation, Precondition, conformance};
use tempfile::TempDir;

async fn open(directory: &TempDir) -> SqliteRecords {
    let path = directory.path().join("records.sqlite");
    SqliteRecords::open(&path, SqliteOptions::default()).await.unwrap()
}

fn everything() -> Scan {
    Scan { collection: "c", prefix: String::new(), after: None, limit: usize::MAX }
}

fn put(id: &str, body: &str) -> Transaction {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let operations = vec![Operation::Put(Key::new("c", id), body)];
    Transaction { preconditions: vec![], operations }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_to_the_contract_of_records() {
    let directories = parking_lot::Mutex::new(Vec::new());
    conformance::run(|| async {
        let directory = TempDir::new().unwrap();
        let records = open(&directory).await;
        directories.lock().push(directory);
        Arc::new(records) as Arc<dyn Records>
    })
    .await;
}

#[tokio::test]
async fn documents_versions_and_epochs_outlive_a_restart() {
    let directory = TempDir::new().unwrap();
    let records = open(&directory).await;
    let Outcome::Committed { version } = records.transact(put("a", "1")).await else { panic!() };
    let epoch = records.epoch();
    records.close().await;
    assert_eq!(
        records.transact(put("b", "1")).await,
        Outcome::Unavailable("records are closed".into())
    );
    let records = open(&directory).await;
    assert!(records.epoch() > epoch);
    let document = records.get(&Key::new("c", "a")).await.unwrap().unwrap();
    assert_eq!((document.version, &document.body[..]), (version, &b"1"[..]));
    let Outcome::Committed { version: later } = records.transact(put("a", "2")).await else {
        panic!()
    };
    assert!(later > version);
}

#[tokio::test]
async fn an_older_owner_is_fenced() {
    let directory = TempDir::new().unwrap();
    let old = open(&directory).await;
    assert!(matches!(old.transact(put("a", "1")).await, Outcome::Committed { .. }));
    let new = open(&directory).await;
    assert_eq!(old.transact(put("a", "2")).await, Outcome::Fenced);
    assert!(matches!(new.transact(put("a", "3")).await, Outcome::Committed { .. }));
    assert_eq!(old.transact(put("a", "4")).await, Outcome::Fenced);
    assert_eq!(new.get(&Key::new("c", "a")).await.unwrap().unwrap().body, "3");
}

#[tokio::test]
async fn the_epoch_is_never_below_its_floor() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("records.sqlite");
    let options = SqliteOptions { epoch_floor: Epoch(41), ..SqliteOptions::default() };
    assert_eq!(SqliteRecords::open(&path, options).await.unwrap().epoch(), Epoch(41));
    assert_eq!(open(&directory).await.epoch(), Epoch(42));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = TempDir::new().unwrap();
    open(&directory).await.close().await;
    let path = directory.path().join("records.sqlite");
    let mut writer = connection::connect_writer(&path).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 2").execute(&mut writer).await.unwrap();
    let error = SqliteRecords::open(&path, SqliteOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 2, known: 1, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn another_kind_of_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("records.sqlite");
    std::fs::write(&path, vec![7u8; 8192]).unwrap();
    let error = SqliteRecords::open(&path, SqliteOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let records = open(&directory).await;
    assert!(matches!(records.transact(put("a", "1")).await, Outcome::Committed { .. }));
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_transaction_in_a_group_sees_those_before_it() {
    let directory = TempDir::new().unwrap();
    let records = Arc::new(open(&directory).await);
    // All are queued before the writer can serve the second group.
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let records = records.clone();
            tokio::spawn(async move {
                let key = Key::new("c", format!("{}", n % 10));
                let preconditions = vec![Precondition::Absent(key.clone())];
                let operations = vec![Operation::Put(key, Bytes::from_static(b"x"))];
                records.transact(Transaction { preconditions, operations }).await
            })
        })
        .collect();
    let mut committed = 0;
    for task in tasks {
        committed += usize::from(matches!(task.await.unwrap(), Outcome::Committed { .. }));
    }
    assert_eq!(committed, 10);
}

#[tokio::test]
async fn scans_and_lookups_use_the_primary_key() {
    let directory = TempDir::new().unwrap();
    open(&directory).await.close().await;
    let path = directory.path().join("records.sqlite");
    let mut connection = connection::connect_writer(&path).await.unwrap();
    let all = [
        statements::GET.to_string(),
        statements::SCAN_FROM.to_string(),
        statements::SCAN_AFTER.to_string(),
        statements::FIRST_ID.to_string(),
        statements::versions(8),
        statements::write(0, 8),
    ];
    for sql in all {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(explain).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
        let plan = plan.join("; ");
        assert!(plan.contains("USING PRIMARY KEY (collection=? AND id"), "{sql}: {plan}");
        assert!(!plan.contains("SCAN d") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_any_number_of_documents_is_judged_and_done_whole() {
    let directory = TempDir::new().unwrap();
    let records = open(&directory).await;
    let keys = |from: usize, to: usize| {
        (from..to).map(|n| Key::new("c", format!("{n:04}"))).collect::<Vec<_>>()
    };
    let widest = statements::WIDEST;
    for many in [1, 2, 3, 5, 32, 33, widest - 1, widest, widest + 1, 3 * widest + 7] {
        let (new, mut absent) = (keys(0, many), Transaction::default());
        for key in &new {
            absent.preconditions.push(Precondition::Absent(key.clone()));
            absent.operations.push(Operation::Put(key.clone(), Bytes::from(key.id.clone())));
        }
        let outcome = records.transact(absent.clone()).await;
        let Outcome::Committed { version } = outcome else { panic!("{many}: {outcome:?}") };
        let again = records.transact(absent).await;
        assert!(matches!(again, Outcome::Conflict(_)), "{many}: {again:?}");
        let found = records.scan(everything()).await.unwrap();
        assert_eq!(
            found.iter().map(|d| &d.key).collect::<Vec<_>>(),
            new.iter().collect::<Vec<_>>()
        );
        assert!(found.iter().all(|d| d.version == version && d.body == d.key.id.as_bytes()));
        // The last one is at another version: nothing is removed, then everything is.
        let mut end = Transaction::default();
        for key in &new {
            end.preconditions.push(Precondition::AtVersion(key.clone(), version));
            end.operations.push(Operation::Delete(key.clone()));
        }
        let mut wrong = end.clone();
        let last = new.last().cloned().unwrap();
        wrong.preconditions.pop();
        wrong.preconditions.push(Precondition::AtVersion(last.clone(), version + 1));
        let refused = records.transact(wrong).await;
        assert_eq!(refused, Outcome::Conflict(Precondition::AtVersion(last, version + 1)));
        assert!(matches!(records.transact(end).await, Outcome::Committed { .. }), "{many}");
        assert_eq!(records.scan(everything()).await.unwrap(), []);
    }
    records.close().await;
}
