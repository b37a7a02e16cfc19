//! Memory of the process where the kernel has no `/proc`: resident set against the host's memory.

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::monitor::reading::{MemorySource, MemoryUse};

/// The sensor.
#[derive(Debug)]
pub(crate) struct PortableMemory {
    system: System,
    process: Pid,
    limit_bytes: u64,
    source: MemorySource,
}

impl PortableMemory {
    /// Opens the sensor; none where the system does not support it.
    pub(crate) fn open(configured_limit_bytes: Option<u64>) -> Option<Self> {
        let mut system = System::new().ok()?;
        let process = sysinfo::get_current_pid().ok()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let mut sensor = Self { system, process, limit_bytes: 0, source: MemorySource::Host };
        sensor.set_limit(configured_limit_bytes);
        Some(sensor)
    }

    /// Sets the configured limit.
    pub(crate) fn set_limit(&mut self, configured_limit_bytes: Option<u64>) {
        (self.limit_bytes, self.source) = match configured_limit_bytes {
            Some(bytes) => (bytes, MemorySource::Configured),
            None => (self.system.total_memory(), MemorySource::Host),
        };
    }

    pub(crate) fn read(&mut self) -> Option<MemoryUse> {
        let kinds = ProcessRefreshKind::nothing().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.process]), true, kinds);
        let rss_bytes = self.system.process(self.process).map(sysinfo::Process::memory)?;
        let Self { limit_bytes, source, .. } = *self;
        (rss_bytes > 0).then_some(MemoryUse {
            used_bytes: rss_bytes,
            limit_bytes,
            own_bytes: rss_bytes,
            own_limit_bytes: limit_bytes,
            sockets_bytes: 0,
            rss_bytes,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1
    #[test]
    fn the_resident_set_is_known_on_every_system() {
        let memory = PortableMemory::open(None).unwrap().read().unwrap();
        assert_eq!(memory.source, MemorySource::Host);
        assert!(0 < memory.rss_bytes && memory.rss_bytes < memory.limit_bytes);
        let memory = PortableMemory::open(Some(1 << 40)).unwrap().read().unwrap();
        assert_eq!((memory.limit_bytes, memory.source), (1 << 40, MemorySource::Configured));
    }
}
