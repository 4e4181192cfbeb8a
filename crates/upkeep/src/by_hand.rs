//! Athena's `OPTIMIZE` and `VACUUM`: the work of the background, now, by the table's own properties.
//!
//! | property | default | |
//! |---|---|---|
//! | `optimize_rewrite_data_file_threshold` | 5 | fewer small files are left alone |
//! | `optimize_rewrite_delete_file_threshold` | 2 | a file with as many delete files is rewritten |
//! | `optimize_rewrite_min_data_file_size_bytes` | 0.75 of the target | smaller files are rewritten |
//! | `optimize_rewrite_max_data_file_size_bytes` | 1.8 of the target | larger files are rewritten |
//! | `vacuum_min_snapshots_to_keep` | 1 | the newest that stay |
//! | `vacuum_max_snapshot_age_seconds` | 432000 | the age up to which snapshots stay |
//! | `vacuum_max_metadata_files_to_keep` | 100 | older metadata files that stay |
//!
//! (Athena user guide, "Optimize Iceberg tables".) Maintenance that is disabled disables neither. What
//! is done by hand is counted in metrics, and is no run of a job.

use crate::background::count;
use crate::compaction::{Compaction, compact};
use crate::job::Ended;
use crate::settings::JobKind;
use crate::snapshots::{Expiry, expire};
use crate::table_jobs::{compacted, expired, judged, removed};
use crate::unreferenced::{Removal, remove_unreferenced};
use crate::{Upkeep, UpkeepError};
use alluvium_base::TableId;
use alluvium_query::{QueryError, TableUpkeep};
use async_trait::async_trait;
use datafusion::logical_expr::Expr;

#[async_trait]
impl TableUpkeep for Upkeep {
    async fn optimize(&self, table: TableId, filter: Option<Expr>) -> Result<u64, QueryError> {
        let kind = JobKind::Compaction;
        match optimize(self, table, filter).await {
            Ok((ended, bytes)) => {
                count(kind, &ended);
                Ok(bytes)
            }
            Err(error) => Err(failed(kind, judged(self, table, error).await)),
        }
    }

    async fn vacuum(&self, table: TableId) -> Result<(), QueryError> {
        let loaded = self.lake().load(table).await;
        let loaded = loaded.map_err(|error| told(UpkeepError::from(error)))?;
        let properties = loaded.metadata.properties().clone();
        // Holding the metadata would keep its file.
        drop(loaded);
        let kind = JobKind::Snapshots;
        let request = Expiry::of_vacuum(&properties).map_err(told)?;
        let report = expire(self, table, &request).await.map_err(|error| failed(kind, error))?;
        count(kind, &expired(&report));
        let kind = JobKind::Unreferenced;
        let request = Removal::of_vacuum(&properties, report.removed).map_err(told)?;
        let report = remove_unreferenced(self, table, &request).await;
        count(kind, &removed(&report.map_err(|error| failed(kind, error))?));
        Ok(())
    }
}

async fn optimize(
    upkeep: &Upkeep,
    table: TableId,
    filter: Option<Expr>,
) -> Result<(Ended, u64), UpkeepError> {
    let loaded = upkeep.lake().load(table).await?;
    let mut request = Compaction::by_hand(loaded.metadata.properties())?;
    drop(loaded);
    request.filter = filter;
    let report = compact(upkeep, table, &request).await?;
    Ok((compacted(&report)?, report.bytes_before))
}

fn failed(kind: JobKind, error: UpkeepError) -> QueryError {
    count(kind, &Ended::Failed { why: String::new(), wait_ms: 0 });
    told(error)
}

/// The error in a query's words.
fn told(error: UpkeepError) -> QueryError {
    let text = error.to_string();
    match error {
        UpkeepError::NoTable(_) => QueryError::NotFound { code: "TABLE_NOT_FOUND", message: text },
        UpkeepError::Invalid(_) => {
            QueryError::Data { code: "INVALID_TABLE_PROPERTY", message: text }
        }
        UpkeepError::Unsupported(_) => QueryError::Unsupported(text),
        UpkeepError::Damaged(_) => QueryError::Damaged(text),
        UpkeepError::Unavailable(_) | UpkeepError::Fenced => QueryError::Storage(text),
        UpkeepError::Conflict(_) | UpkeepError::Busy(_) => QueryError::Conflict(text),
        UpkeepError::Unknown(_) => QueryError::Unknown(text),
        UpkeepError::Stopped => QueryError::Cancelled,
        UpkeepError::Internal(_) => QueryError::Internal(text),
    }
}
