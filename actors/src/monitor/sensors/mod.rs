//! The sensors: how much of each limited resource the process uses, and the limit.
//!
//! Each sensor keeps its files open, so that it works without a free descriptor, and reads its limits at run time, because cgroups
//! and `prlimit` change them. A sensor that fails is unknown; the others go on.

mod cgroup;
mod cgroup_membership;
mod cpu;
mod descriptors;
mod fields;
mod host;
mod log;
mod mailboxes;
mod memory;
mod portable;
mod ports;
mod process;
mod socket_memory;
#[cfg(test)]
mod test_directory;
mod throttling;

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::MonitorConfig;

use crate::actor_stats::ActorStats;
use crate::clock;
use crate::count::BoundedCount;
use crate::monitor::reading::{Reading, Readings};
use crate::monitor::sensors::cpu::CpuSensors;
use crate::monitor::sensors::descriptors::DescriptorSensor;
pub(crate) use crate::monitor::sensors::log::LogCell;
use crate::monitor::sensors::mailboxes::MailboxSensor;
use crate::monitor::sensors::memory::MemorySensor;
use crate::monitor::sensors::ports::PortSensor;

/// All sensors.
#[derive(Debug)]
pub(crate) struct Sensors {
    memory: MemorySensor,
    descriptors: DescriptorSensor,
    slots: Arc<BoundedCount>,
    ports: PortSensor,
    cpu: CpuSensors,
    mailboxes: MailboxSensor,
    log: LogCell,
}

impl Sensors {
    /// Opens the sensors' files. They stay open.
    pub(crate) fn open(config: &MonitorConfig, slots: Arc<BoundedCount>, actors: &[Arc<ActorStats>]) -> Self {
        let mut sensors = Self {
            memory: MemorySensor::open(config.memory_limit_bytes),
            descriptors: DescriptorSensor::open(config.descriptor_limit),
            slots,
            ports: PortSensor::default(),
            cpu: CpuSensors::new(config.cpu_pressure_limit),
            mailboxes: MailboxSensor::new(actors),
            log: LogCell::default(),
        };
        sensors.read(clock::now());
        sensors
    }

    /// Continues with other limits and actors. The files stay open.
    pub(crate) fn reconfigure(&mut self, config: &MonitorConfig, actors: &[Arc<ActorStats>]) {
        self.memory.set_limit(config.memory_limit_bytes);
        self.descriptors.set_limit(config.descriptor_limit);
        self.cpu.set_pressure_limit(config.cpu_pressure_limit);
        self.mailboxes = MailboxSensor::new(actors);
    }

    /// Where the log is set, once it is known.
    pub(crate) fn log(&self) -> LogCell {
        Arc::clone(&self.log)
    }

    /// Takes a sample.
    pub(crate) fn read(&mut self, now: Instant) -> Readings {
        let descriptors = self.descriptors.read();
        let open = match descriptors.reading {
            Reading::Known { used, .. } => Some(used),
            Reading::Unknown | Reading::Absent(_) => None,
        };
        let in_flight = Reading::Known {
            used: u64::try_from(self.slots.in_use()).unwrap_or(u64::MAX),
            limit: u64::try_from(self.slots.capacity()).unwrap_or(u64::MAX),
        };
        let (cpu, cpu_throttled) = self.cpu.read(now);
        Readings {
            memory: self.memory.read(open, now),
            descriptors,
            in_flight,
            ephemeral_ports: self.ports.read(now),
            cpu,
            cpu_throttled,
            mailbox_depth: self.mailboxes.read(),
            log_backlog: log::read_backlog(&self.log),
            log_disk: log::read_disk(&self.log, now),
        }
    }
}

/// The memory limit of the process on this system, in bytes: that of the tightest cgroup, else the host's memory.
/// None if the system reports neither.
pub fn system_memory_limit() -> Option<u64> {
    MemorySensor::open(None).read(None, clock::now()).map(|memory| memory.limit_bytes)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "sensors_tests.rs"]
mod tests;
