//! How much a bucket may try again (R5): retries must help with a few failures and be too few to feed an outage.
//!
//! Two bounds, and a retry needs room in both. Over the last ten seconds there are no more retries than a share of the
//! requests; at any moment no more are under way than a share of the requests that are. Either bound has a floor, so that a
//! quiet bucket may retry at all. The first is Finagle's budget, the second Envoy's: the first bounds what an upstream that
//! fails at once gets to do, the second what a slow one gets to hold.
//!
//! State and place (S1): the window belongs to the bucket's pool actor, which is asked before each retry, and so only after
//! a failure; nothing of it is on the way of a request that succeeds but one relaxed counter. The share of the requests under
//! way needs the gate's count, which is the pool's as well. Retries under way are counted by tickets: up in the actor, down
//! in `Drop`.
//! Requests are only counted, and looked at when somebody asks. What came since the last look is taken to have come
//! evenly: after a quiet hour the last ten seconds count, not the hour.
//!
//! What was spent is published with the permits' counts (`ticket.rs`): how many attempts the upstream sees for each request, the
//! *amplification*, is computed from it when somebody looks.
//!
//! *Restart*: the window is kept; found dirty, it counts as spent until it has passed. Tickets keep their count.
//! Deliberately absent: a budget for each endpoint or class, as it is the bucket's clients that would pay for the sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tidegate_config::RetryBudgetConfig;

/// Seconds that the window looks back; a slot is one of them.
const SLOTS: u64 = 10;
const NANOS: u128 = 1_000_000_000;

/// Leave to try again, and a place among the retries under way until it is dropped.
#[derive(Debug)]
#[must_use = "a retry counts as under way until its ticket is dropped"]
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
    /// They have a budget of their own, and are counted here for the amplification alone.
    hedges: u64,
}

/// The last seconds, a slot each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryWindow {
    origin: Instant,
    slots: [WindowSlot; SLOTS as usize],
    /// When requests were counted last, from the origin, and how many there had ever been.
    counted_until_nanos: u128,
    requests_total: u64,
}

impl RetryWindow {
    /// Counts in what came since the last look.
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

    /// Attempts that the upstream saw for each request, over the last seconds.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of counts, for people")]
    pub(crate) fn amplification(&self, asked: u64, now: Instant) -> f64 {
        let window = self.advance(asked, now);
        let requests = window.requests().max(1) as f64;
        (requests + (window.retries() + window.hedges()) as f64) / requests
    }
}

/// One bucket's budget.
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

    /// The window as it stands, if there is room for one more retry; `asked` requests were ever made, `under_way` are now.
    pub(crate) fn decide(&self, asked: u64, under_way: usize, now: Instant) -> Option<RetryWindow> {
        let RetryBudgetConfig { percent, min_per_second, min_concurrent } = self.config;
        let window = self.window.advance(asked, now);
        let share = |whole: u64| whole.saturating_mul(percent.into()) / 100;
        let retries_max = share(window.requests()).max(u64::from(min_per_second) * SLOTS);
        let retrying_max = share(under_way as u64).max(min_concurrent.into());
        let retrying = self.retrying.load(Ordering::Acquire) as u64;
        (window.retries() < retries_max && retrying < retrying_max).then_some(window)
    }

    /// Spends what `decide` found room for.
    pub(crate) fn spend(&mut self, mut window: RetryWindow) -> RetryTicket {
        window.slot(window.counted_until_nanos / NANOS).retries += 1;
        self.window = window;
        self.retrying.fetch_add(1, Ordering::AcqRel);
        RetryTicket { retrying: Arc::clone(&self.retrying) }
    }

    /// A request was sent a second time beside its first.
    pub(crate) fn count_hedge(&mut self, asked: u64, now: Instant) {
        self.window = self.window.advance(asked, now);
        self.window.slot(self.window.counted_until_nanos / NANOS).hedges += 1;
    }

    /// What has been spent.
    pub(crate) fn window(&self) -> RetryWindow {
        self.window
    }

    /// Nothing is left until the window has passed.
    pub(crate) fn exhaust(&mut self, asked: u64, now: Instant) {
        let mut window = self.window.advance(asked, now);
        window.slot(window.counted_until_nanos / NANOS).retries = u64::from(u32::MAX);
        self.window = window;
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
