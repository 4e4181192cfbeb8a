//! The contract of [`Objects`] as a suite that every backend passes.
//!
//! Call [`run`] from a test with a function that makes an empty store.

mod listing;
mod uploads;
mod versions;

use super::{
    Attributes, Body, FinishBody, ListRequest, NewObject, ObjectMeta, Objects, ObjectsError,
    PutCondition, PutOptions, RangeOf,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::future::Future;
use std::sync::Arc;

const BUCKET: &str = "conformance";

/// Runs every case, each on a fresh store that has the bucket `conformance`.
///
/// # Panics
/// When the backend breaks the contract.
pub async fn run<Make, Making>(make: Make)
where
    Make: Fn() -> Making,
    Making: Future<Output = Arc<dyn Objects>>,
{
    let fresh = async || {
        let objects = make().await;
        objects.create_bucket(BUCKET).await.expect("a bucket is made");
        objects
    };
    buckets_are_made_and_removed_when_empty(&*fresh().await).await;
    what_was_put_comes_back(&*fresh().await).await;
    streams_are_put_as_they_arrive(&*fresh().await).await;
    broken_promises_publish_nothing(&*fresh().await).await;
    the_finish_may_refuse_or_complete(&*fresh().await).await;
    conditions_are_exact(&*fresh().await).await;
    one_of_many_racers_puts(fresh().await).await;
    several_are_put_at_once(&*fresh().await).await;
    ranges_are_of_the_object(&*fresh().await).await;
    a_reader_keeps_its_version(&*fresh().await).await;
    deleted_objects_are_gone(&*fresh().await).await;
    keys_of_any_text_stay_in_their_bucket(&*fresh().await).await;
    copies_stand_alone(&*fresh().await).await;
    listing::run(&*fresh().await).await;
    uploads::objects_come_of_their_parts(&*fresh().await).await;
    uploads::racing_completions_are_one(&*fresh().await).await;
    uploads::wrong_completions_change_nothing(&*fresh().await).await;
    uploads::aborted_uploads_are_gone(&*fresh().await).await;
    uploads::uploads_and_parts_are_listed_in_order(&*fresh().await).await;
    versions::run(&fresh).await;
}

fn body(chunks: Vec<Bytes>) -> Body {
    stream::iter(chunks.into_iter().map(Ok)).boxed()
}

fn no_finish() -> FinishBody {
    Box::new(|_| Ok(()))
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| (n * 31 % 251) as u8).collect::<Vec<u8>>().into()
}

async fn put(objects: &dyn Objects, key: &str, bytes: impl Into<Bytes>) -> ObjectMeta {
    let put = objects.put_bytes(BUCKET, key, bytes.into(), PutOptions::default()).await;
    put.expect("the put succeeds")
}

async fn put_if(
    objects: &dyn Objects,
    key: &str,
    bytes: &'static [u8],
    condition: PutCondition,
) -> Result<ObjectMeta, ObjectsError> {
    let options = PutOptions { condition, ..PutOptions::default() };
    objects.put_bytes(BUCKET, key, Bytes::from_static(bytes), options).await
}

async fn read(objects: &dyn Objects, key: &str, range: Option<RangeOf>) -> Bytes {
    let (_, range, body) = objects.get(BUCKET, key, range).await.expect("readable");
    let chunks: Vec<Bytes> = body.try_collect().await.expect("the body arrives");
    let bytes: Bytes = chunks.concat().into();
    assert_eq!(bytes.len() as u64, range.end - range.start);
    bytes
}

fn is_missing<T>(result: &Result<T, ObjectsError>) -> bool {
    matches!(result, Err(ObjectsError::NotFound { .. }))
}

