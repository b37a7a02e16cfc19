//! Who watches the simulation: an episode that hangs must end with its seed, not with the patience of whoever waits for it.
//!
//! Two ways to get nowhere are seen from within, in steps: actors and clients that never come to rest, and a circuit that is tried
//! for ever. The third, an actor that never returns, cannot be seen by the thread it hangs; for it there is this watch.
//! It looks at a counter, so a slow machine is no hang: only one on which nothing at all has happened between two looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// From one look to the next.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Beats with all that an episode does.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    events: Arc<AtomicU64>,
    step: Arc<AtomicU64>,
}

impl Progress {
    /// Something happened.
    pub(super) fn record(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WatchdogError {
    /// Nothing happens any more since this step.
    Stuck { step: u64 },
    /// Whoever was to send it is gone.
    Disconnected,
}

/// Whether nothing has happened since the last look.
fn has_no_progress(before: &mut Option<u64>, progress: &Progress) -> bool {
    let beats = progress.events.load(Ordering::Relaxed);
    before.replace(beats) == Some(beats)
}

/// Waits for the result for as long as something happens.
pub(super) fn wait_for_result<T>(
    result: &Receiver<T>,
    progress: &Progress,
    patience: Duration,
) -> Result<T, WatchdogError> {
    let mut before = None;
    loop {
        match result.recv_timeout(patience) {
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
    fn what_hangs_is_given_up_at_its_step_and_what_ends_is_not() {
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
    fn what_is_slow_is_not_given_up() {
        let progress = Progress::default();
        let mut before = None;
        for step in 0..3 {
            progress.record(step);
            assert!(!has_no_progress(&mut before, &progress));
        }
        assert!(has_no_progress(&mut before, &progress));
    }
}
