//! Tables that are sound, and each kind of damage.

use super::*;
use crate::testing::Bench;
use alluvium_lake::TableChange;
use alluvium_store::objects::PutOptions;
use iceberg::spec::{DataContentType, DataFile};
use std::collections::BTreeMap;

async fn checked(bench: &Bench) -> CheckReport {
    check(&bench.lake, bench.id()).await.unwrap()
}

fn kinds(report: &CheckReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn split(location: &str) -> (&str, &str) {
    split_location(location).unwrap()
}

async fn overwrite(bench: &Bench, location: &str, bytes: Vec<u8>) {
    let (bucket, key) = split(location);
    let put = bench.lake.objects().put_bytes(bucket, key, bytes.into(), PutOptions::default());
    put.await.unwrap();
}

async fn read(bench: &Bench, location: &str) -> Vec<u8> {
    read_whole(bench.lake.objects().as_ref(), location, None).await.unwrap().to_vec()
}

async fn remove(bench: &Bench, location: &str) {
    let (bucket, key) = split(location);
    assert!(bench.lake.objects().delete(bucket, key).await.unwrap());
}

async fn list_location(bench: &Bench) -> String {
    bench.loaded().await.metadata.current_snapshot().unwrap().manifest_list().to_string()
}

async fn first_data_file(bench: &Bench) -> DataFile {
    let mut files = bench.files().await;
    files.retain(|file| file.content_type() == DataContentType::Data);
    files.remove(0)
}

#[tokio::test]
async fn a_table_of_inserts_and_updates_is_sound() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    bench.insert(10..30).await;
    bench.update(5..15).await;
    let report = checked(&bench).await;
    assert_eq!(report.findings, []);
    assert!(report.sound && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.snapshots, report.rows), (3, 40));
    // Three of data, and the deletes of the third commit.
    assert_eq!(report.files, 4);
}

#[tokio::test]
async fn a_table_without_a_commit_is_sound() {
    let bench = Bench::new().await;
    let report = checked(&bench).await;
    assert!(report.sound);
    assert_eq!((report.snapshots, report.files), (0, 0));
}

#[tokio::test]
async fn a_data_file_that_was_removed_is_named_with_its_snapshot() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let file = first_data_file(&bench).await;
    bench.insert(10..20).await;
    remove(&bench, file.file_path()).await;
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Missing]);
    assert_eq!(report.findings[0].path.as_deref(), Some(file.file_path()));
    let current = bench.loaded().await.metadata.current_snapshot_id();
    assert_eq!(report.findings[0].snapshot_id, current, "the newest snapshot that needs it");
}

#[tokio::test]
async fn a_file_of_another_size_or_other_rows_or_no_parquet_is_named() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let file = first_data_file(&bench).await;
    let whole = read(&bench, file.file_path()).await;
    overwrite(&bench, file.file_path(), whole[..whole.len() - 1].to_vec()).await;
    assert_eq!(kinds(&checked(&bench).await), [FindingKind::Size]);

    let mut torn = whole.clone();
    let end = torn.len();
    torn[end - 8..end - 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    overwrite(&bench, file.file_path(), torn).await;
    assert_eq!(kinds(&checked(&bench).await), [FindingKind::Unreadable]);

    let mut zeroes = whole.clone();
    zeroes.fill(0);
    overwrite(&bench, file.file_path(), zeroes).await;
    assert_eq!(kinds(&checked(&bench).await), [FindingKind::Unreadable]);

    overwrite(&bench, file.file_path(), whole).await;
    assert!(checked(&bench).await.sound);
}

#[tokio::test]
async fn an_entry_with_another_count_than_its_file_is_named() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let file = first_data_file(&bench).await;
    let wrong = iceberg::spec::DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(file.file_path().replace(".parquet", "-copy.parquet"))
        .file_format(iceberg::spec::DataFileFormat::Parquet)
        .partition(iceberg::spec::Struct::empty())
        .partition_spec_id(0)
        .record_count(11)
        .file_size_in_bytes(file.file_size_in_bytes())
        .build()
        .unwrap();
    let bytes = read(&bench, file.file_path()).await;
    overwrite(&bench, wrong.file_path(), bytes).await;
    let path = wrong.file_path().to_string();
    let change = TableChange::append(0, vec![wrong], BTreeMap::new());
    bench.lake.commit(bench.id(), change).await.unwrap();
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Rows]);
    assert_eq!(report.findings[0].path, Some(path));
}

#[tokio::test]
async fn a_file_that_is_named_twice_in_a_snapshot_doubles_its_rows_and_is_named() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let file = first_data_file(&bench).await;
    let change = TableChange::append(0, vec![file.clone()], BTreeMap::new());
    bench.lake.commit(bench.id(), change).await.unwrap();
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Twice]);
    assert_eq!(report.findings[0].path.as_deref(), Some(file.file_path()));
}

#[tokio::test]
async fn lists_and_manifests_that_are_missing_or_damaged_are_named() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let list = list_location(&bench).await;
    let manifests = {
        let loaded = bench.loaded().await;
        let snapshot = loaded.metadata.current_snapshot().unwrap();
        bench.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap()
    };
    let manifest = manifests[0].manifest_path.clone();
    let whole = read(&bench, &manifest).await;
    let mut damaged = whole.clone();
    damaged[..4].fill(0);
    overwrite(&bench, &manifest, damaged).await;
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Unreadable], "{report:?}");
    assert_eq!(report.findings[0].path, Some(manifest.clone()));
    remove(&bench, &manifest).await;
    assert_eq!(kinds(&checked(&bench).await), [FindingKind::Missing]);
    overwrite(&bench, &manifest, whole).await;
    assert!(checked(&bench).await.sound);

    remove(&bench, &list).await;
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Missing]);
    assert_eq!(report.findings[0].path, Some(list));
}

#[tokio::test]
async fn metadata_that_is_missing_or_damaged_is_what_was_found() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let location = bench.loaded().await.metadata_location.clone();
    overwrite(&bench, &location, b"{}".to_vec()).await;
    assert_eq!(kinds(&checked(&bench).await), [FindingKind::Unreadable]);
    remove(&bench, &location).await;
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Missing]);
    assert_eq!(report.findings[0].path, Some(location));
}

#[tokio::test]
async fn totals_that_a_summary_states_and_its_manifests_do_not_have_are_named() {
    let bench = Bench::new().await;
    bench.insert(0..10).await;
    let location = bench.loaded().await.metadata_location.clone();
    let text = String::from_utf8(read(&bench, &location).await).unwrap();
    let changed = text.replace(r#""total-records":"10""#, r#""total-records":"11""#);
    assert_ne!(text, changed);
    overwrite(&bench, &location, changed.into_bytes()).await;
    let report = checked(&bench).await;
    assert_eq!(kinds(&report), [FindingKind::Summary]);
    assert!(report.findings[0].detail.contains("total-records"), "{report:?}");
}

#[tokio::test]
async fn findings_are_bounded_and_the_rest_is_counted() {
    let bench = Bench::new().await;
    let record = bench.lake.catalog().table_by_id(bench.id()).await.unwrap();
    let mut pass = Pass::new(&bench.lake, record.id).await.unwrap();
    for n in 0..FINDINGS_NAMED + 3 {
        pass.found(of_file(FindingKind::Missing, &n.to_string(), "gone"));
    }
    let report = pass.end();
    assert_eq!((report.findings.len(), report.findings_left_out), (FINDINGS_NAMED, 3));
    assert!(!report.sound);
}
