//! Who may call, and what a call may contain: runs after the signature and before the work.

use super::error::refuse;
use super::gateway::OperationName;
use super::{members, warehouse};
use alluvium_base::AccountId;
use alluvium_wire::credentials::CredentialLookup;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};
use std::sync::Arc;

/// The library's view of access keys.
pub(super) struct Keys {
    pub(super) credentials: Arc<dyn CredentialLookup>,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.credentials.find(access_key) {
            // The library computes the signature itself and so needs the secret.
            Some(found) => Ok(SecretKey::from(found.secret.expose())),
            None => Err(refuse(
                S3ErrorCode::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            )),
        }
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
        if context.credentials().is_none() {
            return Err(refuse(
                S3ErrorCode::AccessDenied,
                "Access Denied: the request is not signed, and nothing here is public",
            ));
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
