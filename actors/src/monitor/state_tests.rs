//! Levels under scripted and random readings (X2, X4, S5).

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::monitor::measurement::{LimitSource, Measurement};
use crate::monitor::reading::{MemorySource, MemoryUse, Reading};

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

fn known(used: u64) -> Measurement {
    Measurement::known(used, 100, LimitSource::OpenFiles)
}

const MIB: u64 = 1 << 20;

/// Own memory and memory of other processes, both in percent of a limit of 1,000 MiB.
fn shared_memory(own: u64, others: u64) -> Option<MemoryUse> {
    let limit_bytes = 1000 * MIB;
    Some(MemoryUse {
        used_bytes: (own + others) * 10 * MIB,
        limit_bytes,
        own_bytes: own * 10 * MIB,
        own_limit_bytes: limit_bytes,
        sockets_bytes: 0,
        rss_bytes: own * 10 * MIB,
        source: MemorySource::CgroupV2,
    })
}

/// Own memory in percent, held by many requests.
fn memory(used: u64) -> Readings {
    let in_flight = Reading::Known { used: 1000, limit: 10_000 };
    Readings { memory: shared_memory(used, 0), descriptors: known(1), in_flight, ..Readings::NONE }
}

fn sample(state: &mut MonitorState, readings: Readings, now: Instant) -> Option<LevelTransition> {
    let update = state.evaluate(&readings, now);
    state.apply(update)
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
    let full = Readings { in_flight: Reading::Known { used: 100, limit: 100 }, ..memory(1) };
    let mut state = MonitorState::new(&config(), t0);
    let transition = sample(&mut state, full.clone(), t0).unwrap();
    assert_eq!(transition.to, Level::Critical);
    let comparison = Comparison::Reached;
    let expected = LevelReason { sensor: Sensor::InFlight, percent: Some(100.0), threshold: 90, comparison };
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
fn an_unknown_reading_is_ignored_after_a_second() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&MonitorConfig { dwell: Duration::ZERO, ..config() }, t0);
    assert_eq!(sample(&mut state, Readings::NONE, t0), None, "unknown raises nothing");
    sample(&mut state, memory(99), t0);
    let gone = Readings { memory: None, ..memory(0) };
    assert_eq!(sample(&mut state, gone.clone(), t0 + Duration::from_millis(999)), None);
    let transition = sample(&mut state, gone, t0 + Duration::from_secs(1)).unwrap();
    assert_eq!((transition.from, transition.to), (Level::Exhausted, Level::Normal));
}

