//! Checks a rate limit that changes, with a leaky bucket, independently of the product's algorithm.
//!
//! Used tokens stay used, at most the whole burst of a new limit. The rate of the limit in force drains them, and an admission
//! must find room in the burst that is in force at its time. Besides, every window has at most the tokens that the rates gave in
//! it and the largest burst in force, so a limit that is lowered and raised in turn gives nothing for the changes. Between the
//! commit of a change and the step in which the limiter applies it, the higher of both rates drains; the new burst holds from the
//! commit on.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use tidegate_config::RateLimit;

/// A limit and the time from which it holds.
#[derive(Debug, Clone, Copy)]
struct Period {
    from: u64,
    per_nanosecond: f64,
    burst: f64,
}

/// An admission.
#[derive(Debug, Clone)]
struct Admission {
    at: u64,
    /// Tokens in use afterwards, by the burst in force.
    level: f64,
    /// For each period that began before: the fullest window since then, in tokens beyond those of the rates.
    windows: Vec<f64>,
}

/// One limit with its keys. Times are in nanoseconds.
#[derive(Debug)]
pub(super) struct ChangingRateCheck<K> {
    periods: Vec<Period>,
    /// The rate of a change that is committed and not applied.
    pending: Option<f64>,
    /// Admissions by time.
    admissions: HashMap<K, Vec<Admission>>,
}

#[expect(clippy::cast_precision_loss, reason = "days in nanoseconds fit")]
fn float(nanos: u64) -> f64 {
    nanos as f64
}

impl<K: Eq + Hash + Copy + Debug> ChangingRateCheck<K> {
    pub(super) fn new(limit: RateLimit, from: u64) -> Self {
        let per_nanosecond = limit.requests_per_second / 1e9;
        let burst = f64::from(limit.burst.get()) + 1e-3;
        let periods = vec![Period { from, per_nanosecond, burst }];
        Self { periods, pending: None, admissions: HashMap::new() }
    }

    /// Another limit is committed.
    pub(super) fn change(&mut self, limit: RateLimit, from: u64) {
        let next = limit.requests_per_second / 1e9;
        let before = self.periods.last().map_or(0.0, |period| period.per_nanosecond);
        let burst = f64::from(limit.burst.get()) + 1e-3;
        self.periods.push(Period { from, per_nanosecond: before.max(next), burst });
        self.pending = Some(next);
    }

    /// The limiter has applied the change.
    pub(super) fn apply(&mut self, from: u64) {
        if let (Some(per_nanosecond), Some(last)) = (self.pending.take(), self.periods.last().copied()) {
            self.periods.push(Period { from, per_nanosecond, ..last });
        }
    }

    fn ends(&self) -> impl Iterator<Item = (&Period, u64)> {
        let ends = self.periods.iter().skip(1).map(|period| period.from).chain([u64::MAX]);
        self.periods.iter().zip(ends)
    }

    /// What is left at `to` of the tokens that were in use at `from`. A lowered burst is used up at most.
    fn left(&self, level: f64, from: u64, to: u64) -> f64 {
        self.ends().filter(|(period, end)| from < *end && period.from <= to).fold(
            level,
            |level, (period, end)| {
                let level = if period.from >= from { level.min(period.burst) } else { level };
                let span = to.min(end).saturating_sub(from.max(period.from));
                (level - float(span) * period.per_nanosecond).max(0.0)
            },
        )
    }

    /// The burst in force at a time; at the time of a change, the larger one.
    fn burst(&self, at: u64) -> f64 {
        let in_force = self.ends().filter(|(period, end)| period.from <= at && at <= *end);
        in_force.map(|(period, _)| period.burst).fold(0.0, f64::max)
    }

    /// The tokens that the rates in force give between two times.
    fn given(&self, from: u64, to: u64) -> f64 {
        let spans =
            self.ends().map(|(period, end)| (period, to.min(end).saturating_sub(from.max(period.from))));
        spans.map(|(period, span)| float(span) * period.per_nanosecond).sum()
    }

