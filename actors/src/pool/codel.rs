//! Whether a queue is a burst or an overload (controlled delay, RFC 8289, as servers use it; Facebook's "Fail at Scale").
//!
//! A burst fills a queue and drains; its delay is short-lived and worth waiting for. A queue whose oldest has waited longer
//! than `target` at every moment of an `interval` will not drain: more comes than is served, and first come first served
//! then serves everybody just before they give up. So from then on the newest is served first, who still has its time, and
//! those who waited longer than `target` are told at once. Overload ends when the queue has been empty: newest-first keeps
//! the delay of those it serves short, so that their delay cannot say it.
//!
//! Deliberately absent: the square root by which CoDel drops ever more often. It makes senders of a stream slow down; requests
//! of many clients do not.

use std::time::{Duration, Instant};

/// The two times of controlled delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodelSettings {
    /// A wait that is no worry.
    pub(crate) target: Duration,
    /// How long a longer one must last to be one.
    pub(crate) interval: Duration,
}

/// What is known of a queue's delay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codel {
    settings: CodelSettings,
    /// Since when somebody has waited longer than the target at every look.
    above_since: Option<Instant>,
    overloaded: bool,
}

impl Codel {
    pub(crate) fn new(settings: CodelSettings) -> Self {
        Self { settings, above_since: None, overloaded: false }
    }

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.settings);
    }

    /// Looks at the queue: since when its oldest waits, if anybody does.
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

    /// Whether the newest goes first.
    pub(crate) fn is_overloaded(self) -> bool {
        self.overloaded
    }

    /// Whether, in overload, who waits since then has waited too long.
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

    /// P3: a burst is served in its order: its delay falls below the target before an interval is over
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
        /// P3: overload begins only after an interval of nothing but late looks, and ends with an empty queue only
        #[test]
        fn overload_matches_the_model(looks in prop::collection::vec((1u64..60, prop::option::weighted(0.9, 0u64..60)), 1..200)) {
            let (mut codel, mut now) = (Codel::new(DELAY), clock::now());
            let (mut late_since, mut model) = (None::<Instant>, false);
            for (step, wait) in looks {
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
