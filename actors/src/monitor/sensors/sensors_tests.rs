//! The sensors on the running system.

use std::fs;

use super::*;
use crate::monitor::reading::{MemorySource, MemoryUse};

fn open(config: &MonitorConfig) -> Sensors {
    let slots = Arc::new(BoundedCount::new(4));
    assert!(slots.try_acquire());
    Sensors::open(config, slots)
}

fn descriptors(readings: &Readings) -> u64 {
    match readings.descriptors {
        Reading::Known { used, .. } => used,
        Reading::Unknown => panic!("the sensor failed"),
    }
}

fn memory(readings: &Readings) -> MemoryUse {
    readings.memory.expect("the sensor failed")
}

/// X1: limits are found
#[test]
fn every_sensor_finds_its_limit() {
    let readings = open(&MonitorConfig::default()).read();
    for (sensor, reading) in readings.by_sensor() {
        let Reading::Known { used, limit } = reading else { panic!("{sensor:?} failed") };
        assert!(0 < used && used < limit, "{sensor:?}: {used} of {limit}");
    }
    assert_eq!(readings.in_flight, Reading::Known { used: 1, limit: 4 });
    let memory = memory(&readings);
    assert!(memory.own_bytes <= memory.used_bytes, "{memory:?}");
}

/// X1: and can be set
#[test]
fn configured_limits_win() {
    let config = MonitorConfig {
        memory_limit_bytes: Some(1 << 40),
        descriptor_limit: Some(77),
        ..MonitorConfig::default()
    };
    let readings = open(&config).read();
    let memory = memory(&readings);
    assert_eq!((memory.limit_bytes, memory.source), (1 << 40, MemorySource::Configured));
    assert!(matches!(readings.descriptors, Reading::Known { limit: 77, .. }));
}

/// X1
#[test]
fn memory_and_descriptors_rise_as_they_are_used() {
    let mut sensors = open(&MonitorConfig::default());
    let before = sensors.read();
    let files: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let bytes = vec![1u8; 64 << 20];
    let after = sensors.read();
    assert!(descriptors(&after) >= descriptors(&before) + 40, "other tests may close a few meanwhile");
    assert!(memory(&after).own_bytes >= memory(&before).own_bytes + (48 << 20));
    assert!(memory(&after).rss_bytes >= memory(&before).rss_bytes + (48 << 20));
    assert_eq!((files.len(), bytes.len()), (50, 64 << 20));
}
