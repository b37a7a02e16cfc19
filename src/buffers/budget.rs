//! The process's budget for kernel buffers of transfers that have grown (`server.buffer_budget`).
//!
//! A small buffer needs no reservation, because gates and in-flight slots bound the number of small buffers. A grown buffer is reserved
//! until it is small again. A transfer without a reservation keeps its size. Between two samples of the monitor growth is bounded too: all
//! that is reserved must fit below `exhausted` beside the rest of the process's own memory.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::buffers::tuning::BudgetHeadroom;

/// The budget before the monitor has read the memory limit.
const BYTES_BEFORE_FIRST_SAMPLE: u64 = 32 << 20;
/// The default budget is 1/4 of the memory limit.
const LIMIT_DIVISOR: u64 = 4;
/// A transfer starts at a medium size while running transfers have reserved at most 1/24 of the budget.
const START_DIVISOR: u64 = 24;
/// A connection keeps a large size while at most 1/16 of the budget is reserved.
const KEEP_DIVISOR: u64 = 16;
/// A large buffer has 1/16 of the budget, within [`LARGE_BYTES`].
const LARGE_DIVISOR: u64 = 16;
/// Bounds of a large buffer, in bytes as the kernel accounts them. With 8 MiB an object of 10 MiB on loopback costs no more CPU time than
/// with the kernel's own buffer size.
const LARGE_BYTES: RangeInclusive<u64> = 1 << 20..=8 << 20;

/// Reserved bytes of the whole process.
#[derive(Debug)]
pub(crate) struct BufferBudget {
    configured: Option<u64>,
    limit: AtomicU64,
    /// The memory that is left for buffers, those in use included.
    memory_max: AtomicU64,
    reserved: AtomicU64,
    /// The part of `reserved` that connections keep while no transfer uses them.
    idle: AtomicU64,
    /// The action `receive_buffers` does not act.
    may_grow: AtomicBool,
    /// Workers that have transfers.
    serving: AtomicU64,
}

