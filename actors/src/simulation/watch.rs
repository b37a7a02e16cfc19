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
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Beats with all that an episode does.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse {
    beats: Arc<AtomicU64>,
    step: Arc<AtomicU64>,
}

impl Pulse {
    /// Something happened.
    pub(super) fn beat(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing happens any more since this step.
    Stuck { step: u64 },
    /// Whoever was to send it is gone.
    Gone,
}

/// Whether nothing has happened since the last look.
fn is_still(before: &mut Option<u64>, pulse: &Pulse) -> bool {
    let beats = pulse.beats.load(Ordering::Relaxed);
    before.replace(beats) == Some(beats)
}

/// Waits for the result for as long as something happens.
pub(super) fn watch<T>(result: &Receiver<T>, pulse: &Pulse, patience: Duration) -> Result<T, Lost> {
    let mut before = None;
    loop {
        match result.recv_timeout(patience) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Lost::Gone),
            Err(RecvTimeoutError::Timeout) if is_still(&mut before, pulse) => {
                return Err(Lost::Stuck { step: pulse.step.load(Ordering::Relaxed) });
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
        let pulse = Pulse::default();
        pulse.beat(7);
        assert_eq!(watch(&result, &pulse, Duration::from_millis(1)), Err(Lost::Stuck { step: 7 }));
        send.send("done").unwrap();
        assert_eq!(watch(&result, &pulse, PATIENCE), Ok("done"));
        drop(send);
        assert_eq!(watch(&result, &pulse, PATIENCE), Err(Lost::Gone));
    }

    #[test]
    fn what_is_slow_is_not_given_up() {
        let pulse = Pulse::default();
        let mut before = None;
        for step in 0..3 {
            pulse.beat(step);
            assert!(!is_still(&mut before, &pulse));
        }
        assert!(is_still(&mut before, &pulse));
    }
}
