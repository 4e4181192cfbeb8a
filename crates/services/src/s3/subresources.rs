//! The calls about a bucket's or an object's configuration: what each takes beside the protocol's
//! own members, whether it does something, or answers as for a bucket that never had it.

/// Operation, query parameters, headers.
type Call = (&'static str, &'static [&'static str], &'static [&'static str]);

/// All that are built.
pub(super) const CALLS: [Call; 57] = [
    ("DeleteBucketAnalyticsConfiguration", &["analytics", "id"], &[]),
    ("DeleteBucketCors", &["cors"], &[]),
    ("DeleteBucketEncryption", &["encryption"], &[]),
    ("DeleteBucketIntelligentTieringConfiguration", &["intelligent-tiering", "id"], &[]),
    ("DeleteBucketInventoryConfiguration", &["inventory", "id"], &[]),
    ("DeleteBucketLifecycle", &["lifecycle"], &[]),
    ("DeleteBucketMetricsConfiguration", &["metrics", "id"], &[]),
    ("DeleteBucketPolicy", &["policy"], &[]),
    ("DeleteBucketReplication", &["replication"], &[]),
    ("DeleteBucketTagging", &["tagging"], &[]),
    ("DeleteBucketWebsite", &["website"], &[]),
    ("DeleteObjectTagging", &["tagging", "versionId"], &[]),
    ("DeletePublicAccessBlock", &["publicAccessBlock"], &[]),
    ("GetBucketAccelerateConfiguration", &["accelerate"], &[]),
    ("GetBucketAcl", &["acl"], &[]),
    ("GetBucketAnalyticsConfiguration", &["analytics", "id"], &[]),
    ("GetBucketCors", &["cors"], &[]),
    ("GetBucketEncryption", &["encryption"], &[]),
    ("GetBucketIntelligentTieringConfiguration", &["intelligent-tiering", "id"], &[]),
    ("GetBucketInventoryConfiguration", &["inventory", "id"], &[]),
    ("GetBucketLifecycleConfiguration", &["lifecycle"], &[]),
    ("GetBucketLocation", &["location"], &[]),
    ("GetBucketLogging", &["logging"], &[]),
    ("GetBucketMetricsConfiguration", &["metrics", "id"], &[]),
    ("GetBucketNotificationConfiguration", &["notification"], &[]),
    ("GetBucketOwnershipControls", &["ownershipControls"], &[]),
    ("GetBucketPolicy", &["policy"], &[]),
    ("GetBucketPolicyStatus", &["policyStatus"], &[]),
    ("GetBucketReplication", &["replication"], &[]),
    ("GetBucketRequestPayment", &["requestPayment"], &[]),
    ("GetBucketTagging", &["tagging"], &[]),
    ("GetBucketVersioning", &["versioning"], &[]),
    ("GetBucketWebsite", &["website"], &[]),
    ("GetObjectAcl", &["acl", "versionId"], &[]),
    ("GetObjectLegalHold", &["legal-hold", "versionId"], &[]),
    ("GetObjectLockConfiguration", &["object-lock"], &[]),
    ("GetObjectRetention", &["retention", "versionId"], &[]),
    ("GetObjectTagging", &["tagging", "versionId"], &[]),
    ("GetPublicAccessBlock", &["publicAccessBlock"], &[]),
    ("ListBucketAnalyticsConfigurations", &["analytics", "continuation-token"], &[]),
    (
        "ListBucketIntelligentTieringConfigurations",
        &["intelligent-tiering", "continuation-token"],
        &[],
    ),
    ("ListBucketInventoryConfigurations", &["inventory", "continuation-token"], &[]),
    ("ListBucketMetricsConfigurations", &["metrics", "continuation-token"], &[]),
    ("PutBucketAcl", &["acl"], &["x-amz-acl"]),
    ("PutBucketCors", &["cors"], &[]),
    ("PutBucketEncryption", &["encryption"], &[]),
    (
        "PutBucketLifecycleConfiguration",
        &["lifecycle"],
        &["x-amz-transition-default-minimum-object-size"],
    ),
    ("PutBucketLogging", &["logging"], &[]),
    (
        "PutBucketNotificationConfiguration",
        &["notification"],
        &["x-amz-skip-destination-validation"],
    ),
    ("PutBucketOwnershipControls", &["ownershipControls"], &[]),
    ("PutBucketPolicy", &["policy"], &["x-amz-confirm-remove-self-bucket-access"]),
    ("PutBucketRequestPayment", &["requestPayment"], &[]),
    ("PutBucketTagging", &["tagging"], &[]),
    ("PutBucketVersioning", &["versioning"], &[]),
    ("PutObjectAcl", &["acl", "versionId"], &["x-amz-acl"]),
    ("PutObjectTagging", &["tagging", "versionId"], &[]),
    ("PutPublicAccessBlock", &["publicAccessBlock"], &[]),
];

/// One of them.
pub(super) fn find(operation: &str) -> Option<&'static Call> {
    CALLS.iter().find(|(name, _, _)| *name == operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_names_each_call_once() {
        assert!(CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
