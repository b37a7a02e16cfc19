//! Whether the admitted requests of a load stay below their rate limit, across changes of the limit (L1, G3).
//!
//! The bound is that of GCRA for every window: at most the burst plus the tokens that the rate gives in the window. Only the client's times
//! are known: a request was admitted at some time between its send time and its answer. So a window begins with the earliest send time and
//! ends with the latest answer of its requests, and has the highest rate that can have been current. No window of this check exceeds the
//! bound unless the gateway has. When a limit is lowered, the gateway counts at most the new burst as used, and so does this check.

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

/// The fullest window that ends with the last admitted request.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Earliest send time.
    begin: Instant,
    /// Latest answer, or the time from which a lowered limit can have held.
    end: Instant,
    /// Admitted requests less the tokens that the rate gave.
    level: f64,
}

/// The check of one load.
pub(crate) struct LimitCheck {
    /// The limit in each overlay.
    limits: Vec<RateLimit>,
    timeline: SharedTimeline,
    window: Option<Window>,
    admitted: u64,
    /// The highest level above the burst; negative while no window was full.
    excess_max: f64,
}

impl LimitCheck {
    /// None if a configuration has no limit.
    pub(crate) fn new(limits: Option<Vec<RateLimit>>, timeline: SharedTimeline) -> Option<Self> {
        let limits = limits.filter(|limits| !limits.is_empty())?;
        Some(Self { limits, timeline, window: None, admitted: 0, excess_max: f64::NEG_INFINITY })
    }

    /// Counts an admitted request. The calls are in the order of the answers.
    pub(crate) fn admit(&mut self, sent: Instant, ended: Instant) {
        self.admitted += 1;
        let mut fullest = Window { begin: sent, end: ended, level: 1.0 - self.tokens(sent, ended) };
        if let Some(window) = self.window {
            let (begin, end) = (window.begin.min(sent), window.end.max(ended));
            let used_max = self.lowest_burst(window.end, end);
            let level = window.level.min(used_max) - self.tokens(window.end, end);
            // A window without this request, which may have been admitted long before it.
            let without = Window { begin: window.begin, end, level };
            let with = Window { begin, end, level: level + 1.0 - self.tokens(begin, window.begin) };
            for other in [with, without] {
                if other.level > fullest.level {
                    fullest = other;
                }
            }
        }
        let burst = self.highest(sent, ended, |limit| limit.burst);
        self.excess_max = self.excess_max.max(fullest.level - burst);
        // It may have been admitted before its limit was lowered. Then the tokens of the time since its send time count from there on.
        let used_max = self.lowest_burst(sent, ended);
        let is_above = fullest.level > used_max;
        let (level, end) = if is_above { (used_max, sent) } else { (fullest.level, fullest.end) };
        self.window = Some(Window { level, end, ..fullest });
    }

    /// The tokens of the highest rate that can have been current between two times.
    fn tokens(&self, from: Instant, to: Instant) -> f64 {
        let seconds = to.saturating_duration_since(from).as_secs_f64();
        seconds * self.highest(from, to, |limit| limit.per_second)
    }

    /// The lowest burst that can have been current between two times.
    fn lowest_burst(&self, from: Instant, to: Instant) -> f64 {
        let current = self.timeline.borrow().between(from, to);
        let limits = current.filter_map(|number| overlay_of(&self.limits, number));
        limits.map(|limit| limit.burst).fold(f64::INFINITY, f64::min)
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
        assert!(excess(refused_late) > 0.5, "of 10 that are used 4 count, and 4 is the burst");
        let steady =
            (0..4).map(|_| (2_000, 2_000)).chain((1..=50).map(|tick| (2_000 + tick * 20, 2_000 + tick * 20)));
        assert!(excess(steady.clone()).abs() < 1e-6);
        assert!(excess(steady.chain([(3_000, 3_000)])) > 0.9);
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
