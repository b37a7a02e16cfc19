//! Asking endpoints whether they are well (P5): one task per endpoint, off the request path.
//!
//! A check is a GET on a connection of its own, secured, named and signed as the bucket's requests are. Only an answer of 2xx is
//! healthy: a 400 says that somebody listens, not that it works. What a check found is told to the pool, which decides. Checks are
//! spread by jitter, so that many gateways do not ask at the same moment, and one follows the other: an endpoint that hangs has one
//! check waiting, not many.
//!
//! Deliberately absent: looking at the answer's body.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::uri::{self, PathAndQuery, Scheme};
use awc::error::SendRequestError;
use rand::Rng;
use slog::{info, warn};
use thiserror::Error;
use tidegate_actors::{BucketId, EndpointId, clock};
use tidegate_config::{Addressing, HealthCheckConfig, Kind};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::router::Bucket;
use crate::s3::sign::{CONTENT_SHA256, EMPTY_SHA256, Signer};
use crate::upstream::UpstreamRejection;
use crate::upstream::client;
use crate::worker::Shared;

/// Why an endpoint is not well.
#[derive(Debug, Error)]
enum Unwell {
    #[error("{0}")]
    Call(#[from] SendRequestError),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("it answered {0}")]
    Status(u16),
    #[error("it cannot be asked: {0}")]
    Unsigned(&'static str),
    #[error("the path cannot be asked for")]
    Path,
}

/// Begins to check every endpoint that is to be checked.
pub(crate) fn begin(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for bucket in shared.router.buckets() {
        let upstream = &bucket.config.upstream;
        if let Some(path) = &upstream.rotation.health_check.path {
            let checks = (0..upstream.endpoints.len()).map(EndpointId).map(|endpoint| {
                actix_rt::spawn(check_for_ever(Arc::clone(shared), bucket.id, endpoint, path.clone()))
            });
            tasks.extend(checks);
        }
    }
    tasks
}

async fn check_for_ever(shared: Arc<Shared>, bucket: BucketId, endpoint: EndpointId, path: String) {
    let bucket = shared.router.bucket(bucket);
    let HealthCheckConfig { interval, timeout: patience, .. } = &bucket.config.upstream.rotation.health_check;
    let http = client::bare(Arc::clone(&bucket.dialer), *patience);
    let authority = bucket.config.upstream.endpoints[endpoint.0].authority.as_str();
    let mut was_well = true;
    // The first check follows the start at once, give or take: an endpoint that is down is known early.
    let mut pause = interval.mul_f64(0.1 * rand::rng().random::<f64>());
    loop {
        sleep(pause).await;
        let began = clock::now();
        let asked = timeout(*patience, ask(&http, bucket, endpoint, &path)).await;
        let answer = asked.unwrap_or(Err(Unwell::Slow(*patience)));
        match &answer {
            Err(why) if was_well => {
                warn!(shared.log, "health check failed"; "bucket" => &bucket.name, "endpoint" => authority,
                    "error" => why.to_string());
            }
            Ok(()) if !was_well => {
                info!(shared.log, "health check succeeded"; "bucket" => &bucket.name, "endpoint" => authority);
            }
            _ => {}
        }
        was_well = answer.is_ok();
        bucket.pool.checked(endpoint, was_well, began);
        pause = interval.mul_f64(0.9 + 0.2 * rand::rng().random::<f64>());
    }
}

async fn ask(http: &awc::Client, bucket: &Bucket, endpoint: EndpointId, path: &str) -> Result<(), Unwell> {
    let destination = &bucket.destinations[endpoint.0];
    let target: PathAndQuery = path.parse().map_err(|_| Unwell::Path)?;
    let mut parts = uri::Parts::default();
    // The dialer knows which of its endpoints speak TLS.
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(destination.connection.clone());
    parts.path_and_query = Some(target.clone());
    let uri = Uri::from_parts(parts).map_err(|_| Unwell::Path)?;
    let mut request = http.get(uri).no_decompress().force_close();
    let host = destination.host(Addressing::Path, "").map_err(|_| Unwell::Path)?;
    request.headers_mut().insert(header::HOST, host);
    let credential = bucket.pool.any_credential(clock::now());
    if let Some((injected, credential)) = bucket.credentials.injected().zip(credential) {
        injected.add(credential, request.headers_mut());
    }
    if bucket.config.kind == Kind::S3
        && let Some(credentials) =
            bucket.credentials.of(credential).current(clock::wall()).map_err(unsigned)?
    {
        let signer = Signer::new((*credentials).clone(), bucket.config.upstream.region.clone());
        request.headers_mut().insert(CONTENT_SHA256, HeaderValue::from_static(EMPTY_SHA256));
        signer.sign("GET", &target, request.headers_mut(), clock::wall());
    }
    let status = request.send().await?.status();
    if status.is_success() { Ok(()) } else { Err(Unwell::Status(status.as_u16())) }
}

fn unsigned(rejection: UpstreamRejection) -> Unwell {
    match rejection {
        UpstreamRejection::Credentials(why) => Unwell::Unsigned(why),
        _ => Unwell::Path,
    }
}
