//! The result of the last reload, for the status and the metrics (G3).

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tidegate_config::Problem;

use crate::degradation::cause::Moment;

/// The result of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReloadResult {
    /// The new configuration is in use.
    Applied,
    /// It does not differ from the one in use.
    Unchanged,
    /// It has problems, and the one before it stays in use.
    Refused,
}

impl ReloadResult {
    const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// The last reload.
#[derive(Debug, Clone)]
pub(crate) struct LastReload {
    pub(crate) result: ReloadResult,
    pub(crate) at: Moment,
    /// Why it was refused.
    pub(crate) problems: Vec<Problem>,
    /// The first of the refused reloads since a configuration was applied or found unchanged; none after those.
    pub(crate) refused_since: Option<Moment>,
}

/// The reloads of the process.
pub(crate) struct Reloads {
    last: Mutex<Option<LastReload>>,
    counts: [IntCounter; 3],
    number: IntGauge,
}

impl Reloads {
    /// `number` is that of the first configuration.
    pub(crate) fn register(registry: &Registry, number: u64) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("reloads_total", "reloads of the configuration, by their result");
        let family = IntCounterVec::new(opts, &["result"])?;
        let gauge = IntGauge::new("configuration_number", "number of the configuration in use")?;
        registry.register(Box::new(family.clone()))?;
        registry.register(Box::new(gauge.clone()))?;
        let counts = ReloadResult::ALL.map(|result| family.with_label_values(&[result.as_str()]));
        let this = Self { last: Mutex::default(), counts, number: gauge };
        this.set_number(number);
        Ok(this)
    }

    /// Records a reload. `number` is that of the configuration in use after it.
    pub(crate) fn record(&self, result: ReloadResult, problems: &[Problem], number: u64, at: Moment) {
        self.counts[result as usize].inc();
        self.set_number(number);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let refused_before = last.as_ref().and_then(|last| last.refused_since);
        let refused_since = (result == ReloadResult::Refused).then(|| refused_before.unwrap_or(at));
        *last = Some(LastReload { result, at, problems: problems.to_vec(), refused_since });
    }

    /// None before the first.
    pub(crate) fn last(&self) -> Option<LastReload> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_number(&self, number: u64) {
        self.number.set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tidegate_actors::clock;

    use super::*;

    /// G3, X10: refused reloads keep the time of the first until one is not refused, and each result is counted
    #[test]
    fn refusals_last_until_a_reload_succeeds() {
        let reloads = Reloads::register(&Registry::new(), 1).unwrap();
        assert!(reloads.last().is_none());
        let start = Moment { now: clock::now(), wall: SystemTime::UNIX_EPOCH };
        let at = |secs| Moment { now: start.now + Duration::from_secs(secs), ..start };
        let problem = |text: &str| [Problem::of_process("a", text, None)];
        reloads.record(ReloadResult::Refused, &problem("one"), 1, at(0));
        reloads.record(ReloadResult::Refused, &problem("two"), 1, at(1));
        let last = reloads.last().unwrap();
        assert_eq!((last.at.now, last.refused_since.unwrap().now), (at(1).now, start.now));
        assert_eq!(last.problems[0].message, "two");
        for (result, number) in [(ReloadResult::Unchanged, 1), (ReloadResult::Applied, 2)] {
            reloads.record(ReloadResult::Refused, &problem("three"), 1, at(2));
            reloads.record(result, &[], number, at(3));
            let last = reloads.last().unwrap();
            assert!(last.result == result && last.refused_since.is_none() && last.problems.is_empty());
        }
        assert_eq!(reloads.counts.each_ref().map(IntCounter::get), [1, 1, 4]);
        assert_eq!(reloads.number.get(), 2);
    }
}
