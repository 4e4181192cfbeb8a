//! `ALTER TABLE … SET TBLPROPERTIES` and `UNSET TBLPROPERTIES`.

use crate::QueryError;
use crate::create::commit_error;
use crate::dialect::{AlterTable, PropertyChange};
use crate::engine::Session;
use crate::properties::{check, stored_name, to_store};
use alluvium_lake::TableChange;
use iceberg::TableUpdate;

/// Changes a table's properties. Through a resource link it is the linked table that changes.
pub(crate) async fn alter_table(session: &Session, alter: AlterTable) -> Result<(), QueryError> {
    let (_, table) = session.names.find(&alter.table).await?;
    let mut properties = table.metadata.properties().clone();
    let id = table.record.id;
    // Holding the metadata would keep its file.
    drop(table);
    let update = match alter.change {
        PropertyChange::Set(given) => {
            let mut updates = to_store(&given)?;
            updates.retain(|key, value| properties.get(key) != Some(value));
            if updates.is_empty() {
                return Ok(());
            }
            properties.extend(updates.clone());
            TableUpdate::SetProperties { updates }
        }
        PropertyChange::Unset(keys) => {
            let mut removals = Vec::new();
            for key in keys {
                match stored_name(&key)? {
                    Some(stored) if properties.remove(stored).is_some() => {
                        removals.push(stored.to_string());
                    }
                    Some(_) => {}
                    None => {
                        return Err(QueryError::Unsupported(format!(
                            "the table property '{key}' cannot be removed: it says what every \
                             table is"
                        )));
                    }
                }
            }
            if removals.is_empty() {
                return Ok(());
            }
            TableUpdate::RemoveProperties { removals }
        }
    };
    check(&properties)?;
    let lake = session.names.readers.lake();
    lake.commit(id, TableChange::update(Vec::new(), vec![update])).await.map_err(commit_error)?;
    Ok(())
}
