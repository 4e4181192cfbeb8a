//! `UNNEST` in batches of bounded size.
//!
//! DataFusion's operator makes all rows of a batch at once: 8,192 rows with arrays of 10,000 entries are
//! 82 million rows in memory. This one has the same plan and the same rows, and makes them as they are
//! asked for: at most [`BATCH_ROWS`] or [`STEP_BYTES`] at a time, also from a single array.

use super::{BATCH_ROWS, STEP_BYTES, width};
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Builder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt as _, stream};
use std::any::Any;
use std::sync::Arc;

/// Unnests lists of one level.
#[derive(Debug)]
pub(super) struct BoundedUnnest {
    plan: Arc<dyn ExecutionPlan>,
    lists: Vec<usize>,
    /// A row without entries gives one row of nulls (`LEFT JOIN`).
    outer: bool,
}

impl BoundedUnnest {
    /// In place of DataFusion's operator, when that is of the kind that this one does.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let unnest = plan.as_any().downcast_ref::<UnnestExec>()?;
        let lists = unnest.list_column_indices();
        let fields = unnest.input().schema();
        let plain = !lists.is_empty()
            && unnest.struct_column_indices().is_empty()
            && fields.fields().len() == unnest.schema().fields().len()
            && lists.iter().all(|list| {
                let of = fields.field(list.index_in_input_schema).data_type();
                list.depth == 1 && matches!(of, DataType::List(_))
            });
        let lists = lists.iter().map(|list| list.index_in_input_schema).collect();
        let outer = unnest.options().preserve_nulls;
        plain.then(|| Self { plan: Arc::clone(plan), lists, outer })
    }
}

impl DisplayAs for BoundedUnnest {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnnestExec")
    }
}

impl ExecutionPlan for BoundedUnnest {
    fn name(&self) -> &str {
        "BoundedUnnestExec"
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.children()
    }
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = Arc::clone(&self.plan).with_new_children(children)?;
        Ok(Arc::new(Self { plan, lists: self.lists.clone(), outer: self.outer }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("arrays of UNNEST").register(context.memory_pool());
        let mut input = Vec::new();
        for child in self.plan.children() {
            input.push(child.execute(partition, Arc::clone(&context))?);
        }
        let state = State {
            input: stream::iter(input).flatten().boxed(),
            schema: self.plan.schema(),
            lists: self.lists.clone(),
            outer: self.outer,
            source: None,
            held,
            rows: context.session_config().batch_size().clamp(1, BATCH_ROWS),
        };
        let rows = stream::try_unfold(state, |mut state| async move {
            let batch = state.next().await?;
            Ok(batch.map(|batch| (batch, state)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.plan.schema(), rows)))
    }
}

struct State {
    input: futures::stream::BoxStream<'static, Result<RecordBatch>>,
    schema: SchemaRef,
    lists: Vec<usize>,
    outer: bool,
    source: Option<Source>,
    held: MemoryReservation,
    rows: usize,
}

/// A batch that is being unnested.
struct Source {
    batch: RecordBatch,
    /// How many rows each of its rows becomes.
    lengths: Vec<usize>,
    /// What each of those takes.
    widths: Vec<usize>,
    row: usize,
    /// Rows made from `row` so far.
    done: usize,
}

impl State {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            tokio::task::coop::consume_budget().await;
            if let Some(source) = &mut self.source {
                if let Some(batch) = source.next(&self.lists, &self.schema, self.rows)? {
                    return Ok(Some(batch));
                }
                self.source = None;
            }
            self.held.free();
            let Some(batch) = self.input.next().await.transpose()? else { return Ok(None) };
            if batch.num_rows() == 0 {
                continue;
            }
            self.held.try_resize(batch.get_array_memory_size())?;
            self.source = Some(Source::new(batch, &self.lists, self.outer)?);
        }
    }
}

/// The length of each list; of null, zero.
fn lengths_of(list: &ArrayRef) -> Result<Vec<usize>> {
    let lengths = arrow::compute::kernels::length::length(list)?;
    let lengths = cast(&lengths, &DataType::Int64)?;
    let of = lengths.as_primitive::<Int64Type>();
    let known = |row| if of.is_null(row) { 0 } else { usize::try_from(of.value(row)).unwrap_or(0) };
    Ok((0..of.len()).map(known).collect())
}

impl Source {
    fn new(batch: RecordBatch, lists: &[usize], outer: bool) -> Result<Self> {
        let rows = batch.num_rows();
        let (mut lengths, mut widths) = (vec![usize::from(outer); rows], vec![0; rows]);
        for (at, column) in batch.columns().iter().enumerate() {
            if !lists.contains(&at) {
                repeated(column, &mut widths);
                continue;
            }
            for (longest, length) in lengths.iter_mut().zip(lengths_of(column)?) {
                *longest = length.max(*longest);
            }
            let values = column.as_list::<i32>().values();
            let each = width::bytes_of(column) / values.len().max(1) + 1;
            widths.iter_mut().for_each(|width| *width += each);
        }
        Ok(Self { batch, lengths, widths, row: 0, done: 0 })
    }

