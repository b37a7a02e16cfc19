//! Counters of lost lines and failed writes, and the current failure.
//!
//! The logging threads, the writer thread and the watchdog update them; the status and the metrics read them. A blocked write cannot report
//! itself, so every reader calls `check_blocked_write`, which compares the start of the write with the clock.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tidegate_actors::{DiskSpace, clock};

use crate::telemetry::log::fault::LogFault;

/// A write that takes at least this long is blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Value of `write_began_ms` without a write in progress.
const IDLE: u64 = u64::MAX;

/// A current failure: from the first failed write to the next successful one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentFault {
    /// The cause.
    pub cause: LogFault,
    /// Time of the first failure.
    pub since: Instant,
    /// The operating system's message.
    pub detail: String,
}

/// Counters and the current failure of the log.
pub struct LogStats {
    lost: CauseCounters,
    failures: CauseCounters,
    faults: Mutex<Faults>,
    disk: Mutex<DiskSpace>,
    began: Instant,
    /// Start of the write in progress, in ms since `began`.
    write_began_ms: AtomicU64,
    /// Start of the last write that was counted as blocked, in ms since `began`.
    counted_ms: AtomicU64,
}

#[derive(Default)]
struct Faults {
    current: Option<CurrentFault>,
    /// The last failure that the watchdog has not reported yet.
    unreported: Option<CurrentFault>,
}

// A panic leaves the counters consistent.
impl UnwindSafe for LogStats {}
impl RefUnwindSafe for LogStats {}

struct CauseCounters {
    all: IntCounterVec,
    by_cause: [IntCounter; LogFault::ALL.len()],
}

impl CauseCounters {
    fn new(name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let all = IntCounterVec::new(Opts::new(name, help), &["cause"])?;
        let by_cause = LogFault::ALL.map(|cause| all.with_label_values(&[cause.as_str()]));
        Ok(Self { all, by_cause })
    }

    fn add(&self, cause: LogFault, count: u64) {
        for (counter, each) in self.by_cause.iter().zip(LogFault::ALL) {
            if each == cause {
                counter.inc_by(count);
            }
        }
    }

    fn total(&self) -> u64 {
        self.by_cause.iter().map(IntCounter::get).sum()
    }
}

impl LogStats {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            lost: CauseCounters::new("log_lines_lost_total", "log lines that were lost, by cause")?,
            failures: CauseCounters::new(
                "log_write_failures_total",
                "log writes that failed or did not return within a second, by cause",
            )?,
            faults: Mutex::default(),
            disk: Mutex::new(DiskSpace::Unknown),
            began: clock::now(),
            write_began_ms: AtomicU64::new(IDLE),
            counted_ms: AtomicU64::new(IDLE),
        })
    }

    /// Adds the counters to a registry.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.lost.all.clone()))?;
        registry.register(Box::new(self.failures.all.clone()))
    }

    /// The last measurement of the space where the log is written.
    pub(super) fn disk(&self) -> DiskSpace {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a measurement of the writer thread.
    pub(super) fn set_disk(&self, disk: DiskSpace) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    /// Lines lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.total()
    }

    /// The current failure, if any. Counts a write that is blocked by now.
    #[must_use]
    pub fn current(&self) -> Option<CurrentFault> {
        self.check_blocked_write();
        self.lock().current.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = clock::now().saturating_duration_since(self.began);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Whether a write is in progress.
    pub(super) fn is_writing(&self) -> bool {
        self.write_began_ms.load(Ordering::Acquire) != IDLE
    }

    /// Start and duration of the write in progress.
    fn writing_for(&self) -> Option<(u64, Duration)> {
        let began = self.write_began_ms.load(Ordering::Acquire);
        (began != IDLE).then(|| (began, Duration::from_millis(self.elapsed_ms().saturating_sub(began))))
    }

    /// Counts the write in progress as a failure, once, if it is blocked.
    pub fn check_blocked_write(&self) {
        let Some((began, _)) = self.writing_for().filter(|(_, elapsed)| *elapsed >= BLOCKED_AFTER) else {
            return;
        };
        if self.counted_ms.swap(began, Ordering::AcqRel) != began {
            let since = self.began.checked_add(Duration::from_millis(began)).unwrap_or(self.began);
            self.set_current(LogFault::Blocked, since, "a write has not returned within a second".to_owned());
        }
    }

    /// Counts a line that a logging thread has dropped.
    pub(super) fn count_dropped(&self) {
        let is_blocked = self.writing_for().is_some_and(|(_, elapsed)| elapsed >= BLOCKED_AFTER);
        let cause = if is_blocked { LogFault::Blocked } else { LogFault::TooSlow };
        self.lost.add(cause, 1);
        if cause == LogFault::TooSlow && self.lock().current.is_none() {
            self.set_current(cause, clock::now(), "the buffer of 8 MiB is full".to_owned());
        }
    }

    pub(super) fn begin_write(&self) {
        self.write_began_ms.store(self.elapsed_ms(), Ordering::Release);
    }

    pub(super) fn end_write(&self) {
        self.check_blocked_write();
        self.write_began_ms.store(IDLE, Ordering::Release);
    }

    /// Records a failed write and the number of lost lines.
    pub(super) fn record_failure(&self, cause: LogFault, detail: String, lines: u64) {
        self.lost.add(cause, lines);
        self.set_current(cause, clock::now(), detail);
    }

    fn set_current(&self, cause: LogFault, now: Instant, detail: String) {
        self.failures.add(cause, 1);
        let mut faults = self.lock();
        // A failure of another cause replaces the current one, and keeps the time of the first.
        let since = faults.current.as_ref().map_or(now, |current| current.since.min(now));
        let fault = CurrentFault { cause, since, detail };
        faults.unreported = Some(fault.clone());
        faults.current = Some(fault);
    }

    /// All buffered lines were written: ends the current failure and returns it.
    pub(super) fn record_recovery(&self) -> Option<CurrentFault> {
        self.lock().current.take()
    }

    /// Takes the last unreported failure. Counts a write that is blocked by now.
    pub(super) fn next_unreported(&self) -> Option<CurrentFault> {
        self.check_blocked_write();
        self.lock().unreported.take()
    }
}
