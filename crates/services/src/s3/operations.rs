//! The table of operations: each line hands a parsed call to the module that does it. What is not
//! here, the library refuses by its name.

use super::buckets::Buckets;
use alluvium_base::AccountId;
use alluvium_store::objects::Objects;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// What the operations work on.
pub(super) struct Operations {
    pub(super) objects: Arc<dyn Objects>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) account: AccountId,
}

/// Operations of the library's trait, each by the method of the same name that does it.
macro_rules! operations {
    ($($name:ident, $work:ident, $input:ty, $output:ty;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.$work(request).await
                }
            )*
        }
    };
}

operations! {
    list_buckets, answer_list_buckets, ListBucketsInput, ListBucketsOutput;
    create_bucket, answer_create_bucket, CreateBucketInput, CreateBucketOutput;
    delete_bucket, answer_delete_bucket, DeleteBucketInput, DeleteBucketOutput;
    head_bucket, answer_head_bucket, HeadBucketInput, HeadBucketOutput;
    get_bucket_location, answer_location, GetBucketLocationInput, GetBucketLocationOutput;
    get_bucket_versioning, answer_versioning, GetBucketVersioningInput, GetBucketVersioningOutput;
    put_bucket_versioning, answer_put_versioning, PutBucketVersioningInput,
        PutBucketVersioningOutput;
    list_object_versions, answer_list_versions, ListObjectVersionsInput, ListObjectVersionsOutput;
    get_bucket_tagging, answer_bucket_tagging, GetBucketTaggingInput, GetBucketTaggingOutput;
    put_bucket_tagging, answer_put_bucket_tagging, PutBucketTaggingInput, PutBucketTaggingOutput;
    delete_bucket_tagging, answer_delete_bucket_tagging, DeleteBucketTaggingInput,
        DeleteBucketTaggingOutput;
    get_bucket_lifecycle_configuration, answer_lifecycle, GetBucketLifecycleConfigurationInput,
        GetBucketLifecycleConfigurationOutput;
    put_bucket_lifecycle_configuration, answer_put_lifecycle,
        PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput;
    delete_bucket_lifecycle, answer_delete_lifecycle, DeleteBucketLifecycleInput,
        DeleteBucketLifecycleOutput;
    get_bucket_cors, answer_cors, GetBucketCorsInput, GetBucketCorsOutput;
    put_bucket_cors, answer_put_cors, PutBucketCorsInput, PutBucketCorsOutput;
    delete_bucket_cors, answer_delete_cors, DeleteBucketCorsInput, DeleteBucketCorsOutput;
    get_bucket_policy, answer_policy, GetBucketPolicyInput, GetBucketPolicyOutput;
    get_bucket_policy_status, answer_policy_status, GetBucketPolicyStatusInput,
        GetBucketPolicyStatusOutput;
    put_bucket_policy, answer_put_policy, PutBucketPolicyInput, PutBucketPolicyOutput;
    delete_bucket_policy, answer_delete_policy, DeleteBucketPolicyInput, DeleteBucketPolicyOutput;
    get_bucket_encryption, answer_encryption, GetBucketEncryptionInput, GetBucketEncryptionOutput;
    put_bucket_encryption, answer_put_encryption, PutBucketEncryptionInput,
        PutBucketEncryptionOutput;
    delete_bucket_encryption, answer_delete_encryption, DeleteBucketEncryptionInput,
        DeleteBucketEncryptionOutput;
    get_public_access_block, answer_public_access, GetPublicAccessBlockInput,
        GetPublicAccessBlockOutput;
    put_public_access_block, answer_put_public_access, PutPublicAccessBlockInput,
        PutPublicAccessBlockOutput;
    delete_public_access_block, answer_delete_public_access, DeletePublicAccessBlockInput,
        DeletePublicAccessBlockOutput;
    get_bucket_ownership_controls, answer_ownership, GetBucketOwnershipControlsInput,
        GetBucketOwnershipControlsOutput;
    put_bucket_ownership_controls, answer_put_ownership, PutBucketOwnershipControlsInput,
        PutBucketOwnershipControlsOutput;
    get_bucket_acl, answer_acl, GetBucketAclInput, GetBucketAclOutput;
    put_bucket_acl, answer_put_acl, PutBucketAclInput, PutBucketAclOutput;
    get_object_acl, answer_object_acl, GetObjectAclInput, GetObjectAclOutput;
    put_object_acl, answer_put_object_acl, PutObjectAclInput, PutObjectAclOutput;
    get_bucket_notification_configuration, answer_notification,
        GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput;
    put_bucket_notification_configuration, answer_put_notification,
        PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput;
    get_bucket_logging, answer_logging, GetBucketLoggingInput, GetBucketLoggingOutput;
    put_bucket_logging, answer_put_logging, PutBucketLoggingInput, PutBucketLoggingOutput;
    get_bucket_request_payment, answer_payment, GetBucketRequestPaymentInput,
        GetBucketRequestPaymentOutput;
    put_bucket_request_payment, answer_put_payment, PutBucketRequestPaymentInput,
        PutBucketRequestPaymentOutput;
    get_bucket_website, answer_website, GetBucketWebsiteInput, GetBucketWebsiteOutput;
    delete_bucket_website, answer_delete_website, DeleteBucketWebsiteInput,
        DeleteBucketWebsiteOutput;
    get_bucket_replication, answer_replication, GetBucketReplicationInput,
        GetBucketReplicationOutput;
    delete_bucket_replication, answer_delete_replication, DeleteBucketReplicationInput,
        DeleteBucketReplicationOutput;
    get_bucket_accelerate_configuration, answer_accelerate, GetBucketAccelerateConfigurationInput,
        GetBucketAccelerateConfigurationOutput;
    get_object_lock_configuration, answer_object_lock, GetObjectLockConfigurationInput,
        GetObjectLockConfigurationOutput;
    get_object_retention, answer_retention, GetObjectRetentionInput, GetObjectRetentionOutput;
    get_object_legal_hold, answer_legal_hold, GetObjectLegalHoldInput, GetObjectLegalHoldOutput;
    get_bucket_analytics_configuration, answer_analytics, GetBucketAnalyticsConfigurationInput,
        GetBucketAnalyticsConfigurationOutput;
    get_bucket_inventory_configuration, answer_inventory, GetBucketInventoryConfigurationInput,
        GetBucketInventoryConfigurationOutput;
    get_bucket_metrics_configuration, answer_metrics, GetBucketMetricsConfigurationInput,
        GetBucketMetricsConfigurationOutput;
    get_bucket_intelligent_tiering_configuration, answer_tiering,
        GetBucketIntelligentTieringConfigurationInput,
        GetBucketIntelligentTieringConfigurationOutput;
    delete_bucket_analytics_configuration, answer_delete_analytics,
        DeleteBucketAnalyticsConfigurationInput, DeleteBucketAnalyticsConfigurationOutput;
    delete_bucket_inventory_configuration, answer_delete_inventory,
        DeleteBucketInventoryConfigurationInput, DeleteBucketInventoryConfigurationOutput;
    delete_bucket_metrics_configuration, answer_delete_metrics,
        DeleteBucketMetricsConfigurationInput, DeleteBucketMetricsConfigurationOutput;
    delete_bucket_intelligent_tiering_configuration, answer_delete_tiering,
        DeleteBucketIntelligentTieringConfigurationInput,
        DeleteBucketIntelligentTieringConfigurationOutput;
    list_bucket_analytics_configurations, answer_list_analytics,
        ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput;
    list_bucket_inventory_configurations, answer_list_inventory,
        ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput;
    list_bucket_metrics_configurations, answer_list_metrics, ListBucketMetricsConfigurationsInput,
        ListBucketMetricsConfigurationsOutput;
    list_bucket_intelligent_tiering_configurations, answer_list_tiering,
        ListBucketIntelligentTieringConfigurationsInput,
        ListBucketIntelligentTieringConfigurationsOutput;
    get_object, answer_get, GetObjectInput, GetObjectOutput;
    head_object, answer_head, HeadObjectInput, HeadObjectOutput;
    get_object_attributes, answer_attributes, GetObjectAttributesInput, GetObjectAttributesOutput;
    get_object_tagging, answer_tagging, GetObjectTaggingInput, GetObjectTaggingOutput;
    put_object_tagging, answer_put_tagging, PutObjectTaggingInput, PutObjectTaggingOutput;
    delete_object_tagging, answer_delete_tagging, DeleteObjectTaggingInput,
        DeleteObjectTaggingOutput;
    put_object, answer_put, PutObjectInput, PutObjectOutput;
    copy_object, answer_copy, CopyObjectInput, CopyObjectOutput;
    upload_part_copy, answer_copy_part, UploadPartCopyInput, UploadPartCopyOutput;
    delete_object, answer_delete, DeleteObjectInput, DeleteObjectOutput;
    delete_objects, answer_delete_many, DeleteObjectsInput, DeleteObjectsOutput;
    list_objects, answer_list, ListObjectsInput, ListObjectsOutput;
    list_objects_v2, answer_list_v2, ListObjectsV2Input, ListObjectsV2Output;
    create_multipart_upload, answer_begin_upload, CreateMultipartUploadInput,
        CreateMultipartUploadOutput;
    upload_part, answer_part, UploadPartInput, UploadPartOutput;
    list_parts, answer_list_parts, ListPartsInput, ListPartsOutput;
    list_multipart_uploads, answer_list_uploads, ListMultipartUploadsInput,
        ListMultipartUploadsOutput;
    complete_multipart_upload, answer_complete, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput;
    abort_multipart_upload, answer_abort, AbortMultipartUploadInput, AbortMultipartUploadOutput;
}
