//! The log: bytes that wait for its writer, and space for what it writes.
//!
//! The log writer measures the space, because a file system may block the thread that asks. A measurement that is too old is unknown.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::monitor::log_probe::{DiskSpace, LogProbe};
use crate::monitor::measurement::{LimitSource, Measurement};
use crate::monitor::reading::Reading;

/// The space that a log needs. A large file system with this much free space is no cause of concern, however full it is.
const SPACE_BYTES: u64 = 1 << 30;
/// The writer measures every second while it is not blocked.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// The log, once it is known.
pub(crate) type LogCell = Arc<OnceLock<Arc<dyn LogProbe>>>;

const NO_LOG: &str = "this process has no log writer";

pub(crate) fn read_backlog(log: &LogCell) -> Measurement {
    let Some(log) = log.get() else { return Measurement::absent(NO_LOG) };
    let (used, limit) = log.backlog();
    Measurement::known(used, limit, LimitSource::LogBuffer)
}

pub(crate) fn read_disk(log: &LogCell, now: Instant) -> Measurement {
    let Some(log) = log.get() else { return Measurement::absent(NO_LOG) };
    match log.disk() {
        DiskSpace::NotAFile => Measurement::absent("log.output is not a regular file"),
        DiskSpace::Unknown => Measurement::UNKNOWN,
        DiskSpace::Measured { free_bytes, size_bytes, at } => {
            let limit = size_bytes.min(SPACE_BYTES);
            let known = Measurement::known(limit.saturating_sub(free_bytes), limit, LimitSource::FileSystem);
            let is_stale = now.saturating_duration_since(at) >= STALE_AFTER;
            let reading = if is_stale { Reading::Unknown } else { known.reading };
            Measurement { reading, taken: Some(at), ..known }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[derive(Debug)]
    struct FakeLog(DiskSpace);

    impl LogProbe for FakeLog {
        fn backlog(&self) -> (u64, u64) {
            (3, 100)
        }

        fn disk(&self) -> DiskSpace {
            self.0
        }
    }

    fn cell(disk: DiskSpace) -> LogCell {
        let cell = LogCell::default();
        cell.set(Arc::new(FakeLog(disk))).unwrap();
        cell
    }

    fn read(disk: DiskSpace, now: Instant) -> Reading {
        read_disk(&cell(disk), now).reading
    }

    /// X1, X12: a small disk counts whole, of a large one only the last GiB
    #[test]
    fn the_space_that_a_log_needs_counts() {
        let now = clock::now();
        let disk =
            |free_bytes, size_bytes| read(DiskSpace::Measured { free_bytes, size_bytes, at: now }, now);
        assert_eq!(disk(64 << 10, 256 << 10), Reading::Known { used: 192 << 10, limit: 256 << 10 });
        assert_eq!(disk(20 << 30, 4 << 40), Reading::Known { used: 0, limit: 1 << 30 });
        assert_eq!(disk(256 << 20, 4 << 40), Reading::Known { used: 768 << 20, limit: 1 << 30 });
        assert_eq!(disk(0, 0), Reading::Known { used: 0, limit: 0 }, "no limit: unknown to the level");
        assert_eq!(disk(9, 5), Reading::Known { used: 0, limit: 5 });
    }

    /// X4: a measurement of a blocked writer becomes unknown; a pipe has no space to measure
    #[test]
    fn an_old_measurement_is_unknown() {
        let at = clock::now();
        let disk = DiskSpace::Measured { free_bytes: 1, size_bytes: 2, at };
        assert_eq!(
            read(disk, at + STALE_AFTER - Duration::from_millis(1)),
            Reading::Known { used: 1, limit: 2 }
        );
        assert_eq!(read(disk, at + STALE_AFTER), Reading::Unknown);
        assert_eq!(read(DiskSpace::Unknown, at), Reading::Unknown);
        assert!(matches!(read(DiskSpace::NotAFile, at), Reading::Absent(_)));
        assert!(matches!(read_disk(&LogCell::default(), at).reading, Reading::Absent(_)));
    }

    /// X1
    #[test]
    fn the_backlog_has_its_capacity() {
        let of = |cell: &LogCell| read_backlog(cell).reading;
        assert_eq!(of(&cell(DiskSpace::Unknown)), Reading::Known { used: 3, limit: 100 });
        assert!(matches!(of(&LogCell::default()), Reading::Absent(_)));
    }
}
