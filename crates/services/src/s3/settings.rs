//! Settings of buckets that are kept as AWS keeps them, or that have one value here.
//!
//! - Encryption: SSE-S3 is kept and shown, without effect: this release does not encrypt at rest.
//! - The public access block is kept; nothing is public here in any case. A new bucket blocks all.
//! - Ownership is enforced, so there are no ACLs: those that are shown give the owner everything.
//! - What is not built answers as on a bucket that never had it, and its change is refused by name.

use super::configuration::Kind;
use super::error::{custom, invalid_argument, malformed, not_implemented, refuse};
use super::operations::Operations;
use super::versions;
use super::witness::Witness;
use http::{Extensions, HeaderMap, StatusCode};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use serde::{Deserialize, Serialize};

/// Default encryption by SSE-S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Encryption {
    /// Kept as it was given; it is about KMS alone.
    #[serde(default)]
    bucket_key: bool,
}

/// The public access block; none after it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublicAccess {
    #[serde(default)]
    block: Option<Block>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    public_acls: bool,
    ignore_acls: bool,
    public_policy: bool,
    restrict: bool,
}

impl PublicAccess {
    /// What a new bucket has: everything is blocked.
    fn of_new() -> Self {
        let all =
            Block { public_acls: true, ignore_acls: true, public_policy: true, restrict: true };
        Self { block: Some(all) }
    }

    /// Whether public policies are refused.
    pub(super) fn blocks_policies(kept: Option<&Self>) -> bool {
        let new = Self::of_new();
        kept.unwrap_or(&new).block.is_some_and(|block| block.public_policy)
    }
}

/// The digest of a control body, and that it has these elements alone.
pub(super) fn check_body(
    extensions: &Extensions,
    headers: &HeaderMap,
    elements: &[&str],
) -> S3Result<()> {
    Witness::check(extensions, headers)?;
    Witness::allow_elements(extensions, elements)
}

/// What a bucket that never had it answers.
fn unset(code: &'static str, message: &str) -> S3Error {
    custom(code, StatusCode::NOT_FOUND, message.to_string())
}

