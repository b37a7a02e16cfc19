//! The current causes and the last events, for readers on any thread.
//!
//! Whoever refreshes takes the lock, so samples are in order. Readers get an immutable list. Readers that follow the events keep the number
//! of the last one and are notified of new ones; a slow reader misses events and does not delay anybody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::Registry;
use tidegate_actors::clock;
use tokio::sync::watch;

use crate::degradation::cause::{Cause, CauseEvent, Moment};
use crate::degradation::codes::{CauseCode, Severity};
use crate::degradation::counts::EffectCounts;
use crate::degradation::episodes::{CounterReading, Episodes};
use crate::degradation::finding::{Finding, Scope};
use crate::degradation::metrics::CauseMetrics;
use crate::degradation::tracker::{Observation, Occurrences, Tracker};
use crate::telemetry::metrics::ErrorFamily;

/// The events that are kept for readers.
pub(crate) const EVENTS_MAX: usize = 1024;

/// The list of causes at one time.
#[derive(Debug, Default)]
pub(crate) struct CauseList {
    /// The worst first.
    pub(crate) causes: Vec<Cause>,
    /// The number of the last event.
    pub(crate) sequence: u64,
    /// The last events, the newest last.
    pub(crate) events: VecDeque<Arc<CauseEvent>>,
}

impl CauseList {
    /// The severity of the worst cause.
    pub(crate) fn severity(&self) -> Option<Severity> {
        self.causes.iter().map(|cause| cause.severity).max()
    }

    /// The kept events after the one with this number, and the number of those that are not kept any more.
    pub(crate) fn events_after(&self, sequence: u64) -> (u64, impl Iterator<Item = &Arc<CauseEvent>>) {
        let new = self.sequence.saturating_sub(sequence);
        let kept = usize::try_from(new).unwrap_or(usize::MAX).min(self.events.len());
        (new - kept as u64, self.events.iter().skip(self.events.len() - kept))
    }
}

/// The causes and counters in the present state of the gateway.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) findings: Vec<Finding>,
    pub(crate) counters: Vec<CounterReading>,
    pub(crate) occurrences: Vec<Occurrences>,
    pub(crate) counts: EffectCounts,
}

#[derive(Default)]
struct Trackers {
    episodes: Episodes,
    tracker: Tracker,
}

/// The degradation of the gateway.
pub(crate) struct Degradation {
    /// Start of the process.
    pub(crate) started: Moment,
    trackers: Mutex<Trackers>,
    list: watch::Sender<Arc<CauseList>>,
    metrics: CauseMetrics,
    refusals: [ErrorFamily; 2],
}

impl Degradation {
    /// `refusals` are the counters of refusals. The gauge of each of `possible` exists at 0 from the start.
    pub(crate) fn new(
        registry: &Registry,
        refusals: [ErrorFamily; 2],
        possible: impl IntoIterator<Item = (CauseCode, Scope)>,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            started: Moment { now: clock::now(), wall: clock::wall() },
            trackers: Mutex::default(),
            list: watch::Sender::default(),
            metrics: CauseMetrics::register(registry, possible)?,
            refusals,
        })
    }

    /// Takes a sample and publishes the causes. `collect` runs under the lock, so that samples are in order.
    pub(crate) fn refresh(&self, collect: impl FnOnce(Moment) -> Sample) -> (Arc<CauseList>, Moment) {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        let Trackers { episodes, tracker } = &mut *trackers;
        let at = Moment { now: clock::now(), wall: clock::wall() };
        let Sample { mut findings, counters, occurrences, counts } = collect(at);
        findings.extend(episodes.sample(counters, at.now));
        let events = tracker.update(Observation { findings, occurrences, counts }, at);
        let causes = tracker.causes(at);
        self.metrics.set(&causes);
        let list = self.publish(causes, events, tracker.sequence());
        (list, at)
    }

    fn publish(&self, causes: Vec<Cause>, events: Vec<CauseEvent>, sequence: u64) -> Arc<CauseList> {
        let has_changed = !events.is_empty();
        let mut kept = self.list.borrow().events.clone();
        kept.extend(events.into_iter().map(Arc::new));
        kept.drain(..kept.len().saturating_sub(EVENTS_MAX));
        let list = Arc::new(CauseList { causes, sequence, events: kept });
        self.list.send_if_modified(|current| {
            *current = Arc::clone(&list);
            has_changed
        });
        list
    }

    /// The gauge of each of `possible` exists. Those of removed buckets go.
    pub(crate) fn set_possible(&self, possible: impl IntoIterator<Item = (CauseCode, Scope)>) {
        self.metrics.set_possible(possible);
    }

    /// The counters of refusals.
    pub(crate) fn refusals(&self) -> &[ErrorFamily] {
        &self.refusals
    }

    /// Notifies of new events.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<CauseList>> {
        self.list.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use slog::{Discard, Logger, o};

    use super::*;

    fn degradation() -> Degradation {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let family = |name| ErrorFamily::register(&registry, (name, "x"), &["reason"], &log).unwrap();
        Degradation::new(&registry, [family("a"), family("b")], []).unwrap()
    }

    fn refresh(degradation: &Degradation, codes: &[CauseCode]) -> Arc<CauseList> {
        let findings = codes.iter().map(|code| Finding::new(*code, Scope::process(), "x")).collect();
        let sample = Sample { findings, ..Sample::default() };
        degradation.refresh(|_| sample).0
    }

    /// X10: a reader is notified of events only, and resumes after the last one that it has seen
    #[test]
    fn readers_follow_the_events() {
        let degradation = degradation();
        let mut reader = degradation.subscribe();
        refresh(&degradation, &[]);
        assert!(!reader.has_changed().unwrap());
        refresh(&degradation, &[CauseCode::Chaos]);
        assert!(reader.has_changed().unwrap());
        let list = Arc::clone(&reader.borrow_and_update());
        assert_eq!((list.causes.len(), list.sequence, list.severity()), (1, 1, Some(Severity::Degraded)));
        refresh(&degradation, &[CauseCode::Chaos]);
        assert!(!reader.has_changed().unwrap(), "nothing has changed");
        let list = refresh(&degradation, &[]);
        let (lost, events) = list.events_after(1);
        assert_eq!((lost, events.map(|event| event.sequence).collect::<Vec<_>>()), (0, vec![2]));
    }

    /// X10: a slow reader learns how many events it has missed, and the memory is bounded
    #[test]
    fn the_events_are_bounded() {
        let degradation = degradation();
        for _ in 0..EVENTS_MAX {
            refresh(&degradation, &[CauseCode::Chaos]);
            refresh(&degradation, &[]);
        }
        let list = Arc::clone(&degradation.subscribe().borrow());
        assert_eq!(list.events.len(), EVENTS_MAX);
        let (lost, mut events) = list.events_after(0);
        assert_eq!(lost, EVENTS_MAX as u64);
        assert_eq!(events.next().unwrap().sequence, EVENTS_MAX as u64 + 1);
    }
}
