//! The process's descriptors: their limit, how many are open, and a reserve.
//!
//! The reserve is a set of descriptors that are opened at start and never used. When the process has no descriptor left,
//! [`with_reserve`] closes one of them and opens what the admin listener, the log or a sensor needs in its place. The reserve is opened
//! first, so its numbers are low: the kernel compares the number of a new descriptor with `RLIMIT_NOFILE`, so low numbers stay usable
//! when the limit is lowered at run time (`prlimit`).
//!
//! The limit belongs to the process (`getrlimit(2)`), and so does the reserve: both are global.

use std::fs::{self, File};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors in the reserve: one for each admin connection, and four for the log and the sensors.
pub const RESERVED: usize = ADMIN_CONNECTIONS + 4;
/// Admin connections that the reserve covers.
pub const ADMIN_CONNECTIONS: usize = 12;

static RESERVE: Reserve = Reserve(Mutex::new(Vec::new()));

/// A change of the soft limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaisedLimit {
    /// The soft limit before; none if it was unlimited.
    pub before: Option<u64>,
    /// The soft limit now; none if it is unlimited.
    pub now: Option<u64>,
}

/// Raises the soft limit of descriptors to the hard limit.
///
/// # Errors
/// The kernel refused the new limit; the old one holds.
pub fn raise_limit() -> io::Result<RaisedLimit> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(RaisedLimit { before: current, now: maximum })
}

/// The soft limit at this moment, which `prlimit` can change from outside; none if it is unlimited.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Descriptors that are open, without the one that lists them.
///
/// # Errors
/// `/proc/self/fd` cannot be read.
pub fn open_count() -> io::Result<u64> {
    let listed = with_reserve(|| fs::read_dir("/proc/self/fd"))?.count();
    // The listing has used one and closed it. Fill the reserve before another caller takes that number.
    fill_reserve();
    Ok(u64::try_from(listed).unwrap_or(u64::MAX).saturating_sub(1))
}

/// Whether the error means that the process or the host has no descriptor left (`EMFILE`, `ENFILE`).
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Calls `open`. While it fails because no descriptor is left, closes one descriptor of the reserve and calls it
/// again. Another thread may take the freed descriptor, so more than one may be needed.
///
/// The error of the last call.
pub fn with_reserve<T>(open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    RESERVE.with_reserve(open)
}

/// Opens the missing descriptors of the reserve and stops at the first failure. Called at start and by the monitor
/// with each sample.
pub fn fill_reserve() {
    RESERVE.fill();
}

/// Descriptors that are held open and not used.
struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    fn with_reserve<T>(&self, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        // Descriptors that earlier calls borrowed may be free again.
        self.fill();
        loop {
            match open() {
                Err(error) if is_shortage(&error) && self.lock().pop().is_some() => {}
                result => return result,
            }
        }
    }

    fn fill(&self) {
        let mut files = self.lock();
        while files.len() < RESERVED {
            let Ok(file) = File::open("/dev/null") else { return };
            files.push(file);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X3: the reserve is used only when no descriptor is left, only as much of it as is needed, and it is filled
    /// again
    #[test]
    fn the_reserve_is_used_when_descriptors_are_out() {
        let reserve = Reserve(Mutex::default());
        reserve.fill();
        assert_eq!(reserve.lock().len(), RESERVED);
        assert!(reserve.with_reserve(|| Err::<(), _>(io::ErrorKind::NotFound.into())).is_err());
        assert_eq!(reserve.lock().len(), RESERVED, "another error needs no descriptor");
        let mut failures = 3;
        let opened = reserve.with_reserve(|| {
            failures -= 1;
            if failures >= 0 { Err(Errno::MFILE.into()) } else { Ok(()) }
        });
        assert!(opened.is_ok());
        assert_eq!(reserve.lock().len(), RESERVED - 3);
        assert!(reserve.with_reserve(|| Err::<(), _>(Errno::NFILE.into())).is_err(), "the reserve is finite");
        assert_eq!(reserve.lock().len(), 0);
        reserve.fill();
        assert_eq!(reserve.lock().len(), RESERVED);
    }
}
