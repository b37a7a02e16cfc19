//! Builds the configured buckets.

use std::collections::BTreeSet;
use std::sync::Arc;

use slog::Logger;
use tidegate_actors::{Actors, BucketId, Ids};
use tidegate_config::{BucketConfig, Config, DnsConfig, Endpoint, Identity};
use tokio::sync::Semaphore;

use super::StartError;
use crate::auth::AcceptedAuth;
use crate::auth::jwt::TokenVerifier;
use crate::http::cors_preflight;
use crate::process::{Process, Shared};
use crate::telemetry::metrics::reasons::ReasonScope;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::region_mismatch::SigningRegion;
use crate::upstream::connect::destination::Destination;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::credentials::RenewalTasks;
use crate::upstream::credentials::sources::CredentialSourceBuilder;
use crate::upstream::exchange::connection::ConnectionCounts;
use crate::upstream::headers::filter::RequestHeaderFilter;
use crate::upstream::rules::late_calls::LateCalls;
use crate::upstream::rules::store_clock::StoreClock;
use crate::upstream::rules::unanswered_calls::UnansweredCalls;

/// Configuration and shared parts from which buckets are built.
pub(super) struct BucketBuilder<'a> {
    pub(super) config: &'a Config,
    pub(super) ids: &'a Ids,
    pub(super) actors: &'a Actors,
    pub(super) tokens: Option<&'a TokenVerifier>,
    pub(super) process: &'a Process,
    /// The configuration that this one replaces.
    pub(super) current: Option<&'a Shared>,
}

impl BucketBuilder<'_> {
    /// Builds each configured bucket with the handles of its pool and breaker. Unchanged buckets are those of the current
    /// configuration.
    pub(super) fn build(&self) -> Result<Vec<Arc<Bucket>>, StartError> {
        let inputs = CommonInputs::of(self.config);
        let current = self.current.filter(|current| CommonInputs::of(&current.config) == inputs);
        let unchanged = |id: BucketId, bucket: &BucketConfig| {
            let own = current?.router.get(id)?;
            (own.config == *bucket).then(|| Arc::clone(own))
        };
        let scope = ReasonScope::of(self.config);
        let named = self.config.buckets.iter().zip(self.ids.buckets());
        named
            .map(|((name, bucket), (_, id))| match unchanged(id, bucket) {
                Some(own) => Ok(own),
                None => self.build_one(id, (name, bucket), scope),
            })
            .collect()
    }

    fn build_one(
        &self,
        id: BucketId,
        (name, bucket): (&String, &BucketConfig),
        scope: ReasonScope<'_>,
    ) -> Result<Arc<Bucket>, StartError> {
        let (config, kind, log, upstream) = (self.config, bucket.kind, &self.process.log, &bucket.upstream);
        let tls = |source| StartError::Tls { bucket: name.clone(), source };
        let dialer = Dialer::new(&upstream.endpoints, upstream, &config.dns);
        let mut sources =
            CredentialSourceBuilder { name, kind, upstream, config, log, renewals: RenewalTasks::default() };
        let credentials =
            sources.build().map_err(|source| StartError::Credentials { bucket: name.clone(), source })?;
        let accepted_auth = AcceptedAuth::from_config(bucket, self.tokens.map(|tokens| &tokens.locations));
        let metrics = self.process.metrics.bucket(name, (scope, bucket));
        Ok(Arc::new(Bucket {
            id,
            name: name.clone(),
            config: bucket.clone(),
            header_filter: client_headers(bucket, &accepted_auth, &credentials),
            accepted_auth,
            destinations: destinations(name, bucket)?,
            clocks: store_clocks(name, bucket, log),
            dialer: Arc::new(dialer.map_err(tls)?.with_log(name, log)),
            credentials,
            _renewals: sources.renewals,
            pool: self.actors.pool(id).clone(),
            breaker: self.actors.breaker(id).clone(),
            connections: ConnectionCounts::new(metrics.connections.reused_closed.clone()),
            metrics,
            late_calls: LateCalls::default(),
            unanswered_calls: UnansweredCalls::new(upstream.endpoints.len()),
            signing_region: SigningRegion::new(&upstream.region, name, log),
            preflight_permits: Arc::new(Semaphore::new(cors_preflight::preflights_max(bucket))),
        }))
    }
}

/// The parts of a configuration outside of its buckets from which every bucket is built.
#[derive(PartialEq)]
struct CommonInputs<'a> {
    dns: &'a DnsConfig,
    token_locations: Option<[Option<&'a str>; 3]>,
    /// The headers of all credentials, which no client may set.
    credential_headers: BTreeSet<&'a str>,
}

impl<'a> CommonInputs<'a> {
    fn of(config: &'a Config) -> Self {
        let all = config.buckets.values().flat_map(|bucket| &bucket.upstream.credentials_by_name);
        let header = |identity: &'a Identity| match identity {
            Identity::Header { name, .. } => Some(name.as_str()),
            Identity::Pair(_) | Identity::Container(_) => None,
        };
        let locations = config.jwt.as_ref();
        Self {
            dns: &config.dns,
            token_locations: locations
                .map(|jwt| [Some(jwt.header.as_str()), jwt.cookie.as_deref(), jwt.query.as_deref()]),
            credential_headers: all.filter_map(|one| header(&one.identity)).collect(),
        }
    }
}

fn client_headers(
    bucket: &BucketConfig,
    accepted_auth: &AcceptedAuth,
    credentials: &CredentialSource,
) -> Arc<RequestHeaderFilter> {
    let auth_headers = accepted_auth.auth_headers();
    let injected = credentials.injected().into_iter().flat_map(|injected| injected.removed_names());
    Arc::new(RequestHeaderFilter::of(bucket, auth_headers.iter().chain(injected)))
}

fn destinations(name: &str, bucket: &BucketConfig) -> Result<Vec<Destination>, StartError> {
    let parse = |endpoint: &Endpoint| {
        Destination::of(endpoint, bucket.upstream.sni).map_err(|source| StartError::Endpoint {
            bucket: name.to_owned(),
            endpoint: endpoint.url(),
            source,
        })
    };
    bucket.upstream.endpoints.iter().map(parse).collect()
}

fn store_clocks(name: &str, bucket: &BucketConfig, log: &Logger) -> Vec<StoreClock> {
    let clock = |endpoint: &Endpoint| {
        StoreClock::new(endpoint.is_tls() || endpoint.is_loopback(), name, &endpoint.authority, log)
    };
    bucket.upstream.endpoints.iter().map(clock).collect()
}
