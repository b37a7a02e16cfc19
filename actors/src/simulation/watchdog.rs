//! Ends a scenario that hangs, so that it fails with its seed instead of blocking the caller.
//!
//! Two kinds of hang are detected within the scenario by counting steps: actors and clients that never become idle, and
//! a circuit that is tried without end. An actor that never returns blocks the scenario's thread; this watchdog detects
//! it. It compares an event counter, so a slow machine is no hang: only a scenario without any event between two
//! checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Time between two checks.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Counter of a scenario's events.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    events: Arc<AtomicU64>,
    step: Arc<AtomicU64>,
}

impl Progress {
    /// Records an event.
    pub(super) fn record(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WatchdogError {
    /// No event since this step.
    Stuck { step: u64 },
    /// The sender is gone.
    Disconnected,
}

/// Whether there was no event since the last check.
fn has_no_progress(before: &mut Option<u64>, progress: &Progress) -> bool {
    let events = progress.events.load(Ordering::Relaxed);
    before.replace(events) == Some(events)
}

/// Waits for the result as long as there are events.
pub(super) fn wait_for_result<T>(
    result: &Receiver<T>,
    progress: &Progress,
    stuck_after: Duration,
) -> Result<T, WatchdogError> {
    let mut before = None;
    loop {
        match result.recv_timeout(stuck_after) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(WatchdogError::Disconnected),
            Err(RecvTimeoutError::Timeout) if has_no_progress(&mut before, progress) => {
                return Err(WatchdogError::Stuck { step: progress.step.load(Ordering::Relaxed) });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_hang_is_reported_with_its_step_and_a_result_is_returned() {
        let (send, result) = mpsc::channel();
        let progress = Progress::default();
        progress.record(7);
        assert_eq!(
            wait_for_result(&result, &progress, Duration::from_millis(1)),
            Err(WatchdogError::Stuck { step: 7 })
        );
        send.send("done").unwrap();
        assert_eq!(wait_for_result(&result, &progress, STUCK_AFTER), Ok("done"));
        drop(send);
        assert_eq!(wait_for_result(&result, &progress, STUCK_AFTER), Err(WatchdogError::Disconnected));
    }

    #[test]
    fn a_slow_scenario_is_no_hang() {
        let progress = Progress::default();
        let mut before = None;
        for step in 0..3 {
            progress.record(step);
            assert!(!has_no_progress(&mut before, &progress));
        }
        assert!(has_no_progress(&mut before, &progress));
    }
}
