//! Trino's functions and special forms that are expressed by others.
//!
//! Most are templates: `{0}`, `{1}` stand for the arguments. Aggregates keep their `FILTER` and
//! `OVER`. What DataFusion calls by the same name and means the same needs no entry; what it has not at
//! all is a function of our own ([`crate::functions`]).

use super::literals;
use super::rewrite::{Context, expression};
use crate::QueryError;
use crate::functions::nearest;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, TimezoneInfo, Value, VisitMut,
    VisitorMut,
};
use std::ops::ControlFlow;

/// (name, number of arguments, template).
const TEMPLATES: &[(&str, usize, &str)] = &[
    ("count_if", 1, "count(CASE WHEN {0} THEN 1 END)"),
    ("arbitrary", 1, "first_value({0}) IGNORE NULLS"),
    ("any_value", 1, "first_value({0}) IGNORE NULLS"),
    ("max_by", 2, "first_value({0} ORDER BY {1} DESC NULLS LAST)"),
    ("min_by", 2, "first_value({0} ORDER BY {1} ASC NULLS LAST)"),
    ("approx_percentile", 2, "approx_percentile_cont({1}) WITHIN GROUP (ORDER BY {0})"),
    ("approx_distinct", 2, "approx_distinct({0})"),
    ("every", 1, "bool_and({0})"),
    ("variance", 1, "var_samp({0})"),
    // In brackets, because what is said of the aggregate is not said of the function around it.
    ("geometric_mean", 1, "(exp(avg(ln({0}))))"),
    ("if", 2, "CASE WHEN {0} THEN {1} END"),
    ("if", 3, "CASE WHEN {0} THEN {1} ELSE {2} END"),
    ("mod", 2, "(({0}) % ({1}))"),
    ("contains", 2, "array_has({0}, {1})"),
    ("slice", 3, "array_slice({0}, {1}, ({1}) + ({2}) - 1)"),
    ("array_join", 2, "array_to_string({0}, {1})"),
    ("array_join", 3, "array_to_string({0}, {1}, {2})"),
    (
        "array_position",
        2,
        "CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL \
         ELSE coalesce(CAST(array_position({0}, {1}) AS BIGINT), 0) END",
    ),
    ("array_remove", 2, "array_remove_all({0}, {1})"),
    ("arrays_overlap", 2, "array_has_any({0}, {1})"),
    ("codepoint", 1, "ascii({0})"),
    ("levenshtein_distance", 2, "levenshtein({0}, {1})"),
    ("is_nan", 1, "isnan({0})"),
    ("is_infinite", 1, "(abs({0}) = CAST('Infinity' AS DOUBLE))"),
    ("truncate", 1, "trunc({0})"),
    ("truncate", 2, "trunc({0}, {1})"),
    ("sign", 1, "signum({0})"),
    ("ceiling", 1, "ceil({0})"),
    ("rand", 0, "random()"),
    ("e", 0, "exp(1e0)"),
    ("infinity", 0, "CAST('Infinity' AS DOUBLE)"),
    ("nan", 0, "CAST('NaN' AS DOUBLE)"),
    ("md5", 1, "digest({0}, 'md5')"),
    ("sha256", 1, "digest({0}, 'sha256')"),
    ("sha512", 1, "digest({0}, 'sha512')"),
    ("date", 1, "CAST({0} AS DATE)"),
    ("from_unixtime", 2, "at_timezone(from_unixtime({0}), {1})"),
    ("listagg", 2, "string_agg({0}, {1})"),
    ("json_array_get", 2, "json_extract({0}, '$[' || CAST({1} AS VARCHAR) || ']')"),
];

/// Special names that [`rewrite`] treats by itself.
const SPECIAL: &[&str] =
    &["try", "concat", "row", "now", "current_timestamp", "current_date", "localtimestamp"];

/// The names that exist only here.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, ..)| *name).chain(SPECIAL.iter().copied())
}

