//! From what a query says in Trino's words to the same question in DataFusion's.
//!
//! Works on the syntax tree before any type is known: calls are renamed or expressed by others
//! ([`super::calls`]), joins with `UNNEST` are regrouped ([`super::unnest_joins`]), time travel becomes
//! a suffix of the table's name, output columns get the names that Athena shows. What DataFusion's
//! planner would skip in silence is refused here (I7).

use super::{AthenaDialect, calls, literals, parse_error, unnest_joins};
use crate::QueryError;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor,
    TableVersion, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Before a column's number in the hidden alias of an expression without a name.
pub(crate) const UNNAMED: &str = "$unnamed$";
/// Before a snapshot id in the name of a table as of a version.
pub(crate) const AT_VERSION: &str = "$version$";
/// Before milliseconds in the name of a table as of a time.
pub(crate) const AT_TIME: &str = "$time$";

/// Parses an expression that we wrote ourselves.
pub(super) fn expression(text: &str) -> Result<Expr, QueryError> {
    Parser::new(&AthenaDialect)
        .with_recursion_limit(super::NESTING_MAX * 8)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(parse_error)
}

/// Refuses text that is not one expression and nothing more.
pub(super) fn expression_only(text: &str) -> Result<(), QueryError> {
    let mut parser = Parser::new(&AthenaDialect)
        .with_recursion_limit(super::NESTING_MAX * 4)
        .try_with_sql(text)
        .map_err(parse_error)?;
    parser.parse_expr().map_err(parse_error)?;
    let left = parser.peek_token();
    if left.token != Token::EOF {
        let text: String = text.chars().take(100).collect();
        return Err(QueryError::Syntax(format!(
            "the parameter {text} is not an expression; text is written in quotes"
        )));
    }
    Ok(())
}

/// What a rewrite needs to know.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Every function name that can be called.
    pub(crate) functions: &'a HashSet<String>,
    /// The statement's start, for `now()` and its kind.
    pub(crate) now_ms: i64,
}

/// The names of the output columns that the query's text gives; `None` where a wildcard stands.
pub(crate) type OutputNames = Vec<Option<String>>;

/// Rewrites a query in place and says how its output columns are called.
pub(crate) fn rewrite(query: &mut Query, context: &Context<'_>) -> Result<(), QueryError> {
    let mut pass = Pass { context };
    match query.visit(&mut pass) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Makes every quoted identifier lower case and double-quoted; output names are taken before.
pub(crate) fn fold_case(query: &mut Query) {
    let _: ControlFlow<()> = query.visit(&mut Fold);
}

struct Fold;
impl Fold {
    fn ident(ident: &mut Ident) {
        ident.value = ident.value.to_lowercase();
        ident.quote_style = Some('"');
    }
    fn name(name: &mut ObjectName) {
        for part in &mut name.0 {
            if let ast::ObjectNamePart::Identifier(ident) = part {
                Self::ident(ident);
            }
        }
    }
    fn alias(alias: &mut Option<ast::TableAlias>) {
        if let Some(alias) = alias {
            Self::ident(&mut alias.name);
            alias.columns.iter_mut().for_each(|c| Self::ident(&mut c.name));
        }
    }
    fn select(select: &mut Select) {
        for item in &mut select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => Self::ident(alias),
                SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => Self::name(name),
                _ => {}
            }
        }
        for table in &mut select.from {
            for join in &mut table.joins {
                if let Some(ast::JoinConstraint::Using(names)) =
                    unnest_joins::constraint_mut(&mut join.join_operator)
                {
                    names.iter_mut().for_each(Self::name);
                }
            }
        }
    }
    fn body(body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => Self::select(select),
            SetExpr::SetOperation { left, right, .. } => {
                Self::body(left);
                Self::body(right);
            }
            _ => {}
        }
    }
}
impl VisitorMut for Fold {
    type Break = ();
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                Self::ident(&mut cte.alias.name);
                cte.alias.columns.iter_mut().for_each(|c| Self::ident(&mut c.name));
            }
        }
        Self::body(&mut query.body);
        ControlFlow::Continue(())
    }
    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
        Self::name(name);
        ControlFlow::Continue(())
    }
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => Self::alias(alias),
            _ => {}
        }
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => Self::ident(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(Self::ident),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The output names of a query's first `SELECT`, as the text spells them.
pub(crate) fn output_names(query: &Query) -> OutputNames {
    fn of(body: &SetExpr) -> OutputNames {
        match body {
            SetExpr::Select(select) => select.projection.iter().map(item_name).collect(),
            SetExpr::SetOperation { left, .. } => of(left),
            SetExpr::Query(query) => of(&query.body),
            _ => Vec::new(),
        }
    }
    of(&query.body)
}

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|part| part.value.clone())
        }
        SelectItem::UnnamedExpr(_) => Some(String::new()),
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => None,
    }
}

/// `SELECT DISTINCT a + 1 … ORDER BY a + 1`: the expression is known by its hidden name now.
fn order_by_hidden(select: &Select, order: &mut ast::OrderBy) {
    let ast::OrderByKind::Expressions(terms) = &mut order.kind else { return };
    for term in terms {
        let same = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias }
                if alias.value.starts_with(UNNAMED) && *expr == term.expr =>
            {
                Some(alias.clone())
            }
            _ => None,
        });
        if let Some(alias) = same {
            term.expr = Expr::Identifier(alias);
        }
    }
}