    /// The fullest windows after an admission of one token, and the highest excess of one over the largest burst in it.
    fn windows(&self, before: Option<&Admission>, at: u64) -> (Vec<f64>, f64) {
        let given = before.map_or(0.0, |before| self.given(before.at, at));
        let begun =
            self.periods.iter().enumerate().filter(|(number, period)| *number == 0 || period.from < at);
        let mut excess = f64::NEG_INFINITY;
        let windows = begun.map(|(number, _)| {
            let level = before.and_then(|before| before.windows.get(number)).copied().unwrap_or(0.0);
            let level = (level - given).max(0.0) + 1.0;
            let in_force = self.periods[number..].iter().filter(|period| period.from <= at);
            excess = excess.max(level - in_force.map(|period| period.burst).fold(0.0, f64::max));
            level
        });
        (windows.collect(), excess)
    }

    /// Records an admission of one token; fails if the limit is exceeded.
    pub(super) fn record_admitted(&mut self, key: K, at: u64) -> Result<(), String> {
        if self.periods.first().is_some_and(|first| at <= first.from) {
            // Perhaps the limit came afterwards.
            return Ok(());
        }
        let mut admissions = self.admissions.remove(&key).unwrap_or_default();
        let index = admissions.partition_point(|admission| admission.at <= at);
        admissions.insert(index, Admission { at, level: 0.0, windows: Vec::new() });
        let mut result = Ok(());
        for i in index..admissions.len() {
            let at = admissions[i].at;
            let before = i.checked_sub(1).map(|before| &admissions[before]);
            let level = 1.0 + before.map_or(0.0, |before| self.left(before.level, before.at, at));
            let (windows, excess) = self.windows(before, at);
            let burst = self.burst(at);
            if level > burst && result.is_ok() {
                result = Err(format!("{key:?}: level {level:.3}, burst {burst:.3}"));
            }
            if excess > 0.0 && result.is_ok() {
                result =
                    Err(format!("{key:?}: a window has {excess:.3} beyond its rates and its largest burst"));
            }
            admissions[i] = Admission { at, level, windows };
        }
        self.admissions.insert(key, admissions);
        result
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::LimitMode;

    use super::*;

    fn limit(requests_per_second: f64, burst: u32) -> RateLimit {
        RateLimit { requests_per_second, burst: burst.try_into().unwrap(), mode: LimitMode::Enforce }
    }

    const SECOND: u64 = 1_000_000_000;

    /// G3, L1: a lowered limit holds at once, and tokens stay used
    #[test]
    fn an_excess_admission_across_a_change_is_detected() {
        let mut rates = ChangingRateCheck::new(limit(1.0, 3), 0);
        assert!((1..=3).all(|at| rates.record_admitted((), at).is_ok()));
        rates.change(limit(1.0, 2), 10);
        rates.apply(20);
        assert!(rates.record_admitted((), SECOND + 5).is_err(), "two of two tokens are in use");
        let mut raised = ChangingRateCheck::new(limit(1.0, 1), 0);
        assert!(raised.record_admitted((), 1).is_ok());
        raised.change(limit(10.0, 3), 10);
        assert!(raised.record_admitted((), 11).is_ok() && raised.record_admitted((), 12).is_ok());
        assert!(raised.record_admitted((), 13).is_err(), "no more than the new burst");
    }

    /// G3, L1: a limit that is lowered and raised gives out no token twice
    #[test]
    fn an_admission_for_the_changes_alone_is_detected() {
        let mut rates = ChangingRateCheck::new(limit(1.0, 4), 0);
        assert!((1..=4).all(|at| rates.record_admitted((), at).is_ok()));
        for (limit, at) in [(limit(1.0, 1), 10), (limit(1.0, 4), 20)] {
            rates.change(limit, at);
            rates.apply(at + 1);
        }
        assert!(rates.record_admitted((), 30).is_err(), "all four tokens are in use");
    }

    /// G3: until the change is applied, the old rate may drain
    #[test]
    fn the_higher_rate_drains_until_a_change_is_applied() {
        let mut rates = ChangingRateCheck::new(limit(10.0, 2), 0);
        assert!(rates.record_admitted((), 1).is_ok() && rates.record_admitted((), 2).is_ok());
        rates.change(limit(1.0, 2), 3);
        rates.apply(SECOND / 10 + 3);
        assert!(rates.record_admitted((), SECOND / 10 + 4).is_ok(), "the old rate has drained one");
        assert!(rates.record_admitted((), SECOND / 5 + 4).is_err(), "the new rate has not");
    }
}
