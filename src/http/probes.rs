//! Live and ready (O5): the same answers on both listeners. A bucket name cannot begin with `-`, so `/-/` is free.

use std::rc::Rc;

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use crate::http::error::{AdminStatus, json_answer};
use crate::worker::Worker;

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    json_answer(AdminStatus::Ok, &json!({ "live": true }))
}

/// New requests are welcome.
pub(crate) async fn ready(worker: Data<Rc<Worker>>) -> HttpResponse {
    if *worker.shared.draining.borrow() {
        return json_answer(AdminStatus::NotReady, &json!({ "ready": false, "reason": "draining" }));
    }
    json_answer(AdminStatus::Ok, &json!({ "ready": true }))
}
