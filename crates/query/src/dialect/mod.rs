//! Athena's dialect (Trino's, and Hive's for some DDL): from text to a [`Statement`].
//!
//! Statements other than queries are read by a small parser of our own ([`statement`]), because
//! Athena's DDL is nobody else's; queries go through `sqlparser` and are then rewritten
//! ([`rewrite`]) into what DataFusion means by the same words. Size and nesting are bounded (I8).

mod calls;
mod literals;
mod nested_types;
pub(crate) mod rewrite;
pub(crate) mod statement;
mod unnest_joins;
mod words;

pub(crate) use calls::names as call_names;
pub(crate) use statement::{
    AlterTable, ColumnDefinition, CreateTable, Insert, Name, Optimize, PartitionTerm,
    PropertyChange, Statement, TableProperty, parse_partition_terms,
};

use crate::QueryError;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{
    Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace,
};
use std::any::TypeId;
use std::collections::HashSet;

/// Athena's own limit (Athena API reference, `StartQueryExecution`).
pub const STATEMENT_MAX_BYTES: usize = 262_144;
/// Brackets within brackets: each level costs stack in every pass over the statement.
pub(crate) const NESTING_MAX: usize = 100;
/// Operators make deep trees without brackets: `a + b + c …` is one level for each.
/// Planning takes time with the square of the depth and cannot be interrupted.
const OPERATORS_MAX: usize = 1_000;

/// Lexical rules of Trino, with Hive's back-quotes for Athena's DDL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AthenaDialect;

impl Dialect for AthenaDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_' || ch > '\u{7f}'
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_ascii_alphanumeric() || ch == '_' || ch == '$' || ch > '\u{7f}'
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_within_after_array_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }
    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    fn supports_lambda_functions(&self) -> bool {
        true
    }
    fn allow_extract_custom(&self) -> bool {
        true
    }
}

/// The tokens of a statement, bounded, without a final semicolon.
pub(crate) fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, QueryError> {
    if sql.len() > STATEMENT_MAX_BYTES {
        return Err(QueryError::Syntax(format!(
            "the statement has {} bytes; at most {STATEMENT_MAX_BYTES} are allowed",
            sql.len()
        )));
    }
    let mut tokens = Tokenizer::new(&AthenaDialect, sql).tokenize_with_location().map_err(
        |TokenizerError { message, location }| {
            QueryError::Syntax(format!("line {}:{}: {message}", location.line, location.column))
        },
    )?;
    let blank =
        |t: &TokenWithSpan| matches!(t.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    while tokens.last().is_some_and(blank) {
        tokens.pop();
    }
    bound(&tokens)?;
    Ok(tokens)
}

/// Puts expressions in the places of `?`, in their order. Each is a whole expression by itself, so that
/// none can change the statement around it.
pub(crate) fn bind(
    tokens: Vec<TokenWithSpan>,
    parameters: &[String],
) -> Result<Vec<TokenWithSpan>, QueryError> {
    let is_place = |t: &TokenWithSpan| matches!(&t.token, Token::Placeholder(p) if p == "?");
    let places = tokens.iter().filter(|t| is_place(t)).count();
    if places != parameters.len() {
        return Err(QueryError::Syntax(format!(
            "Incorrect number of parameters: expected {places} but found {}",
            parameters.len()
        )));
    }
    let mut parameters = parameters.iter();
    let mut bound_tokens = Vec::with_capacity(tokens.len());
    for token in tokens {
        let Some(parameter) = is_place(&token).then(|| parameters.next()).flatten() else {
            bound_tokens.push(token);
            continue;
        };
        rewrite::expression_only(parameter)?;
        let mut value = self::tokens(parameter)?;
        value.retain(|t| !matches!(t.token, Token::Whitespace(_)));
        value.iter_mut().for_each(|t| t.span = token.span);
        let signed =
            matches!(&value[..], [first, _] if matches!(first.token, Token::Minus | Token::Plus));
        let single = value.len() == 1 || signed;
        let blank = || TokenWithSpan::wrap(Token::Whitespace(Whitespace::Space));
        let bracket = |t| TokenWithSpan::new(t, token.span);
        // `a - -1`: without the blank the two signs would begin a comment.
        bound_tokens.push(blank());
        if single {
            bound_tokens.extend(value);
        } else {
            bound_tokens.push(bracket(Token::LParen));
            for part in value {
                bound_tokens.extend([part, blank()]);
            }
            bound_tokens.push(bracket(Token::RParen));
        }
    }
    bound(&bound_tokens)?;
    Ok(bound_tokens)
}

fn bound(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut depth, mut operators) = (0usize, 0usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod => operators += 1,
            Token::StringConcat | Token::Eq | Token::Neq | Token::Lt | Token::Gt => operators += 1,
            Token::Word(word) if word.quote_style.is_none() => {
                let w = word.value.to_ascii_uppercase();
                let deep = ["AND", "OR", "NOT", "UNION", "JOIN", "EXCEPT", "INTERSECT", "CASE"];
                operators += usize::from(deep.contains(&w.as_str()));
            }
            _ => {}
        }
        if depth > NESTING_MAX || operators > OPERATORS_MAX {
            return Err(QueryError::Syntax(format!(
                "line {}:{}: the statement is too deep or too long: at most {NESTING_MAX} nested \
                 brackets and {OPERATORS_MAX} operators are allowed; use IN (…) lists or a join",
                token.span.start.line, token.span.start.column
            )));
        }
    }
    Ok(())
}

/// The query of a statement in DataFusion's words, `None` when the statement has no query. No name is
/// looked up but those of `functions`; `now_ms` is the statement's start.
pub fn translate(
    sql: &str,
    functions: &HashSet<String>,
    now_ms: i64,
) -> Result<Option<String>, QueryError> {
    let query = match statement::parse(sql, &[])? {
        Statement::Query(query) | Statement::Explain { query, .. } => Some(query),
        Statement::Insert(insert) => Some(insert.query),
        Statement::CreateTable(table) => table.query,
        _ => None,
    };
    let Some(mut query) = query else { return Ok(None) };
    rewrite::fold_case(&mut query);
    rewrite::rewrite(&mut query, &rewrite::Context { functions, now_ms })?;
    Ok(Some(query.to_string()))
}

/// Errors of the parser as ours.
pub(crate) fn parse_error(error: ParserError) -> QueryError {
    match error {
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => QueryError::Syntax(m),
        ParserError::RecursionLimitExceeded => {
            QueryError::Syntax("the statement is nested too deeply".into())
        }
    }
}
