//! From a request's path to a configured bucket.
//!
//! Exact names are a look-up; globs are tried from the most literal characters to the fewest, so the narrowest
//! pattern wins whatever the order of the configuration. State is kept per configured bucket, so names a client
//! invents under a glob grow nothing. Deliberately absent: routing by Host.

use std::collections::HashMap;

use actix_web::http::uri::Authority;
use tidegate_actors::{BucketId, PoolHandle};
use tidegate_config::{BucketConfig, Pattern};

use crate::telemetry::metrics::BucketMetrics;

/// Why no bucket takes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteRejection {
    /// No configured bucket has this name.
    NoSuchBucket(String),
    /// The path is `/`.
    NoBucket,
}

/// A bucket with everything the request path needs of it.
pub(crate) struct Bucket {
    pub(crate) id: BucketId,
    pub(crate) name: String,
    pub(crate) config: BucketConfig,
    /// Whose `Host` and connection an endpoint is.
    pub(crate) authorities: Vec<Authority>,
    pub(crate) pool: PoolHandle,
    pub(crate) metrics: BucketMetrics,
}

/// All buckets.
pub(crate) struct Router {
    buckets: Vec<Bucket>,
    exact: HashMap<String, BucketId>,
    globs: Vec<(Pattern, BucketId)>,
}

impl Router {
    pub(crate) fn new(buckets: Vec<Bucket>) -> Self {
        let mut exact = HashMap::new();
        let mut globs = Vec::new();
        for bucket in &buckets {
            let pattern = &bucket.config.pattern;
            if pattern.is_exact() {
                exact.insert(pattern.as_str().to_owned(), bucket.id);
            } else {
                globs.push((pattern.clone(), bucket.id));
            }
        }
        globs.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.literal_len()));
        Self { buckets, exact, globs }
    }

    /// The bucket that a client's bucket name stands for.
    pub(crate) fn route(&self, name: &str) -> Result<&Bucket, RouteRejection> {
        if name.is_empty() {
            return Err(RouteRejection::NoBucket);
        }
        let legal =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let no_such = || RouteRejection::NoSuchBucket(name.chars().take(128).collect());
        if !legal {
            return Err(no_such());
        }
        let glob = || self.globs.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, id)| id);
        self.exact.get(name).or_else(glob).map(|id| self.bucket(*id)).ok_or_else(no_such)
    }

    pub(crate) fn bucket(&self, id: BucketId) -> &Bucket {
        &self.buckets[id.index()]
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
}
