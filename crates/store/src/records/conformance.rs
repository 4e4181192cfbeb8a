//! The contract of [`Records`] as a suite that every backend passes.
//!
//! Call [`run`] from a test with a function that makes an empty store.

use super::{Document, Key, Operation, Outcome, Precondition, Records, Scan, Transaction};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

const COLLECTION: &str = "conformance";

/// Runs every case, each on a fresh store.
///
/// # Panics
/// When the backend breaks the contract.
pub async fn run<Make, Making>(make: Make)
where
    Make: Fn() -> Making,
    Making: Future<Output = Arc<dyn Records>>,
{
    versions_grow_and_never_repeat(&*make().await).await;
    preconditions_are_all_checked(&*make().await).await;
    a_conflict_changes_nothing(&*make().await).await;
    operations_apply_in_order(&*make().await).await;
    none_under_sees_every_document_of_the_prefix(&*make().await).await;
    scans_go_in_byte_order(&*make().await).await;
    scans_page_without_loss_or_repeat(&*make().await).await;
    collections_are_apart(&*make().await).await;
    bodies_and_ids_of_any_content_come_back(&*make().await).await;
    one_of_many_racers_wins(make().await).await;
    concurrent_counters_lose_no_step(make().await).await;
    dropped_callers_do_not_cancel(make().await).await;
    many_operations_in_one_transaction(&*make().await).await;
}

fn key(id: &str) -> Key {
    Key::new(COLLECTION, id)
}

fn put(id: &str, body: &str) -> Operation {
    Operation::Put(key(id), Bytes::copy_from_slice(body.as_bytes()))
}

async fn transact(
    records: &dyn Records,
    preconditions: Vec<Precondition>,
    operations: Vec<Operation>,
) -> Outcome {
    records.transact(Transaction { preconditions, operations }).await
}

async fn must(records: &dyn Records, operations: Vec<Operation>) -> u64 {
    match transact(records, vec![], operations).await {
        Outcome::Committed { version } => version,
        other => panic!("expected a commit, got {other:?}"),
    }
}

async fn get(records: &dyn Records, id: &str) -> Option<Document> {
    records.get(&key(id)).await.expect("readable")
}

async fn ids(
    records: &dyn Records,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let after = after.map(str::to_string);
    let scan = Scan { collection: COLLECTION, prefix: prefix.into(), after, limit };
    let documents = records.scan(scan).await.expect("readable");
    documents.into_iter().map(|d| d.key.id).collect()
}

async fn versions_grow_and_never_repeat(records: &dyn Records) {
    let first = must(records, vec![put("a", "1")]).await;
    let second = must(records, vec![put("a", "2"), put("b", "2")]).await;
    assert!(second > first);
    assert_eq!(get(records, "a").await.expect("a exists").version, second);
    assert_eq!(get(records, "b").await.expect("b exists").version, second);
    must(records, vec![Operation::Delete(key("a"))]).await;
    assert_eq!(get(records, "a").await, None);
    let third = must(records, vec![put("a", "3")]).await;
    assert!(third > second, "a document that is made again has a new version");
}

async fn preconditions_are_all_checked(records: &dyn Records) {
    let version = must(records, vec![put("there", "1")]).await;
    let failing = [
        Precondition::Absent(key("there")),
        Precondition::Present(key("not there")),
        Precondition::AtVersion(key("there"), version + 1),
        Precondition::AtVersion(key("not there"), version),
        Precondition::NoneUnder(key("the")),
        Precondition::NoneUnder(key("")),
    ];
    let holding = [
        Precondition::Present(key("there")),
        Precondition::Absent(key("not there")),
        Precondition::AtVersion(key("there"), version),
        Precondition::NoneUnder(key("there ")),
        Precondition::NoneUnder(Key::new("another", "")),
    ];
    for fails in failing {
        let mut all = holding.to_vec();
        all.push(fails.clone());
        assert_eq!(transact(records, all, vec![put("x", "x")]).await, Outcome::Conflict(fails));
    }
    let outcome = transact(records, holding.to_vec(), vec![put("x", "x")]).await;
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
}

async fn a_conflict_changes_nothing(records: &dyn Records) {
    must(records, vec![put("a", "1")]).await;
    let before = get(records, "a").await;
    let operations = vec![put("a", "2"), put("b", "2"), Operation::Delete(key("a"))];
    let outcome = transact(records, vec![Precondition::Absent(key("a"))], operations).await;
    assert_eq!(outcome, Outcome::Conflict(Precondition::Absent(key("a"))));
    assert_eq!(get(records, "a").await, before);
    assert_eq!(get(records, "b").await, None);
}

async fn operations_apply_in_order(records: &dyn Records) {
    let operations = vec![put("a", "1"), put("a", "2"), put("b", "1"), Operation::Delete(key("b"))];
    must(records, operations).await;
    assert_eq!(get(records, "a").await.expect("a exists").body, "2");
    assert_eq!(get(records, "b").await, None);
    must(records, vec![Operation::Delete(key("a")), put("a", "3")]).await;
    assert_eq!(get(records, "a").await.expect("a exists").body, "3");
    must(records, vec![Operation::Delete(key("never was"))]).await;
}

async fn none_under_sees_every_document_of_the_prefix(records: &dyn Records) {
    must(records, vec![put("b/1", "x"), put("c/1", "x"), put("c/2", "x")]).await;
    let empty = |prefix: &str| vec![Precondition::NoneUnder(key(prefix))];
    for (prefix, holds) in [("b/", false), ("b0", true), ("a/", true), ("c/2", false), ("d", true)]
    {
        let outcome = transact(records, empty(prefix), vec![]).await;
        assert_eq!(matches!(outcome, Outcome::Committed { .. }), holds, "{prefix}: {outcome:?}");
    }
    must(records, vec![Operation::Delete(key("b/1"))]).await;
    let outcome = transact(records, empty("b/"), vec![put("done", "x")]).await;
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
}

