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
    pub(super) buckets: Buckets,
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
    get_object, answer_get, GetObjectInput, GetObjectOutput;
    head_object, answer_head, HeadObjectInput, HeadObjectOutput;
    get_object_attributes, answer_attributes, GetObjectAttributesInput, GetObjectAttributesOutput;
    get_object_tagging, answer_tagging, GetObjectTaggingInput, GetObjectTaggingOutput;
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
