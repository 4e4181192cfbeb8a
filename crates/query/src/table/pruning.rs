//! Which manifests and files cannot hold a row that passes the filter.
//!
//! Each container (a manifest, a file) has bounds of columns: a file's own statistics and what its
//! partition says of the source columns, whatever the transform. DataFusion's pruning predicate does the
//! logic. Bounds only ever leave out what cannot match; an unknown bound keeps the container.

use super::columns::{primitive_scalar, query_type, scalar};
use super::plan::LiveFile;
use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::spec::{
    Datum, ManifestFile, NestedFieldRef, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema,
    TableMetadata, Transform, Type,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Values between which a column lies, where known.
type Range = (Option<ScalarValue>, Option<ScalarValue>);

/// Decides by a filter.
#[derive(Debug)]
pub(super) struct Pruner {
    schema: Arc<Schema>,
    arrow: SchemaRef,
    /// One for each conjunct, so that one that cannot be decided spoils no other.
    predicates: Vec<PruningPredicate>,
    /// The columns that the filter speaks of: bounds of others are not collected.
    columns: Vec<String>,
}

/// What is known of some containers.
#[derive(Debug)]
pub(super) struct Bounds {
    arrow: SchemaRef,
    count: usize,
    ranges: HashMap<String, Vec<Range>>,
    nulls: HashMap<String, Vec<Option<u64>>>,
    rows: Vec<Option<u64>>,
    /// By column.
    buckets: HashMap<String, Buckets>,
}

/// The buckets that a column's values fell into.
#[derive(Debug)]
struct Buckets {
    field: NestedFieldRef,
    /// The number of buckets of the spec.
    count: u32,
    /// For each container the lowest and the highest bucket, where known.
    ranges: Vec<Option<(i32, i32)>>,
}

impl Pruner {
    /// A pruner for a filter over the query's schema; without one everything is kept.
    pub(super) fn new(
        schema: Arc<Schema>,
        arrow: SchemaRef,
        filter: Option<Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let conjuncts = filter.iter().flat_map(split_conjunction);
        let predicates: Vec<PruningPredicate> = conjuncts
            .filter_map(|f| PruningPredicate::try_new(Arc::clone(f), Arc::clone(&arrow)).ok())
            .filter(|p| !p.always_true())
            .collect();
        let named: HashSet<String> = predicates
            .iter()
            .flat_map(|p| collect_columns(p.orig_expr()))
            .map(|column| column.name().to_string())
            .collect();
        let fields = arrow.fields().iter().map(|f| f.name().clone());
        let columns = fields.filter(|name| named.contains(name)).collect();
        Self { schema, arrow, predicates, columns }
    }

    /// For each container: whether it is needed.
    pub(super) fn keep(&self, bounds: &Bounds) -> Vec<bool> {
        let mut keep = vec![true; bounds.count];
        if bounds.count == 0 {
            return keep;
        }
        for predicate in &self.predicates {
            match predicate.prune(bounds) {
                Ok(needed) => keep.iter_mut().zip(needed).for_each(|(k, n)| *k &= n),
                // Some conjuncts (LIKE over string views) cannot be compared with bounds.
                Err(error) => tracing::debug!(%error, "a conjunct does not prune"),
            }
        }
        keep
    }

    fn empty(&self, count: usize) -> Bounds {
        let unknown = || vec![(None, None); count];
        Bounds {
            arrow: Arc::clone(&self.arrow),
            count,
            ranges: self.columns.iter().map(|c| (c.clone(), unknown())).collect(),
            nulls: self.columns.iter().map(|c| (c.clone(), vec![None; count])).collect(),
            rows: vec![None; count],
            buckets: HashMap::new(),
        }
    }

    fn field(&self, id: i32) -> Option<(&NestedFieldRef, String)> {
        let field = self.schema.as_struct().fields().iter().find(|f| f.id == id)?;
        let name = field.name.to_lowercase();
        self.columns.contains(&name).then_some((field, name))
    }

    /// Bounds of data files: their statistics, then their partitions where that is tighter.
    pub(super) fn file_bounds(&self, metadata: &TableMetadata, files: &[LiveFile]) -> Bounds {
        let mut bounds = self.empty(files.len());
        if self.columns.is_empty() {
            return bounds;
        }
        for (at, file) in files.iter().enumerate() {
            let data = file.data();
            bounds.rows[at] = Some(data.record_count());
            for name in &self.columns {
                let Some(field) = super::columns::field_named(&self.schema, name) else { continue };
                let low = data.lower_bounds().get(&field.id);
                let high = data.upper_bounds().get(&field.id);
                // A bound of NaN says nothing (Iceberg specification, appendix D).
                let value = |d: Option<&Datum>| {
                    d.filter(|d| !d.is_nan()).and_then(|d| datum_scalar(d, &field.field_type))
                };
                if let Some(ranges) = bounds.ranges.get_mut(name) {
                    ranges[at] = (value(low), value(high));
                }
                if let Some(nulls) = bounds.nulls.get_mut(name) {
                    nulls[at] = data.null_value_counts().get(&field.id).copied();
                }
            }
            let Some(spec) = metadata.partition_spec_by_id(file.spec_id) else { continue };
            let values = data.partition().iter().map(|literal| {
                let value = literal.and_then(|l| l.as_primitive_literal());
                (value.clone(), value)
            });
            self.add_partition(&mut bounds, at, spec, values);
        }
        bounds
    }

    fn add_partition(
        &self,
        bounds: &mut Bounds,
        at: usize,
        spec: &PartitionSpec,
        values: impl Iterator<Item = (Option<PrimitiveLiteral>, Option<PrimitiveLiteral>)>,
    ) {
        for (partition, (low, high)) in spec.fields().iter().zip(values) {
            let Some((field, name)) = self.field(partition.source_id) else { continue };
            let (Some(low), Some(high)) = (low, high) else { continue };
            if let Transform::Bucket(count) = partition.transform {
                let slots = bounds.count;
                let known = bounds.buckets.entry(name).or_insert_with(|| Buckets {
                    field: Arc::clone(field),
                    count,
                    ranges: vec![None; slots],
                });
                if let (PrimitiveLiteral::Int(low), PrimitiveLiteral::Int(high)) = (low, high)
                    && known.count == count
                {
                    known.ranges[at] = Some((low, high));
                }
                continue;
            }
            let range = source_range(partition.transform, &low, &high, &field.field_type);
            let Some(ranges) = bounds.ranges.get_mut(&name) else { continue };
            let known = &mut ranges[at];
            known.0 = known.0.take().or(range.0);
            known.1 = known.1.take().or(range.1);
        }
    }
}

/// Bounds of manifests, from the partition summaries in the manifest list.
pub(super) fn manifest_bounds(
    metadata: &TableMetadata,
    manifests: &[ManifestFile],
    pruner: &Pruner,
) -> Bounds {
    let mut bounds = pruner.empty(manifests.len());
    if pruner.columns.is_empty() {
        return bounds;
    }
    for (at, manifest) in manifests.iter().enumerate() {
        let spec = metadata.partition_spec_by_id(manifest.partition_spec_id);
        let (Some(spec), Some(summaries)) = (spec, &manifest.partitions) else { continue };
        let values = spec.fields().iter().zip(summaries).map(|(partition, summary)| {
            // Null partitions hold rows that the bounds do not speak of; no filter that is null
            // on null passes them, and `IS NULL` looks at null counts, which stay unknown here.
            let source = pruner.schema.field_by_id(partition.source_id);
            let result = source.and_then(|s| partition.transform.result_type(&s.field_type).ok());
            let Some(Type::Primitive(of)) = result else { return (None, None) };
            let value = |bytes: Option<&[u8]>| decode(bytes, &of);
            let (low, high) = (&summary.lower_bound, &summary.upper_bound);
            (value(low.as_ref().map(|b| b.as_ref())), value(high.as_ref().map(|b| b.as_ref())))
        });
        let values: Vec<_> = values.collect();
        pruner.add_partition(&mut bounds, at, spec, values.into_iter());
    }
    bounds
}

fn datum_scalar(datum: &Datum, of: &Type) -> Option<ScalarValue> {
    primitive_scalar(datum.literal(), datum.data_type())?.cast_to(&query_type(of).ok()?).ok()
}

const MICROS_PER_DAY: i64 = 86_400_000_000;
const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// What a range of partition values says of the source column.
fn source_range(
    transform: Transform,
    low: &PrimitiveLiteral,
    high: &PrimitiveLiteral,
    source: &Type,
) -> Range {
    let Type::Primitive(of) = source else { return (None, None) };
    let value = |literal: &PrimitiveLiteral| {
        scalar(&iceberg::spec::Literal::Primitive(literal.clone()), source)
    };
    match (transform, low, high) {
        (Transform::Identity, low, high) => (value(low), value(high)),
        (
            Transform::Year | Transform::Month | Transform::Day | Transform::Hour,
            PrimitiveLiteral::Int(low),
            PrimitiveLiteral::Int(high),
        ) => {
            let start = |n: i64| period_start(transform, n, of);
            let low = start(i64::from(*low)).and_then(|l| value(&l));
            let high = start(i64::from(*high) + 1).and_then(|l| before(&l)).and_then(|l| value(&l));
            (low, high)
        }
        // The smallest numbers of a type wrap around to its largest multiples: where those are, nothing
        // is known.
        (Transform::Truncate(width), low, PrimitiveLiteral::Int(high)) => {
            let last = i32::try_from(width).ok().and_then(|width| high.checked_add(width - 1));
            last.map_or((None, None), |last| (value(low), value(&PrimitiveLiteral::Int(last))))
        }
        (Transform::Truncate(width), low, PrimitiveLiteral::Long(high)) => {
            let last = high.checked_add(i64::from(width) - 1);
            last.map_or((None, None), |last| (value(low), value(&PrimitiveLiteral::Long(last))))
        }
        (Transform::Truncate(width), low, PrimitiveLiteral::Int128(high)) => {
            let last = high.checked_add(i128::from(width) - 1);
            last.map_or((None, None), |last| (value(low), value(&PrimitiveLiteral::Int128(last))))
        }
        // A prefix is no more than the value; what is above it is not bounded simply.
        (Transform::Truncate(_), low, _) => (value(low), None),
        _ => (None, None),
    }
}

/// The first moment of a period that a time transform counts.
fn period_start(transform: Transform, n: i64, of: &PrimitiveType) -> Option<PrimitiveLiteral> {
    let days = |months: i64| {
        let year = i32::try_from(1970 + months.div_euclid(12)).ok()?;
        let month = u32::try_from(months.rem_euclid(12)).ok()? + 1;
        let date = chrono::NaiveDate::from_ymd_opt(year, month, 1)?;
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?;
        Some(date.signed_duration_since(epoch).num_days())
    };
    let micros = match transform {
        Transform::Year => days(n.checked_mul(12)?)?.checked_mul(MICROS_PER_DAY)?,
        Transform::Month => days(n)?.checked_mul(MICROS_PER_DAY)?,
        Transform::Day => n.checked_mul(MICROS_PER_DAY)?,
        Transform::Hour => n.checked_mul(MICROS_PER_HOUR)?,
        _ => return None,
    };
    match of {
        PrimitiveType::Date => {
            Some(PrimitiveLiteral::Int(i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()?))
        }
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            Some(PrimitiveLiteral::Long(micros))
        }
        _ => None,
    }
}

