//! What local objects do beyond the common contract: files, sweeps, faults, damage.

use super::*;
use crate::objects::{bucket_store::BucketStore, conformance};
use crate::records::faulty::{Fault, FaultyRecords};
use crate::records::memory::MemoryRecords;
use crate::records::sqlite::{SqliteOptions, SqliteRecords};
use alluvium_base::{ManualClock, OsRandom};
use object_store::ObjectStoreExt;
use tempfile::TempDir;

const BUCKET: &str = "b";

async fn open(directory: &TempDir, records: Arc<dyn Records>) -> LocalObjects {
    let root = directory.path().join("objects");
    let clock = Arc::new(ManualClock::new(1_000));
    let opened = LocalObjects::open_unswept(&root, records, clock, Arc::new(OsRandom)).await;
    let objects = opened.unwrap();
    objects.create_bucket(BUCKET).await.unwrap();
    objects
}

fn files(directory: &TempDir) -> usize {
    let root = directory.path().join("objects");
    let shards = std::fs::read_dir(root).unwrap();
    shards.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum()
}

/// Removals run in the background: wait for the number that must come.
async fn files_become(directory: &TempDir, count: usize) {
    for _ in 0..10_000 {
        if files(directory) == count {
            return;
        }
        tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
    }
    assert_eq!(files(directory), count);
}

async fn put(objects: &LocalObjects, key: &str, bytes: &'static [u8]) -> ObjectMeta {
    let bytes = Bytes::from_static(bytes);
    objects.put_bytes(BUCKET, key, bytes, PutOptions::default()).await.unwrap()
}

