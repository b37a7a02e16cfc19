//! The retry budget of a bucket (R5).
//!
//! A retry needs room in two bounds. Over the last ten seconds, retries are at most a share of the requests (as
//! Finagle's budget). At any moment, retries in flight are at most a share of the requests in flight (as Envoy's). Each
//! bound has a floor, so that a quiet bucket can retry.
//!
//! State: pool actors spend (S1) and are asked only after a failure; a successful request costs one relaxed counter.
//! Tickets count the retries in flight: up in the actor, down in `Drop`. The pools of a bucket share what is spent, so
//! that a reload gives no second budget. The status reads it for the *amplification*, upstream attempts per request.
//!
//! An upgrade divides the budget (`hand_over.rs`).
//!
//! *Restart*: the window is kept. If it was dirty it counts as spent until it has passed. Reasons:
//! `docs/design/retries-and-hedging.md`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_config::RetryBudgetConfig;

use crate::limit_share::LimitShare;

mod hand_over;

pub(crate) use hand_over::ExportedRetries;
pub use hand_over::RetriesInUse;

/// Length of the window in seconds; a slot is one second.
const SLOTS: u64 = 10;
const NANOS: u128 = 1_000_000_000;

/// Permission to retry. It counts as a retry in flight until it is dropped.
#[derive(Debug)]
#[must_use = "a retry counts as in flight until its ticket is dropped"]
pub struct RetryTicket {
    spent: Arc<SpentRetries>,
}

impl Drop for RetryTicket {
    fn drop(&mut self) {
        self.spent.retrying.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct WindowSlot {
    requests: u64,
    retries: u64,
    /// Hedges have a budget of their own. Here they count for the amplification only.
    hedges: u64,
    /// Retries that a predecessor may have begun. They count for the budget only.
    reserved: u64,
}

/// The last seconds, one slot each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryWindow {
    origin: Instant,
    slots: [WindowSlot; SLOTS as usize],
    /// Time of the last update since `origin`, and the number of requests up to it.
    counted_until_nanos: u128,
    requests_total: u64,
}

impl RetryWindow {
    fn new(origin: Instant, requests_total: u64) -> Self {
        let slots = [WindowSlot::default(); SLOTS as usize];
        Self { origin, slots, counted_until_nanos: 0, requests_total }
    }

    /// Adds the requests since the last update, spread evenly over that time.
    fn advance(mut self, requests_total: u64, now: Instant) -> Self {
        let now = now.saturating_duration_since(self.origin).as_nanos();
        let (since, now) = (self.counted_until_nanos, now.max(self.counted_until_nanos));
        let came = u128::from(requests_total.saturating_sub(self.requests_total));
        let (first, last) = (since / NANOS, now / NANOS);
        for second in (first + 1).max((last + 1).saturating_sub(u128::from(SLOTS)))..=last {
            *self.slot(second) = WindowSlot::default();
        }
        if since == now {
            self.slot(last).requests += requests_total.saturating_sub(self.requests_total);
        } else {
            for second in first.max((last + 1).saturating_sub(u128::from(SLOTS)))..=last {
                let (begin, end) = ((second * NANOS).max(since), ((second + 1) * NANOS).min(now));
                let share = came * end.saturating_sub(begin) / (now - since);
                self.slot(second).requests += u64::try_from(share).unwrap_or(u64::MAX);
            }
        }
        Self { counted_until_nanos: now, requests_total, ..self }
    }

    fn slot(&mut self, second: u128) -> &mut WindowSlot {
        &mut self.slots[usize::try_from(second % u128::from(SLOTS)).unwrap_or(0)]
    }

    fn requests(&self) -> u64 {
        self.slots.iter().map(|slot| slot.requests).sum()
    }

    fn retries(&self) -> u64 {
        self.slots.iter().map(|slot| slot.retries).sum()
    }

    /// The retries that count for the budget.
    fn spent(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(slot.retries).saturating_add(slot.reserved))
    }

    fn hedges(&self) -> u64 {
        self.slots.iter().map(|slot| slot.hedges).sum()
    }

    /// Upstream attempts per request over the last seconds.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of counts, for people")]
    pub(crate) fn amplification(&self, granted: u64, now: Instant) -> f64 {
        let window = self.advance(granted, now);
        let requests = window.requests().max(1) as f64;
        (requests + (window.retries() + window.hedges()) as f64) / requests
    }
}

