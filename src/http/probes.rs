//! Live and ready (O5): the same answers on both listeners.
//!
//! On the data listener they stand at `/-/livez` and `/-/readyz`, below any `Host` that names no bucket: no bucket's name begins
//! with `-`, but the key of a virtual host's bucket may. They pass no limit and leave no record.

use std::rc::Rc;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::Data;
use serde_json::json;
use tidegate_config::Addressing;

use crate::http::edge::Head;
use crate::http::error::{AdminStatus, json_answer};
use crate::s3::naming;
use crate::worker::Worker;

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    alive()
}

/// New requests are welcome.
pub(crate) async fn ready(worker: Data<Rc<Worker>>) -> HttpResponse {
    readiness(&worker)
}

/// The answer to a probe of the data listener; none where the request is none.
pub(super) fn answer(worker: &Worker, head: Head<'_>) -> Option<HttpResponse> {
    let path = head.uri.path();
    if !path.starts_with("/-/") || !matches!(*head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let named = naming::of(head.uri, head.headers, &worker.shared.config.server.base_domains);
    let is_key = named.addressing == Addressing::Virtual && worker.shared.router.route(named.bucket).is_ok();
    match path {
        _ if is_key => None,
        "/-/livez" => Some(alive()),
        "/-/readyz" => Some(readiness(worker)),
        _ => None,
    }
}

fn alive() -> HttpResponse {
    json_answer(AdminStatus::Ok, &json!({ "live": true }))
}

fn readiness(worker: &Worker) -> HttpResponse {
    if worker.shared.is_draining() {
        return json_answer(AdminStatus::NotReady, &json!({ "ready": false, "reason": "draining" }));
    }
    json_answer(AdminStatus::Ok, &json!({ "ready": true }))
}
