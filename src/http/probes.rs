//! Probes (O5): the same replies on both listeners, for all common health checks.
//!
//! `/-/livez` and `/-/readyz` accept GET and HEAD, any HTTP version, and any `Host` or none: no bucket's name begins
//! with `-`. Only with a `Host` that names a bucket are they keys. `OPTIONS /` without `Origin` is HAProxy's plain
//! `option httpchk` (HAProxy configuration manual, 5.2 and 4.2 "option httpchk") and gets the reply of `/-/readyz`.
//! Probes have no limit, no slot and no record.
//!
//! Ready means that this process can serve requests. Open circuits and frozen stores do not change that: a shared
//! store must not take all replicas out of service.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, ORIGIN};
use serde_json::json;
use tidegate_actors::clock;
use tidegate_config::Addressing;
use tidegate_s3::addressing;

use crate::http::error::{AdminStatus, json_reply};
use crate::process::Shared;
use crate::request_head::Head;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;

/// The paths of probes on both listeners.
pub(crate) const LIVE: &str = "/-/livez";
pub(crate) const READY: &str = "/-/readyz";

/// The liveness probe: the process responds.
pub(crate) async fn live() -> HttpResponse {
    live_reply()
}

/// The readiness probe: the process can serve new requests.
pub(crate) async fn ready(CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    ready_reply(&worker.shared)
}

/// The probes of the data listener.
#[derive(Clone, Copy)]
enum Probe {
    Live,
    Ready,
}

/// The reply to a probe of the data listener; `None` if the request is not a probe.
pub(crate) fn probe_reply(worker: &Worker, head: Head<'_>) -> Option<HttpResponse> {
    probe(worker, head).map(|probe| match probe {
        Probe::Live => live_reply(),
        Probe::Ready => ready_reply(&worker.shared),
    })
}

/// Whether a request on the data listener is a probe.
pub(crate) fn is_probe(worker: &Worker, head: Head<'_>) -> bool {
    probe(worker, head).is_some()
}

fn probe(worker: &Worker, head: Head<'_>) -> Option<Probe> {
    let path = head.uri.path();
    let is_named = path.starts_with("/-/") && matches!(*head.method, Method::GET | Method::HEAD);
    if !is_named && !is_plain_check(head.method, path, head.headers) {
        return None;
    }
    let named = addressing::resolve(head, &worker.shared.config.server.base_domains);
    let is_key = named.addressing == Addressing::Virtual && worker.shared.router.route(&named.bucket).is_ok();
    match path {
        _ if is_key => None,
        LIVE => Some(Probe::Live),
        READY | "/" => Some(Probe::Ready),
        _ => None,
    }
}

/// HAProxy's plain `option httpchk`. A preflight has an `Origin`.
pub(crate) fn is_plain_check(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    path == "/" && *method == Method::OPTIONS && !headers.contains_key(ORIGIN)
}

fn live_reply() -> HttpResponse {
    json_reply(AdminStatus::Ok, &json!({ "live": true }))
}

fn ready_reply(shared: &Shared) -> HttpResponse {
    match not_ready_reason(shared) {
        Some(reason) => json_reply(AdminStatus::Unavailable, &json!({ "ready": false, "reason": reason })),
        None => json_reply(AdminStatus::Ok, &json!({ "ready": true })),
    }
}

/// Why this process cannot serve new requests.
fn not_ready_reason(shared: &Shared) -> Option<&'static str> {
    if shared.process.is_draining() {
        Some("draining")
    } else if shared.actors.limiter.refuses_all(clock::now()) {
        Some("limiter_failed")
    } else if !shared.config.server.ready_when_exhausted && shared.actors.monitor.sheds_requests() {
        Some("exhausted")
    } else {
        None
    }
}
