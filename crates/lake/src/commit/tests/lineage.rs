//! What clients' snapshots name, and the row ids of v3 tables: consecutive, stale, forged.

use crate::catalog::{NewTable, TableRecord};
use crate::commit::{CommitError, Committed, TableChange, TableDefinition};
use crate::testing::{Bench, NOW_MS, data_file, definition};
use alluvium_base::{OsRandom, Random};
use alluvium_store::objects::{Objects, PutOptions};
use bytes::Bytes;
use iceberg::TableUpdate;
use iceberg::io::FileIO;
use iceberg::spec::*;

/// A client that writes its own manifests.
struct Client {
    bench: Bench,
    table: TableRecord,
    version: FormatVersion,
}

/// A snapshot that a client wants to add.
struct Wanted {
    id: i64,
    parent: Option<i64>,
    sequence: i64,
    rows: Option<(u64, u64)>,
    manifests: Vec<ManifestFile>,
}

impl Client {
    async fn new(version: FormatVersion) -> Self {
        let bench = Bench::new().await;
        let TableDefinition::Schema { schema, spec, order, properties, .. } = definition(&[])
        else {
            panic!("a definition is a schema")
        };
        let definition = TableDefinition::Schema { schema, spec, order, properties, version };
        let region = "us-east-1".parse().unwrap();
        let bucket = bench.lake.catalog().table_bucket(&region, "lake").await.unwrap();
        let new = NewTable { bucket, namespace: "ns".into(), name: "client".into() };
        let table = bench.lake.create_table(&new, definition).await.unwrap().record;
        Self { bench, table, version }
    }

    async fn put(&self, location: &str, bytes: Bytes) {
        let key = location.strip_prefix(&format!("{}/", self.table.warehouse_location())).unwrap();
        let bucket = &self.table.warehouse_bucket;
        self.bench.objects.put_bytes(bucket, key, bytes, PutOptions::default()).await.unwrap();
    }

    fn place(&self, name: &str) -> String {
        format!("{}/metadata/{name}.avro", self.table.warehouse_location())
    }

    async fn metadata(&self) -> TableMetadataRef {
        self.bench.lake.load(self.table.id).await.unwrap().metadata.clone()
    }

    /// A manifest of new data files, (number, rows); the files exist.
    async fn manifest(&self, snapshot: i64, sequence: i64, files: &[(u64, u64)]) -> ManifestFile {
        for (n, rows) in files {
            let file = data_file(&self.table, *n, *rows);
            self.put(file.file_path(), "p".into()).await;
        }
        self.manifest_of_missing(snapshot, sequence, files).await
    }

    async fn manifest_of_missing(
        &self,
        snapshot: i64,
        sequence: i64,
        files: &[(u64, u64)],
    ) -> ManifestFile {
        let (memory, metadata) = (FileIO::new_with_memory(), self.metadata().await);
        let location = self.place(&format!("m-{}", OsRandom.uuid()));
        let output = memory.new_output(&location).unwrap();
        let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
        let builder = ManifestWriterBuilder::new(
            output,
            Some(snapshot),
            schema.clone(),
            spec.as_ref().clone(),
        );
        let mut writer = match self.version {
            FormatVersion::V3 => builder.build_v3_data(),
            _ => builder.build_v2_data(),
        };
        for (n, rows) in files {
            writer.add_file(data_file(&self.table, *n, *rows), UNASSIGNED_SEQUENCE_NUMBER).unwrap();
        }
        let mut file = writer.write_manifest_file().await.unwrap();
        file.sequence_number = sequence;
        file.min_sequence_number = sequence;
        self.put(&location, memory.new_input(&location).unwrap().read().await.unwrap()).await;
        file
    }

