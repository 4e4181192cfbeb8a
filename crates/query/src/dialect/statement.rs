//! What a statement asks for, before any name in it is looked up.
//!
//! The reader goes over tokens; the query inside `INSERT`, `EXPLAIN` and CTAS is `sqlparser`'s.
//! Statements that Athena has and this product has not are refused by their name (I7).
//!
//! One grammar, one reader: the file is long because Athena's statements are many; each is a few lines.

mod alter;

pub(crate) use alter::{AlterTable, PropertyChange};

use super::{AthenaDialect, NESTING_MAX, bind, parse_error, tokens};
use crate::QueryError;
use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// A dotted name, each part in lower case (identifiers are case-insensitive, as in Trino).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<String>);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A column of `CREATE TABLE`.
#[derive(Debug, Clone)]
pub(crate) struct ColumnDefinition {
    pub(crate) name: String,
    /// As it was written, such as `map<string,array<int>>`.
    pub(crate) data_type: String,
    pub(crate) not_null: bool,
    pub(crate) comment: Option<String>,
}

/// One term of `PARTITIONED BY`: `day(ts)`, `bucket(16, id)`, `region`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionTerm {
    pub(crate) transform: Option<String>,
    pub(crate) parameter: Option<u32>,
    pub(crate) column: String,
}

/// `'key' = 'value'` of `TBLPROPERTIES` or `key = value` of `WITH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableProperty {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// `CREATE TABLE`, with a query when it is a CTAS.
#[derive(Debug)]
pub(crate) struct CreateTable {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<ColumnDefinition>,
    pub(crate) partitioning: Vec<PartitionTerm>,
    pub(crate) location: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) properties: Vec<TableProperty>,
    pub(crate) query: Option<Box<Query>>,
    pub(crate) with_data: bool,
}

/// `INSERT INTO`.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) table: Name,
    pub(crate) columns: Vec<String>,
    pub(crate) query: Box<Query>,
}

/// A statement that is understood.
#[derive(Debug)]
pub(crate) enum Statement {
    Query(Box<Query>),
    Explain {
        analyze: bool,
        query: Box<Query>,
    },
    ShowCatalogs {
        like: Option<String>,
    },
    ShowDatabases {
        catalog: Option<String>,
        like: Option<String>,
    },
    ShowTables {
        database: Option<Name>,
        like: Option<String>,
    },
    ShowColumns {
        table: Name,
    },
    ShowCreateTable {
        table: Name,
    },
    ShowPartitions {
        table: Name,
    },
    /// All properties, or one.
    ShowTableProperties {
        table: Name,
        property: Option<String>,
    },
    ShowFunctions {
        like: Option<String>,
    },
    Describe {
        table: Name,
    },
    CreateTable(Box<CreateTable>),
    AlterTable(AlterTable),
    CreateDatabase {
        name: Name,
        if_not_exists: bool,
    },
    DropDatabase {
        name: Name,
        if_exists: bool,
    },
    DropTable {
        name: Name,
        if_exists: bool,
    },
    Insert(Insert),
    Optimize(Optimize),
    Vacuum {
        table: Name,
    },
}

/// `OPTIMIZE … REWRITE DATA USING BIN_PACK`.
#[derive(Debug)]
pub(crate) struct Optimize {
    pub(crate) table: Name,
    /// `SELECT * FROM` the table with the statement's `WHERE`, when it has one.
    pub(crate) chosen: Option<Box<Query>>,
}

/// Reads one statement, with expressions for its `?`.
pub(crate) fn parse(sql: &str, parameters: &[String]) -> Result<Statement, QueryError> {
    let mut reader = Reader::new(bind(tokens(sql)?, parameters)?);
    let statement = reader.statement()?;
    reader.end()?;
    Ok(statement)
}

/// A cursor over tokens, blind to white space.
struct Reader {
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

/// Statements of Athena that are refused by name.
const REFUSED: &[&str] = &[
    "MERGE",
    "UPDATE",
    "DELETE",
    "MSCK",
    "UNLOAD",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "GRANT",
    "REVOKE",
    "TRUNCATE",
    "CALL",
    "ANALYZE",
    "USE",
    "SET",
    "RESET",
    "START",
    "COMMIT",
    "ROLLBACK",
    "COMMENT",
    "REFRESH",
    "LOCK",
    "EXPORT",
    "IMPORT",
];

impl Reader {
    fn new(tokens: Vec<TokenWithSpan>) -> Self {
        let mut reader = Self { tokens, at: 0 };
        reader.skip_blank();
        reader
    }

