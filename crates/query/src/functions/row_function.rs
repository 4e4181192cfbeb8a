//! The frame of our scalar functions: declared argument kinds, a body over one row's cells.
//!
//! Arguments are cast to the declared kinds once per batch; then the body runs row by row. Null in
//! any argument is null out. An error of the body ends the query, or is null in the forgiving form.

use crate::QueryError;
use crate::memory::values::limit_bytes;
use crate::memory::{VALUE_MAX_BYTES, too_large};
use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::*;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Int,
    Double,
    Bool,
    /// A date or a timestamp, with or without time zone.
    Time,
}

/// What a function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    Text,
    Bytes,
    Int,
    Double,
    Bool,
    Date,
    /// timestamp(3)
    Timestamp,
    /// timestamp(3) with time zone, UTC
    TimestampTz,
    Texts,
    /// The type of this argument.
    Same(usize),
}

/// One argument of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Microseconds since the epoch; the zone's name for timestamps that have one.
    Time(i64, Option<&'a str>),
}

impl<'a> Cell<'a> {
    pub(crate) fn text(self) -> &'a str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
            _ => &[],
        }
    }
    pub(crate) fn int(self) -> i64 {
        match self {
            Self::Int(int) => int,
            _ => 0,
        }
    }
    pub(crate) fn double(self) -> f64 {
        match self {
            Self::Double(double) => double,
            _ => 0.0,
        }
    }
    pub(crate) fn time(self) -> (i64, Option<&'a str>) {
        match self {
            Self::Time(micros, zone) => (micros, zone),
            _ => (0, None),
        }
    }
}

/// A result of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    Null,
    Text(String),
    Bytes(Vec<u8>),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Microseconds since the epoch, for dates and timestamps.
    Time(i64),
    Texts(Vec<Option<String>>),
}

impl Out {
    /// Bytes that it takes.
    fn size_bytes(&self) -> usize {
        let text = |t: &Option<String>| 24 + t.as_ref().map_or(0, String::len);
        match self {
            Self::Text(text) => 24 + text.len(),
            Self::Bytes(bytes) => 24 + bytes.len(),
            Self::Texts(texts) => texts.iter().map(text).sum(),
            _ => 8,
        }
    }
}

/// The message of a body whose result would be larger than a value may be (I8).
pub(crate) const TOO_LARGE: &str = "the value is too large";

/// The body of a function; the error is its message.
pub(crate) type Body = fn(&[Cell<'_>]) -> std::result::Result<Out, String>;

/// A function.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Each form is a list of argument kinds.
    pub(crate) forms: &'static [&'static [Kind]],
    pub(crate) returns: Returns,
    pub(crate) body: Body,
}

/// A [`Spec`] as DataFusion calls it.
#[derive(Debug)]
pub(crate) struct RowFunction {
    spec: &'static Spec,
    name: String,
    forgiving: bool,
    signature: Signature,
}

impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for RowFunction {}
impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl RowFunction {
    pub(crate) fn new(spec: &'static Spec, forgiving: bool) -> Self {
        let name = if forgiving { format!("try${}", spec.name) } else { spec.name.to_string() };
        Self { spec, name, forgiving, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(t: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(t, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// The Arrow type that an argument of this type is cast to, if the kind takes it.
fn accepted(kind: Kind, actual: &DataType) -> Option<DataType> {
    if actual == &DataType::Null {
        return Some(match kind {
            Kind::Text => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Int => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Bool => DataType::Boolean,
            Kind::Time => DataType::Timestamp(TimeUnit::Millisecond, None),
        });
    }
    match kind {
        Kind::Text if is_text(actual) => Some(DataType::Utf8),
        Kind::Bytes if is_bytes(actual) => Some(DataType::Binary),
        Kind::Int if actual.is_integer() => Some(DataType::Int64),
        Kind::Double if actual.is_numeric() => Some(DataType::Float64),
        Kind::Bool if actual == &DataType::Boolean => Some(DataType::Boolean),
        Kind::Time if matches!(actual, DataType::Timestamp(..) | DataType::Date32) => {
            Some(actual.clone())
        }
        _ => None,
    }
}

impl ScalarUDFImpl for RowFunction {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let coerced =
            self.spec.forms.iter().filter(|form| form.len() == types.len()).find_map(|form| {
                form.iter()
                    .zip(types)
                    .map(|(kind, t)| accepted(*kind, t))
                    .collect::<Option<Vec<_>>>()
            });
        coerced.ok_or_else(|| {
            let given: Vec<String> = types.iter().map(crate::render::trino_type).collect();
            let expected: Vec<String> =
                self.spec.forms.iter().map(|f| format!("{}{f:?}", self.spec.name)).collect();
            QueryError::NotFound {
                code: "FUNCTION_NOT_FOUND",
                message: format!(
                    "Unexpected parameters ({}) for function {}. Expected: {}",
                    given.join(", "),
                    self.spec.name,
                    expected.join(", ").to_lowercase().replace('[', "(").replace(']', ")")
                ),
            }
            .into_df()
        })
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.spec.returns {
            Returns::Text => DataType::Utf8,
            Returns::Bytes => DataType::Binary,
            Returns::Int => DataType::Int64,
            Returns::Double => DataType::Float64,
            Returns::Bool => DataType::Boolean,
            Returns::Date => DataType::Date32,
            Returns::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
            Returns::TimestampTz => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Returns::Texts => DataType::new_list(DataType::Utf8, true),
            Returns::Same(at) => types.get(at).cloned().unwrap_or(DataType::Null),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let return_type = args.return_field.data_type().clone();
        let columns =
            args.args.into_iter().map(|a| a.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let readers = columns.iter().map(Reader::new).collect::<Result<Vec<_>>>()?;
        let mut results = Vec::with_capacity(rows);
        let mut cells = Vec::with_capacity(readers.len());
        let (limit, mut made) = (limit_bytes(rows), 0usize);
        for row in 0..rows {
            cells.clear();
            cells.extend(readers.iter().map_while(|reader| reader.cell(row)));
            if cells.len() < readers.len() {
                results.push(Out::Null);
                continue;
            }
            match (self.spec.body)(&cells) {
                Ok(out) => {
                    let bytes = out.size_bytes();
                    made = made.saturating_add(bytes);
                    if bytes > VALUE_MAX_BYTES * 2 || made > limit * 2 {
                        return Err(too_large(made, self.spec.name).into_df());
                    }
                    results.push(out);
                }
                Err(message) if message == TOO_LARGE => {
                    return Err(too_large(VALUE_MAX_BYTES + 1, self.spec.name).into_df());
                }
                Err(_) if self.forgiving => results.push(Out::Null),
                Err(message) => {
                    let code = "INVALID_FUNCTION_ARGUMENT";
                    return Err(QueryError::Data { code, message }.into_df());
                }
            }
        }
        let array = collect(results, &return_type)?;
        if constant {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(
                &array, 0,
            )?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// Reads cells of one column.
enum Reader<'a> {
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Int(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Time(Int64Array, i64, i64, Option<&'a str>),
    Nothing,
}

impl<'a> Reader<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Date32 => {
                let days = arrow::compute::cast(array, &DataType::Int32)?;
                let days = arrow::compute::cast(&days, &DataType::Int64)?;
                Self::Time(days.as_primitive::<Int64Type>().clone(), 86_400_000_000, 1, None)
            }
            DataType::Timestamp(unit, zone) => {
                let raw = arrow::compute::cast(array, &DataType::Int64)?;
                let (times, over) = match unit {
                    TimeUnit::Second => (1_000_000, 1),
                    TimeUnit::Millisecond => (1000, 1),
                    TimeUnit::Microsecond => (1, 1),
                    TimeUnit::Nanosecond => (1, 1000),
                };
                let raw = raw.as_primitive::<Int64Type>().clone();
                Self::Time(raw, times, over, zone.as_deref())
            }
            _ => Self::Nothing,
        })
    }

    fn cell(&self, row: usize) -> Option<Cell<'_>> {
        match self {
            Self::Text(a) => (!a.is_null(row)).then(|| Cell::Text(a.value(row))),
            Self::Bytes(a) => (!a.is_null(row)).then(|| Cell::Bytes(a.value(row))),
            Self::Int(a) => (!a.is_null(row)).then(|| Cell::Int(a.value(row))),
            Self::Double(a) => (!a.is_null(row)).then(|| Cell::Double(a.value(row))),
            Self::Bool(a) => (!a.is_null(row)).then(|| Cell::Bool(a.value(row))),
            Self::Time(a, times, over, zone) => (!a.is_null(row))
                .then(|| Cell::Time(a.value(row).saturating_mul(*times).div_euclid(*over), *zone)),
            Self::Nothing => None,
        }
    }
}

fn collect(results: Vec<Out>, to: &DataType) -> Result<ArrayRef> {
    macro_rules! gather {
        ($array:ty, $variant:ident) => {
            Arc::new(<$array>::from_iter(results.into_iter().map(|out| match out {
                Out::$variant(value) => Some(value),
                _ => None,
            }))) as ArrayRef
        };
    }
    Ok(match to {
        DataType::Utf8 => gather!(StringArray, Text),
        DataType::Binary => gather!(BinaryArray, Bytes),
        DataType::Int64 => gather!(Int64Array, Int),
        DataType::Float64 => gather!(Float64Array, Double),
        DataType::Boolean => gather!(BooleanArray, Bool),
        DataType::List(_) => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for out in results {
                match out {
                    Out::Texts(items) => builder.append_value(items),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Date32 => {
            let days = results.into_iter().map(|out| match out {
                Out::Time(micros) => i32::try_from(micros.div_euclid(86_400_000_000)).ok(),
                _ => None,
            });
            Arc::new(Date32Array::from_iter(days))
        }
        DataType::Timestamp(unit, _) => {
            let (times, over) = match unit {
                TimeUnit::Second => (1, 1_000_000),
                TimeUnit::Millisecond => (1, 1000),
                TimeUnit::Microsecond => (1, 1),
                TimeUnit::Nanosecond => (1000, 1),
            };
            let raw: Int64Array = results
                .into_iter()
                .map(|out| match out {
                    Out::Time(micros) => micros.checked_mul(times).map(|m| m.div_euclid(over)),
                    _ => None,
                })
                .collect();
            arrow::compute::cast(&raw, to)?
        }
        _ => new_null_array(to, results.len()),
    })
}
