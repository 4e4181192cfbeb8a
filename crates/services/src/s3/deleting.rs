//! Delete, one and many.

use super::error::{from_objects, refuse};
use super::operations::Operations;
use super::witness::Witness;
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
        let DeleteObjectInput { bucket, key, .. } = request.input;
        self.buckets.require(&bucket).await?;
        self.objects.delete(&bucket, &key).await.map_err(from_objects)?;
        let done = http::StatusCode::NO_CONTENT;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), done))
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
        let allowed = ["Delete", "Object", "Key", "VersionId", "Quiet"];
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
        for (key, outcome) in outcomes {
            match outcome {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_string()),
                    message: error.message().map(str::to_string),
                    key: Some(key),
                    version_id: None,
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
    ) -> (ObjectKey, Result<(), S3Error>) {
        if object.version_id.as_deref().is_some_and(|version| version != "null") {
            let error = refuse(
                S3ErrorCode::NoSuchVersion,
                "The specified version does not exist: buckets are not versioned",
            );
            return (object.key, Err(error));
        }
        let outcome = self.objects.delete(bucket, &object.key).await;
        (object.key, outcome.map(drop).map_err(from_objects))
    }
}