async fn buckets_are_made_and_removed_when_empty(objects: &dyn Objects) {
    assert!(objects.has_bucket(BUCKET).await.expect("answers"));
    assert!(!objects.has_bucket("another").await.expect("answers"));
    objects.create_bucket(BUCKET).await.expect("making it again changes nothing");
    put(objects, "k", "x").await;
    assert!(!objects.delete_bucket(BUCKET).await.expect("answers"), "it is not empty");
    assert_eq!(read(objects, "k", None).await, "x");
    assert!(objects.delete(BUCKET, "k").await.expect("answers"));
    let upload = objects.create_upload(BUCKET, "k", Attributes::default()).await.expect("begins");
    assert!(!objects.delete_bucket(BUCKET).await.expect("answers"), "it has an upload");
    objects.abort_upload(BUCKET, "k", &upload.upload_id).await.expect("aborts");
    assert!(objects.delete_bucket(BUCKET).await.expect("answers"));
    assert!(!objects.has_bucket(BUCKET).await.expect("answers"));
    let no_bucket = |error: ObjectsError| matches!(error, ObjectsError::NoBucket(_));
    assert!(no_bucket(put_if(objects, "k", b"x", PutCondition::None).await.expect_err("none")));
    assert!(no_bucket(objects.head(BUCKET, "k").await.expect_err("none")));
    assert!(no_bucket(objects.delete(BUCKET, "k").await.expect_err("none")));
    assert!(no_bucket(objects.list(BUCKET, ListRequest::default()).await.expect_err("none")));
    assert!(no_bucket(objects.delete_bucket(BUCKET).await.expect_err("none")));
    let create = objects.create_upload(BUCKET, "k", Attributes::default()).await;
    assert!(no_bucket(create.expect_err("none")));
}

