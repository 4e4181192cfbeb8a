//! The journal on a real directory.
#![allow(clippy::unwrap_used)] // a test ends where an assumption fails

mod disk;

use alluvium_base::{Epoch, OsRandom, SequenceNumber, SystemClock};
use alluvium_log::{Journal, JournalOptions};
use disk::{append_of, frames, read_all};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn open(directory: &Path, epoch: u64) -> Journal {
    let mut options = JournalOptions::new(Epoch(epoch), Arc::new(SystemClock), Arc::new(OsRandom));
    options.segment_bytes = 1 << 20;
    options.budget_bytes = 4 << 20;
    Journal::open(directory, options, Arc::new(|_| {})).unwrap().0
}

#[tokio::test]
async fn log_in_a_directory_keeps_its_records_and_is_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let mut before = SequenceNumber::ZERO;
    for epoch in 1..=3 {
        let journal = open(&directory, epoch);
        let first = journal.append(append_of(1, epoch as u32, 4)).await.unwrap().first[0].1;
        assert!(first > before);
        before = first;
        let read = read_all(&journal, 1, SequenceNumber::ZERO).await;
        let expected: Vec<_> = (1..=epoch).map(|epoch| frames(epoch as u32, 4)).collect();
        assert_eq!(read.into_iter().map(|block| block.frames).collect::<Vec<_>>(), expected);
        journal.close().await;
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in std::fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}
