//! Inputs, as botocore's `athena` model has them. What a shape leaves out is refused by name.

use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueryExecutionContext {
    pub(super) database: Option<String>,
    pub(super) catalog: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionConfiguration {
    pub(super) encryption_option: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResultConfiguration {
    pub(super) output_location: Option<String>,
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    pub(super) expected_bucket_owner: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResultConfigurationUpdates {
    pub(super) output_location: Option<String>,
    #[serde(default)]
    pub(super) remove_output_location: bool,
    pub(super) encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(default)]
    pub(super) remove_encryption_configuration: bool,
    pub(super) expected_bucket_owner: Option<String>,
    #[serde(default)]
    pub(super) remove_expected_bucket_owner: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResultReuse {
    pub(super) result_reuse_by_age_configuration: Option<ResultReuseByAge>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResultReuseByAge {
    pub(super) enabled: bool,
    #[serde(rename = "MaxAgeInMinutes")]
    pub(super) _max_age_in_minutes: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartQueryExecution {
    pub(super) query_string: String,
    pub(super) client_request_token: Option<String>,
    #[serde(default)]
    pub(super) query_execution_context: QueryExecutionContext,
    #[serde(default)]
    pub(super) result_configuration: ResultConfiguration,
    pub(super) work_group: Option<String>,
    #[serde(default)]
    pub(super) result_reuse_configuration: ResultReuse,
    #[serde(default)]
    pub(super) execution_parameters: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OneExecution {
    pub(super) query_execution_id: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ManyExecutions {
    pub(super) query_execution_ids: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) work_group: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetQueryResults {
    pub(super) query_execution_id: String,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) query_result_type: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Managed {
    pub(super) enabled: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EngineVersion {
    pub(super) selected_engine_version: Option<String>,
    #[serde(rename = "EffectiveEngineVersion")]
    pub(super) _effective_engine_version: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WorkGroupConfiguration {
    pub(super) result_configuration: Option<ResultConfiguration>,
    pub(super) managed_query_results_configuration: Option<Managed>,
    pub(super) enforce_work_group_configuration: Option<bool>,
    pub(super) publish_cloud_watch_metrics_enabled: Option<bool>,
    pub(super) requester_pays_enabled: Option<bool>,
    pub(super) engine_version: Option<EngineVersion>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateWorkGroup {
    pub(super) name: String,
    #[serde(default)]
    pub(super) configuration: WorkGroupConfiguration,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WorkGroupUpdates {
    pub(super) enforce_work_group_configuration: Option<bool>,
    pub(super) result_configuration_updates: Option<ResultConfigurationUpdates>,
    pub(super) managed_query_results_configuration_updates: Option<Managed>,
    pub(super) publish_cloud_watch_metrics_enabled: Option<bool>,
    pub(super) requester_pays_enabled: Option<bool>,
    pub(super) engine_version: Option<EngineVersion>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateWorkGroup {
    pub(super) work_group: String,
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) configuration_updates: WorkGroupUpdates,
    pub(super) state: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OneWorkGroup {
    pub(super) work_group: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteWorkGroup {
    pub(super) work_group: String,
    #[serde(default)]
    pub(super) recursive_delete_option: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateNamedQuery {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) database: String,
    pub(super) query_string: String,
    pub(super) client_request_token: Option<String>,
    pub(super) work_group: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateNamedQuery {
    pub(super) named_query_id: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) query_string: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OneNamedQuery {
    pub(super) named_query_id: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ManyNamedQueries {
    pub(super) named_query_ids: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OneCatalog {
    pub(super) name: String,
    pub(super) work_group: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InCatalog {
    pub(super) catalog_name: String,
    pub(super) database_name: Option<String>,
    pub(super) table_name: Option<String>,
    pub(super) expression: Option<String>,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) work_group: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagResource {
    #[serde(rename = "ResourceARN")]
    pub(super) resource_arn: String,
    pub(super) tags: Vec<Tag>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UntagResource {
    #[serde(rename = "ResourceARN")]
    pub(super) resource_arn: String,
    pub(super) tag_keys: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTags {
    #[serde(rename = "ResourceARN")]
    pub(super) resource_arn: String,
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<u32>,
}