fn no_acls() -> S3Error {
    refuse(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs")
}

/// Methods that answer for a bucket that exists with what a bucket without this setting answers.
macro_rules! unset {
    ($($name:ident, $input:ty, $output:ty, $answer:expr;)*) => {
        impl Operations {
            $(
                pub(super) async fn $name(
                    &self,
                    request: S3Request<$input>,
                ) -> S3Result<S3Response<$output>> {
                    self.buckets.require(&request.input.bucket).await?;
                    $answer
                }
            )*
        }
    };
}

fn empty<T: Default>() -> S3Result<S3Response<T>> {
    Ok(S3Response::new(T::default()))
}

fn nothing<T: Default>() -> S3Result<S3Response<T>> {
    Ok(S3Response::with_status(T::default(), StatusCode::NO_CONTENT))
}

const NO_CONFIGURATION: &str = "The specified configuration does not exist.";

unset! {
    answer_website, GetBucketWebsiteInput, GetBucketWebsiteOutput, Err(unset(
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ));
    answer_delete_website, DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput, nothing();
    answer_replication, GetBucketReplicationInput, GetBucketReplicationOutput, Err(unset(
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ));
    answer_delete_replication, DeleteBucketReplicationInput, DeleteBucketReplicationOutput,
        nothing();
    answer_object_lock, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
        Err(unset(
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ));
    answer_retention, GetObjectRetentionInput, GetObjectRetentionOutput, Err(refuse(
        S3ErrorCode::InvalidRequest,
        "Bucket is missing Object Lock Configuration",
    ));
    answer_legal_hold, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, Err(refuse(
        S3ErrorCode::InvalidRequest,
        "Bucket is missing Object Lock Configuration",
    ));
    answer_accelerate, GetBucketAccelerateConfigurationInput,
        GetBucketAccelerateConfigurationOutput, empty();
    answer_logging, GetBucketLoggingInput, GetBucketLoggingOutput, empty();
    answer_notification, GetBucketNotificationConfigurationInput,
        GetBucketNotificationConfigurationOutput, empty();
    answer_payment, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
        Ok(S3Response::new(GetBucketRequestPaymentOutput {
            payer: Some(Payer::from_static(Payer::BUCKET_OWNER)),
        }));
    answer_analytics, GetBucketAnalyticsConfigurationInput, GetBucketAnalyticsConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_inventory, GetBucketInventoryConfigurationInput, GetBucketInventoryConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_metrics, GetBucketMetricsConfigurationInput, GetBucketMetricsConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_tiering, GetBucketIntelligentTieringConfigurationInput,
        GetBucketIntelligentTieringConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_delete_analytics, DeleteBucketAnalyticsConfigurationInput,
        DeleteBucketAnalyticsConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_delete_inventory, DeleteBucketInventoryConfigurationInput,
        DeleteBucketInventoryConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_delete_metrics, DeleteBucketMetricsConfigurationInput,
        DeleteBucketMetricsConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_delete_tiering, DeleteBucketIntelligentTieringConfigurationInput,
        DeleteBucketIntelligentTieringConfigurationOutput,
        Err(unset("NoSuchConfiguration", NO_CONFIGURATION));
    answer_list_analytics, ListBucketAnalyticsConfigurationsInput,
        ListBucketAnalyticsConfigurationsOutput,
        Ok(S3Response::new(ListBucketAnalyticsConfigurationsOutput {
            is_truncated: Some(false),
            ..Default::default()
        }));
    answer_list_inventory, ListBucketInventoryConfigurationsInput,
        ListBucketInventoryConfigurationsOutput,
        Ok(S3Response::new(ListBucketInventoryConfigurationsOutput {
            is_truncated: Some(false),
            ..Default::default()
        }));
    answer_list_metrics, ListBucketMetricsConfigurationsInput,
        ListBucketMetricsConfigurationsOutput,
        Ok(S3Response::new(ListBucketMetricsConfigurationsOutput {
            is_truncated: Some(false),
            ..Default::default()
        }));
    answer_list_tiering, ListBucketIntelligentTieringConfigurationsInput,
        ListBucketIntelligentTieringConfigurationsOutput,
        Ok(S3Response::new(ListBucketIntelligentTieringConfigurationsOutput {
            is_truncated: Some(false),
            ..Default::default()
        }));
    answer_ownership, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
        Ok(S3Response::new(GetBucketOwnershipControlsOutput {
            ownership_controls: Some(OwnershipControls {
                rules: vec![OwnershipControlsRule {
                    object_ownership: ObjectOwnership::from_static(
                        ObjectOwnership::BUCKET_OWNER_ENFORCED,
                    ),
                }],
            }),
        }));
    answer_put_acl, PutBucketAclInput, PutBucketAclOutput, Err(no_acls());
    answer_put_object_acl, PutObjectAclInput, PutObjectAclOutput, Err(no_acls());
}

impl Operations {
    fn grants(&self) -> Vec<Grant> {
        let owner = self.owner();
        let grantee = Grantee {
            display_name: None,
            email_address: None,
            id: owner.id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        };
        let permission = Some(Permission::from_static(Permission::FULL_CONTROL));
        vec![Grant { grantee: Some(grantee), permission }]
    }

    pub(super) async fn answer_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        self.buckets.require(&request.input.bucket).await?;
        let (grants, owner) = (Some(self.grants()), Some(self.owner()));
        Ok(S3Response::new(GetBucketAclOutput { grants, owner }))
    }

    pub(super) async fn answer_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let GetObjectAclInput { bucket, key, version_id, .. } = request.input;
        self.buckets.require(&bucket).await?;
        let version = versions::asked(version_id.as_deref())?;
        self.meta_of(&bucket, &key, version).await?;
        let (grants, owner) = (Some(self.grants()), Some(self.owner()));
        Ok(S3Response::new(GetObjectAclOutput { grants, owner, request_charged: None }))
    }

    pub(super) async fn answer_put_ownership(
        &self,
        request: S3Request<PutBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
        let elements = ["OwnershipControls", "Rule", "ObjectOwnership"];
        check_body(&request.extensions, &request.headers, &elements)?;
        let PutBucketOwnershipControlsInput { bucket, ownership_controls, .. } = request.input;
        self.buckets.require(&bucket).await?;
        let [rule] = &ownership_controls.rules[..] else {
            return Err(malformed("there is one Rule"));
        };
        match rule.object_ownership.as_str() {
            ObjectOwnership::BUCKET_OWNER_ENFORCED => empty(),
            other @ (ObjectOwnership::BUCKET_OWNER_PREFERRED | ObjectOwnership::OBJECT_WRITER) => {
                Err(not_implemented(&format!("ObjectOwnership: {other} (ACLs)")))
            }
            _ => Err(malformed("ObjectOwnership is BucketOwnerEnforced")),
        }
    }

    pub(super) async fn answer_put_payment(
        &self,
        request: S3Request<PutBucketRequestPaymentInput>,
    ) -> S3Result<S3Response<PutBucketRequestPaymentOutput>> {
        let elements = ["RequestPaymentConfiguration", "Payer"];
        check_body(&request.extensions, &request.headers, &elements)?;
        self.buckets.require(&request.input.bucket).await?;
        match request.input.request_payment_configuration.payer.as_str() {
            Payer::BUCKET_OWNER => empty(),
            Payer::REQUESTER => Err(not_implemented("Payer: Requester")),
            _ => Err(malformed("Payer is BucketOwner")),
        }
    }

    pub(super) async fn answer_put_logging(
        &self,
        request: S3Request<PutBucketLoggingInput>,
    ) -> S3Result<S3Response<PutBucketLoggingOutput>> {
        check_body(&request.extensions, &request.headers, &["BucketLoggingStatus"])?;
        self.buckets.require(&request.input.bucket).await?;
        empty()
    }

    /// Nothing would be told, so only a configuration that tells nobody is taken.
    pub(super) async fn answer_put_notification(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
        check_body(&request.extensions, &request.headers, &["NotificationConfiguration"])?;
        self.buckets.require(&request.input.bucket).await?;
        empty()
    }

    pub(super) async fn answer_encryption(
        &self,
        request: S3Request<GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let bucket_key = configured.encryption.as_ref().is_some_and(|kept| kept.bucket_key);
        let by_default = ServerSideEncryptionByDefault {
            kms_master_key_id: None,
            sse_algorithm: ServerSideEncryption::from_static(ServerSideEncryption::AES256),
        };
        let rule = ServerSideEncryptionRule {
            apply_server_side_encryption_by_default: Some(by_default),
            bucket_key_enabled: Some(bucket_key),
        };
        let rules = ServerSideEncryptionConfiguration { rules: vec![rule] };
        Ok(S3Response::new(GetBucketEncryptionOutput {
            server_side_encryption_configuration: Some(rules),
        }))
    }

    pub(super) async fn answer_put_encryption(
        &self,
        request: S3Request<PutBucketEncryptionInput>,
    ) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
        let elements = [
            "ServerSideEncryptionConfiguration",
            "Rule",
            "ApplyServerSideEncryptionByDefault",
            "SSEAlgorithm",
            "KMSMasterKeyID",
            "BucketKeyEnabled",
        ];
        check_body(&request.extensions, &request.headers, &elements)?;
        let PutBucketEncryptionInput { bucket, server_side_encryption_configuration, .. } =
            request.input;
        let [rule] = &server_side_encryption_configuration.rules[..] else {
            return Err(malformed("there is one Rule"));
        };
        let Some(by_default) = &rule.apply_server_side_encryption_by_default else {
            return Err(malformed("the Rule has an ApplyServerSideEncryptionByDefault"));
        };
        match by_default.sse_algorithm.as_str() {
            ServerSideEncryption::AES256 => {}
            other @ (ServerSideEncryption::AWS_KMS | ServerSideEncryption::AWS_KMS_DSSE) => {
                return Err(not_implemented(&format!("SSEAlgorithm: {other}")));
            }
            _ => return Err(malformed("SSEAlgorithm is AES256")),
        }
        if by_default.kms_master_key_id.is_some() {
            return Err(invalid_argument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
            ));
        }
        let kept = Encryption { bucket_key: rule.bucket_key_enabled.unwrap_or(false) };
        self.buckets.configure(&bucket, Kind::Encryption, Some(&kept)).await?;
        empty()
    }

    pub(super) async fn answer_delete_encryption(
        &self,
        request: S3Request<DeleteBucketEncryptionInput>,
    ) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
        let bucket = &request.input.bucket;
        self.buckets.configure(bucket, Kind::Encryption, None::<&Encryption>).await?;
        nothing()
    }

    pub(super) async fn answer_public_access(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let kept = configured.public_access.clone().unwrap_or_else(PublicAccess::of_new);
        let Some(block) = kept.block else {
            return Err(unset(
                "NoSuchPublicAccessBlockConfiguration",
                "The public access block configuration was not found",
            ));
        };
        let block = PublicAccessBlockConfiguration {
            block_public_acls: Some(block.public_acls),
            block_public_policy: Some(block.public_policy),
            ignore_public_acls: Some(block.ignore_acls),
            restrict_public_buckets: Some(block.restrict),
        };
        let output = GetPublicAccessBlockOutput { public_access_block_configuration: Some(block) };
        Ok(S3Response::new(output))
    }

    pub(super) async fn answer_put_public_access(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
        let elements = [
            "PublicAccessBlockConfiguration",
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "RestrictPublicBuckets",
        ];
        check_body(&request.extensions, &request.headers, &elements)?;
        let PutPublicAccessBlockInput { bucket, public_access_block_configuration, .. } =
            request.input;
        let given = public_access_block_configuration;
        let block = Block {
            public_acls: given.block_public_acls.unwrap_or(false),
            ignore_acls: given.ignore_public_acls.unwrap_or(false),
            public_policy: given.block_public_policy.unwrap_or(false),
            restrict: given.restrict_public_buckets.unwrap_or(false),
        };
        let kept = PublicAccess { block: Some(block) };
        self.buckets.configure(&bucket, Kind::PublicAccess, Some(&kept)).await?;
        empty()
    }

    pub(super) async fn answer_delete_public_access(
        &self,
        request: S3Request<DeletePublicAccessBlockInput>,
    ) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
        let kept = PublicAccess { block: None };
        self.buckets.configure(&request.input.bucket, Kind::PublicAccess, Some(&kept)).await?;
        nothing()
    }
}
