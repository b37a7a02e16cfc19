//! Whether the admitted requests of a load stay below their rate limit, across changes of the limit (L1, G3).
//!
//! The bound is that of GCRA for every window: at most the largest burst that was current in the window plus the tokens that the rates
//! gave in it. So a limit that is lowered and raised in turn gives nothing for the changes. Only the client's times are known: a request
//! was admitted at some time between its send time and its answer. So a window begins with the earliest send time and ends with the latest
//! answer of its requests, and has the highest rate that can have been current. No window of this check exceeds the bound unless the
//! gateway has.

use std::time::Instant;

use super::SharedTimeline;
use super::placeholders::overlay_of;
use crate::statistics::Statistics;

/// A configured rate limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimit {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

/// The fullest window with a largest burst that ends with the last admitted request.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Earliest send time.
    begin: Instant,
    /// Latest answer.
    end: Instant,
    /// Admitted requests less the tokens that the rate gave.
    level: f64,
    /// The largest burst that can have been current.
    burst: f64,
}

/// The check of one load.
pub(crate) struct LimitCheck {
    /// The limit in each overlay.
    limits: Vec<RateLimit>,
    timeline: SharedTimeline,
    /// At most one for each burst of a configuration.
    windows: Vec<Window>,
    admitted: u64,
    /// The highest level above the burst; negative while no window was full.
    excess_max: f64,
}

impl LimitCheck {
    /// None if a configuration has no limit.
    pub(crate) fn new(limits: Option<Vec<RateLimit>>, timeline: SharedTimeline) -> Option<Self> {
        let limits = limits.filter(|limits| !limits.is_empty())?;
        Some(Self { limits, timeline, windows: Vec::new(), admitted: 0, excess_max: f64::NEG_INFINITY })
    }

    /// Counts an admitted request. The calls are in the order of the answers.
    pub(crate) fn admit(&mut self, sent: Instant, ended: Instant) {
        self.admitted += 1;
        let burst = self.highest(sent, ended, |limit| limit.burst);
        let mut fullest =
            vec![Window { begin: sent, end: ended, level: 1.0 - self.tokens(sent, ended), burst }];
        for window in &self.windows {
            let (begin, end) = (window.begin.min(sent), window.end.max(ended));
            let level = window.level - self.tokens(window.end, end);
            let burst = window.burst.max(self.highest(window.end, end, |limit| limit.burst));
            // A window without this request, which may have been admitted long before it.
            let without = Window { begin: window.begin, end, level, burst };
            let level = level + 1.0 - self.tokens(begin, window.begin);
            let with =
                Window { begin, end, level, burst: burst.max(self.highest(begin, end, |limit| limit.burst)) };
            for other in [with, without] {
                match fullest.iter_mut().find(|known| known.burst == other.burst) {
                    Some(known) if known.level < other.level => *known = other,
                    Some(_) => {}
                    None => fullest.push(other),
                }
            }
        }
        let excess = fullest.iter().map(|window| window.level - window.burst);
        self.excess_max = excess.fold(self.excess_max, f64::max);
        self.windows = fullest;
    }

    /// The tokens of the highest rate that can have been current between two times.
    fn tokens(&self, from: Instant, to: Instant) -> f64 {
        let seconds = to.saturating_duration_since(from).as_secs_f64();
        seconds * self.highest(from, to, |limit| limit.per_second)
    }

    fn highest(&self, from: Instant, to: Instant, value: impl Fn(&RateLimit) -> f64) -> f64 {
        let current = self.timeline.borrow().between(from, to);
        let limits = current.filter_map(|number| overlay_of(&self.limits, number));
        limits.map(value).fold(0.0, f64::max)
    }