impl BufferBudget {
    /// `configured` is `server.buffer_budget`, in bytes.
    pub(crate) fn new(configured: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            configured,
            limit: AtomicU64::new(configured.unwrap_or(BYTES_BEFORE_FIRST_SAMPLE)),
            memory_max: AtomicU64::new(u64::MAX),
            reserved: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            may_grow: AtomicBool::new(true),
            serving: AtomicU64::new(0),
        })
    }

    /// Applies a sample of the monitor: the memory limit and what is left for buffers, if known, and whether buffers may grow.
    pub(crate) fn update(&self, memory_limit_bytes: Option<u64>, left_bytes: Option<u64>, may_grow: bool) {
        if let (None, Some(limit)) = (self.configured, memory_limit_bytes) {
            self.limit.store(limit / LIMIT_DIVISOR, Ordering::Relaxed);
        }
        self.memory_max.store(left_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.may_grow.store(may_grow, Ordering::Relaxed);
    }

    /// Whether no buffer may grow since the last sample.
    pub(crate) fn is_short(&self) -> bool {
        !self.may_grow.load(Ordering::Relaxed)
    }

    /// Counts a worker in or out: it has its first transfer, or no transfer is left.
    pub(super) fn count_serving(&self, is_serving: bool) {
        if is_serving {
            self.serving.fetch_add(1, Ordering::Relaxed);
        } else {
            self.serving.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Workers that have transfers, at least 1.
    pub(super) fn serving_workers(&self) -> u64 {
        self.serving.load(Ordering::Relaxed).max(1)
    }

    /// Reserves `bytes`; none if that would exceed the budget, or memory is short.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { budget: Arc::clone(self), bytes: 0, is_idle: false };
        reservation.resize(bytes).then_some(reservation)
    }

    /// Reserves `bytes` for a new transfer; none if running transfers would then have more than 1/24 of the budget.
    pub(crate) fn try_reserve_start(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if self.has_free(START_DIVISOR, self.running_bytes().saturating_add(bytes)) {
            self.try_reserve(bytes)
        } else {
            None
        }
    }

    /// How much of the budget is free for transfers that grow.
    pub(crate) fn headroom(&self) -> BudgetHeadroom {
        if self.has_free(START_DIVISOR, self.running_bytes()) {
            BudgetHeadroom::Ample
        } else {
            BudgetHeadroom::Scarce
        }
    }

    /// Whether `bytes` are at most this share of the budget, and memory is not short.
    fn has_free(&self, divisor: u64, bytes: u64) -> bool {
        !self.is_short() && bytes <= self.limit.load(Ordering::Relaxed) / divisor
    }

    /// Size of a large buffer, in bytes as the kernel accounts them.
    pub(crate) fn large_bytes(&self) -> u32 {
        let share = self.limit.load(Ordering::Relaxed) / LARGE_DIVISOR;
        u32::try_from(share.clamp(*LARGE_BYTES.start(), *LARGE_BYTES.end())).unwrap_or(u32::MAX)
    }

    fn running_bytes(&self) -> u64 {
        self.reserved_bytes().saturating_sub(self.idle.load(Ordering::Relaxed))
    }

    /// Bytes that are currently reserved.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    fn try_add(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed).min(self.memory_max.load(Ordering::Relaxed));
        let add = |reserved: u64| reserved.checked_add(bytes).filter(|sum| *sum <= limit);
        self.may_grow.load(Ordering::Relaxed)
            && self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// Reserved memory. Dropping it releases it.
#[derive(Debug)]
#[must_use = "a dropped reservation is released"]
pub(crate) struct Reservation {
    budget: Arc<BufferBudget>,
    bytes: u64,
    is_idle: bool,
}

impl Reservation {
    /// Whether at most 1/16 of the budget is reserved, so that a connection may keep a large size.
    pub(crate) fn may_be_retained(&self) -> bool {
        self.budget.has_free(KEEP_DIVISOR, self.budget.reserved_bytes())
    }

    /// Reserved bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Marks the reservation as unused or used by a transfer. An unused one does not count for the start of transfers.
    pub(crate) fn set_idle(&mut self, is_idle: bool) {
        match (std::mem::replace(&mut self.is_idle, is_idle), is_idle) {
            (false, true) => self.budget.idle.fetch_add(self.bytes, Ordering::Relaxed),
            (true, false) => self.budget.idle.fetch_sub(self.bytes, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Reduces the reservation to `bytes`. A smaller one stays as it is.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        self.resize(bytes.min(self.bytes));
    }

    /// Changes the reservation to `bytes`, for a transfer. False if the budget does not allow it; the reservation is then unchanged.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        self.set_idle(false);
        if bytes > self.bytes && !self.budget.try_add(bytes - self.bytes) {
            return false;
        }
        let less = self.bytes.saturating_sub(bytes);
        self.budget.reserved.fetch_sub(less, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P1: the budget is never exceeded, and dropped reservations are released
    #[test]
    fn reservations_fit_the_budget() {
        let budget = BufferBudget::new(Some(100));
        let mut first = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none());
        let second = budget.try_reserve(40).unwrap();
        assert!(!first.resize(61));
        assert!(first.resize(10));
        assert_eq!(budget.reserved_bytes(), 50);
        drop((first, second));
        assert_eq!(budget.reserved_bytes(), 0);
    }

    /// P1: transfers start small once 1/24 of the budget is reserved
    #[test]
    fn a_full_budget_has_small_starts() {
        let budget = BufferBudget::new(Some(2400));
        let first = budget.try_reserve_start(60).unwrap();
        assert!(budget.try_reserve_start(41).is_none());
        let second = budget.try_reserve_start(40).unwrap();
        assert!(budget.try_reserve(2300).is_some(), "growth may use the whole budget");
        drop((first, second));
        assert!(budget.try_reserve_start(101).is_none());
    }

    /// P1: the size of a large buffer follows the budget, from 1 to 8 MiB
    #[test]
    fn large_buffers_follow_the_budget() {
        for (budget, large) in [(1 << 20, 1 << 20), (64 << 20, 4 << 20), (1 << 40, 8 << 20)] {
            assert_eq!(BufferBudget::new(Some(budget)).large_bytes(), large);
        }
    }

    /// P1: reservations of idle connections do not count for starts, and are bounded
    #[test]
    fn retained_sizes_leave_room_for_starts() {
        let budget = BufferBudget::new(Some(2400));
        let mut retained = budget.try_reserve(150).unwrap();
        assert!(budget.try_reserve_start(1).is_none(), "a transfer uses it");
        assert!(retained.may_be_retained());
        retained.set_idle(true);
        let start = budget.try_reserve_start(100).unwrap();
        assert!(!retained.may_be_retained(), "a sixteenth of the budget is 150");
        retained.set_idle(false);
        assert!(budget.try_reserve_start(1).is_none());
        retained.set_idle(true);
        drop((retained, start));
        assert_eq!((budget.reserved_bytes(), budget.running_bytes()), (0, 0));
        assert!(budget.try_reserve_start(100).is_some());
    }

    /// X1: at warning and above nothing grows, and reservations can be released
    #[test]
    fn nothing_grows_while_memory_is_short() {
        let budget = BufferBudget::new(None);
        budget.update(Some(4000), None, true);
        let mut reservation = budget.try_reserve(1000).unwrap();
        assert!(budget.try_reserve(1).is_none(), "a quarter of the limit");
        assert!(reservation.resize(500));
        budget.update(Some(4000), None, false);
        assert!(budget.try_reserve(1).is_none());
        assert!(reservation.resize(100));
        assert_eq!(budget.reserved_bytes(), 100);
    }

    /// P1: the configured budget takes precedence over the share of the limit
    #[test]
    fn a_configured_budget_stays() {
        let budget = BufferBudget::new(Some(10));
        budget.update(Some(1 << 30), None, true);
        assert!(budget.try_reserve(11).is_none());
    }

    /// X6: between two samples buffers grow only into the memory that was left, whatever the budget
    #[test]
    fn growth_between_samples_fits_the_memory() {
        let budget = BufferBudget::new(Some(1000));
        budget.update(Some(4000), Some(300), true);
        let first = budget.try_reserve(200).unwrap();
        assert!(budget.try_reserve(101).is_none());
        // The buffers that were reserved are still part of what is left.
        budget.update(Some(4000), Some(300), true);
        assert!(budget.try_reserve(101).is_none());
        assert!(budget.try_reserve(100).is_some());
        drop(first);
        budget.update(Some(4000), None, true);
        assert!(budget.try_reserve(1000).is_some(), "unknown memory bounds nothing");
    }
}