/// X4
#[test]
fn a_limit_of_nothing_is_unknown() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    let unlimited =
        Readings { descriptors: Measurement::known(7, 0, LimitSource::OpenFiles), ..Readings::NONE };
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
fn a_rebuild_keeps_the_level_until_the_next_sample() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    sample(&mut state, memory(96), t0);
    let (level, since, reason, transitions) =
        (state.level(), state.since(), state.reason(), state.transitions());
    state.rebuild((level, since), state.relief(), &transitions);
    assert_eq!((state.level(), state.since(), state.reason()), (Level::Exhausted, t0, reason));
    assert!(state.relief().may_end(Level::Exhausted), "requests are refused until the next sample");
    assert_eq!(sample(&mut state, memory(91), t0 + DWELL), None, "still not below critical");
    let fallen = sample(&mut state, memory(10), t0 + 2 * DWELL).unwrap();
    assert_eq!(fallen.to, Level::Normal);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// X2, X4, X8: no level without a pressure that needs it, no fall while a sample of the last `dwell` needs the
    /// level, and no level that stays forever
    #[test]
    fn the_level_follows_the_pressure_without_flapping(
        steps in prop::collection::vec((0u64..3000, prop::option::of(0u64..120), 0u64..120), 1..200),
    ) {
        let mut now = clock::now();
        let mut state = MonitorState::new(&config(), now);
        let mut samples: Vec<(Instant, Level)> = Vec::new();
        for (ms, used, in_flight) in steps {
            now += Duration::from_millis(ms);
            let readings = Readings {
                memory: used.and_then(|used| shared_memory(used, 0)),
                in_flight: Reading::Known { used: in_flight * 100, limit: 10_000 },
                ..Readings::NONE
            };
            let left_by_refusing = used.unwrap_or(0).saturating_sub(in_flight * 10);
            let cap = if left_by_refusing >= 90 { Level::Critical } else { Level::Exhausted };
            if let Some(transition) = sample(&mut state, readings, now) {
                prop_assert_ne!(transition.from, transition.to);
                if transition.to < transition.from {
                    let needed = samples.iter().filter(|(at, _)| now.duration_since(*at) < DWELL);
                    prop_assert!(needed.map(|(_, level)| *level).max().unwrap_or(Level::Normal) <= transition.to);
                } else if transition.to == Level::Exhausted {
                    let last = state.last[0].expect("memory is the only sensor that exhausts here");
                    prop_assert!(last.percent >= 95.0 && last.level_max == Level::Exhausted);
                }
            }
            let thresholds = LevelThresholds::from(&config());
            let needed = used.map_or(Level::Normal, |used| thresholds.level_entered(used as f64).min(cap));
            prop_assert!(state.level() >= needed, "a rise is immediate");
            let exhausted = state.level() == Level::Exhausted;
            prop_assert_eq!(state.relief().may_end(Level::Exhausted), exhausted, "exhausted needs relief");
            samples.push((now, needed));
        }
        sample(&mut state, memory(0), now + DWELL);
        prop_assert_eq!(state.level(), Level::Normal);
    }

    /// X8: whatever happened before, an idle process refuses nothing after `dwell`, and is normal once its memory is given back
    #[test]
    fn an_idle_process_leaves_exhausted_within_the_dwell(
        before in prop::collection::vec((1u64..3000, 0u64..200, 0u64..10_000), 0..50),
        stuck in 0u64..200,
    ) {
        let mut now = clock::now();
        let mut state = MonitorState::new(&config(), now);
        let with = |used: u64, requests: u64| Readings {
            memory: shared_memory(used, 0),
            in_flight: Reading::Known { used: requests, limit: 10_000 },
            ..Readings::NONE
        };
        for (ms, used, requests) in before {
            now += Duration::from_millis(ms);
            sample(&mut state, with(used, requests), now);
        }
        let ended = now;
        while now < ended + DWELL {
            now += Duration::from_millis(250);
            sample(&mut state, with(stuck, 0), now);
        }
        prop_assert!(state.level() < Level::Exhausted);
        now += DWELL;
        sample(&mut state, with(50, 0), now);
        prop_assert_eq!(state.level(), Level::Normal);
    }

    /// X2: a load of 1 s on and 1 s off changes the level at most twice in 30 s, whatever its height, and the first rise is immediate
    #[test]
    fn a_square_wave_does_not_flap(high in 80u64..120, low in 0u64..80, offset_ms in 0u64..250) {
        let t0 = clock::now();
        let mut state = MonitorState::new(&config(), t0);
        sample(&mut state, memory(low), t0);
        let mut changes = 0;
        for n in 0..120 {
            let at = Duration::from_millis(offset_ms + n * 250);
            let used = if at.as_secs().is_multiple_of(2) { high } else { low };
            let changed = sample(&mut state, memory(used), t0 + at).is_some();
            prop_assert!(n > 0 || changed, "a rise is immediate");
            changes += u32::from(changed);
        }
        prop_assert!(changes <= 2, "{} changes", changes);
    }
}

/// X2: memory of other processes only warns, and the reason names it
#[test]
fn memory_of_others_only_warns() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    let transition = sample(&mut state, Readings { memory: shared_memory(20, 79), ..memory(0) }, t0).unwrap();
    assert_eq!(transition.to, Level::Warning);
    assert_eq!(transition.reason.unwrap().to_string(), "memory_total at 99.0 %, threshold 80 %");
    let transition = sample(&mut state, Readings { memory: shared_memory(96, 3), ..memory(0) }, t0).unwrap();
    assert_eq!(transition.to, Level::Exhausted);
}