async fn read(objects: &LocalObjects, key: &str) -> Result<Bytes, ObjectsError> {
    use futures::TryStreamExt;
    let (_, _, body) = objects.get(BUCKET, key, None).await?;
    let chunks: Vec<Bytes> = body.try_collect().await.unwrap();
    Ok(chunks.concat().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_to_the_contract_of_objects_over_memory_records() {
    let directories = parking_lot::Mutex::new(Vec::new());
    conformance::run(|| async {
        let directory = TempDir::new().unwrap();
        let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
        directories.lock().push(directory);
        Arc::new(objects) as Arc<dyn Objects>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_to_the_contract_of_objects_over_sqlite_records() {
    let directories = parking_lot::Mutex::new(Vec::new());
    conformance::run(|| async {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("records.sqlite");
        let records = SqliteRecords::open(&path, SqliteOptions::default()).await.unwrap();
        let objects = open(&directory, Arc::new(records)).await;
        directories.lock().push(directory);
        Arc::new(objects) as Arc<dyn Objects>
    })
    .await;
}

#[tokio::test]
async fn files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    put(&objects, "k", b"x").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let root = directory.path().join("objects");
    assert_eq!(mode(&root), 0o700);
    for shard in std::fs::read_dir(root).unwrap() {
        let shard = shard.unwrap().path();
        assert_eq!(mode(&shard), 0o700);
        for file in std::fs::read_dir(shard).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }
}

#[tokio::test]
async fn replaced_and_deleted_bytes_leave_the_disk() {
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    put(&objects, "k", b"1").await;
    put(&objects, "k", b"2").await;
    files_become(&directory, 1).await;
    objects.delete(BUCKET, "k").await.unwrap();
    files_become(&directory, 0).await;
}

#[tokio::test]
async fn refused_bodies_leave_no_file() {
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    let options = PutOptions { expected_md5: Some([0; 16]), ..PutOptions::default() };
    let refused = objects.put_bytes(BUCKET, "k", Bytes::from_static(b"x"), options).await;
    assert!(matches!(refused, Err(ObjectsError::BadBody(_))));
    put(&objects, "there", b"x").await;
    let options = PutOptions { condition: PutCondition::IfAbsent, ..PutOptions::default() };
    let refused = objects.put_bytes(BUCKET, "there", Bytes::from_static(b"y"), options).await;
    assert!(matches!(refused, Err(ObjectsError::Precondition { .. })));
    assert_eq!(files(&directory), 1);
}

#[tokio::test]
async fn the_sweep_removes_only_what_earlier_starts_left_unnamed() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    for n in 0..50 {
        put(&objects, &format!("k{n}"), b"kept").await;
    }
    let left = blob::NewBlob::create(&objects.shared.root, objects.shared.blob_id()).unwrap();
    left.keep();
    assert_eq!(objects.sweep().await.unwrap(), 0, "this start's blobs may still be named");
    let upload = objects.create_upload(BUCKET, "up", Attributes::default()).await.unwrap();
    let body = |text: &'static [u8]| -> Body {
        Box::pin(futures::stream::iter([Ok(Bytes::from_static(text))]))
    };
    let part = objects
        .upload_part(
            BUCKET,
            "up",
            &upload.upload_id,
            1,
            body(b"part"),
            PutOptions::default(),
            Box::new(|_| Ok(())),
        )
        .await
        .unwrap();

    let later = open(&directory, records).await;
    let under_way = blob::NewBlob::create(&later.shared.root, later.shared.blob_id()).unwrap();
    // A limit of 7 names in mind makes it take many turns.
    assert_eq!(later.shared.sweep_in_turns(7).await.unwrap(), 1);
    assert_eq!(files(&directory), 52);
    under_way.keep();
    for n in 0..50 {
        assert_eq!(read(&later, &format!("k{n}")).await.unwrap(), "kept");
    }
    let parts = [(1, part.etag)];
    let condition = PutCondition::None;
    let completed =
        later.complete_upload(BUCKET, "up", &upload.upload_id, &parts, condition, None).await;
    assert_eq!(completed.unwrap().size_bytes, 4);
    assert_eq!(read(&later, "up").await.unwrap(), "part");
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_resolved_by_reading_back() {
    let directory = TempDir::new().unwrap();
    let faulty = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
    let objects = open(&directory, faulty.clone()).await;
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    let meta = put(&objects, "k", b"done").await;
    assert_eq!(objects.head(BUCKET, "k").await.unwrap(), meta);
    assert_eq!(read(&objects, "k").await.unwrap(), "done");

    faulty.arm(Some("object"), Fault::SkipThenUnknown, 1);
    let bytes = Bytes::from_static(b"not done");
    let refused = objects.put_bytes(BUCKET, "k", bytes.clone(), PutOptions::default()).await;
    assert!(matches!(refused, Err(ObjectsError::Unavailable(_))), "{refused:?}");
    assert_eq!(read(&objects, "k").await.unwrap(), "done");
    assert_eq!(files(&directory), 1);

    // Neither answered nor readable: unknown, and the bytes stay, for they may be named.
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    faulty.refuse_reads(1);
    let unknown = objects.put_bytes(BUCKET, "k", bytes, PutOptions::default()).await;
    assert!(matches!(unknown, Err(ObjectsError::Unknown(_))), "{unknown:?}");
    assert_eq!(read(&objects, "k").await.unwrap(), "not done");
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_is_resolved_by_reading_back() {
    let directory = TempDir::new().unwrap();
    let faulty = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
    let objects = open(&directory, faulty.clone()).await;
    put(&objects, "k", b"x").await;
    faulty.arm(Some("object"), Fault::SkipThenUnknown, 1);
    assert!(matches!(objects.delete(BUCKET, "k").await, Err(ObjectsError::Unavailable(_))));
    assert_eq!(read(&objects, "k").await.unwrap(), "x");
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    assert!(objects.delete(BUCKET, "k").await.unwrap());
    assert!(matches!(read(&objects, "k").await, Err(ObjectsError::NotFound { .. })));
}

#[tokio::test]
async fn a_fenced_process_publishes_nothing() {
    let directory = TempDir::new().unwrap();
    let records = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    put(&objects, "k", b"old").await;
    records.fence();
    let put = objects.put_bytes(BUCKET, "k", Bytes::from_static(b"x"), PutOptions::default());
    assert!(matches!(put.await, Err(ObjectsError::Fenced)));
    assert!(matches!(objects.delete(BUCKET, "k").await, Err(ObjectsError::Fenced)));
    assert_eq!(files(&directory), 1);
}

#[tokio::test]
async fn missing_and_short_files_are_damage_not_absence() {
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    for (key, damage) in [("short", false), ("gone", true)] {
        put(&objects, key, b"0123456789").await;
        let found = objects.shared.need_entry(BUCKET, key).await.unwrap();
        let path = found.1.blobs[0].id.path(&objects.shared.root);
        match damage {
            true => std::fs::remove_file(path).unwrap(),
            false => std::fs::File::options().write(true).open(path).unwrap().set_len(5).unwrap(),
        }
        let got = read(&objects, key).await;
        assert!(matches!(got, Err(ObjectsError::Corrupt(_))), "{key}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_always_see_one_whole_version() {
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    objects.put_bytes(BUCKET, "k", vec![0; 4096].into(), PutOptions::default()).await.unwrap();
    let writer = tokio::spawn({
        let objects = objects.clone();
        async move {
            for n in 1..100u8 {
                let bytes = vec![n; 4096].into();
                objects.put_bytes(BUCKET, "k", bytes, PutOptions::default()).await.unwrap();
            }
        }
    });
    let mut last = 0;
    while last < 99 {
        let bytes = read(&objects, "k").await.unwrap();
        assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert!(bytes[0] >= last, "a later read never sees an earlier version");
        last = bytes[0];
    }
    writer.await.unwrap();
    files_become(&directory, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_of_a_bucket_does_what_the_trait_says() {
    use object_store::{Error, ObjectStore, PutMode, PutPayload, path::Path};
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    let store = BucketStore::new(Arc::new(objects), BUCKET);
    let path = Path::from("t/data/a.parquet");
    let put = store.put(&path, PutPayload::from_static(b"0123456789")).await.unwrap();
    let create = store.put_opts(&path, "x".into(), PutMode::Create.into()).await;
    assert!(matches!(create, Err(Error::AlreadyExists { .. })), "{create:?}");
    let update = PutMode::Update(put.clone().into());
    store.put_opts(&path, "abcdefghij".into(), update.clone().into()).await.unwrap();
    let stale = store.put_opts(&path, "x".into(), update.into()).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(store.get_range(&path, 2..4).await.unwrap(), "cd");
    assert_eq!(store.get_ranges(&path, &[0..1, 9..10]).await.unwrap(), ["a", "j"]);
    assert!(store.get_range(&path, 10..11).await.is_err());
    assert_eq!(store.head(&path).await.unwrap().size, 10);
    let missing = store.head(&Path::from("none")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));

    let mut upload = store.put_multipart(&Path::from("t/big")).await.unwrap();
    let parts = [upload.put_part("one".into()), upload.put_part("two".into())];
    // Parts may end in another order than they were begun.
    for part in parts.into_iter().rev() {
        part.await.unwrap();
    }
    upload.complete().await.unwrap();
    let got = store.get(&Path::from("t/big")).await.unwrap().bytes().await.unwrap();
    assert_eq!(got, "onetwo");

    let listed = store.list_with_delimiter(Some(&Path::from("t"))).await.unwrap();
    assert_eq!(listed.common_prefixes, [Path::from("t/data")]);
    assert_eq!(listed.objects.len(), 1);
    let none = store.copy_if_not_exists(&path, &Path::from("t/big")).await;
    assert!(matches!(none, Err(Error::AlreadyExists { .. })), "{none:?}");
    store.rename(&path, &Path::from("t/moved")).await.unwrap();
    use futures::TryStreamExt;
    let all: Vec<_> =
        store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(all, ["t/big", "t/moved"]);
}
