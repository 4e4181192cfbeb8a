//! Cases about uploads in parts.

use super::{BUCKET, body, is_missing, no_finish, pattern, put, read};
use crate::objects::{
    Attributes, Objects, ObjectsError, PartMeta, PutCondition, PutOptions, RangeOf,
};
use bytes::Bytes;

async fn begin(objects: &dyn Objects, key: &str) -> String {
    let upload = objects.create_upload(BUCKET, key, Attributes::default()).await;
    upload.expect("begins").upload_id
}

async fn part(
    objects: &dyn Objects,
    key: &str,
    id: &str,
    number: u32,
    bytes: &Bytes,
) -> Result<PartMeta, ObjectsError> {
    let options = PutOptions::default();
    let body = body(vec![bytes.clone()]);
    objects.upload_part(BUCKET, key, id, number, body, options, no_finish()).await
}

async fn complete(
    objects: &dyn Objects,
    key: &str,
    id: &str,
    parts: &[(u32, String)],
) -> Result<crate::objects::ObjectMeta, ObjectsError> {
    objects.complete_upload(BUCKET, key, id, parts, PutCondition::None, None).await
}

fn is_gone<T>(result: &Result<T, ObjectsError>) -> bool {
    matches!(result, Err(ObjectsError::NoUpload(_)))
}

pub(super) async fn objects_come_of_their_parts(objects: &dyn Objects) {
    let id = begin(objects, "k").await;
    let (one, two, three) = (pattern(700_000), pattern(1), pattern(300_000));
    let replaced = part(objects, "k", &id, 7, &pattern(3)).await.expect("stored");
    let p7 = part(objects, "k", &id, 7, &two).await.expect("replaced");
    assert_ne!(replaced.etag, p7.etag);
    let p2 = part(objects, "k", &id, 2, &one).await.expect("stored");
    let p9 = part(objects, "k", &id, 10_000, &three).await.expect("stored");
    part(objects, "k", &id, 5, &pattern(9)).await.expect("a part that is left out");
    assert!(is_missing(&objects.head(BUCKET, "k").await), "nothing before completion");
    let parts = [(2, p2.etag), (7, p7.etag), (10_000, p9.etag)];
    let meta = complete(objects, "k", &id, &parts).await.expect("completed");
    let whole: Bytes = [one, two, three].concat().into();
    assert_eq!(meta.size_bytes, whole.len() as u64);
    assert_eq!(meta.part_sizes, [700_000, 1, 300_000]);
    assert!(meta.etag.ends_with("-3") && meta.etag.len() == 34, "{}", meta.etag);
    assert_eq!(read(objects, "k", None).await, whole);
    let middle = read(objects, "k", Some(RangeOf::Bounded(699_999, 700_002))).await;
    assert_eq!(middle, whole[699_999..700_002]);
    let ranges = [0..1, 600_000..1_000_001];
    let got = objects.get_ranges(BUCKET, "k", &ranges).await.expect("readable");
    assert_eq!(got, [whole.slice(0..1), whole.slice(600_000..1_000_001)]);
    let again = complete(objects, "k", &id, &parts).await.expect("a repeat is answered alike");
    assert_eq!(again, meta);
    assert!(is_gone(&part(objects, "k", &id, 1, &pattern(1)).await));
    let copied = objects.copy((BUCKET, "k"), (BUCKET, "copy"), PutCondition::None, None).await;
    copied.expect("copied");
    assert!(objects.delete(BUCKET, "k").await.expect("deleted"));
    assert_eq!(read(objects, "copy", None).await, whole);
    assert!(is_gone(&complete(objects, "k", &id, &parts).await));
}

pub(super) async fn racing_completions_are_one(objects: &dyn Objects) {
    for turn in 0..20 {
        let key = format!("k{turn}");
        let id = begin(objects, &key).await;
        let etag = part(objects, &key, &id, 1, &pattern(10)).await.expect("stored").etag;
        let parts = [(1, etag)];
        let racers = (0..8).map(|_| complete(objects, &key, &id, &parts));
        for done in futures::future::join_all(racers).await {
            let version = done.expect("one completion, however often it is asked for").version;
            assert_eq!(version, objects.head(BUCKET, &key).await.expect("head").version);
        }
    }
}