    /// Writes the list and asks for the snapshot on `main`.
    async fn updates(&self, wanted: Wanted) -> Vec<TableUpdate> {
        let memory = FileIO::new_with_memory();
        let location = self.place(&format!("snap-{}", OsRandom.uuid()));
        let output = memory.new_output(&location).unwrap().writer().await.unwrap();
        let Wanted { id, parent, sequence, rows, manifests } = wanted;
        let mut list = match self.version {
            FormatVersion::V3 => {
                // The list is as it should be even where the snapshot says nothing.
                let first = rows.map_or(3, |(first, _)| first);
                ManifestListWriter::v3(output, id, parent, sequence, Some(first))
            }
            _ => ManifestListWriter::v2(output, id, parent, sequence),
        };
        list.add_manifests(manifests.into_iter()).unwrap();
        list.close().await.unwrap();
        self.put(&location, memory.new_input(&location).unwrap().read().await.unwrap()).await;
        let mut snapshot = serde_json::json!({
            "snapshot-id": id, "sequence-number": sequence, "timestamp-ms": NOW_MS + 1,
            "manifest-list": location, "summary": {"operation": "append"}, "schema-id": 0,
        });
        if let Some(parent) = parent {
            snapshot["parent-snapshot-id"] = parent.into();
        }
        if let Some((first, added)) = rows {
            snapshot["first-row-id"] = first.into();
            snapshot["added-rows"] = added.into();
        }
        let json = serde_json::json!([
            {"action": "add-snapshot", "snapshot": snapshot},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
             "snapshot-id": id},
        ]);
        serde_json::from_value(json).unwrap()
    }

    async fn commit(&self, wanted: Wanted) -> Result<Committed, CommitError> {
        let change = TableChange::update(Vec::new(), self.updates(wanted).await);
        self.bench.lake.commit(self.table.id, change).await
    }

    /// Snapshot 1: a file of three rows.
    async fn first(&self) -> ManifestFile {
        let manifest = self.manifest(1, 1, &[(1, 3)]).await;
        let rows = (self.version == FormatVersion::V3).then_some((0, 3));
        let manifests = vec![manifest];
        let wanted = Wanted { id: 1, parent: None, sequence: 1, rows, manifests };
        self.commit(wanted).await.unwrap();
        self.list(1).await.remove(0)
    }

    async fn list(&self, snapshot: i64) -> Vec<ManifestFile> {
        let metadata = self.metadata().await;
        let snapshot = metadata.snapshot_by_id(snapshot).unwrap();
        self.bench.lake.manifest_list(&metadata, snapshot).await.unwrap().as_ref().clone()
    }

    /// Snapshot 2 with a file of five rows, as it should be.
    async fn second(&self, carried: ManifestFile) -> Wanted {
        let rows = (self.version == FormatVersion::V3).then_some((3, 5));
        let manifests = vec![carried, self.manifest(2, 2, &[(2, 5)]).await];
        Wanted { id: 2, parent: Some(1), sequence: 2, rows, manifests }
    }
}

fn invalid(outcome: Result<Committed, CommitError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, CommitError::Invalid(_)), "{error}");
}

fn conflict(outcome: Result<Committed, CommitError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, CommitError::Conflict(_)), "{error}");
}

#[tokio::test]
async fn row_ids_of_consecutive_appends_follow_each_other() {
    let client = Client::new(FormatVersion::V3).await;
    assert_eq!(client.metadata().await.next_row_id(), 0);
    let carried = client.first().await;
    assert_eq!(client.metadata().await.next_row_id(), 3);
    client.commit(client.second(carried).await).await.unwrap();
    let metadata = client.metadata().await;
    assert_eq!(metadata.next_row_id(), 8);
    assert_eq!(metadata.current_snapshot().unwrap().row_range(), Some((3, 5)));
    let first: Vec<_> = client.list(2).await.iter().map(|file| file.first_row_id).collect();
    assert_eq!(first, [Some(0), Some(3)]);
}

#[tokio::test]
async fn row_ids_that_are_behind_lost_a_race_and_those_ahead_are_forged() {
    let client = Client::new(FormatVersion::V3).await;
    let carried = client.first().await;
    let stale = client.second(carried.clone()).await;
    conflict(client.commit(Wanted { rows: Some((0, 5)), ..stale }).await);
    for rows in [None, Some((4, 5)), Some((3, 4)), Some((3, 0)), Some((3, u64::MAX - 4))] {
        let forged = client.second(carried.clone()).await;
        invalid(client.commit(Wanted { rows, ..forged }).await);
    }
    assert_eq!(client.metadata().await.next_row_id(), 3);
    client.commit(client.second(carried).await).await.unwrap();
    assert_eq!(client.metadata().await.next_row_id(), 8);
}

#[tokio::test]
async fn a_row_id_is_given_once() {
    let client = Client::new(FormatVersion::V3).await;
    let carried = client.first().await;
    // Two manifests with the same first row id.
    let mut twice = client.second(carried.clone()).await;
    twice.manifests.push(client.manifest(2, 2, &[(3, 2)]).await);
    for manifest in &mut twice.manifests[1..] {
        manifest.first_row_id = Some(3);
    }
    invalid(client.commit(Wanted { rows: Some((3, 7)), ..twice }).await);
    // Ids of the parent's rows.
    let mut taken = client.second(carried.clone()).await;
    taken.manifests[1].first_row_id = Some(0);
    invalid(client.commit(taken).await);
    // Other ids for the parent's rows.
    let mut moved = client.second(carried.clone()).await;
    moved.manifests[0].first_row_id = Some(1);
    invalid(client.commit(moved).await);
    let good = client.second(carried).await;
    client.commit(good).await.unwrap();
}

#[tokio::test]
async fn an_upgraded_table_gives_its_rows_ids_with_the_next_snapshot() {
    let mut client = Client::new(FormatVersion::V2).await;
    let carried = client.first().await;
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V3 };
    let change = TableChange::update(Vec::new(), vec![upgrade]);
    client.bench.lake.commit(client.table.id, change).await.unwrap();
    client.version = FormatVersion::V3;
    let next = client.second(carried.clone()).await;
    client.commit(Wanted { rows: Some((0, 8)), ..next }).await.unwrap();
    assert_eq!(client.metadata().await.next_row_id(), 8);
    let first: Vec<_> = client.list(2).await.iter().map(|file| file.first_row_id).collect();
    assert_eq!(first, [Some(0), Some(3)]);
}

