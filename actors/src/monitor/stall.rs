//! The stall watch: an actor that stands still while messages wait (S8).

use std::time::{Duration, Instant};

/// How long an actor may stand still.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of one actor's progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallWatch {
    handled: u64,
    /// When it last moved or had nothing to do.
    moved: Instant,
    stalled: bool,
}

impl StallWatch {
    pub(crate) fn new(now: Instant) -> Self {
        Self { handled: 0, moved: now, stalled: false }
    }

    /// Looks at how many messages wait and were handled; says so if the verdict changed.
    pub(crate) fn look(&mut self, waiting: usize, handled: u64, now: Instant) -> Option<bool> {
        if waiting == 0 || handled != self.handled {
            self.moved = now;
        }
        self.handled = handled;
        let stalled = now.saturating_duration_since(self.moved) >= PATIENCE;
        let changed = stalled != self.stalled;
        self.stalled = stalled;
        changed.then_some(stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// S8
    #[test]
    fn waiting_messages_without_progress_for_a_second_are_a_stall() {
        let t0 = Instant::now();
        let mut watch = StallWatch::new(t0);
        assert_eq!(watch.look(1, 0, t0), None);
        assert_eq!(watch.look(1, 0, t0 + ms(999)), None);
        assert_eq!(watch.look(1, 0, t0 + ms(1000)), Some(true));
        assert_eq!(watch.look(5, 0, t0 + ms(1250)), None, "said already");
        assert_eq!(watch.look(5, 1, t0 + ms(1500)), Some(false), "it moves");
    }

    /// S8
    #[test]
    fn an_idle_or_busy_actor_does_not_stall() {
        let t0 = Instant::now();
        let mut watch = StallWatch::new(t0);
        for n in 0..100 {
            assert_eq!(watch.look(0, 0, t0 + ms(n * 250)), None, "nothing waits");
        }
        for n in 0..100 {
            assert_eq!(watch.look(9, n, t0 + ms(30_000 + n * 250)), None, "it moves");
        }
        assert_eq!(watch.look(1, 99, t0 + ms(55_500)), None, "waiting since half a second");
    }
}
