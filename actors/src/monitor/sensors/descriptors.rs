//! Open descriptors of this process and its limit.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

use rustix::fs::{RawDir, SeekFrom, seek};

use crate::descriptors;
use crate::monitor::measurement::{LimitSource, Measurement};

/// Bytes of names that are read at once.
const NAMES_BYTES: usize = 16 << 10;
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

    /// Sets the configured limit.
    pub(crate) fn set_limit(&mut self, configured_limit: Option<u64>) {
        self.configured_limit = configured_limit;
    }

    /// Takes a reading, and fills the reserve of descriptors again. The limit is read each time: `prlimit` changes it at run time.
    pub(crate) fn read(&mut self) -> Measurement {
        let configured = self.configured_limit.map(|limit| (limit, LimitSource::DescriptorKey));
        let of_process = descriptors::limit().map(|limit| (limit, LimitSource::OpenFiles));
        let limit = [configured, of_process].into_iter().flatten().min_by_key(|(limit, _)| *limit);
        let used = match self.count() {
            Ok(used) => Some(used),
            // The count failed because every descriptor is in use.
            Err(error) if descriptors::is_shortage(&error) => limit.map(|(limit, _)| limit),
            Err(_) => None,
        };
        descriptors::fill_reserve();
        match (used, limit) {
            (Some(used), Some((limit, source))) => Measurement::known(used, limit, source),
            _ => Measurement::UNKNOWN,
        }
    }

    /// Since Linux 6.2 the size of the directory is the number of open descriptors; before, it is 0 and the names are counted.
    fn count(&self) -> io::Result<u64> {
        let Some(directory) = &self.directory else { return descriptors::open_count() };
        let size = directory.metadata()?.len();
        if size > 0 { Ok(size) } else { count_names(directory) }
    }
}

/// Counts the names in an open directory, without `.` and `..`.
fn count_names(directory: &File) -> io::Result<u64> {
    seek(directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); NAMES_BYTES];
    let mut names = RawDir::new(directory, &mut buffer);
    let mut count = 0_u64;
    while let Some(name) = names.next() {
        name?;
        count += 1;
    }
    Ok(count.saturating_sub(2))
}