/// Rewrites one expression whose children are rewritten already.
pub(super) fn rewrite(expr: &mut Expr, context: &Context<'_>) -> Result<(), QueryError> {
    let new = match expr {
        Expr::Function(function) => call(function, context)?,
        Expr::AtTimeZone { timestamp, time_zone } => {
            Some(expression(&format!("at_timezone({timestamp}, {time_zone})"))?)
        }
        Expr::Extract { field, expr, .. } => Some(extract(&field.to_string(), expr)?),
        Expr::Cast { kind, expr, data_type, .. } => cast(kind, expr, data_type)?,
        Expr::TypedString(typed) => literals::rewrite(typed)?,
        // Trino: a number with an exponent is a double, one with a point a decimal.
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) if text.contains(['e', 'E']) => {
                Some(expression(&format!("CAST('{text}' AS DOUBLE)"))?)
            }
            _ => None,
        },
        Expr::Lambda(_) => {
            return Err(QueryError::Unsupported(
                "lambda expressions (x -> …) are not supported".into(),
            ));
        }
        Expr::CompoundFieldAccess { access_chain, .. } => {
            access_chain.iter_mut().for_each(name_field);
            None
        }
        Expr::Position { expr, r#in } => Some(expression(&format!("strpos({}, {expr})", r#in))?),
        Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
            Some(expression(&match substring_for {
                Some(length) => format!("\"substr\"({expr}, {from}, {length})"),
                None => format!("\"substr\"({expr}, {from})"),
            })?)
        }
        _ => None,
    };
    if let Some(new) = new {
        *expr = new;
    }
    Ok(())
}

/// `(row).field`: the planner knows the field by its text only.
fn name_field(access: &mut ast::AccessExpr) {
    if let ast::AccessExpr::Dot(field) = access
        && let Expr::Identifier(ident) = field
    {
        *field = Expr::value(Value::SingleQuotedString(ident.value.to_lowercase()));
    }
}

pub(super) fn simple_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.to_lowercase()),
        _ => None,
    }
}

pub(super) fn arguments(function: &Function) -> Option<Vec<String>> {
    match &function.args {
        FunctionArguments::None => Some(Vec::new()),
        FunctionArguments::Subquery(_) => None,
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.to_string()),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Some("*".into()),
                _ => None,
            })
            .collect(),
    }
}

fn call(function: &mut Function, context: &Context<'_>) -> Result<Option<Expr>, QueryError> {
    let Some(name) = simple_name(&function.name) else {
        return Err(QueryError::Unsupported(format!(
            "the function {} has a qualified name; functions have simple names",
            function.name
        )));
    };
    if !context.functions.contains(&name) {
        let hint = nearest(&name, context.functions.iter().map(String::as_str));
        let hint = hint.map_or(String::new(), |h| format!("; did you mean '{h}'?"));
        return Err(QueryError::NotFound {
            code: "FUNCTION_NOT_FOUND",
            message: format!("Function '{name}' is not registered{hint}"),
        });
    }
    // The planner below folds the case of unquoted names only.
    let ident = match name.contains('$') {
        true => Ident::with_quote('"', name.clone()),
        false => Ident::new(name.clone()),
    };
    function.name = ObjectName(vec![ObjectNamePart::Identifier(ident)]);
    let Some(args) = arguments(function) else { return Ok(None) };
    let special = match name.as_str() {
        "now" | "current_timestamp" => Some(timestamp_literal(context.now_ms, true)),
        "localtimestamp" => Some(timestamp_literal(context.now_ms, false)),
        "current_date" => Some(date_literal(context.now_ms)),
        "concat" if args.len() > 1 => {
            Some(args.iter().map(|a| format!("({a})")).collect::<Vec<_>>().join(" || "))
        }
        // Fields without names are shown so (Athena).
        "row" if !args.is_empty() => {
            let fields = args.iter().enumerate().map(|(at, arg)| format!("'field{at}', {arg}"));
            Some(format!("named_struct({})", fields.collect::<Vec<_>>().join(", ")))
        }
        "try" if args.len() == 1 => {
            let mut inner = expression(&args[0])?;
            forgive(&mut inner);
            return Ok(Some(Expr::Nested(Box::new(inner))));
        }
        _ => template(&name, &args)?,
    };
    let Some(text) = special else { return Ok(narrowed(&name, function)) };
    let mut new = expression(&text)?;
    match &mut new {
        Expr::Function(new) => {
            carry(&name, function, new)?;
            let native = simple_name(&new.name).unwrap_or_default();
            Ok(Some(narrowed(&native, new).unwrap_or_else(|| Expr::Function(new.clone()))))
        }
        _ if has_clauses(function) => Err(QueryError::Unsupported(format!(
            "{name} with DISTINCT, ORDER BY, FILTER or OVER is not supported"
        ))),
        _ => Ok(Some(Expr::Nested(Box::new(new)))),
    }
}

