//! Checks of each finished request of a load, beyond its outcome: which requests failed, which configuration judged them, whether the rate
//! limit was exceeded, and the latency during reloads and upgrades.
//!
//! A request *failed* if it has no complete answer, or an answer that the scenario does not expect: in a judged load one that no current
//! configuration gives, in any other load one other than 2xx, or than 2xx, 429 and 503 if the load expects refusals.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::client::RequestFault;
use crate::configuration::{ConfigurationCheck, LimitCheck, SeenAnswer, SharedTimeline};
use crate::recorder::{FinishedRequest, histogram, record, set_percentiles};
use crate::statistics::Statistics;

/// The checks of one load.
pub(crate) struct LoadChecks {
    timeline: Option<SharedTimeline>,
    expects_refusals: bool,
    configuration: Option<ConfigurationCheck>,
    limit: Option<LimitCheck>,
    failed: u64,
    resets: u64,
    first_failed: Option<(Instant, String)>,
    change_micros: Histogram<u64>,
}

impl Default for LoadChecks {
    fn default() -> Self {
        Self {
            timeline: None,
            expects_refusals: false,
            configuration: None,
            limit: None,
            failed: 0,
            resets: 0,
            first_failed: None,
            change_micros: histogram(),
        }
    }
}

impl LoadChecks {
    /// The checks of a load of a scenario.
    pub(crate) fn new(
        timeline: SharedTimeline,
        expects_refusals: bool,
        configuration: Option<ConfigurationCheck>,
        limit: Option<LimitCheck>,
    ) -> Self {
        Self { timeline: Some(timeline), expects_refusals, configuration, limit, ..Self::default() }
    }

    /// Checks a finished request, with its answer if it has one.
    pub(crate) fn record(&mut self, finished: &FinishedRequest, seen: Option<&SeenAnswer>) {
        let FinishedRequest { intended, sent, ended, outcome, .. } = *finished;
        let is_expected = match (outcome, seen, &mut self.configuration) {
            (Err(_), _, _) => false,
            (Ok(_), Some(seen), Some(check)) => check.judge(seen),
            (Ok(429 | 503), ..) => self.expects_refusals,
            (Ok(status), ..) => (200..300).contains(&status),
        };
        if !is_expected {
            self.failed += 1;
            let text = || match (outcome, seen) {
                (Err(fault), _) => fault.name().to_owned(),
                (Ok(status), seen) => {
                    format!("status {status} {}", seen.map_or("", |seen| &seen.reason))
                }
            };
            self.first_failed.get_or_insert_with(|| (ended, text()));
        }
        self.resets += u64::from(outcome.is_err_and(RequestFault::is_broken_connection));
        if let (Ok(200..=299), Some(limit)) = (outcome, &mut self.limit) {
            limit.admit(sent, ended);
        }
        let during_change =
            self.timeline.as_ref().is_some_and(|timeline| timeline.borrow().changes_between(intended, ended));
        if during_change && outcome.is_ok() {
            record(&mut self.change_micros, ended.saturating_duration_since(intended));
        }
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Connections that broke without an action of the client.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// Descriptions of faults: the first failed request, and answers that no current configuration gives.
    pub(crate) fn describe(&self, begin: Instant) -> Vec<String> {
        let first = self.first_failed.iter().map(|(at, text)| {
            format!(
                "first failed request after {:.3} s: {text}",
                at.saturating_duration_since(begin).as_secs_f64()
            )
        });
        let judged = self.configuration.iter().flat_map(|check| check.examples().iter().cloned());
        first.chain(judged).collect()
    }

    /// Writes the statistics as `PREFIX.…`.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        into.set(format!("{prefix}.failed"), self.failed as f64);
        into.set(format!("{prefix}.resets"), self.resets as f64);
        if let Some(check) = &self.configuration {
            check.summarize(prefix, into);
        }
        if let Some(check) = &self.limit {
            check.summarize(prefix, into);
        }
        into.set(format!("{prefix}.during_change"), self.change_micros.len() as f64);
        set_percentiles(&format!("{prefix}.during_change_"), &self.change_micros, into);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::configuration::Timeline;
    use crate::recorder::Outcome;

    fn statistics(checks: &LoadChecks) -> impl Fn(&str) -> Option<f64> {
        let mut statistics = Statistics::default();
        checks.summarize("x", &mut statistics);
        move |name| statistics.value(&format!("x.{name}"))
    }

    fn finished(begin: Instant, ended_ms: u64, outcome: Outcome) -> FinishedRequest {
        let ended = begin + Duration::from_millis(ended_ms);
        FinishedRequest { intended: begin, sent: begin, ended, outcome, body_bytes: 0 }
    }

    #[test]
    fn unexpected_answers_and_faults_fail() {
        let begin = clock::now();
        let timeline = Rc::new(RefCell::new(Timeline::new(begin)));
        for (expects_refusals, failed) in [(false, 5.0), (true, 3.0)] {
            let mut checks = LoadChecks::new(Rc::clone(&timeline), expects_refusals, None, None);
            for outcome in
                [Ok(200), Ok(429), Ok(503), Ok(403), Err(RequestFault::Closed), Err(RequestFault::TimedOut)]
            {
                checks.record(&finished(begin, 1, outcome), None);
            }
            let value = statistics(&checks);
            assert_eq!((value("failed"), value("resets")), (Some(failed), Some(1.0)));
            assert_eq!(checks.describe(begin).len(), 1);
        }
    }

    #[test]
    fn latencies_during_changes_are_separate() {
        let begin = clock::now();
        let timeline = Rc::new(RefCell::new(Timeline::new(begin)));
        let mut checks = LoadChecks::new(Rc::clone(&timeline), false, None, None);
        checks.record(&finished(begin, 40, Ok(200)), None);
        timeline.borrow_mut().request(begin + Duration::from_millis(50));
        checks.record(&finished(begin, 60, Ok(200)), None);
        let value = statistics(&checks);
        assert_eq!(value("during_change"), Some(1.0));
        assert!(value("during_change_p50_ms").unwrap() >= 60.0);
    }
}
