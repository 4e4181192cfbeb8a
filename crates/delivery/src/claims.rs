//! Which files of tables batches need before a table's metadata names them (I6).
//!
//! A batch that is only cut may have written any of its files already, under names that nothing
//! records: whatever was written since the oldest such batch was cut is its. A part of a prepared
//! batch names its files, a failed one for as long as an operator may still commit them.

use crate::batch::{BATCHES, BatchDocument, BatchState, PARTS, PartDocument};
use alluvium_base::TableId;
use alluvium_lake::claims::{Claim, ClaimsError, FileClaims};
use alluvium_store::records::{Document, Records, Scan};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Documents that are read at a time: a part names thousands of files.
const PAGE: usize = 64;

/// A batch's cut is written down just before its files; a clock that is set back in between may
/// give them an earlier time.
const CLOCK_SET_BACK_MS: i64 = 24 * 3_600_000;

/// Delivery's claims.
#[derive(Debug, Clone)]
pub struct DeliveryClaims(Arc<dyn Records>);

impl DeliveryClaims {
    /// Claims of the batches in these documents.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self(records)
    }

    async fn each(
        &self,
        collection: &'static str,
        mut take: impl FnMut(&Document) -> Result<(), ClaimsError> + Send,
    ) -> Result<(), ClaimsError> {
        let mut after = None;
        loop {
            let scan = Scan { collection, prefix: String::new(), after, limit: PAGE };
            let page = self.0.scan(scan).await?;
            page.iter().try_for_each(&mut take)?;
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().map(|document| document.key.id.clone());
        }
    }
}

fn decode<T: DeserializeOwned>(document: &Document) -> Result<T, ClaimsError> {
    serde_json::from_slice(&document.body).map_err(|error| {
        let key = &document.key;
        ClaimsError::Damaged(format!("{} '{}': {error}", key.collection, key.id))
    })
}

#[async_trait]
impl FileClaims for DeliveryClaims {
    async fn writing_since_ms(&self) -> Result<Option<i64>, ClaimsError> {
        let mut oldest: Option<i64> = None;
        self.each(BATCHES, |document| {
            let batch: BatchDocument = decode(document)?;
            if batch.state == BatchState::Cut {
                let since_ms = batch.cut_ms.saturating_sub(CLOCK_SET_BACK_MS);
                oldest = Some(oldest.map_or(since_ms, |oldest| oldest.min(since_ms)));
            }
            Ok(())
        })
        .await?;
        Ok(oldest)
    }

    async fn claimed(&self, table: TableId, claim: Claim<'_>) -> Result<(), ClaimsError> {
        // Of the first releases, until a start of this one makes them parts: before the parts.
        self.each(BATCHES, |document| {
            let part = PartDocument::of_earlier(&decode(document)?);
            let part = part.filter(|part| part.table == table);
            part.iter().flat_map(|part| &part.paths).for_each(|path| claim(path));
            Ok(())
        })
        .await?;
        self.each(PARTS, |document| {
            let part: PartDocument = decode(document)?;
            if part.table == table {
                part.paths.iter().for_each(|path| claim(path));
            }
            Ok(())
        })
        .await
    }
}
