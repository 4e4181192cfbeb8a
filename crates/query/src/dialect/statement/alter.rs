//! `ALTER TABLE`, of which the table's properties can be changed.

use super::{Name, Reader, Statement, TableProperty};
use crate::QueryError;
use datafusion::sql::sqlparser::tokenizer::Token;

/// What becomes of a table's properties.
#[derive(Debug)]
pub(crate) enum PropertyChange {
    /// They get these values.
    Set(Vec<TableProperty>),
    /// They are removed.
    Unset(Vec<String>),
}

/// `ALTER TABLE … SET | UNSET TBLPROPERTIES`.
#[derive(Debug)]
pub(crate) struct AlterTable {
    pub(crate) table: Name,
    pub(crate) change: PropertyChange,
}

impl Reader {
    pub(super) fn alter(&mut self) -> Result<Statement, QueryError> {
        self.expect("ALTER")?;
        if !self.accept("TABLE") {
            let what = self.identifier()?.to_uppercase();
            return Err(QueryError::Unsupported(format!(
                "the statement ALTER {what} is not supported"
            )));
        }
        let table = self.name()?;
        let change = if self.accept("SET") {
            if !self.accept("TBLPROPERTIES") {
                let what = self.identifier()?.to_uppercase();
                return Err(refused(&format!("SET {what}")));
            }
            PropertyChange::Set(self.properties()?)
        } else if self.accept("UNSET") {
            self.expect("TBLPROPERTIES")?;
            PropertyChange::Unset(self.property_names()?)
        } else {
            return Err(match self.peek() {
                Some(Token::Word(word)) => refused(&word.value.to_uppercase()),
                _ => return self.wrong("'SET', 'UNSET'"),
            });
        };
        Ok(Statement::AlterTable(AlterTable { table, change }))
    }

    /// `('a', 'b')`.
    pub(super) fn property_names(&mut self) -> Result<Vec<String>, QueryError> {
        self.expect_token(&Token::LParen)?;
        let mut names = Vec::new();
        loop {
            names.push(self.property_name()?);
            if !self.accept_token(&Token::Comma) {
                self.expect_token(&Token::RParen)?;
                return Ok(names);
            }
        }
    }
}

fn refused(clause: &str) -> QueryError {
    QueryError::Unsupported(format!(
        "ALTER TABLE … {clause} is not supported; SET TBLPROPERTIES and UNSET TBLPROPERTIES are"
    ))
}
