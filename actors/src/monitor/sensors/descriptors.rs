//! Open descriptors of this process and its limit.

use std::fs::{self, File};
use std::io;

use sysinfo::System;

use crate::monitor::reading::Reading;

/// "Too many open files": the number is the same on every Unix.
const EMFILE: i32 = 24;
const DIRECTORY: &str = "/proc/self/fd";

/// The sensor.
#[derive(Debug)]
pub(crate) struct DescriptorSensor {
    configured_limit: Option<u64>,
    /// Kept open, so that the count needs no further descriptor.
    directory: Option<File>,
}

impl DescriptorSensor {
    pub(crate) fn open(configured_limit: Option<u64>) -> Self {
        Self { configured_limit, directory: File::open(DIRECTORY).ok() }
    }

    /// Takes a reading. The limit is read each time: `prlimit` changes it at run time.
    pub(crate) fn read(&mut self) -> Reading {
        let limit = self.configured_limit.or_else(soft_limit);
        let used = match self.count() {
            Ok(used) => Some(used),
            // The count failed because every descriptor is in use.
            Err(error) if error.raw_os_error() == Some(EMFILE) => limit,
            Err(_) => None,
        };
        match (used, limit) {
            (Some(used), Some(limit)) => Reading::Known { used, limit },
            _ => Reading::Unknown,
        }
    }

    /// Since Linux 6.2 the size of the directory is the number of open descriptors; before, it is 0 and the names are counted.
    fn count(&self) -> io::Result<u64> {
        let size =
            self.directory.as_ref().map_or(Ok(0), |directory| directory.metadata().map(|of| of.len()))?;
        if size > 0 {
            return Ok(size);
        }
        // The descriptor that reads the names is among them.
        let listed = fs::read_dir(DIRECTORY)?.count();
        Ok(u64::try_from(listed).unwrap_or(u64::MAX).saturating_sub(1))
    }
}

fn soft_limit() -> Option<u64> {
    System::open_files_limit().ok().and_then(|limit| u64::try_from(limit).ok())
}
