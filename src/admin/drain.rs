//! `POST /drain` begins the drain of the process, as SIGTERM does; the drain of the status document (G4).

use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use slog::info;
use tidegate_actors::clock;

use crate::http::error::{AdminStatus, admin_error_reply, json_reply};
use crate::http::request_id;
use crate::process::Process;
use crate::process::drain_progress::DrainProgress;
use crate::process::drain_report::DrainReport;
use crate::request_head::HeaderView;
use crate::telemetry::{millis, rfc3339};
use crate::worker::Worker;

/// The longest wait for the begin of a requested drain.
const BEGIN_MAX: Duration = Duration::from_secs(5);

/// `POST /drain`. A process that drains already goes on.
pub(super) async fn begin(request: &HttpRequest, worker: &Worker) -> HttpResponse {
    let process = &worker.process;
    // The end of the drain waits for its streams, and for this reply too.
    let _reply = process.status_streams.count();
    let result = if process.drain_report.last().is_some() { "draining" } else { "began" };
    if result == "began" {
        info!(process.log, "a drain is requested at the admin listener";
            "client" => request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()));
        process.drain_requests.request();
    }
    let Some(report) = process.drain_report.first(BEGIN_MAX).await else {
        let message = "the drain has not begun yet; the status has it when it does";
        let id = request_id::of(HeaderView::of(request.headers()));
        return admin_error_reply(AdminStatus::Unavailable, "drain_pending", message, &id);
    };
    let drain = document(&report, clock::now());
    json_reply(
        AdminStatus::Ok,
        &json!({ "version": env!("CARGO_PKG_VERSION"), "result": result, "drain": drain }),
    )
}

/// The drain of the status document; null before it begins.
pub(super) fn status(process: &Process, now: Instant) -> Value {
    process.drain_report.last().map_or(Value::Null, |report| document(&report, now))
}

/// A report as JSON.
pub(super) fn document(report: &DrainReport, now: Instant) -> Value {
    let DrainProgress { requests, connections, streams, unsent_bytes, oldest_ms, oldest_bucket, buckets } =
        &report.progress;
    json!({
        "phase": report.phase.as_str(),
        "cause": report.cause.as_str(),
        "since": rfc3339(report.began.wall),
        "until": rfc3339(report.began.wall_of(report.deadline)),
        "remaining_ms": millis(report.remaining(now)),
        "requests": requests,
        "connections": connections,
        "streams": streams,
        "unsent_bytes": unsent_bytes,
        "oldest_ms": oldest_ms,
        "oldest_bucket": oldest_bucket,
        "buckets": buckets,
        "cut_off": report.cut_off,
    })
}