/// X8: memory that no request in flight holds is never a reason to refuse, and the reason names this
#[test]
fn refusing_must_be_able_to_end_exhausted() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    let held_by = |requests: u64| Readings {
        in_flight: Reading::Known { used: requests, limit: 10_000 },
        ..memory(101)
    };
    assert_eq!(sample(&mut state, held_by(0), t0).unwrap().to, Level::Critical);
    // 110 MiB of 1,010 must be free for less than 90 %: 110 requests may hold 1 MiB each.
    assert_eq!(sample(&mut state, held_by(110), t0), None);
    assert_eq!(sample(&mut state, held_by(111), t0).unwrap().to, Level::Exhausted);
    assert_eq!(sample(&mut state, held_by(0), t0 + DWELL / 2), None);
    let transition = sample(&mut state, held_by(0), t0 + DWELL).unwrap();
    assert_eq!(transition.to, Level::Critical);
    let reason = transition.reason.unwrap().to_string();
    assert_eq!(reason, "memory at 101.0 %, not held by requests in flight");
}

/// X8: a critical level may refuse only while fewer requests would end it, and for the dwell time afterwards
#[test]
fn a_critical_level_refuses_only_with_relief() {
    let t0 = clock::now();
    let after = |readings: Readings| {
        let mut state = MonitorState::new(&config(), t0);
        sample(&mut state, readings, t0);
        assert_eq!(state.level(), Level::Critical);
        state
    };
    let none_in_flight = Reading::Known { used: 0, limit: 10_000 };
    let held_by_none = Readings { in_flight: none_in_flight, ..memory(92) };
    assert!(!after(held_by_none.clone()).relief().may_end(Level::Critical));
    assert!(after(memory(92)).relief().may_end(Level::Critical));
    assert!(
        after(Readings { in_flight: Reading::Known { used: 92, limit: 100 }, ..memory(10) })
            .relief()
            .may_end(Level::Critical)
    );
    let mut state = after(Readings { descriptors: known(92), ..memory(10) });
    assert!(state.relief().may_end(Level::Critical) && !state.relief().may_end(Level::Exhausted));
    // The memory keeps the level, but refusals would not lower it.
    for (at, may_refuse) in [(DWELL / 2, true), (DWELL, false)] {
        sample(&mut state, held_by_none.clone(), t0 + at);
        assert_eq!((state.level(), state.relief().may_end(Level::Critical)), (Level::Critical, may_refuse));
    }
}

/// X8: memory of other processes refuses nothing, whatever the level of an action
#[test]
fn memory_of_others_gives_no_relief() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    sample(&mut state, Readings { memory: shared_memory(20, 79), ..memory(0) }, t0);
    assert_eq!((state.level(), state.relief().may_end(Level::Warning)), (Level::Warning, false));
}

/// X2: after a fall the reason is the cause of that fall
#[test]
fn the_reason_of_a_fall_is_its_cause() {
    let t0 = clock::now();
    let mut state = MonitorState::new(&config(), t0);
    let both = Readings { descriptors: known(85), ..memory(97) };
    sample(&mut state, both, t0);
    let fallen = sample(&mut state, Readings { descriptors: known(85), ..memory(30) }, t0 + DWELL).unwrap();
    assert_eq!((fallen.from, fallen.to), (Level::Exhausted, Level::Critical));
    assert_eq!(fallen.reason.unwrap().to_string(), "memory at 30.0 %, below 90 %");
    assert_eq!(state.reason(), fallen.reason);
    let fallen =
        sample(&mut state, Readings { descriptors: known(20), ..memory(30) }, t0 + 2 * DWELL).unwrap();
    assert_eq!(fallen.to, Level::Normal);
    assert_eq!(fallen.reason.unwrap().to_string(), "descriptors at 20.0 %, below 75 %");

    let mut state = MonitorState::new(&config(), t0);
    sample(&mut state, memory(97), t0);
    let fallen = sample(&mut state, Readings { memory: None, ..memory(0) }, t0 + DWELL).unwrap();
    assert_eq!(fallen.reason.unwrap().to_string(), "memory is unknown");
}
