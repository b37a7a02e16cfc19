//! Active health checks (P5): one task per endpoint, off the request path.
//!
//! A check is a GET on a separate connection, with the TLS, `Host` and signature of the bucket's requests. Only 2xx
//! is healthy: a 400 proves that a server listens, not that it works. The result goes to the pool, which decides.
//! Jitter spreads the checks of many gateways. Checks of an endpoint are sequential: an endpoint that hangs has one
//! waiting check, not many. The body of a healthy response is not inspected.

mod credential_check;
pub(crate) mod internal_call;
mod reachability;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use slog::{Logger, info, warn};
use thiserror::Error;
use tidegate_actors::{Action, EndpointId, MonitorHandle, OverloadActions, clock};
use tidegate_config::HealthCheckConfig;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::upstream::bucket::Bucket;
use crate::upstream::exchange::internal_request::InternalClient;
use crate::upstream::health::internal_call::{CallIdentity, InternalCall, InternalCallError, send};

/// Why a health check failed.
#[derive(Debug, Error)]
enum HealthCheckError {
    #[error("{0}")]
    Call(#[from] InternalCallError),
    #[error("no response within {0:?}")]
    Slow(Duration),
    #[error("the endpoint responded with status {0}")]
    Status(u16),
}

/// Checks that are left out for each one that is made, while the action `health_check_rate` is in force.
const LEFT_OUT: u32 = 3;

/// Leaves out checks while the action is in force.
#[derive(Debug, Default)]
struct CheckThinning {
    left_out: u32,
}

impl CheckThinning {
    /// Whether to leave this check out. In shadow mode it is only counted.
    fn leaves_out(&mut self, actions: &OverloadActions) -> bool {
        if actions.check(Action::HealthCheckRate).is_none() || self.left_out == LEFT_OUT {
            self.left_out = 0;
            return false;
        }
        self.left_out += 1;
        actions.applies(Action::HealthCheckRate)
    }
}

/// Starts the tasks of a bucket: checks of its endpoints and credentials, and connect probes. They hold the bucket until they are
/// aborted.
pub(crate) fn start(bucket: &Arc<Bucket>, log: &Logger, monitor: &MonitorHandle) -> Vec<JoinHandle<()>> {
    let upstream = &bucket.config.upstream;
    let checked = upstream.load_balancing.health_check.path.iter();
    let endpoints =
        checked.flat_map(|path| (0..upstream.endpoints.len()).map(move |at| (EndpointId(at), path)));
    let checks = endpoints.map(|(endpoint, path)| {
        let context = (log.clone(), monitor.clone());
        actix_rt::spawn(check_loop(Arc::clone(bucket), endpoint, path.clone(), context))
    });
    checks.chain(reachability::start(bucket, log)).chain(credential_check::start(bucket, log)).collect()
}

async fn check_loop(
    bucket: Arc<Bucket>,
    endpoint: EndpointId,
    path: String,
    (log, monitor): (Logger, MonitorHandle),
) {
    let HealthCheckConfig { interval, timeout: check_timeout, .. } =
        &bucket.config.upstream.load_balancing.health_check;
    let http = InternalClient::new(Arc::clone(&bucket.dialer), *check_timeout);
    let authority = bucket.config.upstream.endpoints[endpoint.0].authority.as_str();
    let (mut was_healthy, mut thinning) = (true, CheckThinning::default());
    // The first check runs soon after the start, so that an endpoint that is down is detected early.
    let mut pause = interval.mul_f64(0.1 * rand::rng().random::<f64>());
    loop {
        sleep(pause).await;
        if thinning.leaves_out(monitor.actions()) {
            pause = interval.mul_f64(0.9 + 0.2 * rand::rng().random::<f64>());
            continue;
        }
        let began = clock::now();
        let result = timeout(*check_timeout, check_once(&http, &bucket, endpoint, &path)).await;
        let outcome = result.unwrap_or(Err(HealthCheckError::Slow(*check_timeout)));
        pause = interval.mul_f64(0.9 + 0.2 * rand::rng().random::<f64>());
        if let Err(HealthCheckError::Call(error)) = &outcome
            && error.shortage().is_some()
        {
            // The endpoint was not called, so the check has no result.
            continue;
        }
        match &outcome {
            Err(error) if was_healthy => {
                warn!(log, "health check failed"; "bucket" => &bucket.name, "endpoint" => authority,
                    "error" => error.to_string());
            }
            Ok(()) if !was_healthy => {
                info!(log, "health check succeeded"; "bucket" => &bucket.name, "endpoint" => authority);
            }
            _ => {}
        }
        was_healthy = outcome.is_ok();
        bucket.pool.report_health_check(endpoint, was_healthy, began);
    }
}

async fn check_once(
    http: &InternalClient,
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
