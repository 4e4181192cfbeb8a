//! The inputs' shapes (botocore's `glue` model), as far as they are supported. A member that is
//! not here is refused by name.

use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateDatabase {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    pub(super) database_input: DatabaseInput,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DatabaseInput {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) create_table_default_permissions: Vec<PrincipalPermissions>,
    #[serde(default)]
    pub(super) target_database: Option<TargetDatabase>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PrincipalPermissions {
    #[serde(default)]
    pub(super) principal: Option<Principal>,
    #[serde(default)]
    pub(super) permissions: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Principal {
    #[serde(default)]
    pub(super) data_lake_principal_identifier: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TargetDatabase {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    #[serde(default)]
    pub(super) database_name: Option<String>,
    #[serde(default)]
    pub(super) region: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NamedDatabase {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetDatabases {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    #[serde(default)]
    pub(super) next_token: Option<String>,
    #[serde(default)]
    pub(super) max_results: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetTable {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    pub(super) database_name: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetTables {
    #[serde(default)]
    pub(super) catalog_id: Option<String>,
    pub(super) database_name: String,
    #[serde(default)]
    pub(super) next_token: Option<String>,
    #[serde(default)]
    pub(super) max_results: Option<usize>,
}