/// `WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL …)`: the recursion knows its columns by the names of
/// its first `SELECT`.
fn name_recursive(query: &mut Query) {
    fn first(body: &mut SetExpr) -> Option<&mut Select> {
        match body {
            SetExpr::Select(select) => Some(select),
            SetExpr::SetOperation { left, .. } => first(left),
            SetExpr::Query(query) => first(&mut query.body),
            _ => None,
        }
    }
    let Some(with) = query.with.as_mut().filter(|with| with.recursive) else { return };
    for cte in &mut with.cte_tables {
        let names: Vec<Ident> = cte.alias.columns.iter().map(|c| c.name.clone()).collect();
        let Some(select) = first(&mut cte.query.body) else { continue };
        if names.len() != select.projection.len() {
            continue;
        }
        for (item, alias) in select.projection.iter_mut().zip(names) {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
    }
}

struct Pass<'a> {
    context: &'a Context<'a>,
}

fn refuse<T>(what: &str) -> Result<T, QueryError> {
    Err(QueryError::Unsupported(format!("{what} is not supported")))
}

impl Pass<'_> {
    fn query(&mut self, query: &mut Query) -> Result<(), QueryError> {
        let odd = [
            (!query.locks.is_empty(), "FOR UPDATE"),
            (query.for_clause.is_some(), "the FOR clause"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe operator |>"),
        ];
        if let Some((_, what)) = odd.iter().find(|(found, _)| *found) {
            return refuse(what);
        }
        if let Some(fetch) = query.fetch.take() {
            if fetch.with_ties || fetch.percent {
                return refuse("FETCH FIRST … WITH TIES");
            }
            let limit = fetch.quantity.unwrap_or(expression("1")?);
            match &mut query.limit_clause {
                None => {
                    query.limit_clause = Some(LimitClause::LimitOffset {
                        limit: Some(limit),
                        offset: None,
                        limit_by: Vec::new(),
                    });
                }
                Some(LimitClause::LimitOffset { limit: slot @ None, .. }) => *slot = Some(limit),
                Some(_) => return refuse("LIMIT together with FETCH FIRST"),
            }
        }
        name_recursive(query);
        self.body(&mut query.body)?;
        if let (SetExpr::Select(select), Some(order)) = (&*query.body, &mut query.order_by) {
            order_by_hidden(select, order);
        }
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<(), QueryError> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
            other => refuse(other.to_string().split_whitespace().next().unwrap_or("this query")),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<(), QueryError> {
        let odd = [
            (select.top.is_some(), "TOP"),
            (select.into.is_some(), "SELECT INTO"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT"),
        ];
        if let Some((_, what)) = odd.iter().find(|(found, _)| *found) {
            return refuse(what);
        }
        unnest_joins::regroup(&mut select.from)?;
        // Expressions without a name get one that is unique, so that `count(*), count(*)` and
        // `a, a` are two columns; the output is renamed to Athena's names afterwards.
        let mut seen = HashSet::new();
        for (at, item) in select.projection.iter_mut().enumerate() {
            let name = item_name(item).map(|n| n.to_lowercase());
            let hide = match name.as_deref() {
                Some("") => true,
                Some(name) => !seen.insert(name.to_string()),
                None => false,
            };
            if !hide {
                continue;
            }
            let expr = match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
                _ => continue,
            };
            let alias = Ident::with_quote('"', format!("{UNNAMED}{at}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<(), QueryError> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                sample,
                partitions,
                ..
            } => {
                if args.is_some() {
                    return refuse(&format!("the table function {name}"));
                }
                if sample.is_some() {
                    return refuse("TABLESAMPLE");
                }
                if !with_hints.is_empty() || !partitions.is_empty() {
                    return refuse("a hint or PARTITION after a table's name");
                }
                let suffix = match version.take() {
                    None => return Ok(()),
                    Some(TableVersion::VersionAsOf(id)) => format!("{AT_VERSION}{id}"),
                    Some(
                        TableVersion::TimestampAsOf(when) | TableVersion::ForSystemTimeAsOf(when),
                    ) => format!("{AT_TIME}{}", literals::instant(&when, self.context.now_ms)?),
                    Some(other) => return refuse(&other.to_string()),
                };
                if let Some(ast::ObjectNamePart::Identifier(last)) = name.0.last_mut() {
                    if alias.is_none() {
                        *alias = Some(ast::TableAlias {
                            explicit: true,
                            name: last.clone(),
                            columns: Vec::new(),
                        });
                    }
                    last.value.push_str(&suffix);
                }
                Ok(())
            }
            TableFactor::Derived { sample: Some(_), .. } => refuse("TABLESAMPLE"),
            TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => Ok(()),
            TableFactor::Pivot { .. } => refuse("PIVOT"),
            TableFactor::Unpivot { .. } => refuse("UNPIVOT"),
            TableFactor::MatchRecognize { .. } => refuse("MATCH_RECOGNIZE"),
            TableFactor::JsonTable { .. } => refuse("JSON_TABLE"),
            other => refuse(&format!("'{other}' in FROM")),
        }
    }
}

fn flow(result: Result<(), QueryError>) -> ControlFlow<QueryError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Pass<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        flow(self.query(query))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        flow(self.factor(factor))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        flow(calls::rewrite(expr, self.context))
    }
}
