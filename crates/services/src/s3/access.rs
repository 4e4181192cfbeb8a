//! Who may call, and what a call may contain: runs after the signature and before the work.

use super::admission::Signed;
use super::error::{from_signature, refuse};
use super::gateway::OperationName;
use super::{members, warehouse};
use alluvium_base::AccountId;
use alluvium_wire::sigv4::SignatureProblem;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};

/// The library asks for access checks only where there are keys. It gets none: requests reach it
/// verified and without their signature, and one that still has any is refused.
pub(super) struct NoKeys;

#[async_trait::async_trait]
impl S3Auth for NoKeys {
    async fn get_secret_key(&self, _access_key: &str) -> S3Result<SecretKey> {
        Err(from_signature(SignatureProblem::Missing, false))
    }
}

/// The check between signature and operation.
pub(super) struct Access {
    pub(super) account: AccountId,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name().to_string();
        if let Some(name) = context.extensions_mut().get::<OperationName>() {
            // The first to set it is this check: a call has one operation.
            let _ = name.0.set(operation.clone());
        }
        if context.extensions_mut().get::<Signed>().is_none() {
            return Err(from_signature(SignatureProblem::Missing, false));
        }
        let headers = context.headers();
        for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
            let wanted = headers.get(name).map(|value| value.to_str().unwrap_or_default());
            if wanted.is_some_and(|wanted| wanted != self.account.as_str()) {
                return Err(refuse(
                    S3ErrorCode::AccessDenied,
                    format!("Access Denied: {name} is not the owner of the bucket"),
                ));
            }
        }
        if let Some(bucket) = context.s3_path().get_bucket_name() {
            warehouse::check(bucket, &operation)?;
        }
        members::check(&operation, headers, context.uri().query())
    }
}
