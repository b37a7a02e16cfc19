//! Routes a bucket name of a request to a configured bucket.
//!
//! Exact names are looked up first. Globs are tried from the most literal characters to the fewest, so the narrowest
//! pattern wins in any order of the configuration. State is kept per configured bucket, so names that clients invent
//! under a glob use no memory. `s3/src/addressing.rs` finds the name in the Host or in the path.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_actors::{BucketId, IdMap};
use tidegate_config::Pattern;
use tidegate_s3::bucket_name::is_bucket_name;

use crate::auth::AcceptedAuth;
use crate::upstream::bucket::Bucket;

/// Why no bucket matches a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteRejection {
    /// No configured bucket has this name.
    NoSuchBucket(String),
    /// The path is `/`.
    NoBucket,
}

/// All buckets.
pub(crate) struct Router {
    /// In the order of the configuration.
    buckets: Vec<Arc<Bucket>>,
    by_id: IdMap<BucketId, Arc<Bucket>>,
    accepted_auth: AcceptedAuth,
    exact: HashMap<String, BucketId>,
    globs: Vec<(Pattern, BucketId)>,
}

impl Router {
    pub(crate) fn new(buckets: Vec<Arc<Bucket>>) -> Self {
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
        let by_id = buckets.iter().map(|bucket| (bucket.id, Arc::clone(bucket))).collect();
        Self { buckets, by_id, accepted_auth, exact, globs }
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

    /// The bucket of an ID that this router has given.
    pub(crate) fn bucket(&self, id: BucketId) -> &Bucket {
        &self.by_id[id]
    }

    /// The bucket of any ID; none if the configuration lacks it.
    pub(crate) fn get(&self, id: BucketId) -> Option<&Arc<Bucket>> {
        self.by_id.get(id)
    }

    /// The ways of authentication that any bucket accepts.
    pub(crate) fn accepted_auth(&self) -> &AcceptedAuth {
        &self.accepted_auth
    }

    /// All buckets, in the order of the configuration.
    pub(crate) fn buckets(&self) -> &[Arc<Bucket>] {
        &self.buckets
    }
}
