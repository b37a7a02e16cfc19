//! From the bucket a request names to a configured one.
//!
//! Exact names are a look-up; globs are tried from the most literal characters to the fewest, so the narrowest
//! pattern wins whatever the order of the configuration. State is kept per configured bucket, so names a client
//! invents under a glob grow nothing. Where the name
//! stands, in the Host or in the path, is `s3/naming.rs`'s to say.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_actors::{BreakerHandle, BucketId, CredentialId, EndpointId, PoolHandle};
use tidegate_config::{BucketConfig, Pattern, is_bucket_name};
use tokio::sync::Semaphore;

use crate::auth::AcceptedAuth;
use crate::telemetry::metrics::BucketMetrics;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::destination::Destination;
use crate::upstream::dialer::Dialer;
use crate::upstream::header_filter::RequestHeaderFilter;
use crate::upstream::late_calls::LateCalls;
use crate::upstream::store_clock::StoreClock;

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
    /// What counts as proof of identity in it.
    pub(crate) accepted_auth: AcceptedAuth,
    /// Which of a client's headers travel to its upstream.
    pub(crate) header_filter: Arc<RequestHeaderFilter>,
    /// Where each endpoint is, in the order of the configuration.
    pub(crate) destinations: Vec<Destination>,
    /// The clock of each endpoint, in the same order.
    pub(crate) clocks: Vec<StoreClock>,
    pub(crate) dialer: Arc<Dialer>,
    /// As whom its requests are signed.
    pub(crate) credentials: CredentialSource,
    pub(crate) pool: PoolHandle,
    pub(crate) breaker: BreakerHandle,
    pub(crate) metrics: BucketMetrics,
    pub(crate) late_calls: LateCalls,
    /// Places for preflights at its store.
    pub(crate) preflight_permits: Arc<Semaphore>,
}

impl Bucket {
    /// The clock of an endpoint.
    pub(crate) fn clock(&self, endpoint: EndpointId) -> &StoreClock {
        &self.clocks[endpoint.0]
    }

    /// What a credential is called (C4).
    pub(crate) fn credential(&self, id: CredentialId) -> Option<&str> {
        self.config.upstream.credentials_by_name.get(id.0).map(|credential| credential.name.as_str())
    }
}

/// All buckets.
pub(crate) struct Router {
    buckets: Vec<Bucket>,
    accepted_auth: AcceptedAuth,
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
        let proofs = AcceptedAuth::union(buckets.iter().map(|bucket| &bucket.accepted_auth));
        Self { buckets, accepted_auth: proofs, exact, globs }
    }

    /// The bucket that a client's bucket name, decoded, stands for. Text that is no bucket name stands for none.
    pub(crate) fn route(&self, name: &str) -> Result<&Bucket, RouteRejection> {
        if name.is_empty() {
            return Err(RouteRejection::NoBucket);
        }
        let found = self.exact.get(name).or_else(|| self.glob(name)).map(|id| self.bucket(*id));
        found.ok_or_else(|| RouteRejection::NoSuchBucket(name.chars().take(128).collect()))
    }

    fn glob(&self, name: &str) -> Option<&BucketId> {
        if !is_bucket_name(name) {
            return None;
        }
        self.globs.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, id)| id)
    }

    pub(crate) fn bucket(&self, id: BucketId) -> &Bucket {
        &self.buckets[id.index()]
    }

    /// Every proof that some bucket takes.
    pub(crate) fn accepted_auth(&self) -> &AcceptedAuth {
        &self.accepted_auth
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
}
