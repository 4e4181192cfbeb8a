//! Commits of one table, and of several in one transaction.

use super::error::{bad_request, of_commit, unsupported_value};
use super::idempotency::Started;
use super::route::TablePath;
use super::tables::{Identifier, loaded};
use super::warehouse::Warehouse;
use super::{Answer, IcebergRest, Request};
use alluvium_base::TableId;
use alluvium_lake::catalog::NewTable;
use alluvium_lake::commit::{TableChange, TableDefinition};
use alluvium_wire::Problem;
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitTable {
    #[serde(default)]
    identifier: Option<Identifier>,
    #[serde(default)]
    requirements: Vec<Value>,
    #[serde(default)]
    updates: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CommitTransaction {
    table_changes: Vec<CommitTable>,
}

/// Most requirements and updates of one table.
const PARTS_MAX: usize = 10_000;

/// A commit's parts as the library knows them; what it does not know is refused by name.
fn parts(input: &CommitTable) -> Result<(Vec<TableRequirement>, Vec<TableUpdate>), Problem> {
    if input.requirements.len() > PARTS_MAX || input.updates.len() > PARTS_MAX {
        return Err(bad_request(format!(
            "a commit has at most {PARTS_MAX} requirements and as many updates"
        )));
    }
    let requirements = input.requirements.iter().map(|part| read("requirement", "type", part));
    let updates = input.updates.iter().map(|part| read("update", "action", part));
    Ok((requirements.collect::<Result<_, _>>()?, updates.collect::<Result<_, _>>()?))
}

fn read<T: serde::de::DeserializeOwned>(what: &str, tag: &str, part: &Value) -> Result<T, Problem> {
    serde_json::from_value(part.clone()).map_err(|error| {
        let name: String = part[tag].as_str().unwrap_or("(unnamed)").chars().take(64).collect();
        bad_request(format!("the {what} '{name}' is not supported or not valid: {error}"))
    })
}

fn creates(requirements: &[TableRequirement]) -> bool {
    requirements.iter().any(|requirement| matches!(requirement, TableRequirement::NotExist))
}

impl IcebergRest {
    pub(super) async fn commit_table(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        table: &TablePath,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: CommitTable = request.input()?;
        if let Some(named) = &input.identifier
            && (named.name != table.name || named.namespace != table.namespace)
        {
            return Err(bad_request("the body names another table than the path"));
        }
        let (requirements, updates) = parts(&input)?;
        if creates(&requirements) {
            return self.create_by_commit(request, warehouse, table, updates, once).await;
        }
        let record = self.find_table(warehouse, table).await?;
        let change = with_marker(TableChange::update(requirements, updates), once);
        let done = self.lake.commit(record.id, change).await.map_err(of_commit)?;
        match &done.metadata {
            Some(metadata) => Ok(Answer::ok(loaded(request, &done.record, metadata)?)),
            None => self.load_table(request, warehouse, table).await,
        }
    }

    /// The end of a stage-create: nothing must be there, and the updates make all of the table.
    async fn create_by_commit(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        table: &TablePath,
        updates: Vec<TableUpdate>,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let (bucket, namespace) = self.home(warehouse, &table.namespace).await?;
        let new = NewTable { bucket, namespace, name: table.name.clone() };
        self.create(request, &new, TableDefinition::Updates(updates), once).await
    }

    pub(super) async fn commit_transaction(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: CommitTransaction = request.input()?;
        let mut changes: Vec<(TableId, TableChange)> =
            Vec::with_capacity(input.table_changes.len());
        for part in &input.table_changes {
            let Some(named) = part.identifier.clone() else {
                return Err(bad_request(
                    "every change of a transaction names its table: identifier",
                ));
            };
            let (requirements, updates) = parts(part)?;
            if creates(&requirements) {
                return Err(unsupported_value("assert-create in a transaction of several tables"));
            }
            let record = self.find_table(warehouse, &named.into()).await?;
            // The marker moves with the first table's part: all are one transaction.
            let marker = once.filter(|_| changes.is_empty());
            let change = with_marker(TableChange::update(requirements, updates), marker);
            changes.push((record.id, change));
        }
        self.lake.commit_all(changes).await.map_err(of_commit)?;
        Ok(Answer::nothing())
    }
}

/// The commit and the end of its idempotency key are one transaction.
fn with_marker(change: TableChange, once: Option<&Started>) -> TableChange {
    let mark = Started::mark(once);
    change.with_records(mark.preconditions, mark.operations)
}
