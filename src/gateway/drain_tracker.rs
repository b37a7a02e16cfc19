//! Tracks a drain: sets its phases, publishes and logs its progress (G4).
//!
//! The progress is collected ten times a second. A line of it is written when the drain begins, after 1 s and 5 s, then every 10 s, and
//! when the last request has ended.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use slog::info;
use tidegate_actors::clock;

use crate::degradation::cause::Moment;
use crate::process::configurations::Configurations;
use crate::process::drain_progress::{DrainProgress, drain_progress};
use crate::process::drain_report::{DrainCause, DrainReport};
use crate::process::{DrainPhase, Process};
use crate::server::open_connections;
use crate::telemetry::millis;

const POLL_EVERY: Duration = Duration::from_millis(10);
/// The time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The drain of the process.
pub(super) struct DrainTracker<'a> {
    configurations: &'a Arc<Configurations>,
    process: Arc<Process>,
    /// Open connections of the data listener, by worker.
    open: Vec<Arc<AtomicUsize>>,
    report: DrainReport,
    reported: Instant,
    log_pace: LogPace,
}

impl<'a> DrainTracker<'a> {
    pub(super) fn new(
        configurations: &'a Arc<Configurations>,
        open: Vec<Arc<AtomicUsize>>,
        cause: DrainCause,
        deadline: Instant,
    ) -> Self {
        let process = Arc::clone(&configurations.current().process);
        let began = Moment { now: clock::now(), wall: clock::wall() };
        let (phase, progress) = (DrainPhase::Draining, DrainProgress::default());
        let report = DrainReport { cause, began, deadline, phase, progress, cut_off: None };
        let log_pace = LogPace::new(began.now);
        Self { configurations, process, open, report, reported: began.now, log_pace }
    }

    /// Begins the drain with this phase.
    pub(super) fn begin(&mut self, phase: DrainPhase, delay: Duration) {
        self.report.phase = phase;
        self.process.drain.send_replace(phase);
        info!(self.process.log, "draining"; "in_flight" => self.requests(), "connections" => open_connections(&self.open),
            "delay_ms" => millis(delay), "cause" => self.report.cause.as_str());
        self.report();
    }

    pub(super) fn set_phase(&mut self, phase: DrainPhase) {
        self.report.phase = phase;
        self.process.drain.send_replace(phase);
        self.report();
    }

    /// The end of `server.drain_timeout`.
    pub(super) fn deadline(&self) -> Instant {
        self.report.deadline
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.report.deadline = deadline;
    }

    /// Begins to cut off what is left, and publishes the result.
    pub(super) fn end(&mut self, cut_off: usize) {
        self.report.phase = DrainPhase::CuttingOff;
        self.report.cut_off = Some(cut_off);
        self.process.drain.send_replace(DrainPhase::CuttingOff);
        self.process.drain_report.publish(self.report.clone());
    }

    /// Requests in flight on the data listener.
    pub(super) fn requests(&self) -> usize {
        self.configurations.current().actors.monitor.in_flight()
    }

    /// Whether no request and no connection is left.
    pub(super) fn is_done(&self) -> bool {
        self.requests() == 0 && open_connections(&self.open) == 0
    }

    /// Waits until `is_done`, at most until `until`, and reports meanwhile.
    pub(super) async fn wait_until(&mut self, until: Instant, is_done: impl Fn(&Self) -> bool) {
        loop {
            let now = clock::now();
            if now >= until || is_done(self) {
                return;
            }
            if now.saturating_duration_since(self.reported) >= REPORT_EVERY {
                self.report();
            }
            tokio::time::sleep(POLL_EVERY.min(until.saturating_duration_since(clock::now()))).await;
        }
    }

    /// Collects, publishes and logs the progress.
    pub(super) fn report(&mut self) -> DrainProgress {
        let progress = drain_progress(&self.configurations.current(), open_connections(&self.open));
        self.reported = clock::now();
        self.report.progress = progress.clone();
        self.process.drain_report.publish(self.report.clone());
        if self.log_pace.is_due(&progress, self.reported) {
            info!(self.process.log, "drain progress"; "requests" => progress.requests, "connections" => progress.connections,
                "streams" => progress.streams, "unsent_bytes" => progress.unsent_bytes, "oldest_ms" => progress.oldest_ms,
                "by_bucket" => progress.by_bucket(), "remaining_ms" => millis(self.report.remaining(self.reported)));
        }
        progress
    }
}

/// When the progress is logged.
struct LogPace {
    began: Instant,
    /// The time of the next line, since the begin.
    next: Duration,
    /// Whether the last line had requests.
    had_requests: bool,
}

impl LogPace {
    fn new(began: Instant) -> Self {
        Self { began, next: Duration::ZERO, had_requests: false }
    }

    /// Whether a line is due now.
    fn is_due(&mut self, progress: &DrainProgress, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.began);
        let is_last = self.had_requests && progress.requests == 0;
        if passed < self.next && !is_last {
            return false;
        }
        self.had_requests = progress.requests > 0;
        self.next = match passed.as_secs() {
            0 => Duration::from_secs(1),
            1..5 => Duration::from_secs(5),
            seconds => Duration::from_secs(seconds.saturating_sub(5) / 10 * 10 + 15),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: a line at the begin, after 1 s and 5 s, then every 10 s, and one when the last request has ended
    #[test]
    fn progress_is_logged_at_a_readable_pace() {
        let began = clock::now();
        let mut pace = LogPace::new(began);
        let with = |requests| DrainProgress { requests, ..DrainProgress::default() };
        let due = |pace: &mut LogPace, requests: usize, tenths: u64| {
            pace.is_due(&with(requests), began + Duration::from_millis(100 * tenths))
        };
        let lines: Vec<u64> = (0..400).filter(|at| due(&mut pace, 1, *at)).collect();
        assert_eq!(lines, [0, 10, 50, 150, 250, 350]);
        let lines: Vec<u64> = (400..420).filter(|at| due(&mut pace, 0, *at)).collect();
        assert_eq!(lines, [400], "the last request has ended");
        let mut idle = LogPace::new(began);
        assert_eq!((0..9).filter(|at| due(&mut idle, 0, *at)).count(), 1);
    }
}
