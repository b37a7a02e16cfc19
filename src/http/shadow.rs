//! Requests that pass only because an action, a cursor or the limit of a client is in shadow mode.

use crate::decisions::decision::DecisionKind;
use crate::http::error::GatewayError;
use crate::http::error::figure_context::FigureContext;
use crate::upstream::record::Record;
use crate::worker::Worker;

/// Records the refusal that the request would have got, for the decisions and the header `x-tidegate-shadow`.
#[cold]
pub(super) fn record_shadowed(worker: &Worker, refusal: impl Into<GatewayError>, record: &mut Record) {
    let error: GatewayError = refusal.into();
    let reply = error.to_reply();
    let figures = error.figures(FigureContext {
        config: &worker.shared.config,
        bucket: record.bucket.map(|id| &worker.shared.router.bucket(id).config),
    });
    record.record_decision(DecisionKind::Shadow, reply.reason, figures, Some(reply.status.as_u16()));
    record.shadowed.push(reply.reason);
}
