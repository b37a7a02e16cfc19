//! The routes of the admin listener: the page for people, status, configuration, metrics, probes, and chaos if `admin.chaos` allows it.

pub(crate) mod access;
mod authentication;
pub(crate) mod config;
mod decisions;
mod drain;
mod drain_target;
mod error_tally;
mod limit_use;
mod page;
mod pending_logins;
pub(crate) mod problem;
pub(crate) mod rejection;
pub(crate) mod reload;
mod role;
mod session;
mod session_routes;
pub(crate) mod status;
mod token_failures;
mod unrouted;
pub(crate) mod upgrade;

use std::time::Duration;

use actix_web::Route;
use actix_web::guard::{self, GuardContext};
use actix_web::http::header::{ACCEPT, HeaderValue};
use actix_web::web::{self, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use tidegate_actors::{Crash, CrashPoint, Stall, clock};

use crate::http::error::{AdminStatus, admin_error_reply, json_reply, metrics_reply, static_json_reply};
use crate::http::{probes, request_id};
use crate::request_head::HeaderView;
use crate::telemetry::metrics::exposition::Format;
use crate::worker::slot::CurrentWorker;
use access::{SESSION, STREAM};
use decisions::parameters::Parameters;

/// JSON Schema of the status document.
const STATUS_SCHEMA: &str = include_str!("documents/status.schema.json");
/// The routes of this listener, as an OpenAPI document.
const OPENAPI: &str = include_str!("documents/openapi.json");

/// The path of upgrades. The reply waits for the result.
pub(crate) const UPGRADE: &str = "/upgrade";

/// Registers every route of the admin listener.
pub(crate) fn routes(service: &mut ServiceConfig) {
    service
        .route("/status", get_or_head().to(status_page))
        .route(STREAM, web::get().to(status::stream::events))
        .route("/status/history", get_or_head().to(status::stream::history))
        .route("/status/plots", get_or_head().to(status::plots::figures))
        .route("/status/plot.svg", get_or_head().to(status::plots::image))
        .route("/status.schema.json", get_or_head().to(status_schema))
        .route("/openapi.json", get_or_head().to(openapi))
        .route("/config", get_or_head().to(config::page))
        .route("/config/diff", get_or_head().to(reload::diff))
        .route("/reload", web::post().to(reload::reload))
        .route(UPGRADE, web::post().to(upgrade::upgrade))
        .route("/metrics", get_or_head().to(metrics))
        .route("/livez", get_or_head().to(probes::live))
        .route("/readyz", get_or_head().to(probes::ready))
        .route(probes::LIVE, get_or_head().to(probes::live))
        .route(probes::READY, get_or_head().to(probes::ready))
        .route("/", web::route().guard(guard::fn_guard(is_plain_check)).to(probes::ready))
        .route(SESSION, web::post().to(session_routes::login))
        .route(SESSION, web::delete().to(session_routes::logout))
        .route("/actors/{name}/crash", web::post().to(crash))
        .route("/actors/{name}/stall", web::post().to(stall))
        .route("/requests/crash", web::post().to(crash_request))
        .route("/upgrade/crash", web::post().to(upgrade::crash_upgrade))
        .configure(decisions::routes)
        .configure(drain_target::routes)
        .configure(page::routes)
        .default_service(web::to(unrouted::reply));
}

/// A route of GET and HEAD.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn is_plain_check(context: &GuardContext<'_>) -> bool {
    let head = context.head();
    probes::is_plain_check(&head.method, head.uri.path(), &head.headers)
}

async fn status_page(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    if let Some(refused) = decisions::unexpected_query(&request) {
        return refused;
    }
    json_reply(AdminStatus::Ok, &status::document(&worker.shared).await)
}

async fn status_schema(request: HttpRequest) -> HttpResponse {
    decisions::unexpected_query(&request)
        .unwrap_or_else(|| static_json_reply("application/schema+json", STATUS_SCHEMA))
}

async fn openapi(request: HttpRequest) -> HttpResponse {
    decisions::unexpected_query(&request).unwrap_or_else(|| static_json_reply("application/json", OPENAPI))
}

