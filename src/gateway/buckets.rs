//! Builds the configured buckets.

use std::sync::Arc;

use slog::Logger;
use tidegate_actors::{BreakerHandle, BucketId, PoolHandle};
use tidegate_config::{BucketConfig, Config, Endpoint};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::StartError;
use crate::auth::Proofs;
use crate::auth::jwt::Tokens;
use crate::http::preflight;
use crate::router::Bucket;
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::credentials::Source;
use crate::upstream::credentials::sources::Sources;
use crate::upstream::destination::Destination;
use crate::upstream::dial::Dialer;
use crate::upstream::headers::ClientHeaders;
use crate::upstream::late::LateCalls;
use crate::upstream::store_clock::StoreClock;

/// What buckets are built from.
pub(super) struct BucketParts<'a> {
    pub(super) config: &'a Config,
    pub(super) tokens: Option<&'a Tokens>,
    pub(super) metrics: &'a RequestMetrics,
    pub(super) log: &'a Logger,
}

impl BucketParts<'_> {
    /// The configured buckets, each with the handles of its pool and breaker. The tasks that renew credentials are
    /// added to `background_tasks`.
    pub(super) fn buckets(
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
            let mut sources = Sources { name, kind, upstream, config, log, chores: background_tasks };
            let credentials =
                sources.make().map_err(|source| StartError::Credentials { bucket: name.clone(), source })?;
            let proofs = Proofs::of(bucket, self.tokens.map(|tokens| &tokens.places));
            buckets.push(Bucket {
                id,
                name: name.clone(),
                config: bucket.clone(),
                client_headers: client_headers(bucket, &proofs, &credentials),
                proofs,
                destinations: destinations(name, bucket)?,
                clocks: clocks(name, bucket, self.log),
                dialer: Arc::new(dialer.map_err(tls)?.logging(name, self.log)),
                credentials,
                pool,
                breaker,
                metrics: self.metrics.bucket(name),
                late: LateCalls::default(),
                preflights: Arc::new(Semaphore::new(preflight::places(bucket))),
            });
        }
        Ok(buckets)
    }
}

fn client_headers(bucket: &BucketConfig, proofs: &Proofs, credentials: &Source) -> Arc<ClientHeaders> {
    let of_proofs = proofs.headers();
    let injected = credentials.injected().into_iter().flat_map(|injected| injected.names());
    Arc::new(ClientHeaders::of(bucket, of_proofs.iter().chain(injected)))
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

fn clocks(name: &str, bucket: &BucketConfig, log: &Logger) -> Vec<StoreClock> {
    let clock = |endpoint: &Endpoint| {
        StoreClock::new(endpoint.is_tls() || endpoint.is_loopback(), name, &endpoint.authority, log)
    };
    bucket.upstream.endpoints.iter().map(clock).collect()
}
