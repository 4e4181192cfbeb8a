//! Cases about versions, delete markers and tags.

use super::{BUCKET, body, is_missing, no_finish, pattern, put, put_if, read};
use crate::objects::versions::{
    NULL_VERSION, Removal, RemoveCondition, Removed, VersionMarker, VersionMeta, Versioning,
    VersionsRequest,
};
use crate::objects::{Attributes, ListRequest, Objects, ObjectsError, PutCondition, PutOptions};
use bytes::Bytes;
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs every case, each on a fresh store.
pub(super) async fn run(fresh: &impl AsyncFn() -> Arc<dyn Objects>) {
    a_bucket_without_versions_has_none(&*fresh().await).await;
    what_is_replaced_stays(&*fresh().await).await;
    deletes_leave_markers_and_can_be_undone(&*fresh().await).await;
    removing_versions_promotes_the_next(&*fresh().await).await;
    suspended_buckets_keep_one_null_version(&*fresh().await).await;
    conditions_are_of_the_current_version(&*fresh().await).await;
    removals_happen_under_their_condition(&*fresh().await).await;
    an_upload_and_a_copy_are_one_version_each(&*fresh().await).await;
    a_reader_keeps_a_version_that_is_removed(&*fresh().await).await;
    every_racer_makes_one_version(fresh().await).await;
    tags_change_without_a_version(&*fresh().await).await;
    versions_are_listed_in_pages(&*fresh().await).await;
}

async fn enable(objects: &dyn Objects) {
    objects.set_versioning(BUCKET, true).await.expect("enabled");
}

async fn suspend(objects: &dyn Objects) {
    objects.set_versioning(BUCKET, false).await.expect("suspended");
}

async fn put_version(objects: &dyn Objects, key: &str, bytes: &'static str) -> String {
    put(objects, key, bytes).await.version_id.expect("the bucket keeps versions")
}

async fn remove(objects: &dyn Objects, key: &str, version: Option<&str>) -> Removed {
    let removal = Removal { version: version.map(str::to_string), ..Removal::default() };
    objects.remove(BUCKET, key, removal).await.expect("removed")
}

async fn read_version(objects: &dyn Objects, key: &str, version: &str) -> Bytes {
    let got = objects.get_version(BUCKET, key, version, None).await;
    let (meta, _, body) = got.expect("readable");
    assert_eq!(meta.version_id.as_deref(), Some(version));
    body.try_collect::<Vec<Bytes>>().await.expect("the body arrives").concat().into()
}

async fn all(objects: &dyn Objects) -> Vec<VersionMeta> {
    let request = VersionsRequest { limit: 1000, ..VersionsRequest::default() };
    let page = objects.list_versions(BUCKET, request).await.expect("listed");
    assert_eq!(page.next, None);
    page.versions
}

fn id(version: &VersionMeta) -> &str {
    version.meta.version_id.as_deref().unwrap_or("none")
}

/// Key, id, whether it is current, whether it is a delete marker.
fn shown(versions: &[VersionMeta]) -> Vec<(&str, &str, bool, bool)> {
    versions.iter().map(|v| (v.meta.key.as_str(), id(v), v.is_latest, v.is_marker)).collect()
}

async fn a_bucket_without_versions_has_none(objects: &dyn Objects) {
    assert_eq!(objects.versioning(BUCKET).await.expect("answers"), Versioning::Never);
    let meta = put(objects, "k", "1").await;
    assert_eq!(meta.version_id, None);
    put(objects, "k", "2").await;
    let versions = all(objects).await;
    assert_eq!(shown(&versions), [("k", "none", true, false)]);
    let removed = remove(objects, "k", Some(NULL_VERSION)).await;
    assert_eq!(removed, Removed { version_id: None, is_marker: false, existed: true });
    assert_eq!(remove(objects, "k", None).await, Removed::default());
    assert!(all(objects).await.is_empty());
    let no_bucket = objects.versioning("nowhere").await;
    assert!(matches!(no_bucket, Err(ObjectsError::NoBucket(_))));
    let no_bucket = objects.set_versioning("nowhere", true).await;
    assert!(matches!(no_bucket, Err(ObjectsError::NoBucket(_))));
}

