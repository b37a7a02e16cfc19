//! The sensors: how much of each limited resource the process uses, and the limit.
//!
//! Each sensor keeps its files open, so that it works without a free descriptor, and reads its limits with every sample, because
//! cgroups and `prlimit` change them at run time. A sensor that fails is unknown; the others go on.

mod cgroup;
mod cgroup_membership;
mod descriptors;
mod fields;
mod host;
mod memory;
mod persistent_file;
mod portable;
mod process;
mod socket_memory;

use std::sync::Arc;

use tidegate_config::MonitorConfig;

use crate::count::BoundedCount;
use crate::monitor::reading::{Reading, Readings};
use crate::monitor::sensors::descriptors::DescriptorSensor;
use crate::monitor::sensors::memory::MemorySensor;

/// All sensors.
#[derive(Debug)]
pub(crate) struct Sensors {
    memory: MemorySensor,
    descriptors: DescriptorSensor,
    slots: Arc<BoundedCount>,
}

impl Sensors {
    /// Opens the sensors' files. They stay open.
    pub(crate) fn open(config: &MonitorConfig, slots: Arc<BoundedCount>) -> Self {
        let descriptors = DescriptorSensor::open(config.descriptor_limit);
        let mut sensors = Self { memory: MemorySensor::open(config.memory_limit_bytes), descriptors, slots };
        sensors.read();
        sensors
    }

    /// Takes a sample.
    pub(crate) fn read(&mut self) -> Readings {
        let descriptors = self.descriptors.read();
        let open = match descriptors {
            Reading::Known { used, .. } => Some(used),
            Reading::Unknown => None,
        };
        let in_flight = Reading::Known {
            used: u64::try_from(self.slots.in_use()).unwrap_or(u64::MAX),
            limit: u64::try_from(self.slots.capacity()).unwrap_or(u64::MAX),
        };
        Readings { memory: self.memory.read(open), descriptors, in_flight }
    }
}

/// The memory limit of the process on this system, in bytes: that of the tightest cgroup, else the host's memory.
/// None if the system reports neither.
pub fn system_memory_limit() -> Option<u64> {
    MemorySensor::open(None).read(None).map(|memory| memory.limit_bytes)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "sensors_tests.rs"]
mod tests;
