//! Builds the configured buckets.

use std::sync::Arc;

use slog::Logger;
use tidegate_actors::{BreakerHandle, BucketId, PoolHandle};
use tidegate_config::{BucketConfig, Config, Endpoint};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::StartError;
use crate::auth::AcceptedAuth;
use crate::auth::jwt::TokenVerifier;
use crate::http::cors_preflight;
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::region_mismatch::SigningRegion;
use crate::upstream::connect::destination::Destination;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::credentials::sources::CredentialSourceBuilder;
use crate::upstream::headers::filter::RequestHeaderFilter;
use crate::upstream::rules::late_calls::LateCalls;
use crate::upstream::rules::store_clock::StoreClock;
use crate::upstream::rules::unanswered_calls::UnansweredCalls;

/// Configuration and shared parts from which buckets are built.
pub(super) struct BucketBuilder<'a> {
    pub(super) config: &'a Config,
    pub(super) tokens: Option<&'a TokenVerifier>,
    pub(super) metrics: &'a RequestMetrics,
    pub(super) log: &'a Logger,
}

impl BucketBuilder<'_> {
    /// Builds each configured bucket with the handles of its pool and breaker. The tasks that renew credentials are added to
    /// `background_tasks`.
    pub(super) fn build(
        &self,
        handles: impl Iterator<Item = (PoolHandle, BreakerHandle)>,
        background_tasks: &mut Vec<JoinHandle<()>>,
    ) -> Result<Vec<Bucket>, StartError> {
        let mut buckets = Vec::new();
        for (index, ((name, bucket), (pool, breaker))) in self.config.buckets.iter().zip(handles).enumerate()
        {
            let id = BucketId::new(u16::try_from(index).map_err(|_| StartError::TooManyBuckets)?);
            let tls = |source| StartError::Tls { bucket: name.clone(), source };
            let upstream = &bucket.upstream;
            let dialer = Dialer::new(&upstream.endpoints, upstream, &self.config.dns);
            let (config, kind, log) = (self.config, bucket.kind, self.log);
            let mut sources = CredentialSourceBuilder { name, kind, upstream, config, log, background_tasks };
            let credentials =
                sources.build().map_err(|source| StartError::Credentials { bucket: name.clone(), source })?;
            let accepted_auth =
                AcceptedAuth::from_config(bucket, self.tokens.map(|tokens| &tokens.locations));
            buckets.push(Bucket {
                id,
                name: name.clone(),
                config: bucket.clone(),
                header_filter: client_headers(bucket, &accepted_auth, &credentials),
                accepted_auth,
                destinations: destinations(name, bucket)?,
                clocks: store_clocks(name, bucket, self.log),
                dialer: Arc::new(dialer.map_err(tls)?.with_log(name, self.log)),
                credentials,
                pool,
                breaker,
                metrics: self.metrics.bucket(name, (config, bucket)),
                late_calls: LateCalls::default(),
                unanswered_calls: UnansweredCalls::new(upstream.endpoints.len()),
                signing_region: SigningRegion::new(&upstream.region, name, self.log),
                preflight_permits: Arc::new(Semaphore::new(cors_preflight::preflights_max(bucket))),
            });
        }
        Ok(buckets)
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
    let parse = |(number, endpoint): (usize, &Endpoint)| {
        Destination::of(endpoint, number, bucket.upstream.sni).map_err(|source| StartError::Endpoint {
            bucket: name.to_owned(),
            endpoint: endpoint.url(),
            source,
        })
    };
    bucket.upstream.endpoints.iter().enumerate().map(parse).collect()
}

fn store_clocks(name: &str, bucket: &BucketConfig, log: &Logger) -> Vec<StoreClock> {
    let clock = |endpoint: &Endpoint| {
        StoreClock::new(endpoint.is_tls() || endpoint.is_loopback(), name, &endpoint.authority, log)
    };
    bucket.upstream.endpoints.iter().map(clock).collect()
}
