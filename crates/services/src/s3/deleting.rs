//! Delete, one and many.

use super::error::{from_objects, refuse};
use super::operations::Operations;
use super::versions;
use super::witness::Witness;
use alluvium_store::objects::versions::{Removal, RemoveCondition, Removed};
use futures::StreamExt as _;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

/// "A list of up to 1,000 keys".
const DELETE_MAX: usize = 1000;
/// Deletes of one call that run at once; their index changes share a sync.
const DELETE_CONCURRENCY: usize = 16;

impl Operations {
    pub(super) async fn answer_delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, version_id, .. } = request.input;
        self.buckets.require(&bucket).await?;
        let condition = match request.headers.get("if-match") {
            None => RemoveCondition::None,
            Some(value) => condition(value.to_str().unwrap_or_default()),
        };
        let version = versions::asked(version_id.as_deref())?.map(str::to_string);
        let removal = Removal { version, condition };
        let removed = self.objects.remove(&bucket, &key, removal).await.map_err(from_objects)?;
        let output = DeleteObjectOutput {
            delete_marker: removed.is_marker.then_some(true),
            version_id: removed.version_id,
            request_charged: None,
        };
        Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn answer_delete_many(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        if !Witness::check(&request.extensions, &request.headers)? {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        let allowed = ["Delete", "Object", "Key", "VersionId", "ETag", "Quiet"];
        Witness::allow_elements(&request.extensions, &allowed)?;
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.is_empty() || delete.objects.len() > DELETE_MAX {
            return Err(refuse(
                S3ErrorCode::MalformedXML,
                format!(
                    "The XML names {} keys; one call deletes 1 to {DELETE_MAX}",
                    delete.objects.len()
                ),
            ));
        }
        self.buckets.require(&bucket).await?;
        let quiet = delete.quiet.unwrap_or(false);
        let outcomes: Vec<_> = futures::stream::iter(delete.objects)
            .map(|object| self.delete_listed(&bucket, object))
            .buffered(DELETE_CONCURRENCY)
            .collect()
            .await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, version_id, outcome) in outcomes {
            match outcome {
                Ok(_) if quiet => {}
                Ok(removed) => {
                    let marker = removed.is_marker;
                    deleted.push(DeletedObject {
                        delete_marker: marker.then_some(true),
                        delete_marker_version_id: removed.version_id.filter(|_| marker),
                        key: Some(key),
                        version_id,
                    });
                }
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_string()),
                    message: error.message().map(str::to_string),
                    key: Some(key),
                    version_id,
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            request_charged: None,
        }))
    }

    async fn delete_listed(
        &self,
        bucket: &str,
        object: ObjectIdentifier,
    ) -> (ObjectKey, Option<ObjectVersionId>, Result<Removed, S3Error>) {
        let ObjectIdentifier { key, version_id, e_tag, .. } = object;
        let version = match versions::asked(version_id.as_deref()) {
            Ok(version) => version.map(str::to_string),
            Err(_) => {
                let error = refuse(
                    S3ErrorCode::NoSuchVersion,
                    "The specified version does not exist: it is not a version id of this service",
                );
                return (key, version_id, Err(error));
            }
        };
        let condition = e_tag.map_or(RemoveCondition::None, |tag| condition(tag.value()));
        let removal = Removal { version, condition };
        let outcome = self.objects.remove(bucket, &key, removal).await.map_err(from_objects);
        (key, version_id, outcome)
    }
}

/// The condition of a delete, from an ETag or `*`.
fn condition(text: &str) -> RemoveCondition {
    match text.trim() {
        "*" => RemoveCondition::IfExists,
        etag => RemoveCondition::IfMatch(etag.trim_matches('"').to_string()),
    }
}
