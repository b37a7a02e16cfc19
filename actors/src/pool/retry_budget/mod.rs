//! The retry budget of a bucket (R5).
//!
//! A retry needs room in two bounds. Over the last ten seconds, retries are at most a share of the requests (as
//! Finagle's budget). At any moment, retries in flight are at most a share of the requests in flight (as Envoy's). Each
//! bound has a floor, so that a quiet bucket can retry.
//!
//! State: the pool actor owns the window (S1) and is asked only after a failure; a successful request costs one relaxed
//! counter. Tickets count the retries in flight: up in the actor, down in `Drop`. The window is published with the
//! permit counts (`gate/ticket.rs`) for the *amplification*, upstream attempts per request.
//!
//! *Restart*: the window is kept. If it was dirty it counts as spent until it has passed. Reasons:
//! `docs/design/retries-and-hedging.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::RetryBudgetConfig;

/// Length of the window in seconds; a slot is one second.
const SLOTS: u64 = 10;
const NANOS: u128 = 1_000_000_000;

/// Permission to retry. It counts as a retry in flight until it is dropped.
#[derive(Debug)]
#[must_use = "a retry counts as in flight until its ticket is dropped"]
pub struct RetryTicket {
    retrying: Arc<AtomicUsize>,
}

impl Drop for RetryTicket {
    fn drop(&mut self) {
        self.retrying.fetch_sub(1, Ordering::AcqRel);
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

/// The retry budget of one bucket.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    config: RetryBudgetConfig,
    window: RetryWindow,
    retrying: Arc<AtomicUsize>,
}

impl RetryBudget {
    pub(crate) fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        let slots = [WindowSlot::default(); SLOTS as usize];
        let window = RetryWindow { origin: now, slots, counted_until_nanos: 0, requests_total: 0 };
        Self { config, window, retrying: Arc::default() }
    }

    /// The window as of now, if it has room for one more retry. `asked` is the number of requests ever granted,
    /// `under_way` the number in flight.
    pub(crate) fn decide(&self, granted: u64, in_flight: usize, now: Instant) -> Option<RetryWindow> {
        let RetryBudgetConfig { percent, min_per_second, min_concurrent } = self.config;
        let window = self.window.advance(granted, now);
        let share = |whole: u64| whole.saturating_mul(percent.into()) / 100;
        let retries_max = share(window.requests()).max(u64::from(min_per_second) * SLOTS);
        let retrying_max = share(in_flight as u64).max(min_concurrent.into());
        let retrying = self.retrying.load(Ordering::Acquire) as u64;
        (window.retries() < retries_max && retrying < retrying_max).then_some(window)
    }

    /// Spends the room that `decide` found.
    pub(crate) fn spend(&mut self, mut window: RetryWindow) -> RetryTicket {
        window.slot(window.counted_until_nanos / NANOS).retries += 1;
        self.window = window;
        self.retrying.fetch_add(1, Ordering::AcqRel);
        RetryTicket { retrying: Arc::clone(&self.retrying) }
    }

    /// Counts a hedge, for the amplification.
    pub(crate) fn count_hedge(&mut self, granted: u64, now: Instant) {
        self.window = self.window.advance(granted, now);
        self.window.slot(self.window.counted_until_nanos / NANOS).hedges += 1;
    }

    pub(crate) fn window(&self) -> RetryWindow {
        self.window
    }

    /// Marks the budget as spent until the window has passed.
    pub(crate) fn exhaust(&mut self, granted: u64, now: Instant) {
        let mut window = self.window.advance(granted, now);
        window.slot(window.counted_until_nanos / NANOS).retries = u64::from(u32::MAX);
        self.window = window;
    }
}

#[cfg(test)]
mod tests;
