//! Puts the bounds into physical plans.

use super::held::{HeldAbove, HeldBelow, rows_out};
use super::pieces::{Pieces, Use};
use super::unnest::BoundedUnnest;
use super::watch::Watched;
use super::{BATCH_ROWS, QueryWatch, width};
use crate::QueryError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::CrossJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// DataFusion's rules with ours: pieces first, because projections would be pushed into scans, and again
/// at the end, where a rule put something between; the rest last, because nothing may move what it
/// stands beside.
pub(crate) fn optimizer_rules(
    query: &Arc<QueryWatch>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(Cuts)];
    rules.extend(PhysicalOptimizer::new().rules);
    rules.push(Arc::new(Cuts));
    rules.push(Arc::new(Guards { query: Arc::clone(query) }));
    rules
}

type Plan = Arc<dyn ExecutionPlan>;

fn each_node(plan: Plan, change: impl Fn(&Plan) -> Result<Option<Plan>>) -> Result<Plan> {
    plan.transform_up(|node| {
        Ok(match change(&node)? {
            Some(new) => Transformed::yes(new),
            None => Transformed::no(node),
        })
    })
    .data()
}

/// The expressions of a node that make large values of its input's rows.
fn growing(node: &Plan) -> Vec<Arc<dyn PhysicalExpr>> {
    let any = node.as_any();
    let mut found: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
        found.extend(projection.expr().iter().map(|e| Arc::clone(&e.expr)));
    } else if let Some(filter) = any.downcast_ref::<FilterExec>() {
        found.push(Arc::clone(filter.predicate()));
    } else if let Some(aggregate) = any.downcast_ref::<AggregateExec>()
        && aggregate.mode().input_mode()
            == datafusion::physical_plan::aggregates::AggregateInputMode::Raw
    {
        found.extend(aggregate.group_expr().expr().iter().map(|(e, _)| Arc::clone(e)));
        found.extend(aggregate.aggr_expr().iter().flat_map(|f| f.expressions()));
        found.extend(aggregate.filter_expr().iter().flatten().cloned());
    }
    found.retain(width::grows);
    found
}

/// Cuts batches below expressions that make large values.
#[derive(Debug)]
struct Cuts;

impl PhysicalOptimizerRule for Cuts {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        each_node(plan, |node| {
            let found = growing(node);
            let children = node.children();
            let [input] = children.as_slice() else { return Ok(None) };
            if found.is_empty() || input.as_any().is::<Pieces>() {
                return Ok(None);
            }
            let input = Arc::new(Pieces::new(Arc::clone(input), Use::Expressions(found)));
            Arc::clone(node).with_new_children(vec![input]).map(Some)
        })
    }
    fn name(&self) -> &str {
        "cuts"
    }
    fn schema_check(&self) -> bool {
        true
    }
}

/// Bounds `UNNEST`, cross joins and windows, and watches all that multiplies rows.
#[derive(Debug)]
struct Guards {
    query: Arc<QueryWatch>,
}

impl Guards {
    fn watched(&self, plan: Plan) -> Plan {
        Arc::new(Watched::new(plan, Arc::clone(&self.query), None))
    }

    fn guard(&self, node: &Plan) -> Result<Option<Plan>> {
        if let Some(unnest) = BoundedUnnest::of(node) {
            return Ok(Some(self.watched(Arc::new(unnest))));
        }
        let any = node.as_any();
        if any.is::<UnnestExec>() {
            let message = "an UNNEST that is not of lists of one level".to_string();
            return Err(QueryError::Internal(message).into_df());
        }
        if let Some(join) = any.downcast_ref::<CrossJoinExec>() {
            let widest = Arc::new(AtomicUsize::new(0));
            let query = Arc::clone(&self.query);
            let left = Watched::new(Arc::clone(join.left()), query, Some(Arc::clone(&widest)));
            let right = Pieces::new(Arc::clone(join.right()), Use::Beside(widest));
            let join = CrossJoinExec::new(Arc::new(left), Arc::new(right));
            return Ok(Some(self.watched(Arc::new(join))));
        }
        if let Some(window) = any.downcast_ref::<WindowAggExec>() {
            let below = HeldBelow::new(Arc::clone(window.input()), 2, None);
            let node = Arc::clone(node).with_new_children(vec![Arc::new(below)])?;
            return Ok(Some(self.watched(node)));
        }
        if let Some(window) = any.downcast_ref::<BoundedWindowAggExec>() {
            let out = rows_out(node.output_partitioning().partition_count());
            let far = window.window_expr().iter().any(reaches_far);
            let seen = (!far).then(|| Arc::clone(&out));
            let below = HeldBelow::new(Arc::clone(window.input()), 1, seen);
            let node = Arc::clone(node).with_new_children(vec![Arc::new(below)])?;
            return Ok(Some(self.watched(Arc::new(HeldAbove::new(node, out)))));
        }
        let leaf_or_join = node.children().len() != 1;
        Ok(leaf_or_join.then(|| self.watched(Arc::clone(node))))
    }
}

