//! Tables and columns that are made for a batch's records (`TableCreationConfiguration`,
//! `SchemaEvolutionConfiguration`).
//!
//! The records of a batch are looked at whole, then tables are made and schemas grown, then the
//! batch is converted again by them. What others make meanwhile is theirs: a table that exists is
//! taken as it is. It ends: a second look finds nothing to change, and what cannot be changed, such
//! as a number where text was, is an error of its records.

use super::ConvertError;
use super::tables::Names;
use crate::destination;
use crate::stream::TableName;
use alluvium_base::{ErrorKind, TableId};
use alluvium_lake::catalog::NewTable;
use alluvium_lake::evolve::Inference;

/// A table that is not there yet.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) name: TableName,
    /// Columns whose identities partition it.
    pub(super) partition_by: Vec<String>,
    /// What its records have.
    pub(super) inference: Inference,
}

/// What is to be made.
#[derive(Debug)]
pub(super) struct Growth {
    pub(super) names: Names,
    pub(super) making: Vec<Making>,
    pub(super) grown: Vec<(TableId, Inference)>,
}

/// Whether trying again may help; otherwise the records are errors.
fn passes(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Conflict
        | ErrorKind::Unavailable
        | ErrorKind::Unknown
        | ErrorKind::Fenced
        | ErrorKind::Corrupt
        | ErrorKind::Internal => true,
        ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unsupported => {
            false
        }
    }
}

impl Growth {
    /// Makes it; the batch is begun again when anything changed.
    pub(super) async fn carry_out(self) -> Result<(), ConvertError> {
        let Self { names, making, grown } = self;
        let mut changed = !making.is_empty();
        let mut unmade = Vec::new();
        for table in making {
            if let Err(why) = make(&names, &table).await? {
                unmade.push((table.name, why));
            }
        }
        for (table, inference) in grown {
            match names.lake.evolve(table, &inference).await {
                Ok(grew) => changed |= grew,
                Err(error) if passes(error.kind()) => {
                    return Err(ConvertError::Held(format!("a schema cannot grow now: {error}")));
                }
                Err(error) => tracing::warn!(%table, "a schema does not grow: {error}"),
            }
        }
        if changed { Err(ConvertError::Again(unmade)) } else { Ok(()) }
    }
}

/// Makes a table; the inner error is why it cannot be.
async fn make(names: &Names, table: &Making) -> Result<Result<(), String>, ConvertError> {
    let TableName { database, table: name } = &table.name;
    let place = destination::place(&names.lake, &names.catalog, &names.region, database).await;
    let (bucket, namespace) = match place {
        Ok(place) => place,
        Err(error) if passes(error.kind()) => return Err(ConvertError::Held(error.to_string())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let new = NewTable { bucket, namespace, name: name.clone() };
    let made = names.lake.create_inferred(&new, &table.inference, &table.partition_by).await;
    match made {
        Ok(_) => Ok(Ok(())),
        Err(error) if passes(error.kind()) => Err(ConvertError::Held(error.to_string())),
        Err(error) => Ok(Err(error.to_string())),
    }
}
