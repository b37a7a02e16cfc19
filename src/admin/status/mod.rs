//! The status document: whether the gateway is degraded, the causes, and the state of its parts (X7, X10).
//!
//! The document is built from published snapshots and actor statistics, so it is available at every level and while actors are down. Only
//! the sizes of the limiter and of the session cache need a message to an actor; they are null if the actor does not reply.

mod actions;
mod bucket_causes;
mod causes;
pub(super) mod drains;
mod failing_endpoints;
mod history;
mod input;
pub(super) mod plots;
pub(crate) mod possible;
pub(crate) mod refresh;
#[cfg(test)]
mod samples;
mod shedding;
mod shedding_cause;
pub(crate) mod stream;
mod summary;

use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tidegate_actors::{
    ActorStats, ActorStatus, BreakerView, CredentialState, CredentialView, EndpointState, EndpointView,
    FailureKind, LimitCause, LimitSource, LimitView, LimiterReport, MemoryUse, MonitorView, Reading,
    ResourceView, SessionsReport,
};

use crate::admin::drain;
use crate::admin::problem::problem;
use crate::admin::status::drains::{ActiveDrain, BucketDrains};
use crate::admin::status::failing_endpoints::FailingEndpoints;
use crate::degradation::cause::{Cause, CauseEvent, Moment};
use crate::degradation::codes::Severity;
use crate::process::Shared;
use crate::telemetry::{millis, rfc3339};
use crate::upstream::bucket::Bucket;

/// The events in the document.
const EVENTS_SHOWN: usize = 64;

/// The status document. Its fields are in the order of their weight for a reader.
#[derive(Serialize)]
pub(crate) struct StatusDocument {
    status: &'static str,
    summary: String,
    causes: Vec<Cause>,
    version: &'static str,
    started: String,
    uptime_ms: u64,
    sequence: u64,
    events: Vec<CauseEvent>,
    /// The state of the parts.
    #[serde(flatten)]
    parts: Map<String, Value>,
}

/// The whole document.
pub(crate) async fn document(shared: &Shared) -> StatusDocument {
    let limiter = shared.actors.limiter.inspect().await.ok();
    let sessions = shared.actors.sessions.inspect().await.ok();
    let (list, at) = refresh::refresh(shared);
    let started = shared.process.degradation.started;
    let shown = list.events.iter().skip(list.events.len().saturating_sub(EVENTS_SHOWN));
    StatusDocument {
        status: list.severity().map_or("ok", Severity::as_str),
        summary: summary::sentence(&list.causes),
        causes: list.causes.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started: rfc3339(started.wall),
        uptime_ms: millis(at.now.saturating_duration_since(started.now)),
        sequence: list.sequence,
        events: shown.map(|event| CauseEvent::clone(event)).collect(),
        parts: parts(shared, limiter, sessions, at),
    }
}

fn parts(
    shared: &Shared,
    limiter: Option<LimiterReport>,
    sessions: Option<SessionsReport>,
    at: Moment,
) -> Map<String, Value> {
    let (actors, now) = (&shared.actors, at.now);
    let mut document = Map::new();
    document.insert("configuration".to_owned(), configuration(shared));
    document.insert("drain".to_owned(), drain::status(&shared.process, now));
    document.extend(monitor(shared, now));
    document.insert("waits".to_owned(), shedding::waits(shared, now));
    document.insert("shedding".to_owned(), shedding::shedding(shared, now));
    document.insert("requests_in_flight".to_owned(), actors.monitor.in_flight().into());
    let clients = shared.process.client_connections.count();
    document.insert("clients".to_owned(), json!({ "open": clients.open, "idle": clients.idle }));
    document.insert("predecessors".to_owned(), json!(shared.process.predecessors.list()));
    document.insert(
        "buckets".to_owned(),
        shared
            .router
            .buckets()
            .iter()
            .map(|found| (found.name.clone(), bucket(shared, found, at)))
            .collect::<Map<_, _>>()
            .into(),
    );
    document.insert(
        "actors".to_owned(),
        actors
            .actor_stats()
            .map(|stats| (stats.name().to_owned(), actor(stats, now)))
            .collect::<Map<_, _>>()
            .into(),
    );
    document.insert(
        "limiter".to_owned(),
        limiter.map_or(Value::Null, |report| json!({ "clients": report.clients })),
    );
    document.insert(
        "sessions".to_owned(),
        sessions.map_or(Value::Null, |report| {
            json!({ "entries": report.len, "capacity": report.capacity, "hits": report.hits,
                "misses": report.misses, "evicted": report.evicted })
        }),
    );
    document
}