    fn skip_blank(&mut self) {
        while matches!(self.tokens.get(self.at), Some(t) if matches!(t.token, Token::Whitespace(_)))
        {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        self.skip_blank();
        token
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, QueryError> {
        Err(QueryError::Syntax(match self.tokens.get(self.at) {
            Some(t) => format!(
                "line {}:{}: mismatched input '{}'. Expecting: {expected}",
                t.span.start.line, t.span.start.column, t.token
            ),
            None => format!("mismatched input '<EOF>'. Expecting: {expected}"),
        }))
    }

    fn is(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w))
            if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
    }

    fn accept(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), QueryError> {
        if self.accept(word) { Ok(()) } else { self.wrong(&format!("'{word}'")) }
    }

    fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.next();
        }
        found
    }

    fn expect_token(&mut self, token: &Token) -> Result<(), QueryError> {
        if self.accept_token(token) { Ok(()) } else { self.wrong(&format!("'{token}'")) }
    }

    fn end(&mut self) -> Result<(), QueryError> {
        if self.at >= self.tokens.len() { Ok(()) } else { self.wrong("<EOF>") }
    }

    fn identifier(&mut self) -> Result<String, QueryError> {
        match self.peek() {
            Some(Token::Word(w)) => {
                let value = w.value.to_lowercase();
                self.next();
                Ok(value)
            }
            _ => self.wrong("<identifier>"),
        }
    }

    fn name(&mut self) -> Result<Name, QueryError> {
        let mut parts = vec![self.identifier()?];
        while self.accept_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        if parts.len() > 3 {
            return Err(QueryError::Syntax(format!(
                "the name {} has {} parts; a table is catalog.database.table",
                Name(parts.clone()),
                parts.len()
            )));
        }
        Ok(Name(parts))
    }

    fn text(&mut self) -> Result<String, QueryError> {
        match self.peek() {
            Some(Token::SingleQuotedString(s)) => {
                let s = s.clone();
                self.next();
                Ok(s)
            }
            _ => self.wrong("<string>"),
        }
    }

    fn number(&mut self) -> Result<u32, QueryError> {
        if let Some(Token::Number(n, _)) = self.peek()
            && let Ok(n) = n.parse()
        {
            self.next();
            return Ok(n);
        }
        self.wrong("<integer>")
    }

    fn statement(&mut self) -> Result<Statement, QueryError> {
        let Some(first) = self.peek().cloned() else {
            return Err(QueryError::Syntax("the statement is empty".into()));
        };
        let Token::Word(word) = &first else {
            return Ok(Statement::Query(self.query()?));
        };
        match word.value.to_ascii_uppercase().as_str() {
            "SELECT" | "WITH" | "VALUES" | "TABLE" => Ok(Statement::Query(self.query()?)),
            "EXPLAIN" => self.explain(),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => self.describe(),
            "ALTER" => self.alter(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "INSERT" => self.insert(),
            "OPTIMIZE" => self.optimize(),
            "VACUUM" => self.vacuum(),
            other if REFUSED.contains(&other) => {
                Err(QueryError::Unsupported(format!("the statement {other} is not supported")))
            }
            _ => self.wrong(
                "'ALTER', 'CREATE', 'DESCRIBE', 'DROP', 'EXPLAIN', 'INSERT', 'OPTIMIZE', 'SELECT', \
                 'SHOW', 'VACUUM', 'VALUES', 'WITH'",
            ),
        }
    }

    /// The rest of the statement as a query.
    fn query(&mut self) -> Result<Box<Query>, QueryError> {
        self.rest(|parser| parser.parse_query())
    }

    /// The rest of the statement as a predicate.
    fn predicate(&mut self) -> Result<Expr, QueryError> {
        self.rest(|parser| parser.parse_expr())
    }

    fn rest<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
    ) -> Result<T, QueryError> {
        let rest = super::words::understood(self.tokens.split_off(self.at));
        self.at = self.tokens.len();
        // The parser descends several levels for each bracket.
        let mut parser = Parser::new(&AthenaDialect)
            .with_recursion_limit(NESTING_MAX * 4)
            .with_tokens_with_locations(rest);
        let parsed = parse(&mut parser).map_err(parse_error)?;
        let left = parser.peek_token();
        if left.token != Token::EOF {
            return Err(QueryError::Syntax(format!(
                "line {}:{}: mismatched input '{}'. Expecting: <EOF>",
                left.span.start.line, left.span.start.column, left.token
            )));
        }
        Ok(parsed)
    }

    fn explain(&mut self) -> Result<Statement, QueryError> {
        self.expect("EXPLAIN")?;
        let analyze = self.accept("ANALYZE");
        if self.is("VERBOSE") {
            return Err(QueryError::Unsupported("EXPLAIN ANALYZE VERBOSE is not supported".into()));
        }
        if self.peek() == Some(&Token::LParen) && self.options_follow() {
            self.explain_options()?;
        }
        match self.peek() {
            Some(Token::Word(w))
                if [
                    "ALTER", "CREATE", "DROP", "INSERT", "OPTIMIZE", "VACUUM", "SHOW", "DESCRIBE",
                ]
                .contains(&w.value.to_ascii_uppercase().as_str()) =>
            {
                let word = w.value.to_ascii_uppercase();
                Err(QueryError::Unsupported(format!("EXPLAIN {word} is not supported")))
            }
            _ => Ok(Statement::Explain { analyze, query: self.query()? }),
        }
    }

    /// Whether the bracket holds `TYPE …` or `FORMAT …`, not a query.
    fn options_follow(&self) -> bool {
        self.tokens[self.at + 1..]
            .iter()
            .find(|t| !matches!(t.token, Token::Whitespace(_)))
            .is_some_and(|t| match &t.token {
                Token::Word(w) => {
                    w.value.eq_ignore_ascii_case("TYPE") || w.value.eq_ignore_ascii_case("FORMAT")
                }
                _ => false,
            })
    }

    fn explain_options(&mut self) -> Result<(), QueryError> {
        self.next();
        loop {
            let (option, value) = (self.identifier()?, self.identifier()?);
            let supported = matches!(
                (option.as_str(), value.as_str()),
                ("format", "text") | ("type", "logical" | "distributed")
            );
            if !supported {
                return Err(QueryError::Unsupported(format!(
                    "EXPLAIN ({option} {value}) is not supported; use EXPLAIN (FORMAT TEXT)"
                )));
            }
            if !self.accept_token(&Token::Comma) {
                return self.expect_token(&Token::RParen);
            }
        }
    }

    fn like(&mut self) -> Result<Option<String>, QueryError> {
        if self.accept("LIKE") || matches!(self.peek(), Some(Token::SingleQuotedString(_))) {
            return Ok(Some(self.text()?));
        }
        Ok(None)
    }

    fn show(&mut self) -> Result<Statement, QueryError> {
        self.expect("SHOW")?;
        let what = self.identifier()?;
        match what.as_str() {
            "catalogs" => Ok(Statement::ShowCatalogs { like: self.like()? }),
            "databases" | "schemas" => {
                let from = self.accept("FROM") || self.accept("IN");
                let catalog = if from { Some(self.identifier()?) } else { None };
                Ok(Statement::ShowDatabases { catalog, like: self.like()? })
            }
            "tables" => {
                let from = self.accept("FROM") || self.accept("IN");
                let database = if from { Some(self.name()?) } else { None };
                Ok(Statement::ShowTables { database, like: self.like()? })
            }
            "columns" => {
                if !(self.accept("FROM") || self.accept("IN")) {
                    return self.wrong("'FROM', 'IN'");
                }
                let mut table = self.name()?;
                if self.accept("FROM") || self.accept("IN") {
                    let mut database = self.name()?;
                    database.0.append(&mut table.0);
                    table = database;
                }
                Ok(Statement::ShowColumns { table })
            }
            "create" if self.accept("TABLE") => {
                Ok(Statement::ShowCreateTable { table: self.name()? })
            }
            "partitions" => Ok(Statement::ShowPartitions { table: self.name()? }),
            "tblproperties" => self.show_properties(),
            "functions" => Ok(Statement::ShowFunctions { like: self.like()? }),
            other => Err(QueryError::Unsupported(format!(
                "the statement SHOW {} is not supported",
                other.to_uppercase()
            ))),
        }
    }

    fn show_properties(&mut self) -> Result<Statement, QueryError> {
        let table = self.name()?;
        let one = self.accept_token(&Token::LParen);
        let property = if one { Some(self.property_name()?) } else { None };
        if one {
            self.expect_token(&Token::RParen)?;
        }
        Ok(Statement::ShowTableProperties { table, property })
    }

    fn describe(&mut self) -> Result<Statement, QueryError> {
        self.next();
        for word in ["INPUT", "OUTPUT", "VIEW"] {
            if self.is(word) {
                return Err(QueryError::Unsupported(format!("DESCRIBE {word} is not supported")));
            }
        }
        let _ = self.accept("EXTENDED") || self.accept("FORMATTED");
        Ok(Statement::Describe { table: self.name()? })
    }

    fn drop(&mut self) -> Result<Statement, QueryError> {
        self.expect("DROP")?;
        let what = self.identifier()?;
        if !["table", "database", "schema"].contains(&what.as_str()) {
            return Err(QueryError::Unsupported(format!(
                "the statement DROP {} is not supported",
                what.to_uppercase()
            )));
        }
        let if_exists = self.accept("IF");
        if if_exists {
            self.expect("EXISTS")?;
        }
        let name = self.name()?;
        if what == "table" {
            return Ok(Statement::DropTable { name, if_exists });
        }
        if self.accept("CASCADE") {
            return Err(QueryError::Unsupported(
                "DROP DATABASE … CASCADE is not supported; drop the tables first".into(),
            ));
        }
        let _ = self.accept("RESTRICT");
        Ok(Statement::DropDatabase { name, if_exists })
    }

    fn insert(&mut self) -> Result<Statement, QueryError> {
        self.expect("INSERT")?;
        if self.is("OVERWRITE") {
            return Err(QueryError::Unsupported("INSERT OVERWRITE is not supported".into()));
        }
        self.expect("INTO")?;
        let _ = self.accept("TABLE");
        let table = self.name()?;
        let columns = if self.peek() == Some(&Token::LParen) && !self.query_in_bracket() {
            self.column_names()?
        } else {
            Vec::new()
        };
        Ok(Statement::Insert(Insert { table, columns, query: self.query()? }))
    }

    fn optimize(&mut self) -> Result<Statement, QueryError> {
        self.expect("OPTIMIZE")?;
        let table = self.name()?;
        for word in ["REWRITE", "DATA", "USING", "BIN_PACK"] {
            self.expect(word)?;
        }
        if !self.accept("WHERE") {
            return Ok(Statement::Optimize(Optimize { table, chosen: None }));
        }
        let predicate = self.predicate()?;
        let quoted: Vec<String> = table.0.iter().map(|part| format!("\"{part}\"")).collect();
        let mut all =
            Reader::new(tokens(&format!("SELECT * FROM {}", quoted.join(".")))?).query()?;
        if let SetExpr::Select(select) = all.body.as_mut() {
            select.selection = Some(predicate);
        }
        Ok(Statement::Optimize(Optimize { table, chosen: Some(all) }))
    }

    fn vacuum(&mut self) -> Result<Statement, QueryError> {
        self.expect("VACUUM")?;
        Ok(Statement::Vacuum { table: self.name()? })
    }

    fn query_in_bracket(&self) -> bool {
        let inner = self.tokens[self.at + 1..]
            .iter()
            .find(|t| !matches!(t.token, Token::Whitespace(_) | Token::LParen));
        matches!(inner.map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none()
            && ["SELECT", "WITH", "VALUES", "TABLE"]
                .contains(&w.value.to_ascii_uppercase().as_str()))
    }

    fn column_names(&mut self) -> Result<Vec<String>, QueryError> {
        self.expect_token(&Token::LParen)?;
        let mut names = vec![self.identifier()?];
        while self.accept_token(&Token::Comma) {
            names.push(self.identifier()?);
        }
        self.expect_token(&Token::RParen)?;
        Ok(names)
    }

    fn create(&mut self) -> Result<Statement, QueryError> {
        self.expect("CREATE")?;
        if self.accept("EXTERNAL") {
            return Err(QueryError::Unsupported(
                "CREATE EXTERNAL TABLE is not supported; create an Iceberg table with CREATE TABLE"
                    .into(),
            ));
        }
        if self.accept("OR") {
            return Err(QueryError::Unsupported("CREATE OR REPLACE is not supported".into()));
        }
        let what = self.identifier()?;
        if !["table", "database", "schema"].contains(&what.as_str()) {
            return Err(QueryError::Unsupported(format!(
                "the statement CREATE {} is not supported",
                what.to_uppercase()
            )));
        }
        let if_not_exists = self.accept("IF");
        if if_not_exists {
            self.expect("NOT")?;
            self.expect("EXISTS")?;
        }
        let name = self.name()?;
        if what != "table" {
            return Ok(Statement::CreateDatabase { name, if_not_exists });
        }
        let mut table = CreateTable {
            name,
            if_not_exists,
            columns: Vec::new(),
            partitioning: Vec::new(),
            location: None,
            comment: None,
            properties: Vec::new(),
            query: None,
            with_data: true,
        };
        if self.peek() == Some(&Token::LParen) {
            table.columns = self.column_definitions()?;
        }
        self.table_clauses(&mut table)?;
        Ok(Statement::CreateTable(Box::new(table)))
    }

    fn table_clauses(&mut self, table: &mut CreateTable) -> Result<(), QueryError> {
        loop {
            if self.at >= self.tokens.len() {
                return Ok(());
            } else if self.accept("COMMENT") {
                table.comment = Some(self.text()?);
            } else if self.accept("PARTITIONED") {
                self.expect("BY")?;
                table.partitioning = self.partition_terms()?;
            } else if self.accept("LOCATION") {
                table.location = Some(self.text()?);
            } else if self.accept("TBLPROPERTIES") {
                table.properties.extend(self.properties()?);
            } else if self.is("WITH") && table.query.is_none() {
                self.next();
                table.properties.extend(self.properties()?);
            } else if self.accept("AS") {
                self.ctas(table)?;
            } else if let Some(Token::Word(w)) = self.peek() {
                let word = w.value.to_ascii_uppercase();
                return Err(QueryError::Unsupported(format!(
                    "the clause {word} of CREATE TABLE is not supported for Iceberg tables"
                )));
            } else {
                return self.wrong("'PARTITIONED', 'LOCATION', 'TBLPROPERTIES', 'AS', <EOF>");
            }
        }
    }

    fn ctas(&mut self, table: &mut CreateTable) -> Result<(), QueryError> {
        let words: Vec<String> = self.tokens[self.at..]
            .iter()
            .filter(|t| !matches!(t.token, Token::Whitespace(_)))
            .rev()
            .take(3)
            .map(|t| t.token.to_string().to_ascii_uppercase())
            .collect();
        let no_data = words == ["DATA", "NO", "WITH"];
        let data = !no_data && words.len() >= 2 && words[..2] == ["DATA", "WITH"];
        if no_data || data {
            let mut left = if no_data { 3 } else { 2 };
            while left > 0 {
                let token = self.tokens.pop();
                left -= usize::from(
                    !matches!(token, Some(ref t) if matches!(t.token, Token::Whitespace(_))),
                );
            }
        }
        table.with_data = !no_data;
        table.query = Some(self.query()?);
        Ok(())
    }

    fn column_definitions(&mut self) -> Result<Vec<ColumnDefinition>, QueryError> {
        self.expect_token(&Token::LParen)?;
        let mut columns = Vec::new();
        loop {
            let name = self.identifier()?;
            let data_type = self.data_type()?;
            let not_null = self.accept("NOT");
            if not_null {
                self.expect("NULL")?;
            }
            let comment = if self.accept("COMMENT") { Some(self.text()?) } else { None };
            columns.push(ColumnDefinition { name, data_type, not_null, comment });
            if !self.accept_token(&Token::Comma) {
                self.expect_token(&Token::RParen)?;
                return Ok(columns);
            }
        }
    }

    /// Tokens up to the comma or bracket that ends a column's type.
    fn data_type(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut depth = 0i32;
        while let Some(token) = self.peek() {
            match token {
                Token::LParen | Token::Lt => depth += 1,
                Token::RParen | Token::Gt if depth > 0 => depth -= 1,
                Token::ShiftRight if depth > 1 => depth -= 2,
                Token::Comma | Token::RParen if depth == 0 => break,
                Token::Word(w)
                    if depth == 0
                        && ["NOT", "COMMENT"].contains(&w.value.to_ascii_uppercase().as_str()) =>
                {
                    break;
                }
                _ => {}
            }
            self.next();
        }
        let mut text = String::new();
        for token in &self.tokens[start..self.at.min(self.tokens.len())] {
            text.push_str(&token.token.to_string());
        }
        if text.trim().is_empty() {
            return self.wrong("<type>");
        }
        Ok(text)
    }

    fn partition_terms(&mut self) -> Result<Vec<PartitionTerm>, QueryError> {
        self.expect_token(&Token::LParen)?;
        let mut terms = Vec::new();
        loop {
            let first = self.identifier()?;
            if self.accept_token(&Token::LParen) {
                let mut parameter = None;
                let mut column = None;
                loop {
                    match self.peek() {
                        Some(Token::Number(..)) => parameter = Some(self.number()?),
                        _ => column = Some(self.identifier()?),
                    }
                    if !self.accept_token(&Token::Comma) {
                        break;
                    }
                }
                self.expect_token(&Token::RParen)?;
                let Some(column) = column else { return self.wrong("<column>") };
                terms.push(PartitionTerm { transform: Some(first), parameter, column });
            } else {
                terms.push(PartitionTerm { transform: None, parameter: None, column: first });
            }
            if !self.accept_token(&Token::Comma) {
                self.expect_token(&Token::RParen)?;
                return Ok(terms);
            }
        }
    }

    fn properties(&mut self) -> Result<Vec<TableProperty>, QueryError> {
        self.expect_token(&Token::LParen)?;
        let mut properties = Vec::new();
        loop {
            let key = self.property_name()?;
            self.expect_token(&Token::Eq)?;
            let value = self.property_value()?;
            properties.push(TableProperty { key, value });
            if !self.accept_token(&Token::Comma) {
                self.expect_token(&Token::RParen)?;
                return Ok(properties);
            }
        }
    }

    fn property_name(&mut self) -> Result<String, QueryError> {
        let name = match self.peek() {
            Some(Token::SingleQuotedString(_)) => self.text()?,
            _ => self.identifier()?,
        };
        Ok(name.to_lowercase())
    }

    /// A string, a number, a word, or `ARRAY['a', 'b']` (joined by newlines).
    fn property_value(&mut self) -> Result<String, QueryError> {
        if self.accept("ARRAY") {
            self.expect_token(&Token::LBracket)?;
            let mut items = vec![self.text()?];
            while self.accept_token(&Token::Comma) {
                items.push(self.text()?);
            }
            self.expect_token(&Token::RBracket)?;
            return Ok(items.join("\n"));
        }
        match self.next() {
            Some(Token::SingleQuotedString(s)) => Ok(s),
            Some(Token::Number(n, _)) => Ok(n),
            Some(Token::Word(w)) => Ok(w.value.to_lowercase()),
            _ => self.wrong("<value>"),
        }
    }
}

/// `PARTITIONED BY` terms given as text, as CTAS has them: `ARRAY['day(ts)', 'id']`.
pub(crate) fn parse_partition_terms(text: &str) -> Result<Vec<PartitionTerm>, QueryError> {
    let list = text.split('\n').collect::<Vec<_>>().join(",");
    let mut reader = Reader::new(tokens(&format!("({list})"))?);
    let terms = reader.partition_terms()?;
    reader.end()?;
    Ok(terms)
}

#[cfg(test)]
mod tests;
