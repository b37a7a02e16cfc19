//! A configured bucket with everything that requests need of it: configuration, addresses, credentials, and the handles of its actors.

pub(crate) mod call_resources;
pub(crate) mod client;
pub(crate) mod failure_attribution;
pub(crate) mod region;
pub(crate) mod region_mismatch;

use std::sync::Arc;

use tidegate_actors::{BreakerHandle, BucketId, CredentialId, EndpointId, PoolHandle};
use tidegate_config::BucketConfig;
use tokio::sync::Semaphore;

use crate::auth::{AcceptedAuth, BucketAuth};
use crate::telemetry::metrics::BucketMetrics;
use crate::upstream::bucket::region_mismatch::SigningRegion;
use crate::upstream::connect::destination::Destination;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::credentials::{CredentialSource, RenewalTasks};
use crate::upstream::exchange::connection::ConnectionCounts;
use crate::upstream::headers::filter::RequestHeaderFilter;
use crate::upstream::rules::late_calls::LateCalls;
use crate::upstream::rules::store_clock::StoreClock;
use crate::upstream::rules::unanswered_calls::UnansweredCalls;

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
    /// The tasks that renew its credentials. They end with the bucket.
    pub(crate) _renewals: RenewalTasks,
    pub(crate) pool: PoolHandle,
    pub(crate) breaker: BreakerHandle,
    pub(crate) metrics: BucketMetrics,
    /// Its open and idle connections, on all threads.
    pub(crate) connections: ConnectionCounts,
    pub(crate) late_calls: LateCalls,
    pub(crate) unanswered_calls: UnansweredCalls,
    pub(crate) signing_region: SigningRegion,
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