/// The configuration in use, and the last reload with its problems.
fn configuration(shared: &Shared) -> Value {
    let reload = shared.process.reloads.last().map(|last| {
        let problems: Vec<_> = last.problems.iter().map(problem).collect();
        json!({ "result": last.result.as_str(), "at": rfc3339(last.at.wall), "problems": problems })
    });
    json!({ "number": shared.number().get(), "last_reload": reload })
}

fn monitor(shared: &Shared, now: Instant) -> Map<String, Value> {
    let view = shared.actors.monitor.view();
    let resources: Map<String, Value> =
        view.resources(now).map(|of| (of.sensor.as_str().to_owned(), resource(&of))).collect();
    let transitions: Vec<Value> = view
        .transitions
        .iter()
        .map(|t| {
            json!({ "from": t.from.as_str(), "to": t.to.as_str(), "ago_ms": millis(now.saturating_duration_since(t.at)),
                "reason": t.reason.as_ref().map(ToString::to_string) })
        })
        .collect();
    let mut document = Map::new();
    document.insert("level".to_owned(), view.level.as_str().into());
    document.insert("since_ms".to_owned(), millis(now.saturating_duration_since(view.since)).into());
    document.insert("reason".to_owned(), view.reason.as_ref().map(ToString::to_string).into());
    document.insert("stale".to_owned(), view.is_stale(now).into());
    document.insert("switched_off".to_owned(), json!(view.switched_off()));
    document.insert("actions".to_owned(), actions::document(shared, now));
    document.insert("resources".to_owned(), resources.into());
    document.insert("memory".to_owned(), view.memory().map_or(Value::Null, |of| memory(of, &view)));
    document.insert("transitions".to_owned(), transitions.into());
    document
}

/// A resource with its limit, or the reason why it is unknown.
fn resource(of: &ResourceView) -> Value {
    let mut value = match of.reading {
        Reading::Known { used, limit } => json!({
            "used": used, "limit": limit, "pressure": round(used as f64 / limit.max(1) as f64) }),
        Reading::Unknown if of.is_stale => {
            json!({ "unknown": true, "why": "the sensors were not read lately" })
        }
        Reading::Unknown => json!({ "unknown": true, "why": "the sensor failed" }),
        Reading::Absent(why) => json!({ "unknown": true, "why": why }),
    };
    value["unit"] = of.sensor.unit().into();
    value["limit_source"] = of.limit_source.map(LimitSource::as_str).into();
    value["subject"] = of.subject.as_ref().map(ToString::to_string).into();
    value["level_max"] = of.level_max.as_str().into();
    value["age_ms"] = of.age.map(millis).into();
    value
}

/// Memory as the kernel counts it for the OOM kill, and the resident set.
fn memory(memory: &MemoryUse, view: &MonitorView) -> Value {
    let MemoryUse { used_bytes, limit_bytes, own_bytes, own_limit_bytes, sockets_bytes, rss_bytes, source } =
        memory;
    json!({
        "source": source.as_str(),
        "used_bytes": used_bytes,
        "limit_bytes": limit_bytes,
        "own_bytes": own_bytes,
        "own_limit_bytes": own_limit_bytes,
        "sockets_bytes": sockets_bytes,
        "rss_bytes": rss_bytes,
        "max_requests_in_flight": view.in_flight_max,
    })
}

fn bucket(shared: &Shared, bucket: &Bucket, at: Moment) -> Value {
    let (breaker, now) = (&bucket.breaker, at.now);
    let drains = BucketDrains::of(shared, bucket, now);
    let drain = |progress: &Option<ActiveDrain>| progress.as_ref().map(|progress| progress.to_json(at));
    let mut circuits = Map::new();
    circuits.insert("mode".to_owned(), breaker.mode().as_str().into());
    let views: Vec<_> = breaker.views(now).collect();
    circuits.extend(views.iter().map(|view| (view.class.to_owned(), circuit(view))));
    let pool = bucket.pool.view(now);
    let is_failing = FailingEndpoints::of(&pool, breaker.mode(), &views).is_some();
    let endpoints: Vec<Value> = bucket
        .config
        .upstream
        .endpoints
        .iter()
        .zip(&pool.endpoints)
        .zip(&drains.endpoints)
        .map(|((endpoint, view), progress)| {
            let mut value = endpoint_json(&endpoint.authority, view, is_failing, now);
            value["drain"] = drain(progress).into();
            value
        })
        .collect();
    json!({
        "kind": bucket.config.kind.as_str(),
        "pattern": bucket.config.pattern.as_str(),
        "drain": drain(&drains.bucket),
        "breaker": circuits,
        "pool": {
            "in_flight": pool.in_flight,
            "max_concurrent": pool.concurrent_max,
            "adaptive": pool.limit.as_ref().map(|limit| adaptive_limit(limit, now)),
            "queued": pool.queued,
            "max_queued": pool.queued_max,
            "connections": bucket.connections.open(),
            "amplification": round(pool.amplification),
            "endpoints": endpoints,
            "credentials": pool.credentials.iter().map(|view| credential(view, now)).collect::<Vec<_>>(),
        },
    })
}

