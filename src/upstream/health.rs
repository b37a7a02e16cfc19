//! Asking endpoints whether they are well (P5): one task per endpoint, off the request path.
//!
//! A check is a GET on a connection of its own, secured, named and signed as the bucket's requests are. Only an answer of 2xx is
//! healthy: a 400 says that somebody listens, not that it works. What a check found is told to the pool, which decides. Checks are
//! spread by jitter, so that many gateways do not ask at the same moment, and one follows the other: an endpoint that hangs has one
//! check waiting, not many.
//!
//! Deliberately absent: looking at the body of a healthy answer.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use slog::{info, warn};
use thiserror::Error;
use tidegate_actors::{BucketId, EndpointId, clock};
use tidegate_config::HealthCheckConfig;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::router::Bucket;
use crate::upstream::client;
use crate::upstream::internal_call::{CallIdentity, InternalCall, InternalCallError, send};
use crate::worker::Shared;

/// Why an endpoint is not well.
#[derive(Debug, Error)]
enum HealthCheckError {
    #[error("{0}")]
    Call(#[from] InternalCallError),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("it answered {0}")]
    Status(u16),
}

/// Begins to check every endpoint that is to be checked.
pub(crate) fn start(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for bucket in shared.router.buckets() {
        let upstream = &bucket.config.upstream;
        if let Some(path) = &upstream.load_balancing.health_check.path {
            let checks = (0..upstream.endpoints.len()).map(EndpointId).map(|endpoint| {
                actix_rt::spawn(check_loop(Arc::clone(shared), bucket.id, endpoint, path.clone()))
            });
            tasks.extend(checks);
        }
    }
    tasks
}

async fn check_loop(shared: Arc<Shared>, bucket: BucketId, endpoint: EndpointId, path: String) {
    let bucket = shared.router.bucket(bucket);
    let HealthCheckConfig { interval, timeout: check_timeout, .. } =
        &bucket.config.upstream.load_balancing.health_check;
    let http = client::internal_client(Arc::clone(&bucket.dialer), *check_timeout);
    let authority = bucket.config.upstream.endpoints[endpoint.0].authority.as_str();
    let mut was_healthy = true;
    // The first check follows the start at once, give or take: an endpoint that is down is known early.
    let mut pause = interval.mul_f64(0.1 * rand::rng().random::<f64>());
    loop {
        sleep(pause).await;
        let began = clock::now();
        let asked = timeout(*check_timeout, check_once(&http, bucket, endpoint, &path)).await;
        let answer = asked.unwrap_or(Err(HealthCheckError::Slow(*check_timeout)));
        pause = interval.mul_f64(0.9 + 0.2 * rand::rng().random::<f64>());
        if let Err(HealthCheckError::Call(error)) = &answer
            && error.shortage().is_some()
        {
            // The endpoint was not asked, so nothing is known of it.
            continue;
        }
        match &answer {
            Err(why) if was_healthy => {
                warn!(shared.log, "health check failed"; "bucket" => &bucket.name, "endpoint" => authority,
                    "error" => why.to_string());
            }
            Ok(()) if !was_healthy => {
                info!(shared.log, "health check succeeded"; "bucket" => &bucket.name, "endpoint" => authority);
            }
            _ => {}
        }
        was_healthy = answer.is_ok();
        bucket.pool.report_health_check(endpoint, was_healthy, began);
    }
}

async fn check_once(
    http: &awc::Client,
    bucket: &Bucket,
    endpoint: EndpointId,
    path: &str,
) -> Result<(), HealthCheckError> {
    let identity =
        bucket.pool.any_credential(clock::now()).map_or(CallIdentity::Bucket, CallIdentity::Credential);
    let call = InternalCall { bucket, endpoint, target: path, host_bucket: None, identity };
    match send(http, call).await?.status {
        200..=299 => Ok(()),
        status => Err(HealthCheckError::Status(status)),
    }
}
