//! Noise around a threshold, and the effect of every sensor (X2, X4): the level does not flap, and it grows with the pressure.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::monitor::measurement::{LimitSource, Measurement};
use crate::monitor::reading::{MemorySource, MemoryUse, Reading};

const SAMPLE: Duration = Duration::from_millis(100);
/// A use is given in thousandths of its limit.
const LIMIT: u64 = 1000;

/// The defaults, where `recover` is `warning`: no hysteresis below `warning`, so only the dwell prevents flapping there.
fn config() -> MonitorConfig {
    MonitorConfig { cpu_pressure_limit: Some(50), ..MonitorConfig::default() }
}

/// A sample in which one sensor has this reading.
fn only(sensor: Sensor, reading: Reading) -> Readings {
    let mut readings = Readings {
        // Enough requests are in flight to hold all memory.
        in_flight: Reading::Known { used: 1000, limit: 10_000 },
        ..Readings::NONE
    };
    let measured = Measurement { reading, limit_source: Some(LimitSource::Slots), ..Measurement::UNKNOWN };
    match sensor {
        Sensor::Memory => readings.memory = memory(reading, true),
        Sensor::MemoryTotal => readings.memory = memory(reading, false),
        Sensor::Descriptors => readings.descriptors = measured,
        Sensor::InFlight => readings.in_flight = reading,
        Sensor::EphemeralPorts => readings.ephemeral_ports = measured,
        Sensor::Cpu => readings.cpu = measured,
        Sensor::CpuThrottled => readings.cpu_throttled = measured,
        Sensor::MailboxDepth => readings.mailbox_depth = measured,
        Sensor::LogBacklog => readings.log_backlog = measured,
        Sensor::LogDisk => readings.log_disk = measured,
    }
    readings
}

fn memory(reading: Reading, is_own: bool) -> Option<MemoryUse> {
    let Reading::Known { used, limit } = reading else { return None };
    Some(MemoryUse {
        used_bytes: used,
        limit_bytes: limit,
        own_bytes: if is_own { used } else { 0 },
        own_limit_bytes: limit,
        sockets_bytes: 0,
        rss_bytes: used,
        source: MemorySource::CgroupV2,
    })
}

fn known(used: u64) -> Reading {
    Reading::Known { used, limit: LIMIT }
}

fn sample(state: &mut MonitorState, readings: &Readings, now: Instant) -> Option<LevelTransition> {
    let update = state.evaluate(readings, now);
    state.apply(update)
}

/// The state after one sample.
fn after(config: &MonitorConfig, readings: &Readings) -> Level {
    let now = clock::now();
    let mut state = MonitorState::new(config, now);
    sample(&mut state, readings, now);
    state.level()
}

/// X2: each sensor reaches its highest level and no higher one
#[test]
fn every_sensor_stops_at_its_highest_level() {
    for sensor in Sensor::ALL {
        assert_eq!(after(&config(), &only(sensor, known(2 * LIMIT))), sensor.level_max(), "{sensor:?}");
    }
    let exhausting = Sensor::ALL.into_iter().filter(|sensor| sensor.level_max() == Level::Exhausted);
    assert!(exhausting.eq([Sensor::Memory, Sensor::Descriptors]), "X2 names the two");
}

/// X1, X2: without `monitor.cpu_pressure_limit` a busy host causes no level
#[test]
fn cpu_pressure_needs_a_limit() {
    let busy = only(Sensor::Cpu, known(LIMIT));
    assert_eq!(after(&MonitorConfig::default(), &busy), Level::Normal);
    assert_eq!(after(&config(), &busy), Level::Warning);
}

/// X4: what cannot be measured causes no level, and what could be measured before causes none after a second
#[test]
fn an_unknown_or_absent_reading_has_no_effect() {
    for sensor in Sensor::ALL {
        for nothing in
            [Reading::Unknown, Reading::Absent("nothing to measure"), Reading::Known { used: 7, limit: 0 }]
        {
            assert_eq!(after(&config(), &only(sensor, nothing)), Level::Normal, "{sensor:?} {nothing:?}");
            let t0 = clock::now();
            let mut state = MonitorState::new(&MonitorConfig { dwell: Duration::ZERO, ..config() }, t0);
            sample(&mut state, &only(sensor, known(LIMIT)), t0);
            assert!(state.level() > Level::Normal, "{sensor:?}");
            sample(&mut state, &only(sensor, nothing), t0 + Duration::from_secs(1));
            assert_eq!(state.level(), Level::Normal, "{sensor:?} {nothing:?}");
        }
    }
}

fn any_sensor() -> impl Strategy<Value = Sensor> {
    prop::sample::select(Sensor::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// X2: a random walk around a threshold raises the level at most once in each dwell
    #[test]
    fn noise_at_a_threshold_does_not_flap(
        sensor in any_sensor(),
        threshold in prop::sample::select(vec![800_u64, 900, 950]),
        steps in prop::collection::vec(-15i64..=15, 50..600),
    ) {
        let t0 = clock::now();
        let mut state = MonitorState::new(&config(), t0);
        let mut rises: Vec<(Level, Instant)> = Vec::new();
        let mut used = threshold;
        for (n, step) in (0u32..).zip(&steps) {
            // The walk turns back 30 thousandths from the threshold.
            used = used.saturating_add_signed(*step).clamp(threshold - 30, threshold + 30);
            let now = t0 + SAMPLE * n;
            let Some(LevelTransition { from, to, .. }) = sample(&mut state, &only(sensor, known(used)), now) else {
                continue;
            };
            if to < from {
                continue;
            }
            let same = rises.iter().rev().find(|(level, _)| *level == to);
            if let Some((_, last)) = same {
                prop_assert!(now.duration_since(*last) >= config().dwell, "{:?} rose twice in a dwell", to);
            }
            rises.push((to, now));
        }
        // The noise does not cross the hysteresis of the upper thresholds: both levels around them are reached once.
        if threshold >= 900 {
            prop_assert!(rises.len() <= 2, "{:?}", rises);
        }
    }

    /// X2: a pressure that is nowhere lower never has a lower level
    #[test]
    fn the_level_grows_with_the_pressure(
        sensor in any_sensor(),
        steps in prop::collection::vec((0u64..1200, 0u64..300, 1u64..3000), 1..200),
    ) {
        let mut now = clock::now();
        let (mut low, mut high) = (MonitorState::new(&config(), now), MonitorState::new(&config(), now));
        for (used, more, pause_ms) in steps {
            now += Duration::from_millis(pause_ms);
            sample(&mut low, &only(sensor, known(used)), now);
            sample(&mut high, &only(sensor, known(used + more)), now);
            prop_assert!(low.level() <= high.level(), "{:?} at {} and {}", sensor, used, used + more);
        }
    }

    /// X4: a sensor that fails now and then, at any pressure, raises nothing that its readings do not need
    #[test]
    fn a_failing_sensor_raises_nothing(
        sensor in any_sensor(),
        steps in prop::collection::vec((prop::option::of(0u64..790), 0u64..3000), 1..200),
    ) {
        let mut now = clock::now();
        let mut state = MonitorState::new(&config(), now);
        for (used, pause_ms) in steps {
            now += Duration::from_millis(pause_ms);
            let reading = used.map_or(Reading::Unknown, known);
            prop_assert_eq!(sample(&mut state, &only(sensor, reading), now), None);
        }
    }
}