pub(super) async fn wrong_completions_change_nothing(objects: &dyn Objects) {
    put(objects, "k", "old").await;
    let id = begin(objects, "k").await;
    let first = part(objects, "k", &id, 1, &pattern(10)).await.expect("stored").etag;
    let second = part(objects, "k", &id, 2, &pattern(20)).await.expect("stored").etag;
    let wrong: [&[(u32, String)]; 5] = [
        &[],
        &[(1, second.clone())],
        &[(1, first.clone()), (3, second.clone())],
        &[(2, second.clone()), (1, first.clone())],
        &[(1, first.clone()), (1, first.clone())],
    ];
    for parts in wrong {
        let done = complete(objects, "k", &id, parts).await;
        assert!(matches!(done, Err(ObjectsError::InvalidPart { .. })), "{parts:?}: {done:?}");
    }
    let parts = [(1, first), (2, second)];
    let absent = PutCondition::IfAbsent;
    let done = objects.complete_upload(BUCKET, "k", &id, &parts, absent, None).await;
    assert!(matches!(done, Err(ObjectsError::Precondition { .. })), "{done:?}");
    let another = objects.complete_upload(BUCKET, "k2", &id, &parts, PutCondition::None, None);
    assert!(is_gone(&another.await), "an upload belongs to its key");
    assert_eq!(read(objects, "k", None).await, "old");
    for number in [0, 10_001] {
        let refused = part(objects, "k", &id, number, &pattern(1)).await;
        assert!(matches!(refused, Err(ObjectsError::InvalidPart { .. })), "{refused:?}");
    }
    complete(objects, "k", &id, &parts).await.expect("the right call works after all those");
    assert_eq!(read(objects, "k", None).await.len(), 30);
}

pub(super) async fn aborted_uploads_are_gone(objects: &dyn Objects) {
    let id = begin(objects, "k").await;
    let etag = part(objects, "k", &id, 1, &pattern(10)).await.expect("stored").etag;
    objects.get_upload(BUCKET, "k", &id).await.expect("it is under way");
    objects.abort_upload(BUCKET, "k", &id).await.expect("aborted");
    assert!(is_gone(&objects.get_upload(BUCKET, "k", &id).await));
    assert!(is_gone(&objects.abort_upload(BUCKET, "k", &id).await));
    assert!(is_gone(&objects.list_parts(BUCKET, "k", &id, 0, 10).await));
    assert!(is_gone(&part(objects, "k", &id, 2, &pattern(10)).await));
    assert!(is_gone(&complete(objects, "k", &id, &[(1, etag)]).await));
    assert!(is_gone(&objects.get_upload(BUCKET, "k", "../../x").await));
    assert!(is_missing(&objects.head(BUCKET, "k").await));
}

pub(super) async fn uploads_and_parts_are_listed_in_order(objects: &dyn Objects) {
    let mut uploads = vec![];
    for key in ["b", "a/2", "a/1", "a/1", "c"] {
        uploads.push((key.to_string(), begin(objects, key).await));
    }
    uploads.sort();
    let list = async |prefix: &str, after: Option<(&str, &str)>, limit| {
        let listed = objects.list_uploads(BUCKET, prefix, after, limit).await.expect("listed");
        listed.into_iter().map(|upload| (upload.key, upload.upload_id)).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 10).await, uploads);
    assert_eq!(list("a/", None, 10).await, uploads[..3]);
    assert_eq!(list("", None, 2).await, uploads[..2]);
    let after = Some((uploads[1].0.as_str(), uploads[1].1.as_str()));
    assert_eq!(list("", after, 2).await, uploads[2..4]);
    let (key, id) = &uploads[0];
    for number in [10, 9, 2000, 1] {
        part(objects, key, id, number, &pattern(number as usize)).await.expect("stored");
    }
    let numbers = async |after, limit| {
        let parts = objects.list_parts(BUCKET, key, id, after, limit).await.expect("listed");
        assert!(parts.iter().all(|part| part.size_bytes == u64::from(part.number)));
        parts.into_iter().map(|part| part.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 100).await, [1, 9, 10, 2000]);
    assert_eq!(numbers(1, 2).await, [9, 10]);
    assert_eq!(numbers(2000, 2).await, [0; 0]);
}
