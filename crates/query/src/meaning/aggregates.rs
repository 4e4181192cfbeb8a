//! `sum` and `avg` of integers and decimals as Trino has them: a sum that does not fit is an error, the sum
//! of decimals has 38 digits, their average the scale that they have.
//!
//! DataFusion's own accumulators do the work in a wider type; only what comes out is changed.

use crate::QueryError;
use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use std::any::Any;
use std::sync::Arc;

/// The two functions, to be registered over DataFusion's.
pub(crate) fn all() -> [AggregateUDF; 2] {
    use datafusion::functions_aggregate::{average::avg_udaf, sum::sum_udaf};
    [sum_udaf(), avg_udaf()].map(|inner| AggregateUDF::from(Exact { inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    inner: Arc<AggregateUDF>,
}

/// The type in which the inner function works, where that is not the type of the result.
fn wide(function: &str, result: &DataType) -> Option<DataType> {
    match (function, result) {
        ("sum", DataType::Int64) => Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
        ("sum", DataType::Decimal128(_, scale)) => {
            Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
        }
        ("avg", DataType::Decimal128(precision, scale)) => {
            let max = DECIMAL128_MAX_PRECISION;
            let scale = (*scale + 4).min(i8::try_from(max).unwrap_or(38));
            Some(DataType::Decimal128((*precision + 4).min(max), scale))
        }
        _ => None,
    }
}

/// Arguments as the inner function takes them.
fn widened(values: &[ArrayRef], to: &DataType) -> Vec<ArrayRef> {
    let mut values = values.to_vec();
    if let (Some(first), DataType::Decimal128(precision, 0)) = (values.first_mut(), to)
        && let Some(whole) = first.as_primitive_opt::<Int64Type>()
    {
        let wide = whole.unary::<_, Decimal128Type>(i128::from);
        if let Ok(wide) = wide.with_precision_and_scale(*precision, 0) {
            *first = Arc::new(wide);
        }
    }
    values
}

/// What the inner function gave, as the result's type.
fn narrowed(made: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let overflow = || {
        let message = format!("{} overflow", crate::render::trino_type(to));
        QueryError::Data { code: "NUMERIC_VALUE_OUT_OF_RANGE", message }.into_df()
    };
    let wide = made.as_primitive::<Decimal128Type>();
    if to == &DataType::Int64 {
        let narrow = wide.iter().map(|sum| sum.map(i64::try_from).transpose());
        let narrow: std::result::Result<Int64Array, _> = narrow.collect();
        return Ok(Arc::new(narrow.map_err(|_| overflow())?));
    }
    wide.validate_decimal_precision(wide.precision()).map_err(|_| overflow())?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(made, to, &options).map_err(|_| overflow())
}

impl Exact {
    /// The arguments for the inner function; and the result's type where it works in another.
    fn inner_args<'a>(
        &self,
        args: &AccumulatorArgs<'a>,
    ) -> (AccumulatorArgs<'a>, Option<DataType>) {
        let mut inner = AccumulatorArgs {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema,
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys,
            is_reversed: args.is_reversed,
            name: args.name,
            is_distinct: args.is_distinct,
            exprs: args.exprs,
            expr_fields: args.expr_fields,
        };
        let result = args.return_field.data_type().clone();
        let Some(wide) = wide(self.name(), &result) else { return (inner, None) };
        inner.return_field = Arc::new(Field::new(args.return_field.name(), wide, true));
        (inner, Some(result))
    }

    fn around(
        &self,
        inner: Box<dyn Accumulator>,
        args: &AccumulatorArgs<'_>,
    ) -> Box<dyn Accumulator> {
        let (inner_args, result) = self.inner_args(args);
        match result {
            Some(result) => {
                let wide = inner_args.return_field.data_type().clone();
                Box::new(One { inner, wide, result })
            }
            None => inner,
        }
    }
}

impl AggregateUDFImpl for Exact {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.name(), types.first()) {
            ("sum", Some(DataType::Decimal128(_, scale))) => {
                Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
            }
            ("avg", Some(of @ DataType::Decimal128(..))) => Ok(of.clone()),
            _ => self.inner.return_type(types),
        }
    }
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(wide) = wide(self.name(), args.return_field.data_type()) else {
            return self.inner.state_fields(args);
        };
        let return_field = Arc::new(Field::new(args.return_field.name(), wide, true));
        self.inner.state_fields(StateFieldsArgs { return_field, ..args })
    }
    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner.accumulator(self.inner_args(&args).0)?;
        Ok(self.around(inner, &args))
    }
    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner.create_sliding_accumulator(self.inner_args(&args).0)?;
        Ok(self.around(inner, &args))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(self.inner_args(&args).0)
    }
    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let (inner_args, result) = self.inner_args(&args);
        let wide = inner_args.return_field.data_type().clone();
        let inner = self.inner.create_groups_accumulator(inner_args)?;
        Ok(match result {
            Some(result) => Box::new(Many { inner, wide, result }),
            None => inner,
        })
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// One group.
#[derive(Debug)]
struct One {
    inner: Box<dyn Accumulator>,
    wide: DataType,
    result: DataType,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&widened(values, &self.wide))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let made = self.inner.evaluate()?.to_array_of_size(1)?;
        ScalarValue::try_from_array(&narrowed(&made, &self.result)?, 0)
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&widened(values, &self.wide))
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

/// Many groups.
struct Many {
    inner: Box<dyn GroupsAccumulator>,
    wide: DataType,
    result: DataType,
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(&widened(values, &self.wide), groups, filter, total)
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrowed(&self.inner.evaluate(emit)?, &self.result)
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit)
    }
    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.merge_batch(states, groups, filter, total)
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&widened(values, &self.wide), filter)
    }
    fn supports_convert_to_state(&self) -> bool {
        self.inner.supports_convert_to_state()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
}