/// Rows before the current one that a moving frame may hold uncounted.
const NEAR_ROWS: u64 = 10_000;

/// Whether a window's frame begins far before the current row, so that rows stay after they came out.
fn reaches_far(window: &Arc<dyn WindowExpr>) -> bool {
    let frame = window.get_window_frame();
    let WindowFrameBound::Preceding(distance) = &frame.start_bound else { return false };
    // Without a bound the aggregate goes forward and needs no row again.
    if distance.is_null() {
        return false;
    }
    let rows = match distance.cast_to(&arrow::datatypes::DataType::UInt64) {
        Ok(ScalarValue::UInt64(Some(rows))) => rows,
        _ => u64::MAX,
    };
    frame.units != WindowFrameUnits::Rows || rows > NEAR_ROWS
}

impl PhysicalOptimizerRule for Guards {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        each_node(plan, |node| self.guard(node))
    }
    fn name(&self) -> &str {
        "guards"
    }
    fn schema_check(&self) -> bool {
        true
    }
}

/// What operators gather into one batch before they pass it on.
const GATHERED_BYTES: usize = 32 << 20;

/// How many rows the batches of a plan have: operators gather that many, however wide they are.
/// `stored` is what the widest rows take that it reads.
pub(crate) fn batch_rows(plan: &Plan, stored: usize) -> usize {
    let mut widest = stored.max(1);
    widths(plan, &mut widest);
    (GATHERED_BYTES / widest).clamp(1, BATCH_ROWS)
}

fn default_width(of: &arrow::datatypes::DataType) -> usize {
    width::fixed(of).unwrap_or(match of.is_nested() {
        true => 512,
        false => 64,
    })
}

/// The likely widths of a plan's columns; `widest` learns of the rows that operators gather.
fn widths(plan: &Plan, widest: &mut usize) -> Vec<usize> {
    let children: Vec<Vec<usize>> =
        plan.children().into_iter().map(|child| widths(child, widest)).collect();
    let schema = plan.schema();
    let usual = |at: usize| default_width(schema.field(at).data_type());
    let any = plan.as_any();
    let count = schema.fields().len();
    if let (Some(projection), [input]) = (any.downcast_ref::<ProjectionExec>(), &*children) {
        let from = projection.input().schema();
        let value = |e: &Arc<dyn PhysicalExpr>| width::estimate(e, input, &from).value;
        // What a projection makes may go straight into an UNNEST: it counts where it is gathered.
        return projection.expr().iter().map(|e| value(&e.expr)).collect();
    }
    let joined: Vec<usize> = children.iter().flatten().copied().collect();
    let found: Vec<usize> =
        if let (Some(aggregate), [input]) = (any.downcast_ref::<AggregateExec>(), &*children) {
            let groups = aggregate.group_expr().expr();
            let from = aggregate.input().schema();
            let of_group =
                |at: usize| groups.get(at).map(|(e, _)| width::estimate(e, input, &from).value);
            // Arrays that it makes may be long; all of them together are counted in the pool.
            (0..count).map(|at| of_group(at).unwrap_or_else(|| usual(at))).collect()
        } else if any.is::<BoundedUnnest>() {
            // An entry is a small part of its array; a text may be most of it.
            (0..count)
                .map(|at| width::fixed(schema.field(at).data_type()).unwrap_or(joined[at]))
                .collect()
        } else if joined.len() == count {
            joined
        } else {
            (0..count)
                .map(|at| joined.get(at).copied().unwrap_or_else(|| usual(at)).max(usual(at)))
                .collect()
        };
    if !any.is::<Pieces>() && !any.is::<BoundedUnnest>() && !any.is::<Watched>() {
        *widest = found.iter().fold(0usize, |sum, w| sum.saturating_add(*w)).max(*widest);
    }
    found
}
