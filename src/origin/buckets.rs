//! Operations on buckets.

use s3s::dto::{Bucket, CreateBucketInput, CreateBucketOutput, ListBucketsInput, ListBucketsOutput, Owner};
use s3s::{S3Result, s3_error};

use super::store::Store;
use super::unsupported::{check_acl, not_implemented, refuse_set};

/// S3's largest page of buckets.
const PAGE_BUCKETS_MAX: i32 = 10_000;

pub(super) fn owner() -> Owner {
    let name = "tidegate".to_owned();
    Owner { display_name: Some(name.clone()), id: Some(name) }
}

pub(super) fn create(store: &Store, input: &CreateBucketInput) -> S3Result<CreateBucketOutput> {
    refuse_set!(input, grant_full_control, grant_read, grant_read_acp, grant_write, grant_write_acp);
    check_acl(input.acl.as_ref().map(|acl| acl.as_str()))?;
    if input.object_lock_enabled_for_bucket == Some(true) {
        return Err(not_implemented("object_lock_enabled_for_bucket"));
    }
    store.create_bucket(&input.bucket)?;
    Ok(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) })
}

pub(super) fn list(store: &Store, input: &ListBucketsInput) -> S3Result<ListBucketsOutput> {
    let items_max = input.max_buckets.unwrap_or(PAGE_BUCKETS_MAX);
    let items_max = usize::try_from(items_max).ok().filter(|items| (1..=10_000).contains(items));
    let items_max = items_max.ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be 1 to 10000"))?;
    let (prefix, after) =
        (input.prefix.as_deref().unwrap_or(""), input.continuation_token.as_deref().unwrap_or(""));
    let mut buckets = store.buckets(|name, bucket| Bucket {
        bucket_region: None,
        creation_date: Some(bucket.created.clone()),
        name: Some(name.to_owned()),
    });
    let name = |bucket: &Bucket| bucket.name.clone().unwrap_or_default();
    buckets.retain(|bucket| name(bucket).starts_with(prefix) && name(bucket).as_str() > after);
    let is_truncated = buckets.len() > items_max;
    buckets.truncate(items_max);
    Ok(ListBucketsOutput {
        continuation_token: buckets.last().filter(|_| is_truncated).map(name),
        buckets: Some(buckets),
        owner: Some(owner()),
        prefix: input.prefix.clone(),
    })
}