async fn what_was_put_comes_back(objects: &dyn Objects) {
    let mut attributes = Attributes::default();
    attributes.system.insert("content-type".into(), "text/plain".into());
    attributes.user.insert("owner".into(), "é".into());
    attributes.checksums.insert("CRC32C".into(), "AAAAAA==".into());
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let bytes = Bytes::from_static(b"hello");
    let first = objects.put_bytes(BUCKET, "k", bytes, options).await.expect("put");
    assert_eq!(first.etag, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!((first.size_bytes, first.key.as_str()), (5, "k"));
    assert_eq!(first.attributes, attributes);
    assert_eq!(objects.head(BUCKET, "k").await.expect("head"), first);
    assert_eq!(read(objects, "k", None).await, "hello");
    let second = put(objects, "k", Bytes::new()).await;
    assert!(second.version > first.version);
    assert_eq!(second.etag, "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(objects.head(BUCKET, "k").await.expect("head"), second);
    assert_eq!(read(objects, "k", None).await, "");
    assert!(is_missing(&objects.head(BUCKET, "other").await));
    assert!(is_missing(&objects.get(BUCKET, "other", None).await.map(drop)));
}

async fn streams_are_put_as_they_arrive(objects: &dyn Objects) {
    for length in [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 17] {
        let bytes = pattern(length);
        let chunks = bytes.chunks(70_001).map(Bytes::copy_from_slice).collect();
        let options = PutOptions {
            expected_size_bytes: Some(length as u64),
            sync_every_bytes: (length % 2 == 1).then_some(1),
            ..PutOptions::default()
        };
        let put = objects.put(BUCKET, "stream", body(chunks), options, no_finish()).await;
        let streamed = put.expect("the put succeeds");
        assert_eq!(streamed.size_bytes, length as u64);
        assert_eq!(read(objects, "stream", None).await, bytes);
        let whole = self::put(objects, "whole", bytes).await;
        assert_eq!(streamed.etag, whole.etag);
    }
}

async fn broken_promises_publish_nothing(objects: &dyn Objects) {
    let cut_off = || {
        let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        stream::iter([Ok(pattern(2 << 20)), Err(cut)]).boxed()
    };
    let whole = || body(vec![Bytes::from_static(b"hello")]);
    let none = PutOptions::default;
    let too_few = PutOptions { expected_size_bytes: Some(6), ..none() };
    let too_many = PutOptions { expected_size_bytes: Some(4), ..none() };
    let another = PutOptions { expected_md5: Some([0; 16]), ..none() };
    for (body, options) in
        [(cut_off(), none()), (whole(), too_few), (whole(), too_many), (whole(), another)]
    {
        let put = objects.put(BUCKET, "k", body, options, no_finish()).await;
        assert!(matches!(put, Err(ObjectsError::BadBody(_))), "{put:?}");
        assert!(is_missing(&objects.head(BUCKET, "k").await));
    }
    let md5 = [
        0x5d, 0x41, 0x40, 0x2a, 0xbc, 0x4b, 0x2a, 0x76, 0xb9, 0x71, 0x9d, 0x91, 0x10, 0x17, 0xc5,
        0x92,
    ];
    let right = PutOptions { expected_md5: Some(md5), expected_size_bytes: Some(5), ..none() };
    objects.put(BUCKET, "k", whole(), right, no_finish()).await.expect("the promise is kept");
}

async fn the_finish_may_refuse_or_complete(objects: &dyn Objects) {
    let whole = || body(vec![Bytes::from_static(b"hello")]);
    let refuse: FinishBody = Box::new(|_| Err(ObjectsError::BadBody("another checksum".into())));
    let put = objects.put(BUCKET, "k", whole(), PutOptions::default(), refuse).await;
    assert!(matches!(put, Err(ObjectsError::BadBody(_))));
    assert!(is_missing(&objects.head(BUCKET, "k").await));
    let complete: FinishBody = Box::new(|attributes| {
        attributes.checksums.insert("SHA1".into(), "trailing".into());
        Ok(())
    });
    objects.put(BUCKET, "k", whole(), PutOptions::default(), complete).await.expect("put");
    let meta = objects.head(BUCKET, "k").await.expect("head");
    assert_eq!(meta.attributes.checksums["SHA1"], "trailing");
}

async fn conditions_are_exact(objects: &dyn Objects) {
    let absent = || PutCondition::IfAbsent;
    let etag = |text: &str| PutCondition::IfMatch(text.to_string());
    assert!(is_missing(&put_if(objects, "k", b"0", etag("x")).await));
    let first = put_if(objects, "k", b"1", absent()).await.expect("nothing was there");
    let again = put_if(objects, "k", b"2", absent()).await;
    assert!(matches!(again, Err(ObjectsError::Precondition { .. })), "{again:?}");
    let wrong = put_if(objects, "k", b"2", etag("wrong")).await;
    assert!(matches!(wrong, Err(ObjectsError::Precondition { .. })), "{wrong:?}");
    assert_eq!(read(objects, "k", None).await, "1");
    let second = put_if(objects, "k", b"2", etag(&first.etag)).await.expect("it matches");
    assert_eq!(read(objects, "k", None).await, "2");
    let stale = put_if(objects, "k", b"3", etag(&first.etag)).await;
    assert!(matches!(stale, Err(ObjectsError::Precondition { .. })), "{stale:?}");
    assert!(second.version > first.version);
}

async fn one_of_many_racers_puts(objects: Arc<dyn Objects>) {
    let racers = (0..16).map(|n: u8| {
        let objects = objects.clone();
        tokio::spawn(async move {
            let options = PutOptions { condition: PutCondition::IfAbsent, ..PutOptions::default() };
            objects.put_bytes(BUCKET, "prize", vec![n; 100].into(), options).await.map(|_| n)
        })
    });
    let mut winners = vec![];
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("no panic") {
            Ok(n) => winners.push(n),
            Err(ObjectsError::Precondition { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read(&*objects, "prize", None).await, vec![winners[0]; 100]);
    let writers = (0..16).map(|n: u8| {
        let objects = objects.clone();
        tokio::spawn(async move { put(&*objects, "shared", vec![n; 100]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no unconditional put fails");
    }
    let last = read(&*objects, "shared", None).await;
    assert!(last.iter().all(|byte| *byte == last[0]) && last.len() == 100);
}

fn new(key: &str, bytes: Bytes) -> NewObject {
    NewObject { key: key.into(), bytes, lasting: false }
}

async fn several_are_put_at_once(objects: &dyn Objects) {
    let sizes = [("none", 0), ("few", 5), ("more", 8_192), ("many", 65_537), ("lots", 700_000)];
    let all = sizes.map(|(key, size)| new(key, pattern(size)));
    objects.put_all(BUCKET, all.to_vec()).await.expect("they are put");
    objects.put_all(BUCKET, vec![]).await.expect("nothing is put");
    for (key, size) in sizes {
        assert_eq!(read(objects, key, None).await, pattern(size), "{key}");
        let one = put(objects, "one", pattern(size)).await;
        let meta = objects.head(BUCKET, key).await.expect("it is there");
        assert_eq!((meta.size_bytes, &meta.etag), (size as u64, &one.etag), "{key}");
        for range in [RangeOf::Bounded(2, 4), RangeOf::From(3), RangeOf::Suffix(2)] {
            assert_eq!(
                read(objects, key, Some(range)).await,
                read(objects, "one", Some(range)).await
            );
        }
    }
    let ranges = [0..1, 100..8_000, 8_191..8_192];
    let got = objects.get_ranges(BUCKET, "more", &ranges).await.expect("readable");
    let wanted = ranges.map(|range| pattern(8_192).slice(range.start as usize..range.end as usize));
    assert_eq!(got, wanted);

    let refused = objects.put_all(BUCKET, vec![new("few", pattern(9))]).await;
    assert!(matches!(refused, Err(ObjectsError::Precondition { key }) if key == "few"));
    assert_eq!(read(objects, "few", None).await, pattern(5));
    let bad = objects.put_all(BUCKET, vec![new(&"k".repeat(1025), pattern(1))]).await;
    assert!(matches!(bad, Err(ObjectsError::BadKey(_))));
    let lost = objects.put_all("another", vec![new("k", pattern(1))]).await;
    assert!(matches!(lost, Err(ObjectsError::NoBucket(_))));

    let copy = (BUCKET, "copy");
    objects.copy((BUCKET, "few"), copy, PutCondition::None, None).await.expect("it is copied");
    put(objects, "few", "replaced").await;
    assert!(objects.delete(BUCKET, "more").await.expect("answers"));
    assert!(is_missing(&objects.head(BUCKET, "more").await));
    assert_eq!(read(objects, "few", None).await, "replaced");
    assert_eq!(read(objects, "copy", None).await, pattern(5));

    objects.set_versioning(BUCKET, true).await.expect("it keeps versions");
    let put_again = vec![new("few", pattern(1))];
    assert!(objects.put_all(BUCKET, put_again).await.is_err(), "there is one");
    put(objects, "copy", "newer").await;
    objects.put_all(BUCKET, vec![new("late", pattern(7))]).await.expect("it is put");
    let version = objects.head(BUCKET, "late").await.expect("it is there").version_id;
    assert!(version.is_some_and(|id| id != "null"));
    let (_, _, body) = objects.get_version(BUCKET, "copy", "null", None).await.expect("kept");
    let chunks: Vec<Bytes> = body.try_collect().await.expect("the body arrives");
    assert_eq!(chunks.concat(), pattern(5));
}

async fn ranges_are_of_the_object(objects: &dyn Objects) {
    let bytes = pattern(1_500_000);
    put(objects, "k", bytes.clone()).await;
    let read = async |range| read(objects, "k", Some(range)).await;
    assert_eq!(read(RangeOf::Bounded(10, 20)).await, bytes[10..20]);
    assert_eq!(read(RangeOf::Bounded(600_000, 1_400_000)).await, bytes[600_000..1_400_000]);
    assert_eq!(read(RangeOf::Bounded(1_499_990, u64::MAX)).await, bytes[1_499_990..]);
    assert_eq!(read(RangeOf::From(1_499_000)).await, bytes[1_499_000..]);
    assert_eq!(read(RangeOf::Suffix(7)).await, bytes[1_499_993..]);
    assert_eq!(read(RangeOf::From(1_500_000)).await, "");
    let ranges = [0..4, 1_000_000..1_000_001, 5..5, 1_499_999..1_500_000];
    let got = objects.get_ranges(BUCKET, "k", &ranges).await.expect("readable");
    let wanted = ranges.iter().map(|r| bytes.slice(r.start as usize..r.end as usize));
    assert_eq!(got, wanted.collect::<Vec<_>>());
    assert!(is_missing(&objects.get_ranges(BUCKET, "none", &ranges).await));
    let beyond = objects.get_ranges(BUCKET, "k", std::slice::from_ref(&(0..1_500_001))).await;
    assert!(beyond.is_err());
}

async fn a_reader_keeps_its_version(objects: &dyn Objects) {
    let old = pattern(3 << 20);
    put(objects, "k", old.clone()).await;
    let (meta, _, body) = objects.get(BUCKET, "k", None).await.expect("readable");
    put(objects, "k", "new").await;
    assert!(objects.delete(BUCKET, "k").await.expect("answers"));
    let chunks: Vec<Bytes> = body.try_collect().await.expect("the old version arrives whole");
    assert_eq!(chunks.concat(), old);
    assert_eq!(meta.size_bytes, old.len() as u64);
}

async fn deleted_objects_are_gone(objects: &dyn Objects) {
    let first = put(objects, "k", "1").await;
    assert!(objects.delete(BUCKET, "k").await.expect("answers"));
    assert!(!objects.delete(BUCKET, "k").await.expect("answers"));
    assert!(is_missing(&objects.head(BUCKET, "k").await));
    assert!(is_missing(&objects.get(BUCKET, "k", None).await.map(drop)));
    let second = put_if(objects, "k", b"2", PutCondition::IfAbsent).await.expect("it is absent");
    assert!(second.version > first.version);
}

async fn keys_of_any_text_stay_in_their_bucket(objects: &dyn Objects) {
    objects.create_bucket("conformance2").await.expect("made");
    let longest = "é".repeat(512);
    let keys = [
        "..",
        ".",
        "../../etc/passwd",
        "/",
        "//",
        "a//b",
        "/absolute",
        "a/",
        "a",
        "a/b",
        "%2e%2e",
        "\u{0}",
        "a\nb",
        "\u{10ffff}",
        "con",
        " ",
        "conformance2/x",
        longest.as_str(),
    ];
    for key in keys {
        put(objects, key, key.to_string()).await;
    }
    for key in keys {
        assert_eq!(read(objects, key, None).await, key);
        let elsewhere = objects.head("conformance2", key).await;
        assert!(is_missing(&elsewhere), "{key:?}");
    }
    let request = ListRequest { limit: 100, ..ListRequest::default() };
    let page = objects.list("conformance2", request).await.expect("listed");
    assert!(page.objects.is_empty());
    for bad in [String::new(), "k".repeat(1025)] {
        let put = objects.put_bytes(BUCKET, &bad, Bytes::new(), PutOptions::default()).await;
        assert!(matches!(put, Err(ObjectsError::BadKey(_))), "{put:?}");
    }
}

async fn copies_stand_alone(objects: &dyn Objects) {
    objects.create_bucket("conformance2").await.expect("made");
    let mut attributes = Attributes::default();
    attributes.user.insert("a".into(), "1".into());
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let bytes = pattern(100_000);
    let source = objects.put_bytes(BUCKET, "from", bytes.clone(), options).await.expect("put");
    let to = ("conformance2", "to");
    let from = (BUCKET, "from");
    let copy = objects.copy(from, to, PutCondition::IfAbsent, None).await.expect("copied");
    assert_eq!((&copy.etag, &copy.attributes), (&source.etag, &attributes));
    let again = objects.copy(from, to, PutCondition::IfAbsent, None).await;
    assert!(matches!(again, Err(ObjectsError::Precondition { .. })), "{again:?}");
    let bare = Some(Attributes::default());
    let itself = objects.copy(from, from, PutCondition::None, bare).await.expect("onto itself");
    assert_eq!(itself.attributes, Attributes::default());
    assert_eq!(read(objects, "from", None).await, bytes);
    assert!(objects.delete(BUCKET, "from").await.expect("answers"));
    let (_, _, body) = objects.get(to.0, to.1, None).await.expect("the copy is there");
    assert_eq!(body.try_collect::<Vec<Bytes>>().await.expect("readable").concat(), bytes);
    assert!(is_missing(&objects.copy(from, to, PutCondition::None, None).await));
    let nowhere = objects.copy(to, ("nowhere", "k"), PutCondition::None, None).await;
    assert!(matches!(nowhere, Err(ObjectsError::NoBucket(_))), "{nowhere:?}");
}
