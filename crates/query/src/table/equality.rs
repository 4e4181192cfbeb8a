//! Equality deletes by hash: a row is gone when its key was deleted by a later commit.
//!
//! Keys are held once for each set of columns and partition, with the highest data sequence number that
//! deleted them; a file of sequence `s` loses the rows whose key has a number above `s`.

use super::columns::query_type;
use super::field_ids::conform;
use super::plan::{LiveFile, ScanPlan};
use super::reader::FileReaders;
use crate::QueryError;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema as ArrowSchema};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::Result as DfResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use futures::TryStreamExt as _;
use iceberg::spec::{NestedFieldRef, Schema, Struct, TableMetadata};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ParquetRecordBatchStreamBuilder};
use std::any::Any;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Keys of one query, all files together: each takes about 100 bytes while the query runs (I8).
const KEYS_MAX: usize = 5_000_000;

/// What a key takes in the table of keys beside its own bytes.
const KEY_BYTES: usize = 48;

/// Deleted keys over the same columns, in the same partition.
pub(super) struct DeletedKeys {
    /// The columns, as the table has them now.
    pub(super) columns: Vec<NestedFieldRef>,
    /// The partition; `None` for deletes of an unpartitioned spec, which apply everywhere.
    scope: Option<(i32, Struct)>,
    types: Vec<DataType>,
    converter: RowConverter,
    /// Each key with the highest sequence number that deleted it.
    keys: HashMap<OwnedRow, i64>,
    /// All sequence numbers of the delete files, ascending.
    sequences: Vec<i64>,
    held: MemoryReservation,
}

impl std::fmt::Debug for DeletedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeletedKeys").field("keys", &self.keys.len()).finish()
    }
}

/// The deletes that apply to one file: which keys, above which sequence number.
pub(super) type Applied = Vec<(usize, i64)>;

/// Reads all equality delete files of a plan.
pub(super) async fn load(
    plan: &ScanPlan,
    metadata: &TableMetadata,
    readers: &FileReaders,
    memory: &Arc<dyn MemoryPool>,
) -> Result<Vec<Arc<DeletedKeys>>, QueryError> {
    let mut sets: Vec<DeletedKeys> = Vec::new();
    let oldest = plan.files.iter().map(|f| f.sequence).min().unwrap_or(i64::MAX);
    let mut count = 0;
    for delete in plan.equality_deletes.iter().filter(|d| d.sequence > oldest) {
        let mut ids = delete.data().equality_ids().unwrap_or_default();
        ids.sort_unstable();
        let spec = metadata.partition_spec_by_id(delete.spec_id);
        let global = spec.is_none_or(|spec| spec.is_unpartitioned());
        let (spec_id, partition) = delete.partition();
        let scope = (!global).then(|| (spec_id, partition.clone()));
        let known = sets.iter().position(|set| {
            set.scope == scope && set.columns.iter().map(|c| c.id).eq(ids.iter().copied())
        });
        let at = match known {
            Some(at) => at,
            None => {
                let held = MemoryConsumer::new("deleted keys").register(memory);
                sets.push(DeletedKeys::new(&ids, scope, metadata.current_schema(), held)?);
                sets.len() - 1
            }
        };
        sets[at].read(delete, readers, &mut count).await?;
    }
    Ok(sets
        .into_iter()
        .map(|mut set| {
            set.sequences.sort_unstable();
            Arc::new(set)
        })
        .collect())
}

/// Which of the sets apply to a file. Files between the same two deletes have the same answer.
pub(super) fn applied(sets: &[Arc<DeletedKeys>], file: &LiveFile) -> Applied {
    let mut found = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        let (spec_id, partition) = file.partition();
        let in_scope =
            set.scope.as_ref().is_none_or(|(spec, within)| *spec == spec_id && within == partition);
        let later = set.sequences.partition_point(|s| *s <= file.sequence);
        if let Some(first) = set.sequences.get(later)
            && in_scope
        {
            found.push((at, first - 1));
        }
    }
    found
}

