//! An hour of commits, one a second, and the days after it, by a clock that the test moves: files,
//! snapshots, manifests, metadata and unreferenced bytes end within the bounds of docs/upkeep.md.

use crate::world::rows::row;
use crate::world::{DAY_MS, HOUR_MS, NOW_MS, World};
use alluvium_base::Clock as _;
use alluvium_lake::delta::RowOperation;
use alluvium_store::objects::{ListRequest, Objects};
use alluvium_upkeep::background::{Background, BackgroundOptions};
use alluvium_upkeep::elapsed;
use alluvium_upkeep::table_jobs::TableJobs;
use iceberg::spec::{DataContentType, DataFile};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const COMMITS: i64 = 3_600;
/// The background's loop turns four times a minute, and looks at a table a minute after its first
/// commit since the last look.
const TURN_COMMITS: i64 = 15;
const MINUTE_COMMITS: i64 = 60;
const BETWEEN_LOOKS: usize = 75;

// What docs/upkeep.md says under "Bounds".
const SMALL_FILES_MAX: usize = 5;
const SNAPSHOTS_CONTIGUOUS: usize = 200;
const MANIFESTS_MAX: usize = 120;
/// `write.metadata.previous-versions-max`, the current one, and what a rewrite's reading held when
/// it could have gone.
const METADATA_FILES_MAX: usize = 100 + 1 + 2;
/// `maxSnapshotAgeHours`: until then snapshots name the files; that is longer than `unreferencedDays`.
const SNAPSHOT_DAYS: i64 = 5;
const NONCURRENT_DAYS: i64 = 10;
/// Removal runs twice a day, and marks in one run what a later one deletes.
const RUN_DAYS: i64 = 1;

struct Hour {
    world: World,
    background: Background,
}

/// What the table has, and what its warehouse has beside it.
#[derive(Debug)]
struct Holdings {
    data_files: usize,
    delete_files: usize,
    manifests: usize,
    snapshots: usize,
    metadata_files: usize,
    objects: usize,
    bytes: u64,
}

impl Hour {
    async fn new() -> Self {
        let world = World::new().await;
        let background = Background::new(
            world.life.lake.clone(),
            Arc::new(world.clock.clone()),
            Arc::new(TableJobs(world.life.upkeep.clone())),
            BackgroundOptions::default(),
            CancellationToken::new(),
        );
        elapsed::look(&world.life.upkeep).await.unwrap();
        Self { world, background }
    }

    /// A batch of a second: new rows, and now and then one that takes the place of an older one.
    async fn second(&mut self, number: i64) {
        let world = &mut self.world;
        let metadata = world.metadata().await;
        let value = i32::try_from(number).unwrap();
        let (new, record) = row(&metadata, number, value);
        let mut records = vec![(RowOperation::Insert, record)];
        world.rows.push(new);
        if number % 20 == 19 {
            let older = number / 2;
            let (updated, record) = row(&metadata, older, value);
            records.push((RowOperation::Update, record));
            world.rows.retain(|row| row.get(&1) != Some(&older.into()));
            world.rows.push(updated);
        }
        let batch = world.next_batch();
        world.life.change(world.table, batch, &records).await;
        world.clock.advance(1_000);
    }

    async fn files(&self) -> (usize, Vec<DataFile>) {
        let (lake, metadata) = (&self.world.life.lake, self.world.metadata().await);
        let snapshot = metadata.current_snapshot().unwrap();
        let list = lake.manifest_list(&metadata, snapshot).await.unwrap();
        let mut files = Vec::new();
        for manifest in list.iter() {
            let manifest = lake.manifests().manifest(manifest).await.unwrap();
            let live = manifest.entries().iter().filter(|entry| entry.is_alive());
            files.extend(live.map(|entry| entry.data_file().clone()));
        }
        (list.len(), files)
    }

    async fn holdings(&self) -> Holdings {
        let (manifests, files) = self.files().await;
        let data = |file: &&DataFile| file.content_type() == DataContentType::Data;
        let record = self.world.life.lake.load(self.world.table).await.unwrap().record.clone();
        let (mut objects, mut bytes, mut metadata_files) = (0, 0, 0);
        let mut after = None;
        loop {
            let request = ListRequest { after, limit: 1_000, ..Default::default() };
            let page = self.world.objects.list(&record.warehouse_bucket, request).await.unwrap();
            for object in &page.objects {
                objects += 1;
                bytes += object.size_bytes;
                metadata_files += usize::from(object.key.ends_with(".metadata.json"));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Holdings {
            data_files: files.iter().filter(data).count(),
            delete_files: files.iter().filter(|file| !data(file)).count(),
            manifests,
            snapshots: self.world.reachable().await.len(),
            metadata_files,
            objects,
            bytes,
        }
    }

    /// The bounds that hold when so many files came since upkeep looked last.
    fn assert_bounded(&self, found: &Holdings, since: usize) {
        let minutes = usize::try_from((self.world.clock.now_ms() - NOW_MS) / 60_000).unwrap();
        let tens = minutes / 10;
        assert!(found.data_files < SMALL_FILES_MAX + since, "{found:?}");
        assert!(found.delete_files < SMALL_FILES_MAX + since, "{found:?}");
        assert!(found.manifests <= MANIFESTS_MAX, "{found:?}");
        let slots = minutes.min(60) + tens;
        assert!(found.snapshots <= SNAPSHOTS_CONTIGUOUS + slots + 2, "{found:?}");
        assert!(found.metadata_files <= METADATA_FILES_MAX, "{found:?}");
    }

    /// Hours pass, and upkeep looks in each of them.
    async fn pass(&self, hours: i64) {
        for _ in 0..hours {
            self.world.clock.advance(HOUR_MS);
            self.background.turn().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_commits_ends_within_the_bounds_that_the_documentation_states() {
    let mut hour = Hour::new().await;
    let mut written_bytes = 0;
    for number in 0..COMMITS {
        hour.second(number).await;
        if (number + 1) % TURN_COMMITS == 0 {
            hour.background.turn().await;
        }
        if (number + 1) % MINUTE_COMMITS == 0 {
            let found = hour.holdings().await;
            hour.assert_bounded(&found, BETWEEN_LOOKS);
            written_bytes = written_bytes.max(found.bytes);
        }
    }
    // A minute without a commit, and upkeep has looked at all of them.
    for _ in 0..4 {
        hour.world.clock.advance(TURN_COMMITS * 1_000);
        hour.background.turn().await;
    }
    hour.assert_bounded(&hour.holdings().await, 0);
    hour.world.verify_rows().await;
    hour.world.verify_files().await;

    // What the hour wrote beside its rows is there as long as the settings say, and no longer.
    hour.pass((SNAPSHOT_DAYS + NONCURRENT_DAYS + RUN_DAYS) * DAY_MS / HOUR_MS).await;
    let found = hour.holdings().await;
    hour.assert_bounded(&found, 0);
    hour.world.verify_rows().await;
    hour.world.verify_files().await;
    assert!(found.bytes < written_bytes, "{found:?} of {written_bytes} bytes");
    // Nobody wrote since: one snapshot is left, with the files that it names.
    assert_eq!(found.snapshots, 1, "{found:?}");
    let named = found.data_files + found.delete_files + found.manifests + found.metadata_files + 1;
    assert_eq!(found.objects, named, "{found:?}");
}