async fn what_is_replaced_stays(objects: &dyn Objects) {
    put(objects, "k", "before").await;
    enable(objects).await;
    assert_eq!(objects.head(BUCKET, "k").await.expect("head").version_id.as_deref(), Some("null"));
    let first = put_version(objects, "k", "first").await;
    let second = put_version(objects, "k", "second").await;
    assert_ne!(first, second);
    assert_eq!(read(objects, "k", None).await, "second");
    assert_eq!(read_version(objects, "k", &first).await, "first");
    assert_eq!(read_version(objects, "k", &second).await, "second");
    assert_eq!(read_version(objects, "k", NULL_VERSION).await, "before");
    for absent in ["x", &"0".repeat(32), &second[1..]] {
        assert!(is_missing(&objects.get_version(BUCKET, "k", absent, None).await.map(drop)));
        assert_eq!(objects.look(BUCKET, "k", Some(absent)).await.expect("looked"), None);
    }
    let versions = all(objects).await;
    let wanted = [
        ("k", second.as_str(), true, false),
        ("k", first.as_str(), false, false),
        ("k", NULL_VERSION, false, false),
    ];
    assert_eq!(shown(&versions), wanted);
    assert_eq!(versions[0].superseded_ms, None);
    assert!(versions[1].superseded_ms >= Some(versions[1].meta.last_modified_ms));
    for version in &versions {
        let looked = objects.look(BUCKET, "k", Some(id(version))).await.expect("looked");
        assert_eq!(looked.as_ref(), Some(version));
    }
    assert!(!objects.delete_bucket(BUCKET).await.expect("answers"));
}

async fn deletes_leave_markers_and_can_be_undone(objects: &dyn Objects) {
    enable(objects).await;
    let first = put_version(objects, "k", "first").await;
    let removed = remove(objects, "k", None).await;
    assert!(removed.is_marker && removed.existed);
    let marker = removed.version_id.expect("a marker has an id");
    assert!(is_missing(&objects.head(BUCKET, "k").await));
    assert!(is_missing(&objects.get(BUCKET, "k", None).await.map(drop)));
    assert!(is_missing(&objects.get_version(BUCKET, "k", &marker, None).await.map(drop)));
    assert_eq!(read_version(objects, "k", &first).await, "first");
    let looked = objects.look(BUCKET, "k", None).await.expect("looked").expect("the marker");
    assert!(looked.is_marker && looked.is_latest);
    let page = objects.list(BUCKET, ListRequest { limit: 9, ..ListRequest::default() }).await;
    assert!(page.expect("listed").objects.is_empty());
    assert!(!objects.delete_bucket(BUCKET).await.expect("answers"), "versions are left");
    // Of nothing, too: the marker is all there is.
    let of_nothing = remove(objects, "other", None).await;
    assert!(of_nothing.is_marker && !of_nothing.existed);
    assert_eq!(all(objects).await.len(), 3);
    let removed = remove(objects, "k", Some(&marker)).await;
    assert!(removed.is_marker && removed.version_id.as_deref() == Some(&marker));
    assert_eq!(read(objects, "k", None).await, "first");
    assert!(!remove(objects, "k", Some(&marker)).await.existed);
    remove(objects, "k", Some(&first)).await;
    assert!(is_missing(&objects.head(BUCKET, "k").await));
    remove(objects, "other", of_nothing.version_id.as_deref()).await;
    assert!(all(objects).await.is_empty());
    assert!(objects.delete_bucket(BUCKET).await.expect("answers"));
}

async fn removing_versions_promotes_the_next(objects: &dyn Objects) {
    put(objects, "k", "null").await;
    enable(objects).await;
    let ids = [
        put_version(objects, "k", "1").await,
        put_version(objects, "k", "2").await,
        put_version(objects, "k", "3").await,
    ];
    remove(objects, "k", Some(&ids[1])).await;
    assert_eq!(read(objects, "k", None).await, "3");
    remove(objects, "k", Some(&ids[2])).await;
    assert_eq!(read(objects, "k", None).await, "1");
    let versions = all(objects).await;
    assert_eq!(versions[0].superseded_ms, None, "it is current again");
    remove(objects, "k", Some(&ids[0])).await;
    assert_eq!(read(objects, "k", None).await, "null");
    assert_eq!(read_version(objects, "k", NULL_VERSION).await, "null");
    let next = put_version(objects, "k", "4").await;
    assert!(!ids.contains(&next));
    remove(objects, "k", Some(NULL_VERSION)).await;
    assert_eq!(shown(&all(objects).await), [("k", next.as_str(), true, false)]);
}