fn adaptive_limit(view: &LimitView, now: Instant) -> Value {
    json!({
        "limit": view.limit,
        "cause": view.cause.as_str(),
        "moved_ms_ago": millis(now.saturating_duration_since(view.moved)),
        "baseline_ms": view.baseline.map(|baseline| round(baseline.as_secs_f64() * 1e3)),
        "reductions": LimitCause::REDUCTIONS
            .iter()
            .zip(view.reductions)
            .map(|(cause, count)| (cause.as_str().to_owned(), count.into()))
            .collect::<Map<_, _>>(),
    })
}

fn circuit(view: &BreakerView) -> Value {
    json!({
        "state": view.state.as_str(),
        "generation": view.generation,
        "consecutive_failures": view.consecutive_failures,
        "opened_total": view.opened_total,
        "open_for_ms": view.open_for.map(millis),
        "ends_when_reached": view.probed,
        "held": view.waiting,
        "max_held": view.waiting_max,
        "cause": view.cause.map(|cause| cause.to_string()),
        "opened_by": view.trip.map(|trip| json!({ "rule": trip.rule.as_str(), "measured": trip.measured,
            "threshold": trip.threshold })),
    })
}

/// `is_failing`: the endpoint fails, and is in rotation only because no other is left.
fn endpoint_json(authority: &str, view: &EndpointView, is_failing: bool, now: Instant) -> Value {
    let left = |until: Instant| Some(millis(until.saturating_duration_since(now)));
    let (state, cause, out_for_ms) = match view.state {
        EndpointState::InRotation if is_failing && !view.is_draining => ("failing", None, None),
        EndpointState::InRotation => ("in_rotation", None, None),
        EndpointState::BackingOff(until) => ("resting", Some(FailureKind::Unreachable), left(until)),
        EndpointState::Ejected(until, kind) => ("ejected", Some(kind), left(until)),
        EndpointState::Unhealthy => ("unhealthy", None, None),
    };
    json!({
        "authority": authority,
        "state": state,
        "cause": cause.map(FailureKind::as_str),
        "out_for_ms": out_for_ms,
        "in_flight": view.in_flight,
        "latency_ms": view.latency.map(|latency| round(latency.as_secs_f64() * 1e3)),
        "ejections": view.ejections,
    })
}

/// Contains the configured name only; the pool does not hold the secret (C4).
fn credential(view: &CredentialView, now: Instant) -> Value {
    let left = |until: Instant| Some(millis(until.saturating_duration_since(now)));
    let (state, cause, out_for_ms) = match view.state {
        CredentialState::InUse => ("in_use", None, None),
        CredentialState::CoolingDown(until) => ("cooling", Some("throttled"), left(until)),
        CredentialState::Refused(until) => ("refused", Some("refused"), left(until)),
        CredentialState::OnTrial => ("on_trial", Some("refused"), None),
    };
    json!({
        "name": view.name,
        "state": state,
        "cause": cause,
        "out_for_ms": out_for_ms,
        "in_flight": view.in_flight,
        "max_concurrent": view.concurrent_max,
        "quota_group": view.quota_group,
        "throttled": view.throttled,
        "refused": view.refused,
    })
}

fn actor(stats: &ActorStats, now: Instant) -> Value {
    let status = stats.status(now);
    json!({
        "state": status.as_str(),
        "retry_after_ms": match status { ActorStatus::Failed { retry_after } => Some(millis(retry_after)), _ => None },
        "generation": stats.generation(),
        "restarts": stats.restarts(),
        "mailbox_depth": stats.depth(),
        "mailbox_capacity": stats.capacity(),
        "handled": stats.handled(),
        "poisoned": stats.poisoned(),
    })
}

fn round(ratio: f64) -> f64 {
    (ratio * 1e4).round() / 1e4
}
