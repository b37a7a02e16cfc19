//! Connect probes: detects when an upstream that could not be connected to is reachable again. One task per bucket
//! with `connect_probe_interval`.
//!
//! The task sleeps until the breaker opens a circuit because connects failed. Then it opens a TCP connection to one
//! endpoint after the other and closes it, one at a time, with jitter so that many gateways do not probe at the same
//! moment. The first success is reported to the pool, which uses that endpoint again, and then to the breaker, which
//! half-opens the circuit and decides by its trials (`actors/src/breaker/connect_probe.rs` has the limits). For an
//! https endpoint the TCP handshake is enough: the probe only tests whether a server listens.
//!
//! Healthy upstreams are not probed, and other failures are not either: health checks are for those.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use slog::{Logger, info};
use tidegate_actors::{EndpointId, clock};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::shortage::Shortage;
use crate::upstream::bucket::Bucket;

/// Starts the task of a bucket that probes.
pub(super) fn start(bucket: &Arc<Bucket>, log: &Logger) -> Option<JoinHandle<()>> {
    let interval = bucket.config.upstream.circuit_breaker.connect_probe_interval?;
    Some(actix_rt::spawn(probe_loop(Arc::clone(bucket), interval, log.clone())))
}

async fn probe_loop(bucket: Arc<Bucket>, interval: Duration, log: Logger) {
    let mut endpoints_in_turn = (0..bucket.config.upstream.endpoints.len()).map(EndpointId).cycle();
    loop {
        bucket.breaker.wait_for_probe().await;
        for endpoint in &mut endpoints_in_turn {
            sleep(interval.mul_f64(0.9 + 0.2 * rand::rng().random::<f64>())).await;
            if !probe(&bucket, endpoint, &log).await {
                break;
            }
        }
    }
}

/// Probes one endpoint. Returns false if no circuit waits any more.
async fn probe(bucket: &Bucket, endpoint: EndpointId, log: &Logger) -> bool {
    let began = clock::now();
    let unreached = bucket.breaker.probed_circuits(began);
    if unreached.is_empty() {
        return false;
    }
    let Some(is_reached) = test_connect(bucket, endpoint).await else { return true };
    bucket.metrics.count_probe(is_reached);
    if is_reached {
        let authority = &bucket.config.upstream.endpoints[endpoint.0].authority;
        info!(log, "endpoint can be connected to again"; "bucket" => &bucket.name,
            "endpoint" => authority.as_str());
        bucket.pool.report_connected(endpoint, began);
        for circuit in unreached {
            // Without a reply of the breaker the circuit keeps waiting, and the next probe reports again.
            let _ = bucket.breaker.report_connected(circuit).await;
        }
    }
    true
}

/// Whether a connection to the endpoint succeeds. None if the gateway itself lacked the resources for it. The timeout
/// is a share of the connect timeout, so that an endpoint that does not respond leaves time for the others.
async fn test_connect(bucket: &Bucket, endpoint: EndpointId) -> Option<bool> {
    let upstream = &bucket.config.upstream;
    let endpoints = u32::try_from(upstream.endpoints.len()).unwrap_or(u32::MAX).max(1);
    let to = &upstream.endpoints[endpoint.0];
    let connecting = bucket.dialer.test_connect(&to.host, to.port);
    match timeout(upstream.connect_timeout / endpoints, connecting).await {
        Ok(Err(error)) if Shortage::of(&error).is_some() => None,
        reached => Some(matches!(reached, Ok(Ok(())))),
    }
}
