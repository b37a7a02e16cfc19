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
//! *Restart*: the window is kept. If it was dirty it counts as spent until it has passed. Reasons:
//! `docs/design/retries-and-hedging.md`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tidegate_config::RetryBudgetConfig;

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
}

/// The last seconds, one slot each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryWindow {
    origin: Instant,
    slots: [WindowSlot; SLOTS as usize],
    /// Time of the last update since `origin`, and the number of requests up to it.
    counted_until_nanos: u128,
    requests_total: u64,
    /// Retries that a hand-over left to this process.
    kept: Option<u64>,
}

impl RetryWindow {
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

/// The window as it crosses to a successor: requests and retries of each second, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedRetries {
    seconds: Vec<(u64, u64)>,
    /// Retries that the predecessor keeps.
    kept: u64,
}

/// The largest count that crosses, so that no sum of counts overflows.
const COUNT_MAX: u64 = 1 << 40;

/// What the pools of a bucket have spent together.
#[derive(Debug)]
pub(crate) struct SpentRetries {
    window: Mutex<RetryWindow>,
    retrying: AtomicUsize,
}

impl SpentRetries {
    fn lock(&self) -> MutexGuard<'_, RetryWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the retries that are kept after a hand-over; none: the whole budget.
    pub(crate) fn set_kept(&self, kept: Option<u64>) {
        self.lock().kept = kept;
    }

    /// Upstream attempts per request over the last seconds.
    pub(crate) fn amplification(&self, granted: u64, now: Instant) -> f64 {
        self.lock().amplification(granted, now)
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
        let slots = [WindowSlot::default(); SLOTS as usize];
        let window =
            RetryWindow { origin: now, slots, counted_until_nanos: 0, requests_total: 0, kept: None };
        let spent = SpentRetries { window: Mutex::new(window), retrying: AtomicUsize::new(0) };
        Self { config, spent: Arc::new(spent) }
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
        let window = *self.spent.lock();
        self.window_with_room(window, granted, in_flight, now).is_some()
    }

    fn window_with_room(
        &self,
        window: RetryWindow,
        granted: u64,
        in_flight: usize,
        now: Instant,
    ) -> Option<RetryWindow> {
        let RetryBudgetConfig { percent, min_per_second, min_concurrent } = self.config;
        let window = window.advance(granted, now);
        let share = |whole: u64| whole.saturating_mul(percent.into()) / 100;
        let by_window = share(window.requests()).max(u64::from(min_per_second) * SLOTS);
        let retries_max = by_window.min(window.kept.map_or(u64::MAX, |kept| window.retries() + kept));
        let retrying_max = share(in_flight as u64).max(min_concurrent.into());
        let retrying = self.spent.retrying.load(Ordering::Acquire) as u64;
        (window.retries() < retries_max && retrying < retrying_max).then_some(window)
    }

    /// Spends one retry if there is room. Another pool of the bucket may have spent the last one since `has_room`.
    pub(crate) fn spend(&mut self, granted: u64, in_flight: usize, now: Instant) -> Option<RetryTicket> {
        let mut spent = self.spent.lock();
        let mut window = self.window_with_room(*spent, granted, in_flight, now)?;
        window.slot(window.counted_until_nanos / NANOS).retries += 1;
        window.kept = window.kept.map(|kept| kept.saturating_sub(1));
        *spent = window;
        self.spent.retrying.fetch_add(1, Ordering::AcqRel);
        Some(RetryTicket { spent: Arc::clone(&self.spent) })
    }

    /// Hands the budget over. This process keeps one retry for each connection, at most half of those that are left.
    pub(crate) fn hand_over(&mut self, granted: u64, connections: u64, now: Instant) -> ExportedRetries {
        let RetryBudgetConfig { percent, min_per_second, .. } = self.config;
        let mut spent = self.spent.lock();
        let mut window = spent.advance(granted, now);
        let by_requests = window.requests().saturating_mul(percent.into()) / 100;
        let left = by_requests.max(u64::from(min_per_second) * SLOTS).saturating_sub(window.retries());
        let kept = connections.min(left / 2);
        let last = window.counted_until_nanos / NANOS;
        let newest_first = (0..SLOTS).map_while(|age| last.checked_sub(age.into())).map(|second| {
            let WindowSlot { requests, retries, .. } = *window.slot(second);
            (requests, retries)
        });
        let exported = ExportedRetries { seconds: newest_first.collect(), kept };
        window.kept = Some(kept);
        *spent = window;
        exported
    }

    /// Takes back what `hand_over` left to a successor.
    pub(crate) fn take_back(&mut self) {
        self.spent.set_kept(None);
    }

    /// Goes on from the budget of a predecessor. What that keeps is spent.
    pub(crate) fn import(&mut self, exported: &ExportedRetries, elapsed: u64, granted: u64, now: Instant) {
        let mut spent = self.spent.lock();
        let mut window = spent.advance(granted, now);
        let last = window.counted_until_nanos / NANOS;
        let ages = (0..SLOTS).map(|age| age.saturating_add(elapsed));
        for (age, (requests, retries)) in ages.zip(&exported.seconds).filter(|(age, _)| *age < SLOTS) {
            // The seconds of two processes begin at different times, so retries count for a second longer. A window that is
            // younger than that is as long as any other: its slots are empty.
            let second = |age: u64| (last + u128::from(SLOTS)) - u128::from(age);
            let slot = window.slot(second(age));
            slot.requests = slot.requests.saturating_add((*requests).min(COUNT_MAX));
            let slot = window.slot(second(age.saturating_sub(1)));
            slot.retries = slot.retries.saturating_add((*retries).min(COUNT_MAX));
        }
        let slot = window.slot(last);
        slot.retries = slot.retries.saturating_add(exported.kept.min(COUNT_MAX));
        *spent = window;
    }

    fn update(&mut self, granted: u64, now: Instant, change: impl FnOnce(&mut WindowSlot)) {
        let mut spent = self.spent.lock();
        let mut window = spent.advance(granted, now);
        change(window.slot(window.counted_until_nanos / NANOS));
        *spent = window;
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
mod tests;
