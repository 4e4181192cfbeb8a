//! A table made together with its first rows: it appears with them or not at all (I5).

use super::append::append;
use super::create::BesideTable;
use super::files::put_all;
use super::groups::Memo;
use super::update::draft;
use super::{Append, CommitError, Committed, CreateError, StagedTable};
use crate::catalog::NewTable;
use crate::lake::{Lake, LoadedTable};
use alluvium_base::kill_point;
use std::collections::BTreeMap;

impl Lake {
    /// Makes a staged table with one snapshot of files that were written into it. What is left of a
    /// try that failed is a staged warehouse, which nobody sees.
    pub async fn create_filled(
        &self,
        new: &NewTable,
        staged: StagedTable,
        rows: Append,
        summary: &BTreeMap<String, String>,
    ) -> Result<Committed, CreateError> {
        let namespace = self.vacant(new).await?;
        let mut record = self.adopted(new, &namespace, staged.metadata.location()).await?;
        let empty = draft(self, staged.metadata, None, Vec::new(), None)?;
        let table = LoadedTable {
            record: record.clone(),
            record_version: 0,
            metadata: empty.metadata.clone(),
            metadata_location: empty.location.clone(),
        };
        let (filled, deletes) =
            append(self, &table, &[rows], summary, &[], &mut Memo::default()).await?;
        let filled = filled.ok_or_else(|| CommitError::Internal("rows in no file".into()))?;
        let files = empty.files.into_iter().chain(filled.files);
        let (files, points): (Vec<_>, Vec<_>) = files.unzip();
        put_all(&files, &self.inner.objects).await?;
        points.into_iter().for_each(kill_point);
        record.previous_metadata_location = Some(empty.location);
        record.metadata_location = Some(filled.location.clone());
        self.link(new, &record, &BesideTable::default()).await?;
        self.inner.metadata.insert(&filled.location, &filled.metadata, filled.metadata_bytes);
        let (metadata, snapshot_id) = (Some(filled.metadata), filled.snapshot_id);
        Ok(Committed { record, metadata, snapshot_id, deletes, already: false })
    }
}