#[tokio::test]
async fn a_manifest_is_of_the_spec_that_it_is_listed_by() {
    let client = Client::new(FormatVersion::V2).await;
    let carried = client.first().await;
    let spec = UnboundPartitionSpec::builder();
    let spec = spec.add_partition_field(1, "p", Transform::Identity).unwrap().build();
    let change = TableChange::update(Vec::new(), vec![TableUpdate::AddSpec { spec }]);
    client.bench.lake.commit(client.table.id, change).await.unwrap();
    for forged in [0, 1] {
        let mut wanted = client.second(carried.clone()).await;
        wanted.manifests[forged].partition_spec_id = 1;
        invalid(client.commit(wanted).await);
    }
    client.commit(client.second(carried).await).await.unwrap();
}

#[tokio::test]
async fn sequence_numbers_never_go_back_nor_to_the_end() {
    let client = Client::new(FormatVersion::V2).await;
    let carried = client.first().await;
    // Without a parent the library would take the table's number back.
    for (parent, sequence) in [(None, 1), (None, 0), (Some(1), 1)] {
        let wanted = client.second(carried.clone()).await;
        conflict(client.commit(Wanted { parent, sequence, manifests: Vec::new(), ..wanted }).await);
    }
    let last = client.second(carried.clone()).await;
    invalid(client.commit(Wanted { sequence: i64::MAX, manifests: vec![carried], ..last }).await);
    assert_eq!(client.metadata().await.last_sequence_number(), 1);
}

#[tokio::test]
async fn what_a_snapshot_names_exists_in_the_tables_warehouse() {
    let client = Client::new(FormatVersion::V2).await;
    let carried = client.first().await;
    // A manifest that says another snapshot added it is no reason not to look.
    let mut missing = client.second(carried.clone()).await;
    missing.manifests[1] = client.manifest_of_missing(9, 2, &[(7, 1)]).await;
    missing.manifests[1].added_snapshot_id = 9;
    invalid(client.commit(missing).await);
    let mut nowhere = client.second(carried.clone()).await;
    nowhere.manifests[1].manifest_path = client.place("nowhere");
    invalid(client.commit(nowhere).await);
    let mut foreign = client.second(carried.clone()).await;
    foreign.manifests[1].partition_spec_id = 7;
    invalid(client.commit(foreign).await);
    // A carried manifest under a later sequence number would outlive deletes.
    let mut later = client.second(carried.clone()).await;
    later.manifests[0].sequence_number = 2;
    invalid(client.commit(later).await);
    let ahead = client.second(carried.clone()).await;
    let mut updates = client.updates(ahead).await;
    let TableUpdate::AddSnapshot { snapshot } = &updates[0] else { panic!() };
    let mut json = serde_json::to_value(&updates[0]).unwrap();
    json["snapshot"]["timestamp-ms"] = (snapshot.timestamp_ms() + 3_600_000).into();
    updates[0] = serde_json::from_value(json).unwrap();
    let change = TableChange::update(Vec::new(), updates);
    invalid(client.bench.lake.commit(client.table.id, change).await);
    let good = client.second(carried).await;
    client.commit(good).await.unwrap();
}

#[tokio::test]
async fn a_manifest_committed_again_inherits_the_numbers_of_the_commit_that_landed() {
    let client = Client::new(FormatVersion::V2).await;
    let carried = client.first().await;
    let mut early = client.manifest(2, 2, &[(2, 5)]).await;
    client.bench.lake.manifests().manifest(&early).await.unwrap();
    let nothing = Wanted {
        id: 5,
        parent: Some(1),
        sequence: 2,
        rows: None,
        manifests: vec![carried.clone()],
    };
    client.commit(nothing).await.unwrap();
    early.sequence_number = 3;
    early.min_sequence_number = 3;
    let manifests = vec![carried, early];
    let wanted = Wanted { id: 2, parent: Some(5), sequence: 3, rows: None, manifests };
    client.commit(wanted).await.unwrap();
    let numbers: Vec<i64> =
        client.bench.live_files(client.table.id).await.iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers, [1, 3]);
}

#[tokio::test]
async fn metadata_whose_numbers_are_behind_its_snapshots_is_refused() {
    let client = Client::new(FormatVersion::V3).await;
    client.first().await;
    let json = serde_json::to_value(&*client.metadata().await).unwrap();
    let swap =
        |name: &str| TableChange::swap(client.place(name).replace(".avro", ".metadata.json"), None);
    for (member, value) in [("next-row-id", 2), ("last-sequence-number", 0)] {
        let mut forged = json.clone();
        forged[member] = value.into();
        let location = client.place(member).replace(".avro", ".metadata.json");
        client.put(&location, forged.to_string().into()).await;
        invalid(client.bench.lake.commit(client.table.id, swap(member)).await);
    }
    client
        .put(&client.place("good").replace(".avro", ".metadata.json"), json.to_string().into())
        .await;
    client.bench.lake.commit(client.table.id, swap("good")).await.unwrap();
}
