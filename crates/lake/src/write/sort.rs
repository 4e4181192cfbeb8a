//! Rows of a data file in the table's sort order (Iceberg specification, "Sort Orders").

use super::transform::Applied;
use super::{WriteError, nested};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, interleave_record_batch};
use arrow::row::{RowConverter, Rows, SortField};
use arrow_schema::Schema as ArrowSchema;
use iceberg::spec::{NullOrder, SortDirection, SortOrder, Transform};

/// What a file holds back to be sorted; then it is finished, whatever its target size (I8).
pub(super) const SORTED_BYTES: usize = 64 << 20;

/// Rows that are put together at a time.
const ROWS_AT_ONCE: usize = 8192;

#[derive(Debug)]
struct Field {
    applied: Applied,
    /// The way to the source column.
    path: Vec<usize>,
    options: SortOptions,
}

/// Sorts the rows of a file by the table's default order.
#[derive(Debug)]
pub(super) struct Sorter {
    pub(super) order_id: i32,
    fields: Vec<Field>,
}

impl Sorter {
    /// `None` for a table without a sort order.
    pub(super) fn new(order: &SortOrder, arrow: &ArrowSchema) -> Result<Option<Self>, WriteError> {
        let mut fields = Vec::new();
        for field in order.fields.iter().filter(|field| field.transform != Transform::Void) {
            let path = nested::path_to(arrow, field.source_id).ok_or_else(|| {
                WriteError::Unsupported(format!(
                    "its sort order has field {} as a source, which is no column outside lists \
                     and maps",
                    field.source_id
                ))
            })?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            fields.push(Field { applied: Applied::new(field.transform)?, path, options });
        }
        let order_id = i32::try_from(order.order_id).map_err(WriteError::internal)?;
        Ok((!fields.is_empty()).then_some(Self { order_id, fields }))
    }

    /// Turns the keys into bytes that are in their order.
    pub(super) fn converter(&self, batch: &RecordBatch) -> Result<RowConverter, WriteError> {
        let types = self.keys(&batch.slice(0, 0))?;
        let types = types.iter().zip(&self.fields).map(|(key, field)| {
            SortField::new_with_options(key.data_type().clone(), field.options)
        });
        RowConverter::new(types.collect()).map_err(WriteError::internal)
    }

    /// How the columns are sorted, in the order of the keys.
    pub(super) fn options(&self) -> impl Iterator<Item = SortOptions> {
        self.fields.iter().map(|field| field.options)
    }

    /// The transformed columns of a batch.
    pub(super) fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, WriteError> {
        let column = |field: &Field| {
            let source = nested::column_at(batch.columns(), &field.path)
                .ok_or_else(|| WriteError::internal("a sort source is not where it was"))?;
            let applied = field.applied.apply(&source)?;
            applied.ok_or_else(|| WriteError::internal("a void sort field"))
        };
        self.fields.iter().map(column).collect()
    }

    /// The rows of all batches in order, those that are equal in the order in which they came. Each
    /// batch of the result is handed on before the next is made.
    pub(super) fn sort(
        &self,
        batches: &[RecordBatch],
        mut each: impl FnMut(&RecordBatch) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let converter = self.converter(first)?;
        let mut rows: Vec<Rows> = Vec::with_capacity(batches.len());
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (at, batch) in batches.iter().enumerate() {
            let keys = self.keys(batch)?;
            rows.push(converter.convert_columns(&keys).map_err(WriteError::internal)?);
            places.extend((0..batch.num_rows()).map(|row| (at, row)));
        }
        // Stable, so that the same rows make the same file.
        places.sort_by(|(a, x), (b, y)| rows[*a].row(*x).cmp(&rows[*b].row(*y)));
        let all: Vec<&RecordBatch> = batches.iter().collect();
        for part in places.chunks(ROWS_AT_ONCE) {
            let part = interleave_record_batch(&all, part).map_err(WriteError::internal)?;
            each(&part)?;
        }
        Ok(())
    }
}
