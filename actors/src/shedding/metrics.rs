//! The metrics of shedding (O3), copied from the published state at each scrape.

use std::time::Instant;

use prometheus::{Gauge, GaugeVec, IntCounterVec, Opts, Registry};
use tidegate_config::ActionMode;

use crate::shedding::process_waits::ProcessWaits;
use crate::shedding::shedder::Shedder;

/// The label of the process. A bucket of that name has a label of its own.
pub(crate) const PROCESS: &str = "process";

/// The families.
#[derive(Debug, Clone)]
pub(crate) struct SheddingMetrics {
    cursor: GaugeVec,
    wait: GaugeVec,
    shed: IntCounterVec,
    shadowed: IntCounterVec,
    lag: GaugeVec,
    mailboxes: Gauge,
}

/// The scope of a bucket.
pub(crate) fn bucket_scope(name: &str) -> String {
    if name == PROCESS { format!("{name} (bucket)") } else { name.to_owned() }
}

impl SheddingMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, label: &str| GaugeVec::new(Opts::new(name, help), &[label]);
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["scope", "class"]);
        let this = Self {
            cursor: gauge(
                "shedding_cursor",
                "traffic that is cut from the bottom of the order: 0 nobody, 1 class low, 2 class normal too",
                "scope",
            )?,
            wait: gauge(
                "shedding_wait_seconds",
                "the wait that moves the cursor: mean of the last window, or age of the oldest request in the queue",
                "scope",
            )?,
            shed: counter("shed_requests_total", "requests that a cursor refused")?,
            shadowed: counter(
                "shed_shadowed_requests_total",
                "requests that a cursor in shadow mode would have refused",
            )?,
            lag: gauge("event_loop_lag_seconds", "mean lag of a worker thread's event loop", "worker")?,
            mailboxes: Gauge::new("mailbox_wait_mean_seconds", "mean wait in the mailboxes of all actors")?,
        };
        registry.register(Box::new(this.cursor.clone()))?;
        registry.register(Box::new(this.wait.clone()))?;
        registry.register(Box::new(this.shed.clone()))?;
        registry.register(Box::new(this.shadowed.clone()))?;
        registry.register(Box::new(this.lag.clone()))?;
        registry.register(Box::new(this.mailboxes.clone()))?;
        Ok(this)
    }

    /// Copies one cursor. A stale wait is 0.
    pub(crate) fn observe(&self, scope: &str, shedder: &Shedder, now: Instant) {
        let view = shedder.view(now);
        self.cursor.with_label_values(&[scope]).set(view.cursor);
        let wait = view.wait.filter(|wait| !wait.is_stale()).map(|wait| wait.wait.as_secs_f64());
        self.wait.with_label_values(&[scope]).set(wait.unwrap_or_default());
        for counts in view.counts {
            let (family, count) = match view.mode {
                ActionMode::Enforce => (&self.shed, counts.refused),
                ActionMode::Shadow => (&self.shadowed, counts.shadowed),
                ActionMode::Off => continue,
            };
            let counter = family.with_label_values(&[scope, counts.class.as_str()]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Copies the waits of the process.
    pub(crate) fn observe_waits(&self, waits: &ProcessWaits, now: Instant) {
        for view in waits.lags(now) {
            let lag = view.lag.map_or(0.0, |lag| lag.wait.as_secs_f64());
            self.lag.with_label_values(&[&view.worker.to_string()]).set(lag);
        }
        let wait = waits.mailboxes(now).filter(|wait| !wait.is_stale());
        self.mailboxes.set(wait.map_or(0.0, |wait| wait.wait.as_secs_f64()));
    }
}