async fn suspended_buckets_keep_one_null_version(objects: &dyn Objects) {
    enable(objects).await;
    let kept = put_version(objects, "k", "kept").await;
    suspend(objects).await;
    assert_eq!(objects.versioning(BUCKET).await.expect("answers"), Versioning::Suspended);
    assert_eq!(put_version(objects, "k", "null 1").await, NULL_VERSION);
    assert_eq!(put_version(objects, "k", "null 2").await, NULL_VERSION);
    let versions = all(objects).await;
    let wanted = [("k", NULL_VERSION, true, false), ("k", kept.as_str(), false, false)];
    assert_eq!(shown(&versions), wanted);
    assert_eq!(read(objects, "k", None).await, "null 2");
    enable(objects).await;
    let newer = put_version(objects, "k", "newer").await;
    suspend(objects).await;
    // The null version lies between two others now, and is replaced there.
    let removed = remove(objects, "k", None).await;
    assert!(removed.is_marker && removed.version_id.as_deref() == Some(NULL_VERSION));
    let versions = all(objects).await;
    let wanted = [
        ("k", NULL_VERSION, true, true),
        ("k", newer.as_str(), false, false),
        ("k", kept.as_str(), false, false),
    ];
    assert_eq!(shown(&versions), wanted);
    assert!(is_missing(&objects.head(BUCKET, "k").await));
    put(objects, "k", "null 3").await;
    assert_eq!(all(objects).await.len(), 3);
    remove(objects, "k", Some(NULL_VERSION)).await;
    assert_eq!(read(objects, "k", None).await, "newer");
}

async fn conditions_are_of_the_current_version(objects: &dyn Objects) {
    enable(objects).await;
    let absent = || PutCondition::IfAbsent;
    let first = put_if(objects, "k", b"1", absent()).await.expect("nothing was there");
    let again = put_if(objects, "k", b"1", absent()).await;
    assert!(matches!(again, Err(ObjectsError::Precondition { .. })), "{again:?}");
    assert_eq!(all(objects).await.len(), 1, "a retry makes no second version");
    let matching = PutCondition::IfMatch(first.etag.clone());
    put_if(objects, "k", b"2", matching.clone()).await.expect("it matches");
    let stale = put_if(objects, "k", b"3", matching.clone()).await;
    assert!(matches!(stale, Err(ObjectsError::Precondition { .. })), "{stale:?}");
    put_if(objects, "k", b"2", PutCondition::IfExists).await.expect("there is one");
    remove(objects, "k", None).await;
    for condition in [matching, PutCondition::IfExists] {
        assert!(is_missing(&put_if(objects, "k", b"4", condition).await));
    }
    put_if(objects, "k", b"5", absent()).await.expect("a delete marker is no object");
    assert_eq!(all(objects).await.len(), 5);
}

