//! The inputs' shapes (botocore's `s3tables` model). A member that is not here is refused by name.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateTableBucket {
    pub(super) name: String,
    #[serde(default)]
    pub(super) encryption_configuration: Option<Encryption>,
    #[serde(default)]
    pub(super) storage_class_configuration: Option<StorageClass>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Encryption {
    pub(super) sse_algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kms_key_arn: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageClass {
    pub(super) storage_class: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutEncryption {
    pub(super) encryption_configuration: Encryption,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutStorageClass {
    pub(super) storage_class_configuration: StorageClass,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutPolicy {
    pub(super) resource_policy: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CreateNamespace {
    pub(super) namespace: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateTable {
    pub(super) name: String,
    pub(super) format: String,
    #[serde(default)]
    pub(super) metadata: Option<Metadata>,
    #[serde(default)]
    pub(super) encryption_configuration: Option<Encryption>,
    #[serde(default)]
    pub(super) storage_class_configuration: Option<StorageClass>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) iceberg: Option<IcebergMetadata>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IcebergMetadata {
    #[serde(default)]
    pub(super) schema: Option<Schema>,
    #[serde(default)]
    pub(super) schema_v2: Option<SchemaV2>,
    #[serde(default)]
    pub(super) partition_spec: Option<PartitionSpec>,
    #[serde(default)]
    pub(super) write_order: Option<WriteOrder>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Schema {
    pub(super) fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Field {
    #[serde(default)]
    pub(super) id: Option<i32>,
    pub(super) name: String,
    pub(super) r#type: String,
    #[serde(default)]
    pub(super) required: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SchemaV2 {
    pub(super) r#type: String,
    pub(super) fields: Vec<FieldV2>,
    #[serde(default, rename = "schema-id")]
    pub(super) schema_id: i32,
    #[serde(default, rename = "identifier-field-ids")]
    pub(super) identifier_field_ids: Vec<i32>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct FieldV2 {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) r#type: Value,
    pub(super) required: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doc: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PartitionSpec {
    pub(super) fields: Vec<PartitionField>,
    #[serde(default, rename = "spec-id")]
    pub(super) _spec_id: Option<i32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PartitionField {
    #[serde(rename = "source-id")]
    pub(super) source_id: i32,
    pub(super) transform: String,
    pub(super) name: String,
    /// Accepted and assigned afresh, as column ids are.
    #[serde(default, rename = "field-id")]
    pub(super) _field_id: Option<i32>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct WriteOrder {
    #[serde(rename = "order-id")]
    pub(super) order_id: i64,
    pub(super) fields: Vec<SortField>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SortField {
    #[serde(rename = "source-id")]
    pub(super) source_id: i32,
    pub(super) transform: String,
    pub(super) direction: String,
    #[serde(rename = "null-order")]
    pub(super) null_order: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenameTable {
    #[serde(default)]
    pub(super) new_namespace_name: Option<String>,
    #[serde(default)]
    pub(super) new_name: Option<String>,
    #[serde(default)]
    pub(super) version_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateMetadataLocation {
    pub(super) version_token: String,
    pub(super) metadata_location: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct PutMaintenance {
    pub(super) value: MaintenanceValue,
}

#[derive(Debug, Deserialize)]
pub(super) struct MaintenanceValue {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) settings: Option<BTreeMap<String, BTreeMap<String, Value>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    pub(super) tags: BTreeMap<String, String>,
}
