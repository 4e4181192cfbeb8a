//! The cost of an update does not grow with the updates behind it.

use super::RowOperation::Update;
use super::*;
use alluvium_store::objects::memory::Counts;
use iceberg::spec::ManifestContentType;

/// Updates one row of fifty at a time, each in a commit of its own.
async fn updates(keyed: &mut Keyed, range: std::ops::Range<i64>) -> Counts {
    for n in range {
        keyed.apply(vec![(Update, row(n % 50, "a", n as i32))]).await;
        keyed.bench.clock.advance(10);
    }
    keyed.bench.objects.counts()
}

#[tokio::test]
async fn the_four_hundredth_update_writes_and_reads_what_the_two_hundredth_did() {
    let mut keyed = Keyed::new(&[]).await;
    // Each hundred has a merge of data manifests and one of delete manifests.
    let at_205 = updates(&mut keyed, 0..205).await;
    let at_305 = updates(&mut keyed, 205..305).await;
    let at_405 = updates(&mut keyed, 305..405).await;
    let puts = |from: Counts, to: Counts| (to.puts - from.puts, to.put_bytes - from.put_bytes);
    let (early, late) = (puts(at_205, at_305), puts(at_305, at_405));
    assert!(late.0 <= early.0 + 2, "files: {early:?}, then {late:?}");
    assert!(late.1 * 10 <= early.1 * 12, "bytes: {early:?}, then {late:?}");
    let (early, late) = (at_305.gets - at_205.gets, at_405.gets - at_305.gets);
    assert!(late * 10 <= early * 12, "reads: {early}, then {late}");

    let loaded = keyed.bench.lake.load(keyed.table.id).await.unwrap();
    let snapshot = loaded.metadata.current_snapshot().unwrap();
    let manifests = keyed.bench.lake.manifest_list(&loaded.metadata, snapshot).await.unwrap();
    for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
        let count = manifests.iter().filter(|file| file.content == content).count();
        assert!(count <= 110, "{count} manifests of {content:?}");
    }
    assert_eq!(keyed.rows().await.len(), 50);
}