fn before(literal: &PrimitiveLiteral) -> Option<PrimitiveLiteral> {
    match literal {
        PrimitiveLiteral::Int(int) => int.checked_sub(1).map(PrimitiveLiteral::Int),
        PrimitiveLiteral::Long(long) => long.checked_sub(1).map(PrimitiveLiteral::Long),
        _ => None,
    }
}

impl Bounds {
    fn side(
        &self,
        column: &Column,
        pick: impl Fn(&Range) -> Option<ScalarValue>,
    ) -> Option<ArrayRef> {
        let ranges = self.ranges.get(column.name())?;
        let data_type = self.arrow.field_with_name(column.name()).ok()?.data_type().clone();
        let null = ScalarValue::try_from(&data_type).ok()?;
        if ranges.iter().all(|r| pick(r).is_none()) {
            return None;
        }
        ScalarValue::iter_to_array(ranges.iter().map(|r| pick(r).unwrap_or_else(|| null.clone())))
            .ok()
    }
}

impl PruningStatistics for Bounds {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.side(column, |range| range.0.clone())
    }
    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.side(column, |range| range.1.clone())
    }
    fn num_containers(&self) -> usize {
        self.count
    }
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self.nulls.get(column.name())?;
        Some(Arc::new(UInt64Array::from(nulls.clone())))
    }
    fn row_counts(&self, _: &Column) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(self.rows.clone())))
    }

    /// `Some(false)` where the bucket of every value lies outside the container's buckets.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let Buckets { field, count, ranges } = self.buckets.get(column.name())?;
        let plain = iceberg::arrow::type_to_arrow_type(&field.field_type).ok()?;
        let plain = match plain {
            DataType::LargeBinary => DataType::Binary,
            other => other,
        };
        let cast = values.iter().map(|v| v.cast_to(&plain)).collect::<Result<Vec<_>, _>>().ok()?;
        let array = ScalarValue::iter_to_array(cast).ok()?;
        let function =
            iceberg::transform::create_transform_function(&Transform::Bucket(*count)).ok()?;
        let hashed = function.transform(array).ok()?;
        let hashed = hashed.as_primitive_opt::<Int32Type>()?;
        if hashed.null_count() > 0 {
            return None;
        }
        let wanted: Vec<i32> = hashed.values().to_vec();
        Some(
            ranges
                .iter()
                .map(|slot| match slot {
                    Some((low, high)) if !wanted.iter().any(|w| (low..=high).contains(&w)) => {
                        Some(false)
                    }
                    _ => None,
                })
                .collect(),
        )
    }
}

fn decode(bytes: Option<&[u8]>, of: &PrimitiveType) -> Option<PrimitiveLiteral> {
    let datum = Datum::try_from_bytes(bytes?, of.clone()).ok()?;
    Some(datum.literal().clone())
}