/// The window, and what each process of an upgrade has of the budget.
#[derive(Debug)]
struct Spent {
    window: RetryWindow,
    /// Retries that a hand-over left to this process.
    kept: Option<u64>,
    /// Retries that a predecessor may still begin.
    held: u64,
    /// The part of the retries in flight.
    in_flight: LimitShare,
}

/// What the pools of a bucket have spent together.
#[derive(Debug)]
pub(crate) struct SpentRetries {
    spent: Mutex<Spent>,
    retrying: AtomicUsize,
}

impl SpentRetries {
    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Upstream attempts per request over the last seconds.
    pub(crate) fn amplification(&self, granted: u64, now: Instant) -> f64 {
        self.lock().window.amplification(granted, now)
    }
}

/// The retry budget of one bucket.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    config: RetryBudgetConfig,
    spent: Arc<SpentRetries>,
}

impl RetryBudget {
    pub(crate) fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        let (window, in_flight) = (RetryWindow::new(now, 0), LimitShare::new(usize::MAX));
        let spent = Mutex::new(Spent { window, kept: None, held: 0, in_flight });
        Self { config, spent: Arc::new(SpentRetries { spent, retrying: AtomicUsize::new(0) }) }
    }

    /// The budget of a pool that replaces another one: what is spent stays spent.
    pub(crate) fn sharing(config: RetryBudgetConfig, spent: &Arc<SpentRetries>) -> Self {
        Self { config, spent: Arc::clone(spent) }
    }

    pub(crate) fn spent(&self) -> &Arc<SpentRetries> {
        &self.spent
    }

    /// Whether there is room for one more retry. `granted` is the number of requests ever granted, `in_flight` the number
    /// in flight.
    pub(crate) fn has_room(&self, granted: u64, in_flight: usize, now: Instant) -> bool {
        self.window_with_room(&self.spent.lock(), granted, in_flight, now).is_some()
    }

    fn window_with_room(
        &self,
        spent: &Spent,
        granted: u64,
        in_flight: usize,
        now: Instant,
    ) -> Option<RetryWindow> {
        let window = spent.window.advance(granted, now);
        let is_free = window.spent().saturating_add(spent.held) < self.retries_max(&window);
        let is_kept = spent.kept.is_none_or(|kept| kept > 0);
        let mut share = spent.in_flight;
        share.set_whole(self.in_flight_max(in_flight));
        let retrying = self.spent.retrying.load(Ordering::Acquire);
        (is_free && is_kept && retrying < share.in_force()).then_some(window)
    }

    /// The most retries of the last seconds.
    fn retries_max(&self, window: &RetryWindow) -> u64 {
        let RetryBudgetConfig { percent, min_per_second, .. } = self.config;
        let by_requests = window.requests().saturating_mul(percent.into()) / 100;
        by_requests.max(u64::from(min_per_second) * SLOTS)
    }

    /// The most retries in flight.
    fn in_flight_max(&self, in_flight: usize) -> usize {
        let RetryBudgetConfig { percent, min_concurrent, .. } = self.config;
        let share = (in_flight as u64).saturating_mul(percent.into()) / 100;
        usize::try_from(share.max(min_concurrent.into())).unwrap_or(usize::MAX)
    }

    /// Spends one retry if there is room. Another pool of the bucket may have spent the last one since `has_room`.
    pub(crate) fn spend(&mut self, granted: u64, in_flight: usize, now: Instant) -> Option<RetryTicket> {
        let mut spent = self.spent.lock();
        let mut window = self.window_with_room(&spent, granted, in_flight, now)?;
        window.slot(window.counted_until_nanos / NANOS).retries += 1;
        spent.window = window;
        spent.kept = spent.kept.map(|kept| kept.saturating_sub(1));
        self.spent.retrying.fetch_add(1, Ordering::AcqRel);
        Some(RetryTicket { spent: Arc::clone(&self.spent) })
    }

    fn update(&mut self, granted: u64, now: Instant, change: impl FnOnce(&mut WindowSlot)) {
        let mut spent = self.spent.lock();
        let mut window = spent.window.advance(granted, now);
        change(window.slot(window.counted_until_nanos / NANOS));
        spent.window = window;
    }

    /// Counts a hedge, for the amplification.
    pub(crate) fn count_hedge(&mut self, granted: u64, now: Instant) {
        self.update(granted, now, |slot| slot.hedges += 1);
    }

    /// Marks the budget as spent until the window has passed.
    pub(crate) fn exhaust(&mut self, granted: u64, now: Instant) {
        self.update(granted, now, |slot| slot.retries = u64::from(u32::MAX));
    }
}

#[cfg(test)]
mod hand_over_tests;
#[cfg(test)]
mod tests;
