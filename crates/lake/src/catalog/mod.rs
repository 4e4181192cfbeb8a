//! What exists: table buckets, namespaces, tables, resource links and checkpoints.
//!
//! Everything is a document in `store::records` and changes by compare-and-set transactions.
//!
//! | collection | id | document |
//! |---|---|---|
//! | `table-bucket` | region/name | [`TableBucketRecord`] |
//! | `namespace` | bucket id/name | [`NamespaceRecord`] |
//! | `table` | table id | [`TableRecord`] |
//! | `table-name` | bucket id/namespace/name | the table's id |
//! | `warehouse` | bucket of objects | [`Warehouse`]: who may write there |
//! | `resource-link` | region/name | [`ResourceLink`] |
//! | `checkpoint` | table id/incarnation | [`Checkpoint`] |
//! | `settings` | what it belongs to | policy, tags, encryption… as JSON |
//!
//! Creating a child rewrites its parent, so that a parent is never deleted while a child appears.
//! A table's id is ours: a table that is dropped and created again is another one. The pointer of
//! a table moves in [`crate::commit`] only.
//!
//! Calls that end in `_with` take documents of the caller into their own transaction: a settings
//! document, or the mark that a call was done.

mod bucket;
mod checkpoint;
mod document;
mod error;
mod link;
mod names;
mod namespace;
mod records;
mod settings;
mod table;
mod warehouse;

pub use checkpoint::{Checkpoint, CheckpointMove};
pub use error::CatalogError;
pub use names::{check_bucket_name, check_link_name, check_namespace_name, check_table_name};
pub use records::{
    NamespaceId, NamespaceRecord, ResourceLink, TableBucketId, TableBucketRecord, TableRecord,
    Warehouse, WarehouseState,
};
pub use settings::SettingsOf;
pub use table::{NewTable, TableListing};

pub(crate) use checkpoint::checkpoint_key;
pub(crate) use document::{Found, Settled, Witness, body_of, joined, parse};
pub(crate) use namespace::namespace_key;
pub(crate) use settings::first_settings;
pub(crate) use table::{link_table, name_key, table_key};
pub(crate) use warehouse::warehouse_key;

use crate::turns::Turns;
use alluvium_base::{AccountId, Arn, Clock, Random, Region, TableId};
use alluvium_store::objects::Objects;
use alluvium_store::records::{Key, Records};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// The catalog. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    account: AccountId,
    /// By document: whoever reads it, decides, and writes it or a child of it.
    turns: Arc<Turns<Key>>,
}

/// A lost race is run again at most this often before the caller hears of it.
pub(crate) const ATTEMPTS_MAX: usize = 32;

impl Catalog {
    /// A catalog over its stores, all of one account.
    pub fn new(
        records: Arc<dyn Records>,
        objects: Arc<dyn Objects>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        account: AccountId,
    ) -> Self {
        Self { records, objects, clock, random, account, turns: Arc::default() }
    }

    /// The turn to change a document.
    pub(crate) async fn turn(&self, key: &Key) -> OwnedMutexGuard<()> {
        self.turns.take(key.clone()).await
    }

    /// The documents, for those that keep their own beside the catalog's.
    pub fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }

    /// The account that owns everything here.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The time by which documents and snapshots are stamped.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where fresh ids and names come from.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// `arn:aws:s3tables:REGION:ACCOUNT:bucket/NAME`.
    pub fn bucket_arn(&self, region: &Region, name: &str) -> Arn {
        let resource = format!("bucket/{name}");
        Arn::new("s3tables", region.as_str(), self.account.as_str(), resource)
    }

    /// `arn:aws:s3tables:REGION:ACCOUNT:bucket/NAME/table/ID`.
    pub fn table_arn(&self, table: &TableRecord) -> Arn {
        let resource = format!("bucket/{}/table/{}", table.bucket_name, table.id);
        Arn::new("s3tables", table.region.as_str(), self.account.as_str(), resource)
    }

    /// A token that no other version of a table has.
    pub(crate) fn fresh_token(&self) -> String {
        let mut bytes = [0u8; 10];
        self.random.fill(&mut bytes);
        hex::encode(bytes)
    }

    pub(crate) fn fresh_table_id(&self) -> TableId {
        TableId(self.random.uuid())
    }
}
