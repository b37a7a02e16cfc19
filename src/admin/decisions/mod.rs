//! `GET /decisions`, `GET /explain` and `POST /explain`: the recorded decisions, the story of one request, and what would happen to a
//! made-up one (O4, O6).
//!
//! All of them read and change nothing. A malformed query or body gets a 400 that names the parameter or the field.

mod decision_json;
mod made_up;
pub(super) mod parameters;
mod story;

use actix_web::error::PayloadError;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{Error, HttpRequest, HttpResponse};
use serde_json::{Value, json};

use crate::admin::access::EXPLAIN;
use crate::admin::get_or_head;
use crate::admin::rejection::AdminRejection;
use crate::decisions::query::{DecisionQuery, FoundDecisions};
use crate::http::error::{AdminStatus, admin_error_reply, json_reply};
use crate::http::explain::explain;
use crate::http::request_id;
use crate::request_head::HeaderView;
use crate::worker::Worker;
use crate::worker::slot::CurrentWorker;
use made_up::InvalidBody;
use parameters::{InvalidParameter, Parameters};

/// The most entries of one request in its story.
const STORY_ENTRIES_MAX: usize = 100;

/// Registers the routes.
pub(crate) fn routes(config: &mut ServiceConfig) {
    config
        .route("/decisions", get_or_head().to(decisions))
        .route(EXPLAIN, get_or_head().to(explain_request))
        .route(EXPLAIN, web::post().to(explain_made_up));
}

/// `GET /decisions?request_id=&reason=&bucket=&client=&since=&limit=`.
async fn decisions(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    let decisions = &worker.process.decisions;
    let query = Parameters::parse(request.query_string(), &parameters::OF_DECISIONS)
        .and_then(|parameters| parameters.decision_query(&decisions.names()));
    match query {
        Ok(query) => json_reply(AdminStatus::Ok, &document(&worker, &query)),
        Err(error) => invalid_parameter(&request, &error),
    }
}

fn document(worker: &Worker, query: &DecisionQuery) -> Value {
    let decisions = &worker.process.decisions;
    let FoundDecisions { entries, recorded, kept, overwritten, sampled_out, memory_bytes, counts } =
        decisions.find(query);
    let names = decisions.names();
    json!({
        "decisions": entries.iter().filter_map(|entry| decision_json::decision(&names, entry)).collect::<Vec<_>>(),
        "recorded": recorded,
        "kept": kept,
        "overwritten": overwritten,
        "sampled": sampled_out > 0,
        "sampled_out": sampled_out,
        "memory_bytes": memory_bytes,
        "counts": counts.iter().map(|count| decision_json::count(&names, count)).collect::<Vec<_>>(),
    })
}

/// `GET /explain?request_id=`: the story of one request.
async fn explain_request(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    let decisions = &worker.process.decisions;
    let id = Parameters::parse(request.query_string(), &parameters::OF_EXPLAIN)
        .and_then(|parameters| parameters.required_request_id());
    let id = match id {
        Ok(id) => id,
        Err(error) => return invalid_parameter(&request, &error),
    };
    let found = decisions.of_request(&id, STORY_ENTRIES_MAX);
    if found.entries.is_empty() {
        let message = format!(
            "there is no decision about request {id} in memory: requests that are neither refused, delayed, repeated nor cut \
             are not recorded, and old decisions and some of many equal ones are not kept; its access log line has the id {id}"
        );
        return admin_error_reply(
            AdminStatus::NotFound,
            "request_not_found",
            &message,
            &request_id::of(HeaderView::of(request.headers())),
        );
    }
    json_reply(AdminStatus::Ok, &story::document(&decisions.names(), &id, &found))
}

/// `POST /explain`: what would happen to the request in the body now.
async fn explain_made_up(
    request: HttpRequest,
    body: Result<Bytes, Error>,
    CurrentWorker(worker): CurrentWorker,
) -> HttpResponse {
    if let Some(refused) = unexpected_query(&request) {
        return refused;
    }
    let parsed = body.map_err(|error| unread(&error)).and_then(|body| made_up::parse(&body));
    let made_up = match parsed {
        Ok(made_up) => made_up,
        Err(InvalidBody::TooLarge) => {
            return AdminRejection::BodyTooLarge(made_up::BODY_BYTES_MAX)
                .reply(&request_id::of(HeaderView::of(request.headers())));
        }
        Err(error) => {
            let id = request_id::of(HeaderView::of(request.headers()));
            return admin_error_reply(AdminStatus::BadRequest, "invalid_request", &error.to_string(), &id);
        }
    };
    let explanation = explain(&worker, &made_up).await;
    json_reply(AdminStatus::Ok, &made_up::document(worker.decisions.names(), &explanation))
}

/// Why the body could not be read. One that is too large is refused before it is complete.
fn unread(error: &Error) -> InvalidBody {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => InvalidBody::TooLarge,
        _ => InvalidBody::Framing,
    }
}

/// The reply to a request with a parameter, on a path that accepts none.
pub(super) fn unexpected_query(request: &HttpRequest) -> Option<HttpResponse> {
    let error = Parameters::parse(request.query_string(), &[]).err()?;
    Some(invalid_parameter(request, &error))
}

/// The reply to a query with a parameter that is not accepted.
pub(super) fn invalid_parameter(request: &HttpRequest, error: &InvalidParameter) -> HttpResponse {
    let id = request_id::of(HeaderView::of(request.headers()));
    admin_error_reply(AdminStatus::BadRequest, "invalid_parameter", &error.to_string(), &id)
}
