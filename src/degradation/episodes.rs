//! Turns a counter that rises into a cause: from its first step to three seconds after its last.
//!
//! A step between two samples is never lost, because the counter keeps it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::degradation::codes::CauseCode;
use crate::degradation::finding::{Finding, Quantity, Scope};
use crate::telemetry::counted;

/// A cause ends after this time without a step of its counter. It is longer than the pauses of clients that retry, and short enough for a
/// gateway that is `ok` five seconds after an overload.
const EPISODE_END: Duration = Duration::from_secs(3);

/// A counter that only rises while something is wrong.
#[derive(Debug, Clone)]
pub(crate) struct CounterReading {
    /// The cause while it rises.
    pub(crate) finding: Finding,
    pub(crate) count: u64,
    /// What it counts.
    pub(crate) unit: &'static str,
    /// Its steps belong to another cause now: they begin no episode, and a running one ends.
    pub(crate) is_hidden: bool,
}

impl CounterReading {
    /// The reading of a counter; none if it never rose. Then it has no cause, so nothing is composed for it.
    pub(crate) fn if_risen(count: u64, reading: impl FnOnce() -> Self) -> Option<Self> {
        (count > 0).then(reading)
    }
}

/// A period in which a counter rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Episode {
    began: Instant,
    /// The sample with the last step.
    last: Instant,
    /// Steps since it began.
    steps: u64,
}

impl Episode {
    /// When it ends without a further step.
    fn until(&self) -> Instant {
        self.last + EPISODE_END
    }

    fn describe(&self, finding: Finding, unit: &'static str) -> Finding {
        let message = format!("{}: {} since it began", finding.message, counted(self.steps, unit));
        let measured = finding.measured.unwrap_or(Quantity::count(self.steps, unit));
        Finding { message, ..finding }.since(self.began).until(self.until()).measured(measured)
    }
}

/// The counters at the last sample, and the periods in which they rise.
#[derive(Debug, Default)]
pub(crate) struct Episodes {
    counts: HashMap<(CauseCode, Scope), (u64, Option<Episode>)>,
}

impl Episodes {
    /// Takes a sample; returns the cause of each counter that rises. A counter that never rose may be missing.
    pub(crate) fn sample(&mut self, readings: Vec<CounterReading>, now: Instant) -> Vec<Finding> {
        let mut present = Vec::new();
        for CounterReading { finding, count, unit, is_hidden } in readings {
            let key = (finding.code, finding.scope.clone());
            let (before, episode) = self.counts.entry(key).or_default();
            let steps = count.saturating_sub(*before);
            *before = count;
            *episode = match *episode {
                _ if is_hidden => None,
                None if steps > 0 => Some(Episode { began: now, last: now, steps }),
                Some(running) if steps > 0 => {
                    Some(Episode { last: now, steps: running.steps + steps, ..running })
                }
                running => running.filter(|running| now < running.until()),
            };
            present.extend(episode.map(|episode| episode.describe(finding, unit)));
        }
        present
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn reading(bucket: &str, count: u64) -> CounterReading {
        let finding = Finding::new(CauseCode::QueueOverflow, Scope::bucket(bucket), "it overflows");
        CounterReading { finding, count, unit: "requests", is_hidden: false }
    }

    /// X10: a counter is a cause from its first step to three seconds after its last
    #[test]
    fn a_counter_that_rises_is_a_cause() {
        let (start, mut episodes) = (clock::now(), Episodes::default());
        let mut sample = |count, seconds| {
            let mut present =
                episodes.sample(vec![reading("b", count)], start + Duration::from_secs(seconds));
            assert!(present.len() < 2);
            present.pop().map(|found| (found.since.unwrap() - start, found.message))
        };
        let since = |seconds, steps| {
            let requests = if steps == 1 { "request" } else { "requests" };
            let message = format!("it overflows: {steps} {requests} since it began");
            Some((Duration::from_secs(seconds), message))
        };
        assert_eq!(sample(0, 0), None);
        assert_eq!(sample(3, 1), since(1, 3));
        assert_eq!(sample(3, 3), since(1, 3));
        assert_eq!(sample(4, 3), since(1, 4));
        assert_eq!(sample(4, 5), since(1, 4));
        assert_eq!(sample(4, 6), None);
        assert_eq!(sample(5, 30), since(30, 1));
    }

    /// X10: each scope has its own counter
    #[test]
    fn scopes_are_apart() {
        let (now, mut episodes) = (clock::now(), Episodes::default());
        let present = episodes.sample(vec![reading("a", 1), reading("b", 0)], now);
        assert_eq!(present.len(), 1);
        assert_eq!(present[0].scope, Scope::bucket("a"));
    }
}
