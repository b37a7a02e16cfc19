//! Routes a bucket name of a request to a configured bucket.
//!
//! Exact names are looked up first. Globs are tried from the most literal characters to the fewest, so the narrowest
//! pattern wins in any order of the configuration. State is kept per configured bucket, so names that clients invent
//! under a glob use no memory. `s3/addressing.rs` finds the name in the Host or in the path.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_actors::{BreakerHandle, BucketId, CredentialId, EndpointId, PoolHandle};
use tidegate_config::{BucketConfig, Pattern, is_bucket_name};
use tokio::sync::Semaphore;

use crate::auth::{AcceptedAuth, BucketAuth};
use crate::telemetry::metrics::BucketMetrics;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::destination::Destination;
use crate::upstream::dialer::Dialer;
use crate::upstream::header_filter::RequestHeaderFilter;
use crate::upstream::late_calls::LateCalls;
use crate::upstream::store_clock::StoreClock;

/// Why no bucket matches a request.
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
    /// The ways of authentication that it accepts.
    pub(crate) accepted_auth: AcceptedAuth,
    /// The client's headers that are forwarded to its upstream.
    pub(crate) header_filter: Arc<RequestHeaderFilter>,
    /// The address of each endpoint, in the order of the configuration.
    pub(crate) destinations: Vec<Destination>,
    /// The clock of each endpoint, in the same order.
    pub(crate) clocks: Vec<StoreClock>,
    pub(crate) dialer: Arc<Dialer>,
    /// The credentials that sign its requests.
    pub(crate) credentials: CredentialSource,
    pub(crate) pool: PoolHandle,
    pub(crate) breaker: BreakerHandle,
    pub(crate) metrics: BucketMetrics,
    pub(crate) late_calls: LateCalls,
    /// Permits for preflights at its store.
    pub(crate) preflight_permits: Arc<Semaphore>,
}

impl Bucket {
    /// The clock of an endpoint.
    pub(crate) fn clock(&self, endpoint: EndpointId) -> &StoreClock {
        &self.clocks[endpoint.0]
    }

    /// The parts that authentication and authorization read.
    pub(crate) fn auth(&self) -> BucketAuth<'_> {
        BucketAuth { config: &self.config, accepted_auth: &self.accepted_auth }
    }

    /// The name of a credential (C4).
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
        let accepted_auth = AcceptedAuth::union(buckets.iter().map(|bucket| &bucket.accepted_auth));
        Self { buckets, accepted_auth, exact, globs }
    }

    /// Finds the bucket for a client's bucket name, which is decoded. Text that is not a bucket name matches no glob.
    pub(crate) fn route(&self, name: &str) -> Result<&Bucket, RouteRejection> {
        if name.is_empty() {
            return Err(RouteRejection::NoBucket);
        }
        let found = self.exact.get(name).or_else(|| self.glob(name)).map(|id| self.bucket(*id));
        found.ok_or_else(|| RouteRejection::NoSuchBucket(name.chars().take(128).collect()))
    }

    /// Whether a client's bucket name routes to this bucket.
    pub(crate) fn routes_to(&self, name: &str, id: BucketId) -> bool {
        self.route(name).is_ok_and(|routed| routed.id == id)
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

    /// The ways of authentication that any bucket accepts.
    pub(crate) fn accepted_auth(&self) -> &AcceptedAuth {
        &self.accepted_auth
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }
}