    /// Writes `PREFIX.admitted` and `PREFIX.above_limit_max`.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        into.set(format!("{prefix}.admitted"), self.admitted as f64);
        if self.admitted > 0 {
            into.set(format!("{prefix}.above_limit_max"), self.excess_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::Timeline;
    use super::*;
    use crate::clock;

    /// Configuration 1 with 100/s and a burst of 10; from 1,000 ms on number 2 with 50/s and a burst of 4.
    fn check() -> (LimitCheck, Instant) {
        let start = clock::now();
        let at = start + Duration::from_secs(1);
        let mut timeline = Timeline::new(start);
        timeline.request(at);
        timeline.install(at);
        let limits = [(100.0, 10.0), (50.0, 4.0)].map(|(per_second, burst)| RateLimit { per_second, burst });
        let timeline = Rc::new(RefCell::new(timeline));
        (LimitCheck::new(Some(limits.to_vec()), timeline).unwrap(), start)
    }

    /// The excess after requests with these send times and answers.
    fn excess(requests: impl IntoIterator<Item = (u64, u64)>) -> f64 {
        let (mut check, start) = check();
        for (sent, ended) in requests {
            check.admit(start + Duration::from_millis(sent), start + Duration::from_millis(ended));
        }
        let mut statistics = Statistics::default();
        check.summarize("x", &mut statistics);
        statistics.value("x.above_limit_max").unwrap()
    }

    #[test]
    fn a_burst_and_then_the_rate_are_within_the_limit() {
        let burst = (0..10).map(|_| (0, 0));
        let steady = (1..=80).map(|tick| (tick * 10, tick * 10));
        assert!(excess(burst.clone().chain(steady.clone())).abs() < 1e-6);
        assert!((excess(burst.chain(steady).chain([(800, 800)])) - 1.0).abs() < 1e-6, "one too many");
    }

    #[test]
    fn a_lowered_limit_holds_from_its_reply_on() {
        let refused_late = (0..10).map(|_| (990, 990)).chain((0..3).map(|_| (1_005, 1_005)));
        assert!(excess(refused_late) > 0.5, "13 of a burst of 10");
        let below = (2_000..2_005).map(|at| (at, at));
        assert!(excess(below) > 0.5, "5 of a burst of 4");
        let steady =
            (0..4).map(|_| (2_000, 2_000)).chain((1..=50).map(|tick| (2_000 + tick * 20, 2_000 + tick * 20)));
        assert!(excess(steady.clone()).abs() < 1e-6);
        assert!(excess(steady.chain([(3_000, 3_000)])) > 0.9);
    }

    #[test]
    fn a_limit_that_is_lowered_and_raised_gives_nothing_for_the_changes() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timeline = Timeline::new(start);
        for change in 1..=4 {
            timeline.request(at(change * 100));
            timeline.install(at(change * 100));
        }
        let limits = [(10.0, 10.0), (10.0, 2.0)].map(|(per_second, burst)| RateLimit { per_second, burst });
        let timeline = Rc::new(RefCell::new(timeline));
        let mut check = LimitCheck::new(Some(limits.to_vec()), timeline).unwrap();
        (0..10).for_each(|_| check.admit(at(0), at(0)));
        [150, 250, 350].into_iter().for_each(|millis| check.admit(at(millis), at(millis)));
        assert!(check.excess_max <= 0.0, "{}: the rate has given three", check.excess_max);
        (0..5).for_each(|_| check.admit(at(450), at(450)));
        assert!(check.excess_max > 3.0, "{}", check.excess_max);
    }

    #[test]
    fn a_slow_request_may_have_been_admitted_early() {
        let burst = (0..10).map(|_| (500, 500));
        // Admitted at some time since 0 ms, when the bucket was full.
        assert!(excess(burst.clone().chain([(0, 501)])) <= 0.0);
        assert!(excess(burst.chain([(500, 501)])) > 0.8);
    }

    #[test]
    fn a_request_may_have_been_admitted_before_its_limit_was_lowered() {
        let before = (0..9).map(|_| (999, 999));
        // Four are used after the change, whenever the slow request was admitted. A fifth needs 20 ms.
        let (slow, later) = ((998, 1_001), (1_022, 1_022));
        assert!(excess(before.clone().chain([slow, later])) <= 0.0);
        assert!(excess(before.chain([slow, later, later, later])) > 0.5);
    }

    #[test]
    fn a_load_without_a_limit_has_no_check() {
        let (check, _) = check();
        assert!(LimitCheck::new(None, check.timeline.clone()).is_none());
        assert!(LimitCheck::new(Some(Vec::new()), check.timeline).is_none());
    }
}
