//! Keeps the list of causes current: collects the state, updates the list, logs begins and ends.
//!
//! One task refreshes it, off the request workers; `/status` refreshes it too, so that a document is never older than its
//! request. Log lines are written by the task alone, in the order of the events.

use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::status::{causes, input};
use crate::degradation::cause::{CauseEvent, Change, Moment};
use crate::degradation::codes::Severity;
use crate::degradation::counts::EffectCounts;
use crate::degradation::published::CauseList;
use crate::process::Shared;
use crate::process::configurations::Configurations;
use crate::telemetry::millis;

/// The time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// Collects the state and publishes the causes.
pub(super) fn refresh(shared: &Shared) -> (Arc<CauseList>, Moment) {
    // Detects a blocked write. The time is read afterwards, so the age of the write is at least the threshold.
    shared.process.log_stats.check_blocked_write();
    shared.process.degradation.refresh(|at| {
        let counts = EffectCounts::default().with_refusals(shared.process.degradation.refusals());
        causes::sample(&input::collect(shared, at.now, at.wall), counts)
    })
}

/// Refreshes the causes and logs their changes. Never returns.
pub(crate) async fn run(configurations: Arc<Configurations>) {
    let mut ticks = interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let process = Arc::clone(&configurations.current().process);
    let mut changes = process.degradation.subscribe();
    let mut logged = 0;
    loop {
        // Another thread may have found an event.
        let is_tick = tokio::select! {
            _ = ticks.tick() => true,
            changed = changes.changed() => changed.is_err(),
        };
        if is_tick {
            refresh(&configurations.current());
        }
        let list = Arc::clone(&changes.borrow_and_update());
        let (lost, events) = list.events_after(logged);
        if lost > 0 {
            warn!(process.log, "changes of causes are not logged: there were too many at once"; "count" => lost);
        }
        events.for_each(|event| log_event(&process.log, event));
        logged = list.sequence;
    }
}

fn log_event(log: &Logger, event: &CauseEvent) {
    let CauseEvent { change, cause, .. } = event;
    let log = log.new(slog::o!(
        "detail" => cause.message.clone(),
        "name" => cause.scope.name.clone(),
        "bucket" => cause.scope.bucket.clone(),
        "scope" => cause.scope.kind.as_str(),
        "severity" => cause.severity.as_str(),
        "code" => cause.code.as_str(),
    ));
    match change {
        Change::Began if cause.severity == Severity::Critical => warn!(log, "degradation began"),
        Change::Began => info!(log, "degradation began"),
        Change::Ended { lasted } => {
            let touched = cause.effect.touched;
            info!(log, "degradation ended"; "lasted_ms" => millis(*lasted), "refused" => touched.refused,
                "slowed" => touched.slowed, "stale" => touched.stale);
        }
        Change::Passed { count } => {
            info!(log, "degradation passed between two samples"; "count" => count);
        }
    }
}
