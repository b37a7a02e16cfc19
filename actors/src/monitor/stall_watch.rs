//! The stall watch: an actor that stands still while messages wait (S8).

use std::time::{Duration, Instant};

/// How long an actor may stand still.
const STALL_AFTER: Duration = Duration::from_secs(1);

/// What is known of one actor's progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallWatch {
    handled: u64,
    /// Since when it was seen with messages waiting and handled none. Only looks count: nobody may have looked for long.
    still_since: Option<Instant>,
    stalled: bool,
}

impl StallWatch {
    pub(crate) fn new() -> Self {
        Self { handled: 0, still_since: None, stalled: false }
    }

    /// Looks at how many messages wait and were handled; says so if the verdict changed.
    pub(crate) fn check(&mut self, waiting: usize, handled: u64, now: Instant) -> Option<bool> {
        let moved = handled != self.handled;
        self.handled = handled;
        self.still_since = match self.still_since {
            _ if waiting == 0 => None,
            Some(since) if !moved => Some(since),
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
        assert_eq!(watch.check(5, 0, t0 + ms(1250)), None, "said already");
        assert_eq!(watch.check(5, 1, t0 + ms(1500)), Some(false), "it moves");
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
            assert_eq!(watch.check(9, n, t0 + ms(30_000 + n * 250)), None, "it moves");
        }
        assert_eq!(watch.check(1, 99, t0 + ms(55_500)), None, "waiting since half a second");
    }
}
