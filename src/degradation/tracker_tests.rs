//! The tracker over a sequence of samples.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_actors::clock;

use super::*;
use crate::degradation::codes::ScopeKind;

/// A tracker on a clock of its own.
struct Run {
    tracker: Tracker,
    start: Moment,
}

impl Run {
    fn new() -> Self {
        Self {
            tracker: Tracker::default(),
            start: Moment { now: clock::now(), wall: SystemTime::UNIX_EPOCH },
        }
    }

    fn at(&self, ms: u64) -> Moment {
        let after = Duration::from_millis(ms);
        Moment { now: self.start.now + after, wall: self.start.wall + after }
    }

    fn sample(&mut self, ms: u64, findings: Vec<Finding>, refused: u64) -> Vec<CauseEvent> {
        let mut counts = EffectCounts::default();
        counts.add_refused("b", "breaker_open", refused);
        let at = self.at(ms);
        self.tracker.update(Observation { findings, occurrences: Vec::new(), counts }, at)
    }
}

fn open() -> Finding {
    Finding::new(CauseCode::CircuitOpen, Scope::in_bucket(ScopeKind::Bucket, "b", "read"), "it is open")
}

fn changes(events: &[CauseEvent]) -> Vec<(u64, Change)> {
    events.iter().map(|event| (event.sequence, event.change)).collect()
}

/// X10: a cause has its age, the refusals since the last sample without it, and one event at each end
#[test]
fn a_cause_has_its_age_and_its_effect() {
    let mut run = Run::new();
    assert_eq!(run.sample(0, Vec::new(), 5), Vec::new());
    let began = run.sample(200, vec![open()], 8);
    assert_eq!(changes(&began), [(1, Change::Began)]);
    assert_eq!((began[0].cause.effect.touched.refused, began[0].cause.since_ms), (3, 0));
    assert_eq!(run.sample(400, vec![open()], 10), Vec::new());
    let causes = run.tracker.causes(run.at(450));
    assert_eq!((causes[0].since_ms, causes[0].effect.touched.refused), (250, 5));
    assert_eq!(causes[0].since, run.at(200).wall, "the start does not move");
    let ended = run.sample(600, Vec::new(), 11);
    assert_eq!(changes(&ended), [(2, Change::Ended { lasted: Duration::from_millis(400) })]);
    assert_eq!(ended[0].cause.effect.touched.refused, 6);
    assert_eq!(run.tracker.causes(run.at(600)), Vec::new());
}

/// X10: the start of the source is the cause's start, and it does not move
#[test]
fn the_start_of_the_source_counts() {
    let mut run = Run::new();
    let since = run.at(100).now;
    run.sample(1000, vec![open().since(since)], 0);
    let later = run.at(900).now;
    assert_eq!(run.sample(2000, vec![open().since(later)], 0), Vec::new());
    let causes = run.tracker.causes(run.at(2100));
    assert_eq!((causes[0].since, causes[0].since_ms), (run.at(100).wall, 2000));
}

/// X10: two findings of the same code and scope are one cause
#[test]
fn a_cause_is_found_once() {
    let mut run = Run::new();
    let second = Finding { message: "again".to_owned(), ..open() };
    assert_eq!(changes(&run.sample(0, vec![open(), second.clone()], 0)), [(1, Change::Began)]);
    assert_eq!(run.sample(200, vec![open(), second], 0), Vec::new());
    assert_eq!(run.tracker.causes(run.at(200)).len(), 1);
}

/// X10: the worst cause is the first
#[test]
fn causes_are_in_the_order_of_their_weight() {
    let mut run = Run::new();
    let finding = |code| Finding::new(code, Scope::process(), "x");
    let codes = [CauseCode::Chaos, CauseCode::Draining, CauseCode::WarningLevel];
    run.sample(0, codes.map(finding).to_vec(), 0);
    let found: Vec<_> = run.tracker.causes(run.at(0)).iter().map(|cause| cause.code).collect();
    assert_eq!(found, [CauseCode::Draining, CauseCode::WarningLevel, CauseCode::Chaos]);
}

/// X10: a cause between two samples is an event with its number, and one that was found is not counted again
#[test]
fn a_short_cause_is_not_lost() {
    let mut run = Run::new();
    let mut sample = |ms, findings: Vec<Finding>, total| {
        let occurrences = vec![Occurrences { finding: open(), total }];
        let at = run.at(ms);
        changes(&run.tracker.update(Observation { findings, occurrences, ..Observation::default() }, at))
    };
    assert_eq!(sample(0, Vec::new(), 0), []);
    assert_eq!(sample(200, Vec::new(), 2), [(1, Change::Passed { count: 2 })]);
    assert_eq!(sample(400, vec![open()], 3), [(2, Change::Began)]);
    assert_eq!(sample(600, vec![open()], 3), []);
    assert_eq!(
        sample(800, Vec::new(), 4),
        [(3, Change::Ended { lasted: Duration::from_millis(400) }), (4, Change::Passed { count: 1 })]
    );
}

proptest! {
    /// X10: begins and ends alternate for each cause, the list is what has begun and not ended, numbers rise by one
    #[test]
    fn events_describe_the_list(samples in vec(vec(any::<bool>(), 4), 1..40)) {
        let codes = [CauseCode::Draining, CauseCode::CircuitOpen, CauseCode::Log, CauseCode::Chaos];
        let (mut run, mut open, mut sequence) = (Run::new(), std::collections::BTreeSet::new(), 0);
        for (index, present) in samples.iter().enumerate() {
            let found = codes.iter().zip(present).filter(|(_, is)| **is);
            let findings: Vec<_> =
                found.map(|(code, _)| Finding::new(*code, Scope::process(), "x")).collect();
            let expected: std::collections::BTreeSet<_> = findings.iter().map(|each| each.code).collect();
            let ms = index as u64 * 200;
            for event in run.sample(ms, findings, 0) {
                sequence += 1;
                prop_assert_eq!(event.sequence, sequence);
                let is_new = match event.change {
                    Change::Began => open.insert(event.cause.code),
                    Change::Ended { .. } => open.remove(&event.cause.code),
                    Change::Passed { .. } => false,
                };
                prop_assert!(is_new);
            }
            prop_assert_eq!(&open, &expected);
            let listed: std::collections::BTreeSet<_> =
                run.tracker.causes(run.at(ms)).iter().map(|cause| cause.code).collect();
            prop_assert_eq!(&listed, &expected);
        }
    }
}
