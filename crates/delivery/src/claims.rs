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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::PartDocument;
    use alluvium_base::BatchNumber;
    use alluvium_store::records::memory::MemoryRecords;
    use alluvium_store::records::{Key, Operation, Transaction};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use uuid::Uuid;

    const TABLE: TableId = TableId(Uuid::from_u128(7));

    fn batch(number: u64, cut_ms: i64, state: Value) -> Value {
        let uuid = Uuid::from_u128(7);
        json!({
            "incarnation": uuid, "number": number, "ranges": [], "log_id": uuid,
            "stream_version": 2,
            "destination": {
                "role_arn": "r", "catalog_arn": "c",
                "table": {"database": "d", "table": "t", "error_prefix": "own/"},
                "buffering": {"size_mib": 5, "interval_s": 300}, "retry_duration_s": 7,
                "errors": {"role_arn": "r", "bucket_arn": "arn:aws:s3:::b", "prefix": "p/"},
            },
            "oldest_arrival_ms": 5, "cut_ms": cut_ms, "state": state,
        })
    }

    fn prepared(path: &str) -> Value {
        let counts = json!({"records": 1, "rows": 1, "errors": 0, "empty": 0});
        json!({"prepared": {"table": TABLE, "files": ["{}"], "paths": [path], "counts": counts}})
    }

    async fn claims(documents: &[(&'static str, &str, Value)]) -> DeliveryClaims {
        let records = Arc::new(MemoryRecords::new());
        let put = |(collection, id, body): &(&'static str, &str, Value)| {
            Operation::Put(Key::new(collection, *id), Bytes::from(body.to_string()))
        };
        let operations = documents.iter().map(put).collect();
        let outcome = records.transact(Transaction { preconditions: Vec::new(), operations });
        assert!(matches!(outcome.await, alluvium_store::records::Outcome::Committed { .. }));
        DeliveryClaims::new(records)
    }

    async fn claimed(claims: &DeliveryClaims, table: TableId) -> Vec<String> {
        let mut found = Vec::new();
        claims.claimed(table, &mut |path| found.push(path.to_string())).await.unwrap();
        found
    }

    #[tokio::test]
    async fn the_oldest_cut_batch_and_every_part_are_claimed() {
        let earlier: BatchDocument =
            serde_json::from_value(batch(3, 6, prepared("s3://w/earlier"))).unwrap();
        let mut part = PartDocument::of_earlier(&earlier).unwrap();
        part.paths = vec!["s3://w/part".into(), "s3://w/keys".into()];
        part.batch = BatchNumber(4);
        let mut other = part.clone();
        (other.table, other.paths) = (TableId(Uuid::from_u128(8)), vec!["s3://v/other".into()]);
        let day_ms = CLOCK_SET_BACK_MS;
        let claims = claims(&[
            (BATCHES, "1", batch(1, day_ms + 9, json!("cut"))),
            (BATCHES, "2", batch(2, day_ms + 5, json!("cut"))),
            (BATCHES, "3", serde_json::to_value(&earlier).unwrap()),
            (PARTS, "4", serde_json::to_value(&part).unwrap()),
            (PARTS, "5", serde_json::to_value(&other).unwrap()),
        ])
        .await;
        assert_eq!(claims.writing_since_ms().await.unwrap(), Some(5));
        let found = claimed(&claims, TABLE).await;
        assert_eq!(found, ["s3://w/earlier", "s3://w/part", "s3://w/keys"]);
        assert_eq!(claimed(&claims, other.table).await, ["s3://v/other"]);
    }

    #[tokio::test]
    async fn without_batches_nothing_is_claimed_and_a_damaged_document_claims_all() {
        let none = claims(&[]).await;
        assert_eq!(none.writing_since_ms().await.unwrap(), None);
        assert!(claimed(&none, TABLE).await.is_empty());
        for collection in [BATCHES, PARTS] {
            let damaged = claims(&[(collection, "1", json!({"incarnation": 5}))]).await;
            let error = damaged.claimed(TABLE, &mut |_| {}).await.unwrap_err();
            assert!(matches!(error, ClaimsError::Damaged(_)), "{error}");
        }
    }
}