async fn scans_go_in_byte_order(records: &dyn Records) {
    let mut all =
        ["a", "a/b", "a/b/c", "a0", "B", "é", "z", "\u{ffff}", "\u{1f600}", "a\u{0}b", ""];
    must(records, all.iter().map(|id| put(id, "x")).collect()).await;
    all.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(records, "", None, 100).await, all);
    assert_eq!(ids(records, "a", None, 100).await, ["a", "a\u{0}b", "a/b", "a/b/c", "a0"]);
    assert_eq!(ids(records, "a/", None, 100).await, ["a/b", "a/b/c"]);
    assert_eq!(ids(records, "a", Some("a/b"), 100).await, ["a/b/c", "a0"]);
    assert_eq!(ids(records, "a/", Some("A"), 100).await, ["a/b", "a/b/c"]);
    assert_eq!(ids(records, "a/", Some("b"), 100).await, [""; 0]);
    assert_eq!(ids(records, "", Some(&super::after_prefix("a", 3)), 2).await, ["z", "é"]);
    assert_eq!(ids(records, "", None, 0).await, [""; 0]);
}

async fn scans_page_without_loss_or_repeat(records: &dyn Records) {
    let all: Vec<String> = (0..257).map(|n| format!("k{n:05}")).collect();
    must(records, all.iter().map(|id| put(id, id)).collect()).await;
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = ids(records, "k", after.as_deref(), 50).await;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

async fn collections_are_apart(records: &dyn Records) {
    let other = Key::new("conformance2", "a");
    let operations = vec![put("a", "1"), Operation::Put(other.clone(), Bytes::from_static(b"2"))];
    must(records, operations).await;
    must(records, vec![Operation::Delete(key("a"))]).await;
    assert_eq!(get(records, "a").await, None);
    assert_eq!(records.get(&other).await.expect("readable").expect("exists").body, "2");
    assert_eq!(ids(records, "", None, 10).await, [""; 0]);
}

async fn bodies_and_ids_of_any_content_come_back(records: &dyn Records) {
    let bodies: [Bytes; 4] = [
        Bytes::new(),
        Bytes::from_static(b"\0\xff\0"),
        Bytes::from_static(b"'; DROP TABLE document; --"),
        vec![0xa5u8; 3 << 20].into(),
    ];
    for (n, body) in bodies.into_iter().enumerate() {
        let id = key(&format!("\"'\\%_\u{0}\u{10ffff}{n}"));
        must(records, vec![Operation::Put(id.clone(), body.clone())]).await;
        let document = records.get(&id).await.expect("readable").expect("exists");
        assert_eq!(document.body, body);
        assert_eq!(document.key, id);
    }
}

async fn one_of_many_racers_wins(records: Arc<dyn Records>) {
    let racers = (0..32).map(|n| {
        let records = records.clone();
        tokio::spawn(async move {
            let absent = vec![Precondition::Absent(key("prize"))];
            transact(&*records, absent, vec![put("prize", &n.to_string())]).await
        })
    });
    let mut winners = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("no panic") {
            Outcome::Committed { .. } => winners += 1,
            Outcome::Conflict(Precondition::Absent(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, 1);
}

async fn concurrent_counters_lose_no_step(records: Arc<dyn Records>) {
    must(&*records, vec![put("counter", "0")]).await;
    let workers = (0..8).map(|worker| {
        let records = records.clone();
        tokio::spawn(async move {
            for step in 0..10 {
                while !raise(&*records, &format!("{worker}-{step}")).await {}
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no panic");
    }
    assert_eq!(get(&*records, "counter").await.expect("exists").body, "80");
    assert_eq!(ids(&*records, "step", None, 1000).await.len(), 80);
}

/// One compare-and-set of the counter, with a second document in the same transaction.
async fn raise(records: &dyn Records, step: &str) -> bool {
    let counter = get(records, "counter").await.expect("exists");
    let value: u64 = std::str::from_utf8(&counter.body).expect("text").parse().expect("a number");
    let at = vec![Precondition::AtVersion(key("counter"), counter.version)];
    let operations =
        vec![put("counter", &(value + 1).to_string()), put(&format!("step {step}"), "x")];
    match transact(records, at, operations).await {
        Outcome::Committed { .. } => true,
        Outcome::Conflict(_) => false,
        other => panic!("{other:?}"),
    }
}

async fn dropped_callers_do_not_cancel(records: Arc<dyn Records>) {
    for n in 0..20 {
        let hung_up = {
            let records = records.clone();
            tokio::spawn(async move { must(&*records, vec![put(&n.to_string(), "x")]).await })
        };
        tokio::task::yield_now().await;
        hung_up.abort();
        let _ = hung_up.await;
    }
    // Whatever was submitted is whole, and the store still works.
    must(&*records, vec![put("after", "x")]).await;
    assert!(get(&*records, "after").await.is_some());
}

async fn many_operations_in_one_transaction(records: &dyn Records) {
    let count = 3_001;
    must(records, (0..count).map(|n| put(&format!("m{n:05}"), "x")).collect()).await;
    assert_eq!(ids(records, "m", None, 10_000).await.len(), count);
    let present = (0..count).map(|n| Precondition::Present(key(&format!("m{n:05}")))).collect();
    let deletes = (0..count).map(|n| Operation::Delete(key(&format!("m{n:05}")))).collect();
    let outcome = transact(records, present, deletes).await;
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    assert_eq!(ids(records, "m", None, 10_000).await.len(), 0);
}
