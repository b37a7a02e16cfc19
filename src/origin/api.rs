//! S3's operations, each with the module that does it.
//!
//! The server library reads requests, verifies signatures and writes answers. An operation that is not here is 501
//! `NotImplemented` there. What waits for the disk runs on a blocking thread.

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

type Answer<T> = S3Result<S3Response<T>>;

impl Api {
    /// Runs an operation on a blocking thread.
    async fn run<I: Send + 'static, O: Send + 'static>(
        &self,
        request: S3Request<I>,
        operation: impl FnOnce(&Store, I) -> S3Result<O> + Send + 'static,
    ) -> Answer<O> {
        let store = Arc::clone(&self.store);
        let input = request.input;
        blocking(move || operation(&store, input)).await.map(S3Response::new)
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        buckets::list(&self.store, &request.input).map(S3Response::new)
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.run(request, |store, input| buckets::create(store, &input)).await
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let delete = |store: &Store, input: DeleteBucketInput| store.delete_bucket(&input.bucket);
        self.run(request, delete).await.map(|done| done.map_output(|()| DeleteBucketOutput::default()))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.store.in_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.store.in_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    /// Never enabled.
    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        self.store.in_bucket(&request.input.bucket, |_| Ok(S3Response::new(Default::default())))
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        pages::objects(&self.store, request.input).map(S3Response::new)
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        pages::objects_v2(&self.store, request.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        pages::uploads(&self.store, request.input).map(S3Response::new)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        pages::parts(&self.store, request.input).map(S3Response::new)
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        objects::put(Arc::clone(&self.store), request).await.map(S3Response::new)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        objects::get(&self.store, request).await.map(S3Response::new)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        objects::head(&self.store, &request).map(S3Response::new)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let deleted = self.run(request, objects::delete).await;
        deleted.map(|done| done.map_output(|()| DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        self.run(request, objects::delete_many).await
    }

    async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        objects::attributes_of(&self.store, &request.input).map(S3Response::new)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        // The server library does not read the conditions on the destination.
        let conditions = WriteConditions::of_headers(&request.headers)?;
        self.run(request, move |store, input| copies::copy(store, input, &conditions)).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.run(request, multipart::begin).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        multipart::put_part(Arc::clone(&self.store), request).await.map(S3Response::new)
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        self.run(request, |store, input| copies::copy_part(store, &input)).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.run(request, multipart::complete).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let aborted = self.run(request, |store, input| multipart::abort(store, &input)).await;
        aborted.map(|done| done.map_output(|()| AbortMultipartUploadOutput::default()))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        let input = request.input;
        unsupported::check_version(input.version_id.as_deref())?;
        tags::get(&self.store, &input.bucket, &input.key).map(S3Response::new)
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        let put = |store: &Store, input: PutObjectTaggingInput| {
            unsupported::check_version(input.version_id.as_deref())?;
            store.tag(&input.bucket, &input.key, tags::of_document(input.tagging.tag_set)?)
        };
        self.run(request, put).await.map(|done| done.map_output(|()| PutObjectTaggingOutput::default()))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> Answer<DeleteObjectTaggingOutput> {
        let delete = |store: &Store, input: DeleteObjectTaggingInput| {
            unsupported::check_version(input.version_id.as_deref())?;
            store.tag(&input.bucket, &input.key, Vec::new())
        };
        self.run(request, delete).await.map(|done| done.map_output(|()| DeleteObjectTaggingOutput::default()))
    }
}
