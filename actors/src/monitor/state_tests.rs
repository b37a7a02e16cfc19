//! Levels under scripted and random readings (X2, X4, S5).

use proptest::prelude::*;

use super::*;
use crate::clock;

const DWELL: Duration = Duration::from_secs(2);

fn config() -> MonitorConfig {
    MonitorConfig {
        warning: 80,
        critical: 90,
        exhausted: 95,
        recover: 75,
        interval: Duration::from_millis(250),
        dwell: DWELL,
        ..MonitorConfig::default()
    }
}

fn known(used: u64) -> Reading {
    Reading::Known { used, limit: 100 }
}

fn memory(used: u64) -> Readings {
    Readings { memory: known(used), descriptors: known(1), in_flight: known(0) }
}

fn sample(state: &mut MonitorState, readings: Readings, now: Instant) -> Option<Transition> {
    let judgement = state.judge(&readings, now);
    state.apply(judgement)
}

/// X2
#[test]
fn a_level_begins_at_its_threshold_and_at_once() {
    for (used, level) in [
        (79, Level::Normal),
        (80, Level::Warning),
        (89, Level::Warning),
        (90, Level::Critical),
        (94, Level::Critical),
        (95, Level::Exhausted),
        (150, Level::Exhausted),
    ] {
        let t0 = clock::now();
        let mut state = MonitorState::new(&config(), t0);
        let transition = sample(&mut state, memory(used), t0);
        assert_eq!(state.level(), level, "{used} %");
        assert_eq!(transition.is_some(), level > Level::Normal);
    }
}

/// X2: hysteresis
#[test]
fn a_level_ends_below_the_threshold_under_it() {
    for (from, used, to) in [
        (95, 90, Level::Exhausted),
        (95, 89, Level::Critical),
        (95, 79, Level::Warning),
        (95, 74, Level::Normal),
        (90, 80, Level::Critical),
        (90, 79, Level::Warning),
        (80, 75, Level::Warning),
        (80, 74, Level::Normal),
    ] {
        let t0 = clock::now();
        let mut state = MonitorState::new(&config(), t0);
        sample(&mut state, memory(from), t0);
        sample(&mut state, memory(used), t0 + DWELL);
        assert_eq!(state.level(), to, "from {from} % to {used} %");
    }
}

/// X2: dwell
#[test]
fn a_level_is_held_before_it_falls_but_not_before_it_rises() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    sample(&mut state, memory(85), t0);
    let almost = t0 + DWELL - Duration::from_millis(1);
    assert_eq!(sample(&mut state, memory(10), almost), None);
    assert!(sample(&mut state, memory(96), almost).is_some());
    assert_eq!(sample(&mut state, memory(10), t0 + DWELL), None, "the new level has its own dwell");
    assert!(sample(&mut state, memory(10), almost + DWELL).is_some());
    assert_eq!((state.level(), state.since()), (Level::Normal, almost + DWELL));
}

/// X2: in-flight stops at critical, the process's own memory and descriptors do not
#[test]
fn requests_in_flight_never_exhaust() {
    let t0 = clock::now();
    let full = Readings { in_flight: known(100), ..memory(1) };
    let mut state = MonitorState::new(&config(), t0);
    let transition = sample(&mut state, full, t0).unwrap();
    assert_eq!(transition.to, Level::Critical);
    let expected = Reason { sensor: Sensor::InFlight, percent: 100.0, threshold: 90 };
    assert_eq!(transition.reason, Some(expected));

    let transition = sample(&mut state, Readings { descriptors: known(96), ..full }, t0).unwrap();
    assert_eq!(transition.to, Level::Exhausted);
    let reason = transition.reason.unwrap();
    assert_eq!(
        (reason.sensor, reason.threshold),
        (Sensor::Descriptors, 95),
        "in-flight is not to blame for this"
    );
    assert_eq!(reason.to_string(), "descriptors at 96.0 %, threshold 95 %");
}

/// X4: a sensor that fails or goes stale never sheds by itself
#[test]
fn an_unknown_reading_stands_for_four_intervals_and_then_counts_for_nothing() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&MonitorConfig { dwell: Duration::ZERO, ..config() }, t0);
    assert_eq!(sample(&mut state, Readings::NONE, t0), None, "unknown raises nothing");
    sample(&mut state, memory(99), t0);
    let gone = Readings { memory: Reading::Unknown, ..memory(0) };
    assert_eq!(sample(&mut state, gone, t0 + Duration::from_millis(999)), None);
    let transition = sample(&mut state, gone, t0 + Duration::from_secs(1)).unwrap();
    assert_eq!((transition.from, transition.to), (Level::Exhausted, Level::Normal));
}

/// X4
#[test]
fn a_limit_of_nothing_is_unknown() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    let unlimited = Readings { memory: Reading::Known { used: 7, limit: 0 }, ..Readings::NONE };
    assert_eq!(sample(&mut state, unlimited, t0), None);
}

/// X7
#[test]
fn the_last_64_transitions_are_remembered() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&MonitorConfig { dwell: Duration::ZERO, ..config() }, t0);
    for n in 0..100u64 {
        let used = if n % 2 == 0 { 96 } else { 10 };
        sample(&mut state, memory(used), t0 + Duration::from_secs(n)).expect("each sample changes the level");
    }
    let transitions = state.transitions();
    assert_eq!(transitions.len(), 64);
    assert_eq!(transitions[0].at, t0 + Duration::from_secs(36));
    assert_eq!(transitions[63].to, Level::Normal);
}

/// S5: a rebuild goes on at the last level
#[test]
fn a_rebuild_keeps_the_level_until_a_sample_says_otherwise() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    sample(&mut state, memory(96), t0);
    let (level, since, reason, transitions) =
        (state.level(), state.since(), state.reason(), state.transitions());
    state.rebuild(level, since, &transitions);
    assert_eq!((state.level(), state.since(), state.reason()), (Level::Exhausted, t0, reason));
    assert_eq!(sample(&mut state, memory(91), t0 + DWELL), None, "still not below critical");
    assert_eq!(sample(&mut state, memory(10), t0 + DWELL).unwrap().to, Level::Normal);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// X2, X4: no level without a pressure that means it, no fall before the dwell, nothing stuck
    #[test]
    fn the_level_follows_the_pressure_without_flapping(
        steps in prop::collection::vec((0u64..3000, prop::option::of(0u64..120), 0u64..120), 1..200),
    ) {
        let mut now = clock::now();
        let mut state = MonitorState::new(&config(), now);
        let mut fell: Option<Instant> = None;
        for (ms, used, in_flight) in steps {
            now += Duration::from_millis(ms);
            let readings = Readings {
                memory: used.map_or(Reading::Unknown, known),
                descriptors: Reading::Unknown,
                in_flight: known(in_flight),
            };
            let since = state.since();
            if let Some(transition) = sample(&mut state, readings, now) {
                prop_assert_ne!(transition.from, transition.to);
                if transition.to < transition.from {
                    prop_assert!(now.duration_since(since) >= DWELL);
                    prop_assert!(fell.is_none_or(|fell| now.duration_since(fell) >= DWELL));
                    fell = Some(now);
                } else if transition.to == Level::Exhausted {
                    prop_assert!(used.is_some_and(|used| used >= 95) || state.held[0].is_some_and(|h| h.percent >= 95.0));
                }
            }
            if used.is_some_and(|used| used >= 95) {
                prop_assert_eq!(state.level(), Level::Exhausted);
            }
        }
        sample(&mut state, memory(0), now + DWELL);
        prop_assert_eq!(state.level(), Level::Normal);
    }
}
