//! Requests that pass only because an action, a cursor or a limit is in shadow mode.

use tidegate_actors::{Allowed, LimiterRejection};

use crate::decisions::decision::DecisionKind;
use crate::http::error::GatewayError;
use crate::http::error::figure_context::FigureContext;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Records the refusal that the request would have got, for the decisions and the header `x-tidegate-shadow`.
#[cold]
pub(super) fn record_shadowed(worker: &Worker, refusal: impl Into<GatewayError>, record: &mut Record) {
    let reason = record_decision(worker, &refusal.into(), record);
    record.shadowed.push(reason);
}

/// Adds the result of rate limits, and records the refusals by those in shadow mode.
pub(super) fn add_allowed(worker: &Worker, allowed: Allowed, record: &mut Record) {
    for limit in &allowed.shadowed {
        record_decision(worker, &LimiterRejection::Limited(*limit).into(), record);
    }
    record.allowed.merge(allowed);
}

/// Returns the reason of the refusal.
#[cold]
fn record_decision(worker: &Worker, error: &GatewayError, record: &mut Record) -> &'static str {
    let reply = error.to_reply();
    let figures = error.figures(FigureContext {
        config: &worker.shared.config,
        bucket: record.bucket.map(|id| &worker.shared.router.bucket(id).config),
        deadline: record.deadline_source,
    });
    record.record_decision(DecisionKind::Shadow, reply.reason, figures, Some(reply.status.as_u16()));
    reply.reason
}