async fn removals_happen_under_their_condition(objects: &dyn Objects) {
    let first = put(objects, "k", "1").await;
    let remove = async |key: &str, version: Option<&str>, condition| {
        let removal = Removal { version: version.map(str::to_string), condition };
        objects.remove(BUCKET, key, removal).await
    };
    let matching = || RemoveCondition::IfMatch(first.etag.clone());
    assert!(is_missing(&remove("none", None, matching()).await));
    assert!(is_missing(&remove("none", None, RemoveCondition::IfExists).await));
    put(objects, "k", "2").await;
    let stale = remove("k", None, matching()).await;
    assert!(matches!(stale, Err(ObjectsError::Precondition { .. })), "{stale:?}");
    let stale = remove("k", None, RemoveCondition::IfUnchanged(first.version)).await;
    assert!(matches!(stale, Err(ObjectsError::Precondition { .. })), "{stale:?}");
    assert!(remove("k", None, RemoveCondition::IfExists).await.expect("removed").existed);
    enable(objects).await;
    let older = put(objects, "k", "3").await;
    let newer = put(objects, "k", "4").await;
    let stale = remove("k", None, RemoveCondition::IfUnchanged(older.version)).await;
    assert!(matches!(stale, Err(ObjectsError::Precondition { .. })), "{stale:?}");
    let same = RemoveCondition::IfUnchanged(newer.version);
    assert!(remove("k", None, same.clone()).await.expect("removed").is_marker);
    let again = remove("k", None, same).await;
    assert!(matches!(again, Err(ObjectsError::Precondition { .. })), "{again:?}");
    let version = older.version_id.as_deref();
    let wrong = remove("k", version, RemoveCondition::IfMatch(newer.etag)).await;
    assert!(matches!(wrong, Err(ObjectsError::Precondition { .. })), "{wrong:?}");
    remove("k", version, RemoveCondition::IfMatch(older.etag)).await.expect("removed");
    assert_eq!(all(objects).await.len(), 2);
}

async fn an_upload_and_a_copy_are_one_version_each(objects: &dyn Objects) {
    enable(objects).await;
    let first = put_version(objects, "k", "old").await;
    let upload = objects.create_upload(BUCKET, "k", Attributes::default()).await.expect("begun");
    let (id, bytes) = (upload.upload_id, pattern(100));
    let options = PutOptions::default();
    let part = objects
        .upload_part(BUCKET, "k", &id, 1, body(vec![bytes.clone()]), options, no_finish())
        .await
        .expect("stored");
    let parts = [(1, part.etag)];
    let complete =
        async || objects.complete_upload(BUCKET, "k", &id, &parts, PutCondition::None, None).await;
    let meta = complete().await.expect("completed");
    assert_eq!(complete().await.expect("a repeat is answered alike"), meta);
    assert_eq!(all(objects).await.len(), 2);
    assert_eq!(read(objects, "k", None).await, bytes);
    assert_eq!(read_version(objects, "k", &first).await, "old");
    let from = (BUCKET, "k");
    let copy = objects.copy(from, (BUCKET, "copy"), PutCondition::None, None).await;
    let copy = copy.expect("copied");
    assert_ne!(copy.version_id, meta.version_id);
    assert_eq!(copy.version, objects.head(BUCKET, "copy").await.expect("head").version);
    assert_eq!(all(objects).await.len(), 3);
}

async fn a_reader_keeps_a_version_that_is_removed(objects: &dyn Objects) {
    enable(objects).await;
    let old = pattern(3 << 20);
    let id = put(objects, "k", old.clone()).await.version_id.expect("an id");
    put(objects, "k", "new").await;
    let (_, _, body) = objects.get_version(BUCKET, "k", &id, None).await.expect("readable");
    remove(objects, "k", Some(&id)).await;
    let chunks: Vec<Bytes> = body.try_collect().await.expect("the version arrives whole");
    assert_eq!(chunks.concat(), old);
}

async fn every_racer_makes_one_version(objects: Arc<dyn Objects>) {
    enable(&*objects).await;
    let racers = (0..16u8).map(|n| {
        let objects = objects.clone();
        tokio::spawn(async move {
            let meta = put(&*objects, "k", vec![n; 10]).await;
            if n % 4 == 0 {
                remove(&*objects, "k", None).await;
            }
            if n % 4 == 1 {
                remove(&*objects, "k", meta.version_id.as_deref()).await;
            }
            meta.version_id.expect("an id")
        })
    });
    let mut ids = vec![];
    for racer in racers.collect::<Vec<_>>() {
        ids.push(racer.await.expect("no racer fails"));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16, "no id is used twice");
    let versions = all(&*objects).await;
    assert_eq!(versions.iter().filter(|v| v.is_marker).count(), 4);
    assert_eq!(versions.iter().filter(|v| !v.is_marker).count(), 12);
    assert!(versions.iter().all(|v| v.is_latest == (id(v) == id(&versions[0]))));
    for version in versions.iter().filter(|v| !v.is_marker) {
        let bytes = read_version(&*objects, "k", id(version)).await;
        assert!(bytes.iter().all(|b| *b == bytes[0]) && bytes.len() == 10);
    }
}

