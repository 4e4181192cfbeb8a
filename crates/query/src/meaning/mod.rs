//! What Trino means where DataFusion means something else by the same words, decided when types are known.
//!
//! - [`aggregates`]: sums that do not fit are errors; averages of decimals have their scale.
//! - [`arithmetic`]: integers and decimals that overflow are errors; quotients of decimals have Trino's scale.
//! - [`comparison`]: NaN compares with nothing, and the two zeros are equal.
//! - [`literals`]: a whole number is an `integer` where it fits.
//! - [`Meaning`]: casts to integers round, a subscript outside of an array or map is an error, a scalar
//!   subquery of several rows is an error.
//! - [`optimizer_rules`]: DataFusion's rules without those that change what `UNNEST` reads.

pub(crate) mod aggregates;
mod arithmetic;
mod comparison;
mod literals;

pub(crate) use arithmetic::ArithmeticPlanner;
pub(crate) use comparison::ComparisonPlanner;
pub(crate) use literals::integers;

use crate::functions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Subquery, TryCast,
};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use std::sync::Arc;

/// The logical rules of a query. A field of an `UNNEST`ed row must not be read below the `UNNEST`,
/// where its column is an array still; the two rules that move fields down do that.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let moving = ["extract_leaf_expressions", "push_down_leaf_projections"];
    let mut rules = Optimizer::new().rules;
    rules.retain(|rule| !moving.contains(&rule.name()));
    rules
}

/// Says what an expression means to Trino.
#[derive(Debug)]
pub(crate) struct Meaning {
    subscript: Arc<ScalarUDF>,
    single: Arc<ScalarUDF>,
    text: Arc<ScalarUDF>,
}

impl Meaning {
    pub(crate) fn new() -> Self {
        Self {
            subscript: Arc::new(functions::subscript()),
            single: Arc::new(functions::single_value()),
            text: Arc::new(functions::to_varchar()),
        }
    }

    fn call(&self, call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
        let ScalarFunction { func, args } = call;
        let of = |at: usize| args.get(at).and_then(|arg: &Expr| arg.get_type(schema).ok());
        let new = match (func.name(), args.len()) {
            ("array_element", 2) => Arc::clone(&self.subscript),
            ("get_field", 2) if matches!(of(0), Some(DataType::Map(..))) => {
                Arc::clone(&self.subscript)
            }
            // A date stays a date.
            ("date_trunc", 2) if of(1) == Some(DataType::Date32) => {
                let call = Expr::ScalarFunction(ScalarFunction { func, args });
                return Transformed::yes(Expr::Cast(Cast::new(Box::new(call), DataType::Date32)));
            }
            ("to_iso8601", 1) if of(0) == Some(DataType::Date32) => Arc::clone(&self.text),
            _ => return Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
        };
        Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: new, args }))
    }

    fn subquery(&self, query: Subquery) -> Result<Transformed<Expr>> {
        // One that is correlated must aggregate already: DataFusion refuses others.
        if is_one_row(&query.subquery) || !query.outer_ref_columns.is_empty() {
            return Ok(Transformed::no(Expr::ScalarSubquery(query)));
        }
        let Some(column) = query.subquery.schema().columns().into_iter().next() else {
            return Ok(Transformed::no(Expr::ScalarSubquery(query)));
        };
        let name = column.name.clone();
        let all = datafusion::functions_aggregate::array_agg::array_agg(Expr::Column(column))
            .alias("$rows");
        let plan = LogicalPlanBuilder::from(query.subquery.as_ref().clone())
            .limit(0, Some(2))?
            .aggregate(Vec::<Expr>::new(), vec![all])?;
        let value = ScalarFunction {
            func: Arc::clone(&self.single),
            args: vec![Expr::Column(datafusion::common::Column::new_unqualified("$rows"))],
        };
        let plan = plan.project(vec![Expr::ScalarFunction(value).alias(name)])?.build()?;
        let query = Subquery { subquery: Arc::new(plan), ..query };
        Ok(Transformed::yes(Expr::ScalarSubquery(query)))
    }
}

/// Functions whose arguments get one type.
const ALIKE: &[&str] = &["coalesce", "greatest", "least", "make_array", "nullif"];

/// Decimals beside doubles become doubles, as in Trino: no decimal holds every double. Whether any did.
fn as_doubles(exprs: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    let of = |e: &Expr| e.get_type(schema).ok();
    let floating = exprs.iter().any(|e| of(e).is_some_and(|t| t.is_floating()));
    let mut changed = false;
    for expr in exprs.into_iter().filter(|_| floating) {
        if of(expr).is_some_and(|t| t.is_decimal()) {
            let decimal = std::mem::take(expr);
            *expr = Expr::Cast(Cast::new(Box::new(decimal), DataType::Float64));
            changed = true;
        }
    }
    changed
}

/// Whether a plan gives one row for certain. (Of a subquery without a row DataFusion may make none.)
fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

fn rounded(expr: Expr) -> Box<Expr> {
    let func = datafusion::functions::math::round();
    Box::new(Expr::ScalarFunction(ScalarFunction { func, args: vec![expr] }))
}

impl FunctionRewrite for Meaning {
    fn name(&self) -> &str {
        "meaning"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let has_fraction = |of: &Expr| match of.get_type(schema) {
            Ok(of) => of.is_floating() || of.is_decimal(),
            Err(_) => false,
        };
        match expr {
            Expr::Cast(Cast { expr, data_type })
                if data_type.is_integer() && has_fraction(&expr) =>
            {
                Ok(Transformed::yes(Expr::Cast(Cast { expr: rounded(*expr), data_type })))
            }
            Expr::TryCast(TryCast { expr, data_type })
                if data_type.is_integer() && has_fraction(&expr) =>
            {
                Ok(Transformed::yes(Expr::TryCast(TryCast { expr: rounded(*expr), data_type })))
            }
            Expr::ScalarFunction(mut call) => {
                let changed = ALIKE.contains(&call.func.name())
                    && as_doubles(call.args.iter_mut().collect(), schema);
                let mut made = self.call(call, schema);
                made.transformed |= changed;
                Ok(made)
            }
            Expr::Case(mut case) => {
                let branches = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
                let branches = branches.chain(case.else_expr.as_deref_mut()).collect();
                let changed = as_doubles(branches, schema);
                Ok(Transformed::new(Expr::Case(case), changed, TreeNodeRecursion::Continue))
            }
            Expr::ScalarSubquery(query) => self.subquery(query),
            Expr::Between(between) => Ok(match comparison::between(&between, schema)? {
                Some(new) => Transformed::yes(new),
                None => Transformed::no(Expr::Between(between)),
            }),
            Expr::InList(list) => Ok(match comparison::in_list(&list, schema)? {
                Some(new) => Transformed::yes(new),
                None => Transformed::no(Expr::InList(list)),
            }),
            other => Ok(Transformed::no(other)),
        }
    }
}
