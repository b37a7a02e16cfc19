//! Warnings about endpoints with the bucket's own name in their path.

use crate::bucket::{Addressing, BucketConfig, Kind};
use crate::schema::Section;
use crate::{Config, Endpoint};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    for (name, bucket) in &config.buckets {
        repeated_bucket(root, name, bucket);
    }
}

/// A path of an endpoint that ends with the bucket, to which path-style requests add the bucket once more.
fn repeated_bucket(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let upstream = &bucket.upstream;
    if bucket.kind != Kind::S3 || upstream.addressing != Addressing::Path {
        return;
    }
    let exact = bucket.pattern.is_exact().then(|| bucket.pattern.as_str());
    let Some(at_store) = upstream.bucket.as_deref().or(exact) else { return };
    let ends_with_bucket = |endpoint: &&Endpoint| {
        endpoint.path_prefix.rsplit_once('/').is_some_and(|(_, last)| last == at_store)
    };
    if let Some(endpoint) = upstream.endpoints.iter().find(ends_with_bucket) {
        let message = format!(
            "{} ends with the bucket, which path-style requests add again: they go to {}/{at_store}",
            endpoint.url(),
            endpoint.path_prefix
        );
        let mut section = root.within(&["buckets", name, "s3"]);
        section.warn("endpoints", message, "remove the bucket from the URL".to_owned());
    }
}