/// Whether a call says more than its arguments.
fn has_clauses(function: &Function) -> bool {
    let of_list = match &function.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment.is_some() || !list.clauses.is_empty()
        }
        _ => false,
    };
    let of_call = function.over.is_some() || function.filter.is_some();
    of_list || of_call || function.null_treatment.is_some() || !function.within_group.is_empty()
}

/// Gives the call that stands for another what that one said beside its arguments; what it cannot
/// have is refused.
fn carry(name: &str, old: &mut Function, new: &mut Function) -> Result<(), QueryError> {
    let refuse =
        |what: &str| Err(QueryError::Unsupported(format!("{name} with {what} is not supported")));
    new.over = old.over.take();
    new.filter = old.filter.take();
    if old.null_treatment.is_some() {
        return refuse("IGNORE NULLS or RESPECT NULLS");
    }
    let (FunctionArguments::List(to), FunctionArguments::List(from)) =
        (&mut new.args, &mut old.args)
    else {
        return Ok(());
    };
    to.duplicate_treatment = from.duplicate_treatment;
    if !from.clauses.is_empty() {
        if !to.clauses.is_empty() {
            return refuse("ORDER BY or another clause within its brackets");
        }
        to.clauses = std::mem::take(&mut from.clauses);
    }
    if !old.within_group.is_empty() {
        if name != "listagg" {
            return refuse("WITHIN GROUP");
        }
        let order = std::mem::take(&mut old.within_group);
        to.clauses.push(ast::FunctionArgumentClause::OrderBy(order));
    }
    Ok(())
}

/// Functions whose result is Trino's `bigint` and DataFusion's unsigned or narrower integer.
const BIGINTS: &[&str] = &[
    "approx_distinct",
    "cardinality",
    "dense_rank",
    "length",
    "levenshtein",
    "ntile",
    "rank",
    "regr_count",
    "row_number",
];

/// The call as a `bigint`, if its result is one in Trino only.
fn narrowed(name: &str, function: &Function) -> Option<Expr> {
    BIGINTS.contains(&name).then(|| Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Function(function.clone())),
        data_type: DataType::BigInt(None),
        array: false,
        format: None,
    })
}