    fn next(
        &mut self,
        lists: &[usize],
        schema: &SchemaRef,
        rows: usize,
    ) -> Result<Option<RecordBatch>> {
        let (mut bytes, mut count) = (0usize, 0usize);
        // Parts of the source's rows: the row, and which of its entries.
        let mut parts: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        while self.row < self.lengths.len() && count < rows && (count == 0 || bytes < STEP_BYTES) {
            let (left, width) = (self.lengths[self.row] - self.done, self.widths[self.row].max(1));
            let room = (STEP_BYTES.saturating_sub(bytes) / width).max(1).min(rows - count);
            let taken = left.min(room);
            if taken > 0 {
                parts.push((self.row, self.done..self.done + taken));
            }
            (bytes, count) = (bytes.saturating_add(taken.saturating_mul(width)), count + taken);
            self.done += taken;
            if self.done == self.lengths[self.row] {
                (self.row, self.done) = (self.row + 1, 0);
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let repeat = parts.iter().flat_map(|(row, taken)| {
            std::iter::repeat_n(u32::try_from(*row).unwrap_or(u32::MAX), taken.len())
        });
        let repeat = UInt32Array::from_iter_values(repeat);
        let mut columns = Vec::with_capacity(self.batch.num_columns());
        for (at, column) in self.batch.columns().iter().enumerate() {
            columns.push(match lists.contains(&at) {
                true => entries(column, &parts, count)?,
                false => take(column, &repeat, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::clone(schema);
        Ok(Some(RecordBatch::try_new_with_options(schema, columns, &options)?))
    }
}

/// What repeating a column's values takes: views share their bytes.
fn repeated(column: &ArrayRef, widths: &mut [usize]) {
    match column.data_type() {
        DataType::Utf8View | DataType::BinaryView => widths.iter_mut().for_each(|w| *w += 16),
        _ => width::add_rows(column, widths),
    }
}

/// The entries of lists, null where a list is shorter than its neighbours.
fn entries(
    column: &ArrayRef,
    parts: &[(usize, std::ops::Range<usize>)],
    count: usize,
) -> Result<ArrayRef> {
    let list = column.as_list::<i32>();
    let mut picked = UInt64Builder::with_capacity(count);
    for (row, taken) in parts {
        let (start, end) = (list.value_offsets()[*row], list.value_offsets()[*row + 1]);
        let length = if list.is_null(*row) { 0 } else { (end - start) as usize };
        for at in taken.clone() {
            picked.append_option((at < length).then_some(start as u64 + at as u64));
        }
    }
    Ok(take(list.values(), &picked.finish(), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    #[test]
    fn lists_are_unnested_together_in_small_batches() {
        let long = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some((0..5).map(Some).collect::<Vec<_>>()),
            None,
            Some(vec![]),
            Some(vec![Some(7)]),
        ]);
        let short = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![None]),
            None,
        ]);
        let names = StringViewArray::from_iter_values(["a", "b", "c", "d"]);
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(names)), ("x", Arc::new(long)), ("y", Arc::new(short))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Utf8View, true),
            Field::new("x", DataType::Int32, true),
            Field::new("y", DataType::Int32, true),
        ]));
        let mut source = Source::new(batch.clone(), &[1, 2], false).unwrap();
        let mut found = Vec::new();
        while let Some(made) = source.next(&[1, 2], &schema, 3).unwrap() {
            assert!(made.num_rows() <= 3);
            let (n, x, y) = (made.column(0), made.column(1), made.column(2));
            let int = |a: &ArrayRef, i: usize| {
                let a = a.as_any().downcast_ref::<Int32Array>().unwrap();
                (!a.is_null(i)).then(|| a.value(i))
            };
            for i in 0..made.num_rows() {
                found.push((n.as_string_view().value(i).to_string(), int(x, i), int(y, i)));
            }
        }
        let row = |n: &str, x, y| (n.to_string(), x, y);
        assert_eq!(
            found,
            [
                row("a", Some(0), Some(1)),
                row("a", Some(1), Some(2)),
                row("a", Some(2), None),
                row("a", Some(3), None),
                row("a", Some(4), None),
                row("c", None, None),
                row("d", Some(7), None),
            ]
        );
        let mut outer = Source::new(batch, &[1, 2], true).unwrap();
        let made = outer.next(&[1, 2], &schema, 100).unwrap().unwrap();
        assert_eq!(made.num_rows(), 8, "`b` has a row of nulls");
    }
}