async fn metrics(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    if let Some(refused) = decisions::unexpected_query(&request) {
        return refused;
    }
    let (shared, now) = (&worker.shared, clock::now());
    shared.actors.observe(now);
    shared.process.shortages.observe();
    shared.process.metrics.observe_send_buffer(shared.process.send_buffer.get());
    shared.process.buffer_metrics.observe_reserved(shared.process.buffer_budget.reserved_bytes());
    for bucket in shared.router.buckets() {
        let size = bucket.config.upstream.connection_pool.size.get();
        bucket.metrics.connections.observe(size, bucket.connections.open(), bucket.connections.idle());
    }
    let clients = shared.process.client_connections.count();
    shared.process.metrics.client_connections.observe(clients.open, clients.idle);
    let format = Format::negotiate(request.headers().get_all(ACCEPT).map(HeaderValue::as_bytes));
    metrics_reply(
        format.content_type(),
        shared.process.metrics.exposition.encode(format, (now, clock::wall())),
    )
}

/// `POST /actors/{name}/crash?at=decide|apply|applied|timer|started[&victim=next]`.
async fn crash(
    request: HttpRequest,
    CurrentWorker(worker): CurrentWorker,
    name: Path<String>,
) -> HttpResponse {
    let id = request_id::of(HeaderView::of(request.headers()));
    let refused = |status, code: &str, message: &str| admin_error_reply(status, code, message, &id);
    if !worker.shared.config.admin.chaos {
        return chaos_disabled(&request);
    }
    let query = match Parameters::parse(request.query_string(), &["at", "victim"]) {
        Ok(query) => query,
        Err(error) => return decisions::invalid_parameter(&request, &error),
    };
    let parsed: Result<CrashPoint, _> = query.text("at").unwrap_or("decide").parse();
    let point = match parsed {
        Ok(point) => point,
        Err(error) => return refused(AdminStatus::BadRequest, "unknown_place", &error.to_string()),
    };
    let next_message = match query.text("victim") {
        None | Some("self") => false,
        Some("next") => true,
        Some(other) => {
            let message = format!("no victim `{other}`: use self (the default) or next");
            return refused(AdminStatus::BadRequest, "unknown_victim", &message);
        }
    };
    match worker.shared.actors.crash(&name, Crash { point, next_message }) {
        Ok(count) => json_reply(AdminStatus::Accepted, &json!({ "crashing": count })),
        Err(error) => refused(AdminStatus::NotFound, "unknown_actor", &error.to_string()),
    }
}

/// `POST /actors/{name}/stall?ms=TIME`.
async fn stall(
    request: HttpRequest,
    CurrentWorker(worker): CurrentWorker,
    name: Path<String>,
) -> HttpResponse {
    let id = request_id::of(HeaderView::of(request.headers()));
    if !worker.shared.config.admin.chaos {
        return chaos_disabled(&request);
    }
    let query = match Parameters::parse(request.query_string(), &["ms"]) {
        Ok(query) => query,
        Err(error) => return decisions::invalid_parameter(&request, &error),
    };
    let Some(ms) = query.text("ms").and_then(|ms| ms.parse().ok()) else {
        let message = "the query needs the length of the stall in milliseconds, as in ?ms=2000";
        return admin_error_reply(AdminStatus::BadRequest, "no_time", message, &id);
    };
    match worker.shared.actors.stall(&name, Stall::for_duration(Duration::from_millis(ms))) {
        Ok(count) => json_reply(AdminStatus::Accepted, &json!({ "stalling": count })),
        Err(error) => admin_error_reply(AdminStatus::NotFound, "unknown_actor", &error.to_string(), &id),
    }
}

/// `POST /requests/crash`: the next request that is about to be sent upstream panics.
async fn crash_request(request: HttpRequest, CurrentWorker(worker): CurrentWorker) -> HttpResponse {
    if !worker.shared.config.admin.chaos {
        return chaos_disabled(&request);
    }
    if let Some(refused) = decisions::unexpected_query(&request) {
        return refused;
    }
    worker.process.chaos.arm_request();
    json_reply(AdminStatus::Accepted, &json!({ "crashing": 1 }))
}

fn chaos_disabled(request: &HttpRequest) -> HttpResponse {
    let message = "chaos is off; set admin.chaos = true to allow it";
    admin_error_reply(
        AdminStatus::Forbidden,
        "chaos_off",
        message,
        &request_id::of(HeaderView::of(request.headers())),
    )
}