fn template(name: &str, args: &[String]) -> Result<Option<String>, QueryError> {
    let mut of_name = TEMPLATES.iter().filter(|(n, ..)| *n == name).peekable();
    if of_name.peek().is_none() {
        return Ok(None);
    }
    let Some((_, _, text)) = of_name.find(|(_, count, _)| *count == args.len()) else {
        // Some names are DataFusion's, too, with another number of arguments.
        return Ok(None);
    };
    let mut out = String::new();
    let mut rest = *text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let index = rest.as_bytes()[at + 1].wrapping_sub(b'0') as usize;
        out.push_str(args.get(index).map_or("", String::as_str));
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn timestamp_literal(now_ms: i64, zone: bool) -> String {
    let zone = if zone { "Some(\"UTC\")" } else { "None" };
    format!("arrow_cast(arrow_cast({now_ms}, 'Int64'), 'Timestamp(Millisecond, {zone})')")
}

fn date_literal(now_ms: i64) -> String {
    format!("arrow_cast(arrow_cast({}, 'Int32'), 'Date32')", now_ms.div_euclid(86_400_000))
}

fn extract(field: &str, expr: &Expr) -> Result<Expr, QueryError> {
    let function = match field.to_ascii_lowercase().as_str() {
        "dow" | "day_of_week" => "day_of_week",
        "doy" | "day_of_year" => "day_of_year",
        "yow" | "year_of_week" => "year_of_week",
        "year" => "year",
        "quarter" => "quarter",
        "month" => "month",
        "week" => "week",
        "day" | "day_of_month" => "day",
        "hour" => "hour",
        "minute" => "minute",
        "second" => "second",
        other => {
            return Err(QueryError::Unsupported(format!(
                "EXTRACT({other} FROM …) is not supported"
            )));
        }
    };
    expression(&format!("{function}({expr})"))
}

fn is_json(expr: &Expr) -> bool {
    match expr {
        Expr::Function(f) => simple_name(&f.name)
            .is_some_and(|n| ["json_extract", "json_parse", "to_json"].contains(&n.as_str())),
        Expr::Nested(inner) => is_json(inner),
        _ => false,
    }
}

fn cast(kind: &CastKind, expr: &Expr, to: &DataType) -> Result<Option<Expr>, QueryError> {
    let tried = !matches!(kind, CastKind::Cast | CastKind::DoubleColon);
    let word = if tried { "TRY_CAST" } else { "CAST" };
    match to {
        DataType::Varchar(length) | DataType::CharacterVarying(length) => {
            let inner = if is_json(expr) {
                format!("json_text({expr})")
            } else {
                format!("to_varchar({expr})")
            };
            let text = match length {
                Some(ast::CharacterLength::IntegerLength { length, .. }) => {
                    format!("\"substr\"({inner}, 1, {length})")
                }
                _ => inner,
            };
            Ok(Some(expression(&text)?))
        }
        DataType::JSON => Ok(Some(expression(&format!("to_json({expr})"))?)),
        DataType::Timestamp(None, zone) => {
            let zone = match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => "None",
                TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => "Some(\"UTC\")",
            };
            let function = if tried { "arrow_try_cast" } else { "arrow_cast" };
            if tried {
                return Ok(Some(expression(&format!("{word}({expr} AS TIMESTAMP(3))"))?));
            }
            Ok(Some(expression(&format!("{function}({expr}, 'Timestamp(Millisecond, {zone})')"))?))
        }
        DataType::Time(..) => {
            Err(QueryError::Unsupported(format!("CAST to {to} is not supported")))
        }
        _ => Ok(None),
    }
}

/// `TRY(…)`: what can fail inside becomes null instead.
fn forgive(expr: &mut Expr) {
    struct Forgive;
    impl VisitorMut for Forgive {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Cast { kind, .. } if matches!(kind, CastKind::Cast) => {
                    *kind = CastKind::TryCast;
                }
                Expr::BinaryOp {
                    op: BinaryOperator::Divide | BinaryOperator::Modulo,
                    right,
                    ..
                } => {
                    if let Ok(safe) = expression(&format!("nullif({right}, 0)")) {
                        **right = safe;
                    }
                }
                Expr::CompoundFieldAccess { root, access_chain } => {
                    if let [ast::AccessExpr::Subscript(ast::Subscript::Index { index })] =
                        access_chain.as_slice()
                        && let Ok(safe) = expression(&format!("element_at({root}, {index})"))
                    {
                        *expr = safe;
                    }
                }
                Expr::Function(function) => {
                    if let Some(name) = simple_name(&function.name)
                        && crate::functions::can_fail(&name)
                    {
                        let ident = Ident::with_quote('"', format!("try${name}"));
                        function.name = ObjectName(vec![ObjectNamePart::Identifier(ident)]);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _: ControlFlow<()> = expr.visit(&mut Forgive);
}
