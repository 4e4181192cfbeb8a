//! Removes what a crash left: blobs of earlier starts that no entry names.
//!
//! A blob gets its name in the index only in the start that made it, so one of an earlier start
//! that is named nowhere now never will be. Parts are read before objects, because a completion
//! moves names from the ones to the others. Versions go both ways between current and older: what
//! moves while a sweep reads is noted ([`Moves`]) and spared.

use super::Shared;
use super::blob::{self, BlobId, BlobRef, io_error};
use super::index::{self, Entry, PartEntry};
use crate::objects::ObjectsError;
use crate::records::{Document, Scan};
use metrics::counter;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// Blobs that are kept in mind at once, some 16 MB; with more, the directories go in turns.
const BLOBS_IN_MIND: usize = 1_000_000;

/// Documents read at a time.
const PAGE_DOCUMENTS: usize = 1000;

/// Blobs whose names moved from document to document since the start, until its sweep is done.
#[derive(Debug, Default)]
pub(super) struct Moves(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    blobs: HashSet<BlobId>,
    /// More moved than are kept in mind, or the sweep is done.
    over: bool,
}

impl Moves {
    /// Blobs are about to be named by another document.
    pub(super) fn note(&self, blobs: &[BlobRef]) {
        let mut noted = self.0.lock();
        if blobs.is_empty() || noted.over {
            return;
        }
        noted.blobs.extend(blobs.iter().map(|blob| blob.id.clone()));
        if noted.blobs.len() > BLOBS_IN_MIND {
            *noted = Noted { blobs: HashSet::new(), over: true };
        }
    }

    /// Whether a blob that no document seems to name may be removed.
    pub(super) fn spares(&self, id: &BlobId) -> bool {
        let noted = self.0.lock();
        noted.over || noted.blobs.contains(id)
    }

    /// The start's one sweep is done.
    fn end(&self) {
        *self.0.lock() = Noted { blobs: HashSet::new(), over: true };
    }
}

/// Names seen in the index, of some directories.
struct Named {
    fingerprints: HashSet<(u8, u64)>,
    from: u16,
    to: u16,
    limit: usize,
}

impl Named {
    fn add(&mut self, id: &BlobId) {
        let shard = u16::from(id.shard());
        if shard < self.from || shard >= self.to {
            return;
        }
        self.fingerprints.insert((id.shard(), id.fingerprint()));
        while self.fingerprints.len() > self.limit && self.to > self.from + 1 {
            self.to = self.from + (self.to - self.from) / 2;
            let to = self.to;
            self.fingerprints.retain(|(shard, _)| u16::from(*shard) < to);
        }
    }
}

impl Shared {
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<u64, ObjectsError> {
        let removed = self.sweep_in_turns(BLOBS_IN_MIND).await?;
        self.moves.end();
        Ok(removed)
    }

    pub(super) async fn sweep_in_turns(
        self: &Arc<Self>,
        limit: usize,
    ) -> Result<u64, ObjectsError> {
        self.sweep_parts().await?;
        let mut removed = 0;
        let mut from = 0;
        let collections = [index::OBJECT, index::VERSION];
        while from <= u16::from(u8::MAX) {
            let to = u16::from(u8::MAX) + 1;
            let mut named = Named { fingerprints: HashSet::new(), from, to, limit };
            self.each(index::PART, |document| {
                let part: PartEntry = index::decode(document)?;
                part.blob.iter().for_each(|blob| named.add(&blob.id));
                Ok(())
            })
            .await?;
            for collection in collections {
                self.each(collection, |document| {
                    let entry: Entry = index::decode(document)?;
                    entry.blobs.iter().for_each(|blob| named.add(&blob.id));
                    Ok(())
                })
                .await?;
            }
            from = named.to;
            removed += self.remove_unnamed(named).await?;
        }
        counter!("alluvium_object_swept_blobs").increment(removed);
        Ok(removed)
    }

    /// Removes parts whose upload is gone: an abort was cut short.
    async fn sweep_parts(&self) -> Result<(), ObjectsError> {
        let mut uploads = HashSet::new();
        let mut with_parts = HashSet::new();
        // Parts first: an upload that begins in between has none among these.
        self.each(index::PART, |document| {
            let upload = document.key.id.get(..index::UPLOAD_ID_BYTES);
            with_parts.extend(upload.map(str::to_string));
            Ok(())
        })
        .await?;
        self.each(index::UPLOAD, |document| {
            let id = &document.key.id;
            let upload = id.get(id.len().saturating_sub(index::UPLOAD_ID_BYTES)..);
            uploads.extend(upload.map(str::to_string));
            Ok(())
        })
        .await?;
        for upload in with_parts.difference(&uploads) {
            self.remove_parts(upload).await?;
        }
        Ok(())
    }

    async fn each(
        &self,
        collection: &'static str,
        mut visit: impl FnMut(&Document) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        let mut after = None;
        loop {
            let scan = Scan { collection, prefix: String::new(), after, limit: PAGE_DOCUMENTS };
            let documents = self.records.scan(scan).await.map_err(index::read_error)?;
            documents.iter().try_for_each(&mut visit)?;
            match documents.last() {
                Some(last) => after = Some(last.key.id.clone()),
                None => return Ok(()),
            }
        }
    }

    async fn remove_unnamed(self: &Arc<Self>, named: Named) -> Result<u64, ObjectsError> {
        let (shared, start) = (Arc::clone(self), self.start);
        self.blocking(move || {
            let mut removed = 0;
            for shard in named.from..named.to {
                let shard = u8::try_from(shard).unwrap_or(u8::MAX);
                let directory = blob::shard_path(&shared.root, shard);
                for file in std::fs::read_dir(directory).map_err(|e| io_error(&e))? {
                    let name = file.map_err(|e| io_error(&e))?.file_name();
                    let Some(id) = name.to_str().and_then(BlobId::of_file) else { continue };
                    let is_named = named.fingerprints.contains(&(id.shard(), id.fingerprint()));
                    if id.start() < start && !is_named && !shared.moves.spares(&id) {
                        blob::remove(&shared.root, &id);
                        removed += 1;
                    }
                }
            }
            Ok(removed)
        })
        .await
    }
}
