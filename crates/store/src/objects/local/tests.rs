//! What local objects do beyond the common contract: files, sweeps, faults, damage.

use super::*;
use crate::objects::Fate;
use crate::objects::{bucket_store::BucketStore, conformance};
use crate::records::faulty::{Fault, FaultyRecords};
use crate::records::memory::MemoryRecords;
use crate::records::sqlite::{SqliteOptions, SqliteRecords};
use crate::records::{Precondition, Scan};
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
    use std::time::{Duration, Instant};
    let begun = Instant::now();
    while files(directory) != count {
        // For a busy machine; a test that passes waits for milliseconds.
        let waited = begun.elapsed();
        assert!(waited.as_secs() < 180, "{} files, not {count}", files(directory));
        let turn = || std::thread::sleep(Duration::from_millis(1));
        tokio::task::spawn_blocking(turn).await.unwrap();
    }
}

async fn put(objects: &LocalObjects, key: &str, bytes: &'static [u8]) -> ObjectMeta {
    let bytes = Bytes::from_static(bytes);
    objects.put_bytes(BUCKET, key, bytes, PutOptions::default()).await.unwrap()
}

async fn put_all(objects: &LocalObjects, key: &str, bytes: &[u8]) -> Result<(), ObjectsError> {
    let object =
        |key: String| NewObject { key, bytes: Bytes::copy_from_slice(bytes), lasting: false };
    let all = vec![object(key.to_string()), object(format!("{key}+"))];
    objects.put_all(BUCKET, all).await
}

