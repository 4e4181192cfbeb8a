//! What a bucket or a table keeps beside its record: policy, tags, encryption, metrics, storage
//! class, bucket maintenance. The engine does not read these; services give them their shapes.
//!
//! A table's maintenance is not here but in its record, because commits obey it.

use super::{ATTEMPTS_MAX, Catalog, CatalogError, Settled, TableBucketId, Witness, body_of};
use alluvium_base::TableId;
use alluvium_store::records::{Key, Operation, Precondition, Transaction};
use serde_json::{Map, Value};

const COLLECTION: &str = "settings";

/// What settings belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsOf {
    /// A table bucket.
    Bucket(TableBucketId),
    /// A table.
    Table(TableId),
}

pub(crate) fn bucket_settings_key(id: TableBucketId) -> Key {
    Key::new(COLLECTION, format!("bucket/{id}"))
}

pub(crate) fn table_settings_key(id: TableId) -> Key {
    Key::new(COLLECTION, format!("table/{id}"))
}

impl SettingsOf {
    fn key(self) -> Key {
        match self {
            Self::Bucket(id) => bucket_settings_key(id),
            Self::Table(id) => table_settings_key(id),
        }
    }
}

impl Catalog {
    /// All settings by name; empty when none was ever given.
    pub async fn settings(&self, of: SettingsOf) -> Result<Map<String, Value>, CatalogError> {
        Ok(self.read(&of.key()).await?.map(|found| found.value).unwrap_or_default())
    }

    /// Sets one setting, or removes it with `None`. Whether there was one before.
    pub async fn put_setting(
        &self,
        of: SettingsOf,
        name: &str,
        value: Option<Value>,
    ) -> Result<bool, CatalogError> {
        let mut before = false;
        self.change_setting(of, name, |found| {
            before = found.is_some();
            Ok::<_, CatalogError>(value.clone())
        })
        .await?;
        Ok(before)
    }

    /// Makes one setting what `change` makes of it; `change` runs again when others were faster.
    pub async fn change_setting<E: From<CatalogError>>(
        &self,
        of: SettingsOf,
        name: &str,
        mut change: impl FnMut(Option<&Value>) -> Result<Option<Value>, E> + Send,
    ) -> Result<(), E> {
        let key = of.key();
        let _turn = self.turn(&key).await;
        for _ in 0..ATTEMPTS_MAX {
            let found = self.read::<Map<String, Value>>(&key).await?;
            let precondition = match &found {
                Some(found) => Precondition::AtVersion(key.clone(), found.version),
                None => Precondition::Absent(key.clone()),
            };
            let mut settings = found.map(|found| found.value).unwrap_or_default();
            match change(settings.get(name))? {
                Some(value) => settings.insert(name.to_string(), value),
                None => settings.remove(name),
            };
            let body = body_of(&settings);
            let transaction = Transaction {
                preconditions: vec![precondition],
                operations: vec![Operation::Put(key.clone(), body.clone())],
            };
            if self.settle(transaction, Witness::Is(key.clone(), body)).await? == Settled::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Busy("settings".into()).into())
    }
}

/// What puts settings beside a thing in the transaction that makes it; nothing when there are none.
pub(crate) fn first_settings(of: SettingsOf, settings: &Map<String, Value>) -> Option<Operation> {
    (!settings.is_empty()).then(|| Operation::Put(of.key(), body_of(settings)))
}
