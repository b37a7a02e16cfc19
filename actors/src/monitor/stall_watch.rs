//! The stall watch: detects an actor that handles nothing while messages wait (S8).

use std::time::{Duration, Instant};

/// Time without progress after which an actor is stalled.
const STALL_AFTER: Duration = Duration::from_secs(1);

/// The progress of one actor, as last checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallWatch {
    handled: u64,
    /// Time of the first check that found messages waiting and no progress since. Only checks count: the time between
    /// two of them is unknown.
    still_since: Option<Instant>,
    stalled: bool,
}

impl StallWatch {
    pub(crate) fn new() -> Self {
        Self { handled: 0, still_since: None, stalled: false }
    }

    /// Checks the number of messages that wait and that were handled. Returns the new state if it changed.
    pub(crate) fn check(&mut self, waiting: usize, handled: u64, now: Instant) -> Option<bool> {
        let progressed = handled != self.handled;
        self.handled = handled;
        self.still_since = match self.still_since {
            _ if waiting == 0 => None,
            Some(since) if !progressed => Some(since),
            _ => Some(now),
        };
        let stalled =
            self.still_since.is_some_and(|since| now.saturating_duration_since(since) >= STALL_AFTER);
        let changed = stalled != self.stalled;
        self.stalled = stalled;
        changed.then_some(stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// S8
    #[test]
    fn waiting_messages_without_progress_for_a_second_are_a_stall() {
        let t0 = clock::now();
        let mut watch = StallWatch::new();
        assert_eq!(watch.check(1, 0, t0), None);
        assert_eq!(watch.check(1, 0, t0 + ms(999)), None);
        assert_eq!(watch.check(1, 0, t0 + ms(1000)), Some(true));
        assert_eq!(watch.check(5, 0, t0 + ms(1250)), None, "reported already");
        assert_eq!(watch.check(5, 1, t0 + ms(1500)), Some(false), "it handles messages");
    }

    /// S8
    #[test]
    fn an_idle_or_busy_actor_does_not_stall() {
        let t0 = clock::now();
        let mut watch = StallWatch::new();
        for n in 0..100 {
            assert_eq!(watch.check(0, 0, t0 + ms(n * 250)), None, "nothing waits");
        }
        for n in 0..100 {
            assert_eq!(watch.check(9, n, t0 + ms(30_000 + n * 250)), None, "it handles messages");
        }
        assert_eq!(watch.check(1, 99, t0 + ms(55_500)), None, "waiting for half a second");
    }
}