/// Documents with the bytes of small objects.
async fn small_documents(records: &dyn Records) -> usize {
    let scan = Scan { collection: index::SMALL, prefix: "".into(), after: None, limit: 10_000 };
    records.scan(scan).await.unwrap().len()
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

/// What a random caller does.
#[derive(Debug, Clone)]
enum Step {
    Put(&'static str, u8),
    PutIfAbsent(&'static str),
    PutAll(&'static str, u8),
    Delete(&'static str),
    /// Removes the nth version of all that are listed.
    RemoveNth(usize),
    Tag(usize, u8),
    Versioning(bool),
    Complete(&'static str),
    Restart,
}

/// What a listing shows, with ids in the order in which they first came up.
type Shown = Vec<(String, usize, bool, bool, u64, BTreeMap<String, String>)>;

#[derive(Default)]
struct Ids(std::collections::HashMap<String, usize>);

impl Ids {
    fn of(&mut self, id: Option<&str>) -> usize {
        let next = self.0.len();
        *self.0.entry(id.unwrap_or("never").to_string()).or_insert(next)
    }
}

async fn everything(objects: &dyn Objects, ids: &mut Ids) -> (Shown, Vec<String>) {
    let request = VersionsRequest { limit: 1000, ..VersionsRequest::default() };
    let versions = objects.list_versions(BUCKET, request).await.unwrap().versions;
    let shown = versions.iter().rev().map(|version| {
        let meta = &version.meta;
        let id = ids.of(meta.version_id.as_deref());
        let tags = meta.attributes.tags.clone();
        (meta.key.clone(), id, version.is_latest, version.is_marker, meta.size_bytes, tags)
    });
    let shown = shown.collect();
    let request = ListRequest { limit: 1000, ..ListRequest::default() };
    let objects = objects.list(BUCKET, request).await.unwrap().objects;
    (shown, objects.into_iter().map(|meta| meta.key).collect())
}

async fn take(objects: &dyn Objects, step: &Step) -> Result<(), String> {
    let request = VersionsRequest { limit: 1000, ..VersionsRequest::default() };
    let versions = objects.list_versions(BUCKET, request).await.unwrap().versions;
    let nth = |n: usize| versions.get(n % versions.len().max(1));
    let kind = |error: ObjectsError| format!("{:?}", error.kind());
    match step {
        Step::Put(key, n) => {
            let bytes = vec![*n; usize::from(*n)].into();
            objects.put_bytes(BUCKET, key, bytes, PutOptions::default()).await.map_err(kind)?;
        }
        Step::PutIfAbsent(key) => {
            let options = PutOptions { condition: PutCondition::IfAbsent, ..PutOptions::default() };
            objects.put_bytes(BUCKET, key, Bytes::new(), options).await.map_err(kind)?;
        }
        Step::PutAll(key, n) => {
            let bytes = |n: u8| Bytes::from(vec![n; usize::from(n)]);
            let new = |key: String, n| NewObject { key, bytes: bytes(n), lasting: false };
            let second = new(format!("{key}+"), n + 1);
            // Which of several are put when one is there already, nobody promises.
            for key in [*key, &second.key] {
                if objects.head(BUCKET, key).await.is_ok() {
                    return Ok(());
                }
            }
            let all = vec![new(key.to_string(), *n), second];
            objects.put_all(BUCKET, all).await.map_err(kind)?;
        }
        Step::Delete(key) => drop(objects.delete(BUCKET, key).await.map_err(kind)?),
        Step::RemoveNth(n) => {
            let Some(version) = nth(*n) else { return Ok(()) };
            let id = version.meta.version_id.clone().unwrap_or_else(|| "null".into());
            let removal = Removal { version: Some(id), ..Removal::default() };
            objects.remove(BUCKET, &version.meta.key, removal).await.map_err(kind)?;
        }
        Step::Tag(n, value) => {
            let Some(version) = nth(*n) else { return Ok(()) };
            let id = version.meta.version_id.as_deref().unwrap_or("null");
            let tags = BTreeMap::from([("t".to_string(), value.to_string())]);
            objects.set_tags(BUCKET, &version.meta.key, Some(id), tags).await.map_err(kind)?;
        }
        Step::Versioning(enabled) => {
            objects.set_versioning(BUCKET, *enabled).await.map_err(kind)?;
        }
        Step::Complete(key) => {
            let id =
                objects.create_upload(BUCKET, key, Attributes::default()).await.unwrap().upload_id;
            let body: Body = Box::pin(futures::stream::iter([Ok(Bytes::from_static(b"part"))]));
            let (options, finish) = (PutOptions::default(), Box::new(|_: &mut Attributes| Ok(())));
            let part = objects.upload_part(BUCKET, key, &id, 1, body, options, finish);
            let parts = [(1, part.await.unwrap().etag)];
            let condition = PutCondition::None;
            objects
                .complete_upload(BUCKET, key, &id, &parts, condition, None)
                .await
                .map_err(kind)?;
        }
        Step::Restart => {}
    }
    Ok(())
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let key = || proptest::sample::select(vec!["a", "a\0", "ab", "b"]);
    let step = prop_oneof![
        6 => (key(), 0u8..4).prop_map(|(key, n)| Step::Put(key, n)),
        2 => key().prop_map(Step::PutIfAbsent),
        3 => (key(), 0u8..4).prop_map(|(key, n)| Step::PutAll(key, n)),
        4 => key().prop_map(Step::Delete),
        6 => (0usize..40).prop_map(Step::RemoveNth),
        2 => (0usize..40, 0u8..3).prop_map(|(n, value)| Step::Tag(n, value)),
        2 => any::<bool>().prop_map(Step::Versioning),
        2 => key().prop_map(Step::Complete),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]

    /// The memory's plain lists of versions are the model.
    #[test]
    fn any_interleaving_of_writes_and_removals_is_as_the_model_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = TempDir::new().unwrap();
            let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
            let mut local = open(&directory, records.clone()).await;
            let model = crate::objects::memory::MemoryObjects::new();
            model.create_bucket(BUCKET).await.unwrap();
            let (mut ids, mut model_ids) = (Ids::default(), Ids::default());
            for step in &steps {
                if let Step::Restart = step {
                    local = open(&directory, records.clone()).await;
                    assert_eq!(local.sweep().await.unwrap(), 0, "everything is named");
                }
                let done = take(&local, step).await;
                assert_eq!(done, take(&model, step).await, "{step:?}");
                let shown = everything(&local, &mut ids).await;
                assert_eq!(shown, everything(&model, &mut model_ids).await, "after {step:?}");
            }
            let request = VersionsRequest { limit: 1000, ..VersionsRequest::default() };
            let versions = local.list_versions(BUCKET, request).await.unwrap().versions;
            let bytes = versions.iter().filter(|version| version.meta.size_bytes > 0).count();
            let small = small_documents(&*records).await;
            files_become(&directory, bytes - small).await;
        });
    }
}

#[tokio::test]
async fn versions_outlive_a_restart_and_its_sweep() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    objects.set_versioning(BUCKET, true).await.unwrap();
    let first = put(&objects, "k", b"1").await;
    put(&objects, "k", b"2").await;
    let later = open(&directory, records).await;
    assert_eq!(later.sweep().await.unwrap(), 0);
    assert_eq!(later.versioning(BUCKET).await.unwrap(), Versioning::Enabled);
    use futures::TryStreamExt;
    let id = first.version_id.unwrap();
    let (_, _, body) = later.get_version(BUCKET, "k", &id, None).await.unwrap();
    assert_eq!(body.try_collect::<Vec<Bytes>>().await.unwrap().concat(), b"1");
}

#[tokio::test]
async fn a_sweep_spares_what_moves_between_current_and_older_meanwhile() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    objects.set_versioning(BUCKET, true).await.unwrap();
    put(&objects, "k", b"1").await;
    let later = open(&directory, records).await;
    let second = put(&later, "k", b"2").await;
    let removal = Removal { version: second.version_id, ..Removal::default() };
    later.remove(BUCKET, "k", removal).await.unwrap();
    let found = later.shared.need_entry(BUCKET, "k").await.unwrap();
    assert!(later.shared.moves.spares(&found.1.blobs[0].id));
    later.sweep().await.unwrap();
    assert_eq!(read(&later, "k").await.unwrap(), "1");
}

#[tokio::test]
async fn lost_answers_about_versions_are_resolved_by_reading_back() {
    let directory = TempDir::new().unwrap();
    let faulty = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
    let objects = open(&directory, faulty.clone()).await;
    faulty.arm(Some("bucket"), Fault::DoThenUnknown, 1);
    objects.set_versioning(BUCKET, true).await.unwrap();
    faulty.arm(Some("bucket"), Fault::SkipThenUnknown, 1);
    assert!(matches!(
        objects.set_versioning(BUCKET, false).await,
        Err(ObjectsError::Unavailable(_))
    ));
    let first = put(&objects, "k", b"1").await;
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    let second = put(&objects, "k", b"2").await;
    let count = async || {
        let request = VersionsRequest { limit: 9, ..VersionsRequest::default() };
        objects.list_versions(BUCKET, request).await.unwrap().versions.len()
    };
    assert_eq!(count().await, 2);
    let removal = |id: &Option<String>| Removal { version: id.clone(), ..Removal::default() };
    faulty.arm(Some("object"), Fault::SkipThenUnknown, 1);
    let refused = objects.remove(BUCKET, "k", removal(&second.version_id)).await;
    assert!(matches!(refused, Err(ObjectsError::Unavailable(_))), "{refused:?}");
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    objects.remove(BUCKET, "k", removal(&second.version_id)).await.unwrap();
    assert_eq!(read(&objects, "k").await.unwrap(), "1");
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    let marker = objects.remove(BUCKET, "k", Removal::default()).await.unwrap();
    assert!(marker.is_marker);
    assert_eq!(count().await, 2);
    faulty.arm(Some("object_version"), Fault::DoThenUnknown, 1);
    objects.remove(BUCKET, "k", removal(&first.version_id)).await.unwrap();
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn small_objects_that_are_put_at_once_make_no_file_and_go_with_their_entries() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    put_all(&objects, "k", b"small").await.unwrap();
    assert_eq!((files(&directory), small_documents(&*records).await), (0, 2));
    put(&objects, "k", b"a file").await;
    assert_eq!((files(&directory), small_documents(&*records).await), (1, 1));
    let to = (BUCKET, "copy");
    objects.copy((BUCKET, "k+"), to, PutCondition::None, None).await.unwrap();
    let later = open(&directory, records.clone()).await;
    assert_eq!(later.sweep().await.unwrap(), 0);
    put_all(&later, "l", b"later").await.unwrap();
    for (key, bytes) in [("k+", "small"), ("copy", "small"), ("l", "later"), ("l+", "later")] {
        assert_eq!(read(&later, key).await.unwrap(), bytes);
        later.delete(BUCKET, key).await.unwrap();
    }
    assert_eq!((files(&directory), small_documents(&*records).await), (1, 0));
}

#[tokio::test]
async fn puts_at_once_whose_answer_was_lost_are_resolved_by_reading_back() {
    let directory = TempDir::new().unwrap();
    let faulty = Arc::new(FaultyRecords::new(Arc::new(MemoryRecords::new())));
    let objects = open(&directory, faulty.clone()).await;
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    put_all(&objects, "done", b"done").await.unwrap();
    assert_eq!(read(&objects, "done+").await.unwrap(), "done");
    faulty.arm(Some("object"), Fault::SkipThenUnknown, 1);
    let large = vec![7; 100_000];
    let refused = put_all(&objects, "not", &large).await;
    assert!(matches!(refused, Err(ObjectsError::Unavailable(_))), "{refused:?}");
    assert!(matches!(read(&objects, "not").await, Err(ObjectsError::NotFound { .. })));
    assert_eq!((files(&directory), small_documents(&*faulty).await), (0, 2));
    // Neither answered nor readable: unknown, and the bytes stay, for they may be named.
    faulty.arm(Some("object"), Fault::DoThenUnknown, 1);
    faulty.refuse_reads(1);
    let unknown = put_all(&objects, "large", &large).await;
    assert!(matches!(unknown, Err(ObjectsError::Unknown(_))), "{unknown:?}");
    assert_eq!(read(&objects, "large+").await.unwrap(), large);
}

#[tokio::test]
async fn a_small_object_without_its_bytes_is_damage_not_absence() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    put_all(&objects, "k", b"small").await.unwrap();
    let found = objects.shared.need_entry(BUCKET, "k").await.unwrap();
    let gone = small::removals(&found.1.blobs).collect();
    let transaction = Transaction { preconditions: vec![], operations: gone };
    assert!(matches!(records.transact(transaction).await, Outcome::Committed { .. }));
    let got = read(&objects, "k").await;
    assert!(matches!(got, Err(ObjectsError::Corrupt(_))), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_small_objects_always_see_one_whole_version() {
    let directory = TempDir::new().unwrap();
    let objects = open(&directory, Arc::new(MemoryRecords::new())).await;
    put_all(&objects, "0", &[0; 100]).await.unwrap();
    let to = (BUCKET, "k");
    objects.copy((BUCKET, "0"), to, PutCondition::None, None).await.unwrap();
    let writer = tokio::spawn({
        let objects = objects.clone();
        async move {
            for n in 1..100u8 {
                let source = n.to_string();
                put_all(&objects, &source, &[n; 100]).await.unwrap();
                let from = (BUCKET, source.as_str());
                objects.copy(from, to, PutCondition::None, None).await.unwrap();
            }
        }
    });
    let mut last = 0;
    while last < 99 {
        let bytes = read(&objects, "k").await.unwrap();
        assert!(bytes.len() == 100 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert!(bytes[0] >= last, "a later read never sees an earlier version");
        last = bytes[0];
    }
    writer.await.unwrap();
}

/// One that goes into the records and one that is a file.
fn small_and_lasting(key: &str) -> Vec<NewObject> {
    let new =
        |key: String, lasting| NewObject { key, bytes: Bytes::from_static(b"bytes"), lasting };
    vec![new(key.to_string(), false), new(format!("{key}.parquet"), true)]
}

async fn stage(
    objects: &LocalObjects,
    records: &Arc<dyn Records>,
    key: &str,
) -> (Staged, Transaction) {
    let staged = objects.stage_all(records, BUCKET, &small_and_lasting(key)).await.unwrap();
    let staged = staged.expect("the records are those of the index");
    let (preconditions, operations) = (staged.preconditions.clone(), staged.operations.clone());
    (staged, Transaction { preconditions, operations })
}

#[tokio::test]
async fn staged_objects_are_put_by_the_callers_transaction() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    let (staged, mut transaction) = stage(&objects, &records, "k").await;
    assert!(objects.head(BUCKET, "k").await.is_err(), "nothing names it yet");
    assert_eq!((files(&directory), small_documents(&*records).await), (1, 0));
    let beside = Key::new("c", "beside");
    transaction.operations.push(Operation::Put(beside.clone(), Bytes::new()));
    let outcome = records.transact(transaction).await;
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    staged.ended(Fate::of(&outcome));
    assert!(records.get(&beside).await.unwrap().is_some());
    for key in ["k", "k.parquet"] {
        assert_eq!(read(&objects, key).await.unwrap(), b"bytes".as_slice(), "{key}");
        let meta = objects.head(BUCKET, key).await.unwrap();
        assert_eq!(meta.etag, hex::encode(<md5::Md5 as md5::Digest>::digest(b"bytes")));
    }
    assert_eq!((files(&directory), small_documents(&*records).await), (1, 1));
    assert_eq!(objects.sweep().await.unwrap(), 0);
    assert!(objects.delete(BUCKET, "k.parquet").await.unwrap());
    files_become(&directory, 0).await;
}

#[tokio::test]
async fn staged_objects_that_are_lost_leave_nothing_and_replace_nothing() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    put(&objects, "k.parquet", b"first").await;
    let (staged, transaction) = stage(&objects, &records, "k").await;
    assert_eq!(files(&directory), 2);
    let outcome = records.transact(transaction).await;
    assert!(matches!(outcome, Outcome::Conflict(Precondition::Absent(_))), "{outcome:?}");
    staged.ended(Fate::of(&outcome));
    assert_eq!((files(&directory), small_documents(&*records).await), (1, 0));
    assert_eq!(read(&objects, "k.parquet").await.unwrap(), b"first".as_slice());
    // A bucket that changed in between is a conflict that the next try sees.
    let (staged, transaction) = stage(&objects, &records, "l").await;
    let bucket = index::bucket_key(BUCKET).unwrap();
    let found = records.get(&bucket).await.unwrap().unwrap();
    let touch = vec![Operation::Put(bucket.clone(), found.body)];
    let touched = Transaction { preconditions: vec![], operations: touch };
    assert!(matches!(records.transact(touched).await, Outcome::Committed { .. }));
    let outcome = records.transact(transaction).await;
    assert!(matches!(&outcome, Outcome::Conflict(p) if *p.key() == bucket), "{outcome:?}");
    staged.ended(Fate::of(&outcome));
    let (staged, transaction) = stage(&objects, &records, "l").await;
    let outcome = records.transact(transaction).await;
    staged.ended(Fate::of(&outcome));
    assert_eq!(read(&objects, "l").await.unwrap(), b"bytes".as_slice());
}

#[tokio::test]
async fn staged_files_without_an_outcome_stay_until_a_later_start_finds_them_unnamed() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    // The caller goes away; its transaction is done all the same.
    let (staged, transaction) = stage(&objects, &records, "done").await;
    drop(staged);
    assert!(matches!(records.transact(transaction).await, Outcome::Committed { .. }));
    let (staged, _) = stage(&objects, &records, "never").await;
    drop(staged);
    let (staged, _) = stage(&objects, &records, "unknown").await;
    staged.ended(Fate::of(&Outcome::Unknown("lost".into())));
    assert_eq!(files(&directory), 3);
    let objects = open(&directory, records.clone()).await;
    assert_eq!(objects.sweep().await.unwrap(), 2);
    assert_eq!(read(&objects, "done.parquet").await.unwrap(), b"bytes".as_slice());
    assert_eq!(read(&objects, "done").await.unwrap(), b"bytes".as_slice());
}

#[tokio::test]
async fn nothing_is_staged_for_other_records_or_in_a_bucket_with_versions() {
    let directory = TempDir::new().unwrap();
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let objects = open(&directory, records.clone()).await;
    let others: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let all = small_and_lasting("k");
    assert!(objects.stage_all(&others, BUCKET, &all).await.unwrap().is_none());
    let absent = objects.stage_all(&records, "absent", &all).await;
    assert!(matches!(absent, Err(ObjectsError::NoBucket(_))));
    objects.set_versioning(BUCKET, true).await.unwrap();
    assert!(objects.stage_all(&records, BUCKET, &all).await.unwrap().is_none());
    assert_eq!(files(&directory), 0);
}
