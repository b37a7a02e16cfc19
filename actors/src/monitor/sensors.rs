//! The sensors: what the process uses, and the limits it found or was told.
//!
//! Limits are looked for once per life of the actor. A sensor that fails says so, and the others go on.

use std::sync::Arc;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tidegate_config::MonitorConfig;

use crate::count::Bounded;
use crate::descriptors;
use crate::monitor::state::{Reading, Readings};

/// All sensors.
pub(crate) struct Sensors {
    process: Option<(System, Pid)>,
    memory_limit_bytes: Option<u64>,
    /// `monitor.descriptor_limit`
    descriptor_limit: Option<u64>,
    slots: Arc<Bounded>,
}

impl Sensors {
    pub(crate) fn open(config: &MonitorConfig, slots: Arc<Bounded>) -> Self {
        let mut process = System::new().ok().zip(sysinfo::get_current_pid().ok());
        let memory_limit_bytes = config.memory_limit_bytes.or_else(|| {
            let (system, pid) = process.as_mut()?;
            find_memory_limit(system, *pid)
        });
        Self { process, memory_limit_bytes, descriptor_limit: config.descriptor_limit, slots }
    }

    /// Takes a sample.
    pub(crate) fn read(&mut self) -> Readings {
        Readings { memory: self.memory(), descriptors: self.descriptors(), in_flight: self.in_flight() }
    }

    fn memory(&mut self) -> Reading {
        let used = self.process.as_mut().and_then(|(system, pid)| {
            refresh(system, *pid);
            system.process(*pid).map(sysinfo::Process::memory)
        });
        known(used.filter(|used| *used > 0), self.memory_limit_bytes)
    }

    fn descriptors(&self) -> Reading {
        // The limit is read with each sample: `prlimit` can change it.
        let limit = [self.descriptor_limit, descriptors::limit()].into_iter().flatten().min();
        let reading = match descriptors::open_count() {
            Ok(used) => known(Some(used), limit),
            // Without a descriptor for the count, all are in use.
            Err(error) if descriptors::is_shortage(&error) => known(limit, limit),
            Err(_) => Reading::Unknown,
        };
        descriptors::fill_reserve();
        reading
    }

    fn in_flight(&self) -> Reading {
        known(u64::try_from(self.slots.taken()).ok(), u64::try_from(self.slots.capacity()).ok())
    }
}

fn known(used: Option<u64>, limit: Option<u64>) -> Reading {
    match (used, limit) {
        (Some(used), Some(limit)) => Reading::Known { used, limit },
        _ => Reading::Unknown,
    }
}

fn refresh(system: &mut System, pid: Pid) {
    let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
}

/// The cgroup's limit if it is a real one. "Unlimited" is a huge number there, so the smallest of all is the truth.
fn find_memory_limit(system: &mut System, pid: Pid) -> Option<u64> {
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    refresh(system, pid);
    let host = Some(system.total_memory());
    let root = system.cgroup_limits().map(|limits| limits.total_memory);
    let own = system.process(pid).and_then(sysinfo::Process::cgroup_limits).map(|limits| limits.total_memory);
    [host, root, own].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;

    use super::*;

    fn open(config: &MonitorConfig) -> Sensors {
        let slots = Arc::new(Bounded::new(4));
        assert!(slots.take());
        Sensors::open(config, slots)
    }

    fn used(reading: Reading) -> u64 {
        match reading {
            Reading::Known { used, .. } => used,
            Reading::Unknown => panic!("the sensor failed"),
        }
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
        assert!(matches!(readings.memory, Reading::Known { limit, .. } if limit == 1 << 40));
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
        assert!(
            used(after.descriptors) >= used(before.descriptors) + 40,
            "other tests may close a few meanwhile"
        );
        assert!(used(after.memory) >= used(before.memory) + (48 << 20));
        assert_eq!((files.len(), bytes.len()), (50, 64 << 20));
    }
}
