//! The sensors on the running system.

use std::fs;

use super::*;
use crate::monitor::measurement::LimitSource;
use crate::monitor::reading::{MemorySource, MemoryUse};
use crate::monitor::sensor::Sensor;

fn open(config: &MonitorConfig) -> Sensors {
    let slots = Arc::new(BoundedCount::new(4));
    assert!(slots.try_acquire());
    let actors = [Arc::new(ActorStats::new("limiter", 8))];
    Sensors::open(config, slots, &actors)
}

fn descriptors(readings: &Readings) -> u64 {
    match readings.descriptors.reading {
        Reading::Known { used, .. } => used,
        _ => panic!("the sensor failed"),
    }
}

fn memory(readings: &Readings) -> MemoryUse {
    readings.memory.expect("the sensor failed")
}

/// X1: limits are found
#[test]
fn every_sensor_finds_its_limit() {
    let readings = open(&MonitorConfig::default()).read(clock::now());
    for (sensor, measured) in Sensor::ALL.into_iter().zip(readings.measurements()) {
        match measured.reading {
            Reading::Known { used, limit } => {
                assert!(used <= limit && limit > 0, "{sensor:?}: {used} of {limit}");
                assert!(measured.limit_source.is_some(), "{sensor:?}");
            }
            Reading::Unknown => panic!("{sensor:?} failed"),
            Reading::Absent(why) => {
                let may_be_absent = [Sensor::Cpu, Sensor::CpuThrottled, Sensor::LogBacklog, Sensor::LogDisk]
                    .contains(&sensor);
                assert!(may_be_absent, "{sensor:?}: {why}");
            }
        }
    }
    assert!(descriptors(&readings) > 0 && memory(&readings).own_bytes > 0);
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
    let readings = open(&config).read(clock::now());
    let memory = memory(&readings);
    assert_eq!((memory.limit_bytes, memory.source), (1 << 40, MemorySource::Configured));
    assert_eq!(readings.descriptors.limit_source, Some(LimitSource::DescriptorKey));
    assert!(matches!(readings.descriptors.reading, Reading::Known { limit: 77, .. }));
}

/// X1
#[test]
fn memory_and_descriptors_rise_as_they_are_used() {
    let mut sensors = open(&MonitorConfig::default());
    let before = sensors.read(clock::now());
    let files: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let bytes = vec![1u8; 64 << 20];
    let after = sensors.read(clock::now());
    assert!(descriptors(&after) >= descriptors(&before) + 40, "other tests may close a few meanwhile");
    assert!(memory(&after).own_bytes >= memory(&before).own_bytes + (48 << 20));
    assert!(memory(&after).rss_bytes >= memory(&before).rss_bytes + (48 << 20));
    assert_eq!((files.len(), bytes.len()), (50, 64 << 20));
}
