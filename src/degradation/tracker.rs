//! Compares the causes of two samples: gives each its start and its effect, and reports begins and ends.
//!
//! It is pure: findings, counts and the time go in, causes and events come out. The effect of a cause is counted from the last sample
//! without it, so refusals between its begin and the sample that finds it belong to it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Instant, SystemTime};

use crate::degradation::cause::{Cause, CauseEvent, Change, Moment};
use crate::degradation::codes::CauseCode;
use crate::degradation::counts::{EffectCounts, Touched};
use crate::degradation::finding::{Finding, Scope};

type CauseKey = (CauseCode, Scope);

/// How often something has happened since the start, where a cause may be too short for the samples.
#[derive(Debug, Clone)]
pub(crate) struct Occurrences {
    /// The cause as it would have been found.
    pub(crate) finding: Finding,
    pub(crate) total: u64,
}

/// The state of the gateway in one sample.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    pub(crate) findings: Vec<Finding>,
    pub(crate) occurrences: Vec<Occurrences>,
    pub(crate) counts: EffectCounts,
}

struct TrackedCause {
    finding: Finding,
    began: Instant,
    since: SystemTime,
    /// The counts of the last sample without it.
    before: Touched,
}

/// The causes of the last sample.
#[derive(Default)]
pub(crate) struct Tracker {
    tracked: BTreeMap<CauseKey, TrackedCause>,
    totals: HashMap<CauseKey, u64>,
    counts: EffectCounts,
    sequence: u64,
}

impl Tracker {
    /// Takes a sample; returns what has changed.
    pub(crate) fn update(&mut self, observation: Observation, at: Moment) -> Vec<CauseEvent> {
        let Observation { findings, occurrences, counts } = observation;
        let before = std::mem::replace(&mut self.counts, counts);
        let mut last = std::mem::take(&mut self.tracked);
        let mut events = Vec::new();
        for finding in findings {
            let key = (finding.code, finding.scope.clone());
            if self.tracked.contains_key(&key) {
                // A second finding of the same cause.
                continue;
            }
            let tracked = match last.remove(&key) {
                Some(known) => TrackedCause { finding, ..known },
                None => {
                    let began = finding.since.map_or(at.now, |since| since.min(at.now));
                    let touched = before.touched(key.0, &key.1);
                    let tracked = TrackedCause { finding, began, since: at.wall_of(began), before: touched };
                    events.push(self.event(Change::Began, self.cause(&tracked, at), at));
                    tracked
                }
            };
            self.tracked.insert(key, tracked);
        }
        for ended in last.into_values() {
            let lasted = at.now.saturating_duration_since(ended.began);
            events.push(self.event(Change::Ended { lasted }, self.cause(&ended, at), at));
        }
        events.extend(self.passed(occurrences, &events, at));
        for event in &mut events {
            self.sequence += 1;
            event.sequence = self.sequence;
        }
        events
    }

    /// The causes, the worst first.
    pub(crate) fn causes(&self, at: Moment) -> Vec<Cause> {
        // The keys are in the order of the codes, which is that of their weight.
        self.tracked.values().map(|tracked| self.cause(tracked, at)).collect()
    }

    /// The number of the last event.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn cause(&self, tracked: &TrackedCause, at: Moment) -> Cause {
        let TrackedCause { finding, began, since, before } = tracked;
        let touched = self.counts.touched(finding.code, &finding.scope).since(*before);
        Cause::new(finding, (*began, *since), touched, at)
    }

    fn event(&self, change: Change, cause: Cause, at: Moment) -> CauseEvent {
        CauseEvent { sequence: self.sequence, at: at.wall, change, cause }
    }

    /// Causes that began and ended since the last sample.
    fn passed(
        &mut self,
        occurrences: Vec<Occurrences>,
        events: &[CauseEvent],
        at: Moment,
    ) -> Vec<CauseEvent> {
        let mut passed = Vec::new();
        for Occurrences { finding, total } in occurrences {
            let key = (finding.code, finding.scope.clone());
            let has_begun = events.iter().any(|event| {
                event.change == Change::Began && (event.cause.code, &event.cause.scope) == (key.0, &key.1)
            });
            let before = self.totals.insert(key, total).unwrap_or_default();
            let count = total.saturating_sub(before).saturating_sub(has_begun.into());
            if count > 0 {
                let cause = Cause::new(&finding, (at.now, at.wall), Touched::default(), at);
                passed.push(self.event(Change::Passed { count }, cause, at));
            }
        }
        passed
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
