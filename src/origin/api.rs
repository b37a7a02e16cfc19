//! Maps the S3 operations to their modules.
//!
//! The server library parses requests, verifies signatures and encodes answers. It answers an operation that is missing here with 501
//! `NotImplemented`. An operation that waits for the disk runs on a blocking thread.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::conditions::WriteConditions;
use super::store::Store;
use super::{blocking, buckets, copies, multipart, objects, pages, tags, unsupported};

/// The store as a service.
pub(super) struct Api {
    pub(super) store: Arc<Store>,
}

type ApiResult<T> = S3Result<S3Response<T>>;

impl Api {
    /// Runs an operation on a blocking thread.
    async fn run_blocking<I: Send + 'static, O: Send + 'static>(
        &self,
        request: S3Request<I>,
        operation: impl FnOnce(&Store, I) -> S3Result<O> + Send + 'static,
    ) -> ApiResult<O> {
        let store = Arc::clone(&self.store);
        let input = request.input;
        blocking(move || operation(&store, input)).await.map(S3Response::new)
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> ApiResult<ListBucketsOutput> {
        buckets::list(&self.store, &request.input).map(S3Response::new)
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> ApiResult<CreateBucketOutput> {
        self.run_blocking(request, |store, input| buckets::create(store, &input)).await
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> ApiResult<DeleteBucketOutput> {
        let delete = |store: &Store, input: DeleteBucketInput| store.delete_bucket(&input.bucket);
        self.run_blocking(request, delete)
            .await
            .map(|done| done.map_output(|()| DeleteBucketOutput::default()))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> ApiResult<HeadBucketOutput> {
        self.store.read_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> ApiResult<GetBucketLocationOutput> {
        self.store.read_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    /// Versioning is never enabled.
    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> ApiResult<GetBucketVersioningOutput> {
        self.store.read_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> ApiResult<ListObjectsOutput> {
        pages::objects(&self.store, request.input).map(S3Response::new)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> ApiResult<ListObjectsV2Output> {
        pages::objects_v2(&self.store, request.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> ApiResult<ListMultipartUploadsOutput> {
        pages::uploads(&self.store, request.input).map(S3Response::new)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> ApiResult<ListPartsOutput> {
        pages::parts(&self.store, request.input).map(S3Response::new)
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> ApiResult<PutObjectOutput> {
        objects::put(Arc::clone(&self.store), request).await.map(S3Response::new)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> ApiResult<GetObjectOutput> {
        objects::get(&self.store, request).await.map(S3Response::new)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> ApiResult<HeadObjectOutput> {
        objects::head(&self.store, &request).map(S3Response::new)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> ApiResult<DeleteObjectOutput> {
        let deleted = self.run_blocking(request, objects::delete).await;
        deleted.map(|done| done.map_output(|()| DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> ApiResult<DeleteObjectsOutput> {
        self.run_blocking(request, objects::delete_many).await
    }

    async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> ApiResult<GetObjectAttributesOutput> {
        objects::attributes_of(&self.store, &request.input).map(S3Response::new)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> ApiResult<CopyObjectOutput> {
        // The server library does not read the conditions on the destination.
        let conditions = WriteConditions::of_headers(&request.headers)?;
        self.run_blocking(request, move |store, input| copies::copy(store, input, &conditions)).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> ApiResult<CreateMultipartUploadOutput> {
        self.run_blocking(request, multipart::begin).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> ApiResult<UploadPartOutput> {
        multipart::put_part(Arc::clone(&self.store), request).await.map(S3Response::new)
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> ApiResult<UploadPartCopyOutput> {
        self.run_blocking(request, |store, input| copies::copy_part(store, &input)).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> ApiResult<CompleteMultipartUploadOutput> {
        self.run_blocking(request, multipart::complete).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> ApiResult<AbortMultipartUploadOutput> {
        let aborted = self.run_blocking(request, |store, input| multipart::abort(store, &input)).await;
        aborted.map(|done| done.map_output(|()| AbortMultipartUploadOutput::default()))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> ApiResult<GetObjectTaggingOutput> {
        let input = request.input;
        unsupported::check_version(input.version_id.as_deref())?;
        tags::get(&self.store, &input.bucket, &input.key).map(S3Response::new)
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> ApiResult<PutObjectTaggingOutput> {
        let put = |store: &Store, input: PutObjectTaggingInput| {
            unsupported::check_version(input.version_id.as_deref())?;
            store.set_tags(&input.bucket, &input.key, tags::from_document(input.tagging.tag_set)?)
        };
        self.run_blocking(request, put)
            .await
            .map(|done| done.map_output(|()| PutObjectTaggingOutput::default()))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> ApiResult<DeleteObjectTaggingOutput> {
        let delete = |store: &Store, input: DeleteObjectTaggingInput| {
            unsupported::check_version(input.version_id.as_deref())?;
            store.set_tags(&input.bucket, &input.key, Vec::new())
        };
        self.run_blocking(request, delete)
            .await
            .map(|done| done.map_output(|()| DeleteObjectTaggingOutput::default()))
    }
}