impl DeletedKeys {
    fn new(
        ids: &[i32],
        scope: Option<(i32, Struct)>,
        schema: &Schema,
        held: MemoryReservation,
    ) -> Result<Self, QueryError> {
        let mut columns = Vec::new();
        for id in ids {
            let field = schema.as_struct().fields().iter().find(|f| f.id == *id);
            columns.push(Arc::clone(field.ok_or_else(|| {
                QueryError::Unsupported(format!(
                    "the table has equality deletes on a nested or dropped column (field {id}), \
                     which are not read"
                ))
            })?));
        }
        let types =
            columns.iter().map(|c| query_type(&c.field_type)).collect::<Result<Vec<_>, _>>()?;
        let sort = types.iter().map(|t| SortField::new(t.clone())).collect();
        let converter =
            RowConverter::new(sort).map_err(|e| QueryError::Unsupported(e.to_string()))?;
        let (keys, sequences) = (HashMap::new(), Vec::new());
        Ok(Self { columns, scope, types, converter, keys, sequences, held })
    }

    async fn read(
        &mut self,
        delete: &LiveFile,
        readers: &FileReaders,
        count: &mut usize,
    ) -> Result<(), QueryError> {
        let path = delete.data().file_path();
        let unread = |error| QueryError::of_parquet(path, &error);
        let damaged = |e: &dyn std::fmt::Display| QueryError::Damaged(format!("{path}: {e}"));
        let reader = readers.open(path, delete.data().file_size_in_bytes())?;
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(unread)?;
        let mut batches = builder.build().map_err(unread)?;
        self.sequences.push(delete.sequence);
        while let Some(batch) = batches.try_next().await.map_err(unread)? {
            *count += batch.num_rows();
            if *count > KEYS_MAX {
                return Err(QueryError::Exceeded(format!(
                    "the table has more than {KEYS_MAX} equality deletes; compact it"
                )));
            }
            let mut arrays = Vec::new();
            for (column, to) in self.columns.iter().zip(&self.types) {
                let at = batch.schema().fields().iter().position(|f| {
                    f.metadata().get(PARQUET_FIELD_ID_META_KEY) == Some(&column.id.to_string())
                });
                let at = at.or_else(|| batch.schema().index_of(&column.name).ok());
                let at = at.ok_or_else(|| damaged(&format!("has no column {}", column.name)))?;
                let array = conform(
                    batch.column(at),
                    batch.column(at).data_type(),
                    &column.field_type,
                    to,
                )?;
                arrays.push(array);
            }
            let rows = self.converter.convert_columns(&arrays).map_err(|e| damaged(&e))?;
            // Keys of rows in a table that may be twice as large.
            self.held.try_grow(rows.size() + batch.num_rows() * 2 * KEY_BYTES)?;
            for row in &rows {
                let slot = self.keys.entry(row.owned()).or_insert(delete.sequence);
                *slot = (*slot).max(delete.sequence);
            }
        }
        Ok(())
    }
}

/// True for rows that are not deleted.
#[derive(Debug)]
pub(super) struct NotDeleted {
    /// The key's columns, in the order of the set.
    pub(super) columns: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) set: Arc<DeletedKeys>,
    /// Keys deleted above this sequence number are gone.
    pub(super) above: i64,
}

impl std::fmt::Display for NotDeleted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not deleted ({} keys)", self.set.keys.len())
    }
}

impl PartialEq for NotDeleted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set, &other.set) && self.above == other.above
    }
}
impl Eq for NotDeleted {}
impl Hash for NotDeleted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.set) as usize).hash(state);
        self.above.hash(state);
    }
}

impl PhysicalExpr for NotDeleted {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn data_type(&self, _: &ArrowSchema) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn nullable(&self, _: &ArrowSchema) -> DfResult<bool> {
        Ok(false)
    }
    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let rows = batch.num_rows();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, to) in self.columns.iter().zip(&self.set.types) {
            let array = column.evaluate(batch)?.into_array(rows)?;
            arrays.push(arrow::compute::cast(&array, to)?);
        }
        let keys = self.set.converter.convert_columns(&arrays)?;
        let kept: BooleanArray = keys
            .iter()
            .map(|row| {
                let gone = self.set.keys.get(&row.owned()).is_some_and(|s| *s > self.above);
                Some(!gone)
            })
            .collect();
        debug_assert_eq!(arrow::array::Array::len(&kept), rows);
        Ok(ColumnarValue::Array(Arc::new(kept)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.columns.iter().collect()
    }
    fn with_new_children(
        self: Arc<Self>,
        columns: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { columns, set: Arc::clone(&self.set), above: self.above }))
    }
    fn fmt_sql(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