async fn tags_change_without_a_version(objects: &dyn Objects) {
    let tags = |text: &str| BTreeMap::from([("t".to_string(), text.to_string())]);
    let attributes = Attributes { tags: tags("0"), ..Attributes::default() };
    let options = PutOptions { attributes, ..PutOptions::default() };
    enable(objects).await;
    let bytes = Bytes::from_static(b"1");
    let first = objects.put_bytes(BUCKET, "k", bytes, options).await.expect("put");
    assert_eq!(first.attributes.tags, tags("0"));
    let second = put(objects, "k", "2").await;
    assert!(second.attributes.tags.is_empty());
    let set = objects.set_tags(BUCKET, "k", None, tags("2")).await.expect("set");
    assert_eq!(set.version_id, second.version_id);
    assert_eq!(set.last_modified_ms, second.last_modified_ms);
    let version = first.version_id.as_deref();
    objects.set_tags(BUCKET, "k", version, tags("1")).await.expect("set");
    assert_eq!(objects.head(BUCKET, "k").await.expect("head").attributes.tags, tags("2"));
    let looked = objects.look(BUCKET, "k", version).await.expect("looked").expect("there");
    assert_eq!(looked.meta.attributes.tags, tags("1"));
    assert_eq!(read(objects, "k", None).await, "2");
    assert_eq!(all(objects).await.len(), 2);
    assert!(is_missing(&objects.set_tags(BUCKET, "none", None, tags("x")).await));
    let marker = remove(objects, "k", None).await.version_id;
    assert!(is_missing(&objects.set_tags(BUCKET, "k", None, tags("x")).await));
    assert!(is_missing(&objects.set_tags(BUCKET, "k", marker.as_deref(), tags("x")).await));
}

/// Every limit, prefix and delimiter shows the same, page by page, as all at once.
async fn versions_are_listed_in_pages(objects: &dyn Objects) {
    put(objects, "a\0", "null").await;
    enable(objects).await;
    let keys = ["a", "a\0", "a\0\u{1}", "a/b", "a/c/d", "a/c/e", "ab", "b", "é/x"];
    for turn in 0..4 {
        for (n, key) in keys.iter().enumerate() {
            if n % 3 >= turn {
                continue;
            }
            put(objects, key, format!("{turn}")).await;
            if (n + turn) % 2 == 0 {
                remove(objects, key, None).await;
            }
        }
    }
    put(objects, "zz", "one").await;
    for (prefix, delimiter) in [("", None), ("a", None), ("", Some("/")), ("a/", Some("/"))] {
        let list = async |after: Option<VersionMarker>, limit| {
            let delimiter = delimiter.map(str::to_string);
            let request = VersionsRequest { prefix: prefix.to_string(), after, delimiter, limit };
            objects.list_versions(BUCKET, request).await.expect("listed")
        };
        let whole = list(None, 1000).await;
        assert!(whole.next.is_none() && whole.versions.len() > 2);
        let order = |v: &VersionMeta| (v.meta.key.clone(), !v.is_latest);
        assert!(whole.versions.iter().map(order).is_sorted());
        for limit in 1..6 {
            let (mut versions, mut prefixes, mut after) = (vec![], vec![], None);
            loop {
                let page = list(after, limit).await;
                let count = page.versions.len() + page.common_prefixes.len();
                assert!(count <= limit && (count == limit || page.next.is_none()));
                versions.extend(page.versions);
                prefixes.extend(page.common_prefixes);
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(versions, whole.versions, "{prefix:?} {delimiter:?} {limit}");
            assert_eq!(prefixes, whole.common_prefixes);
        }
    }
    let after = Some(VersionMarker::Key("ab".into()));
    let request = VersionsRequest { after, limit: 9, ..VersionsRequest::default() };
    let page = objects.list_versions(BUCKET, request).await.expect("listed");
    assert!(page.versions.iter().all(|version| version.meta.key.as_str() > "ab"));
    assert!(page.versions.iter().any(|version| version.meta.key == "zz"));
}
