//! Distinguishes a burst from an overload in a wait queue (controlled delay: RFC 8289; Facebook, "Fail at Scale").
//!
//! The queue is overloaded once its oldest waiter has waited longer than `target` at every check during an `interval`.
//! Then arrivals exceed the throughput, and first come, first served would serve every request just before it times
//! out. So an overloaded queue serves the newest first and sheds waiters older than `target`. Overload ends only when
//! the queue is empty: newest first keeps the delay of the served waiters short, so a short delay is no sign of
//! recovery.
//!
//! CoDel's square-root law (drop ever more often) is left out: it slows the sender of a stream, not requests of many
//! clients.

use std::time::{Duration, Instant};

/// The two times of controlled delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodelSettings {
    /// Acceptable wait.
    pub(crate) target: Duration,
    /// How long waits must exceed `target` before the queue counts as overloaded.
    pub(crate) interval: Duration,
}

/// State of one queue's overload detection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codel {
    settings: CodelSettings,
    /// Start of the period in which every check found a wait above the target.
    above_since: Option<Instant>,
    overloaded: bool,
}

impl Codel {
    pub(crate) fn new(settings: CodelSettings) -> Self {
        Self { settings, above_since: None, overloaded: false }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.settings);
    }

    /// Checks the queue; `oldest` is the arrival time of its oldest waiter.
    pub(crate) fn update(&mut self, oldest: Option<Instant>, now: Instant) {
        let Some(oldest) = oldest else { return self.reset() };
        let due = oldest + self.settings.target;
        if now > due {
            let since = *self.above_since.get_or_insert(due);
            self.overloaded |= now.saturating_duration_since(since) >= self.settings.interval;
        } else {
            self.above_since = None;
        }
    }

    /// Whether the newest waiter is served first.
    pub(crate) fn is_overloaded(self) -> bool {
        self.overloaded
    }

    /// Whether a waiter that came at `since` is to be shed in overload.
    pub(crate) fn is_late(self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) > self.settings.target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const DELAY: CodelSettings = CodelSettings { target: ms(20), interval: ms(100) };

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// P3: a burst is served in order: its delay falls below the target within an interval
    #[test]
    fn a_burst_is_no_overload() {
        let (mut codel, t0) = (Codel::new(DELAY), clock::now());
        for wait in [0, 30, 60, 110] {
            codel.update(Some(t0), t0 + ms(wait));
            assert!(!codel.is_overloaded(), "{wait} ms");
        }
        codel.update(Some(t0 + ms(100)), t0 + ms(115));
        codel.update(Some(t0 + ms(100)), t0 + ms(210));
        assert!(!codel.is_overloaded(), "the interval began anew");
    }

    /// P3: a delay above the target for a whole interval is overload, until the queue has been empty
    #[test]
    fn a_standing_queue_is_overload_until_it_is_gone() {
        let (mut codel, t0) = (Codel::new(DELAY), clock::now());
        codel.update(Some(t0), t0 + ms(21));
        codel.update(Some(t0 + ms(60)), t0 + ms(119));
        assert!(!codel.is_overloaded());
        codel.update(Some(t0 + ms(60)), t0 + ms(120));
        assert!(codel.is_overloaded());
        assert!(!codel.is_late(t0, t0 + ms(20)) && codel.is_late(t0, t0 + ms(21)));
        codel.update(Some(t0 + ms(130)), t0 + ms(131));
        assert!(codel.is_overloaded(), "a short delay is the newest's, not the queue's");
        codel.update(None, t0 + ms(140));
        assert!(!codel.is_overloaded());
    }

    proptest! {
        /// P3: overload begins only after an interval in which every check was late, and ends only with an empty queue
        #[test]
        fn overload_matches_the_model(checks in prop::collection::vec((1u64..60, prop::option::weighted(0.9, 0u64..60)), 1..200)) {
            let (mut codel, mut now) = (Codel::new(DELAY), clock::now());
            let (mut late_since, mut model) = (None::<Instant>, false);
            for (step, wait) in checks {
                now += ms(step);
                codel.update(wait.map(|wait| now - ms(wait)), now);
                match wait {
                    None => (late_since, model) = (None, false),
                    Some(wait) if wait > 20 => {
                        let since = *late_since.get_or_insert(now - ms(wait - 20));
                        model |= now - since >= DELAY.interval;
                    }
                    Some(_) => late_since = None,
                }
                prop_assert_eq!(codel.is_overloaded(), model);
            }
        }
    }
}
