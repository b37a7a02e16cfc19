//! The metrics of shedding (O3), copied from the published state at each scrape.

use std::time::Instant;

use prometheus::{Gauge, GaugeVec, IntCounterVec, Opts, Registry};
use tidegate_config::{ActionMode, Priority};

use crate::shedding::process_waits::ProcessWaits;
use crate::shedding::shedder::Shedder;
use crate::shedding::waits::WaitReading;

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
                "the wait that moves the cursor: in a queue the expected one, or the measured one while that is unknown",
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
        self.wait.with_label_values(&[scope]).set(known_seconds(view.wait));
        for counts in view.counts {
            // Another mode before the last reload has counts too.
            let families = [
                (&self.shed, counts.refused, ActionMode::Enforce),
                (&self.shadowed, counts.shadowed, ActionMode::Shadow),
            ];
            for (family, count, mode) in families {
                if view.mode == mode || count > 0 {
                    let counter = family.with_label_values(&[scope, counts.class.as_str()]);
                    counter.inc_by(count.saturating_sub(counter.get()));
                }
            }
        }
    }

    /// Removes the series of a scope. A series that is not there is no error.
    pub(crate) fn remove(&self, scope: &str) {
        for family in [&self.cursor, &self.wait] {
            let _ = family.remove_label_values(&[scope]);
        }
        for class in [Priority::Low, Priority::Normal, Priority::High] {
            for family in [&self.shed, &self.shadowed] {
                let _ = family.remove_label_values(&[scope, class.as_str()]);
            }
        }
    }

    /// Copies the waits of the process.
    pub(crate) fn observe_waits(&self, waits: &ProcessWaits, now: Instant) {
        for view in waits.lags(now) {
            self.lag.with_label_values(&[&view.worker.to_string()]).set(known_seconds(view.lag));
        }
        self.mailboxes.set(known_seconds(waits.mailboxes(now)));
    }
}

/// A wait in seconds; 0 if it is unknown or stale.
fn known_seconds(wait: Option<WaitReading>) -> f64 {
    wait.filter(|wait| !wait.is_stale()).map_or(0.0, |wait| wait.wait.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::shedding::thread_cpu::ThreadCpuTime;

    /// X4, O3: the lag of a stuck worker thread and a mailbox wait are 0 when they are stale
    #[test]
    fn a_stale_wait_is_0() {
        let (t0, ms) = (clock::now(), Duration::from_millis);
        let metrics = SheddingMetrics::register(&Registry::new()).unwrap();
        let waits = ProcessWaits::new(t0);
        let cpu = Some(ThreadCpuTime { used: ms(0), delayed: ms(0) });
        waits.lag_meter(3, cpu, t0).record(t0 + ms(60), t0 + ms(100), cpu);
        waits.mailboxes.publish(ms(20), t0 + ms(100));
        for (at, lag, mailboxes) in [(1_100, 0.04, 0.02), (1_101, 0.0, 0.0)] {
            metrics.observe_waits(&waits, t0 + ms(at));
            let read = (metrics.lag.with_label_values(&["3"]).get(), metrics.mailboxes.get());
            assert_eq!(read, (lag, mailboxes), "after {at} ms");
        }
    }
}
