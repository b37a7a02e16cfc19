//! Leases: tokens charged in advance, for limits so high that one ask per request costs too much.
//!
//! A worker that asks twice within 1 ms for the same client and bucket gets a lease, where more than half of every
//! burst is left: at most a two-thousandth of the smallest burst, to spend without asking within 10 ms. It asks for a
//! refill before the tokens are used up, with one refill at a time.
//!
//! A lease never exceeds a limit (L2): its tokens are charged as if they arrived at its end, `TAT' = max(TAT, now +
//! 10 ms) + tokens/rate`. So a lease must not live longer than that, and tokens left at a refill keep their own end.
//! Unused tokens are lost. Limits with a burst below 2,000 lease nothing and stay exact. A lease belongs to one
//! thread. The reasons are in `docs/design/rate-limits.md`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{BucketId, IpKey};

/// Two asks within this time start a lease.
const BURST_GAP: Duration = Duration::from_millis(1);
/// Lifetime of a lease.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(10);
/// Maximum number of leases of one thread. Beyond it all are dropped, which costs one ask each.
const LEASES_MAX: usize = 1024;

/// Maximum tokens of one lease. Half of it lasts for one pass of a worker over its connections.
pub(crate) const LEASE_MAX: u32 = 128;

/// The key of a lease. The first part is the number of the limiter in the process.
pub(crate) type LeaseKey = (usize, Option<BucketId>, IpKey);

/// Tokens charged together.
#[derive(Clone, Copy)]
struct Batch {
    remaining: u32,
    asked: Instant,
}

impl Batch {
    fn expire(&mut self, now: Instant) {
        if self.remaining > 0 && now.saturating_duration_since(self.asked) >= LEASE_TTL {
            self.remaining = 0;
        }
    }
}

struct Lease {
    /// Used first, because it ends first.
    older: Batch,
    newer: Batch,
    /// Tokens after the last grant.
    granted: u32,
    asked: Instant,
    /// When a refill was asked for; none after it came. Ignored after `LEASE_TTL`, because the caller may be gone.
    refill_asked: Option<Instant>,
}

impl Lease {
    fn new(now: Instant) -> Self {
        let none = Batch { remaining: 0, asked: now };
        Self { older: none, newer: none, granted: 0, asked: now, refill_asked: None }
    }

    /// Whether the caller should ask for a refill: no other caller does so already.
    fn claim_refill(&mut self, now: Instant) -> bool {
        let is_asked =
            self.refill_asked.is_some_and(|since| now.saturating_duration_since(since) < LEASE_TTL);
        if !is_asked {
            self.refill_asked = Some(now);
        }
        !is_asked
    }

    /// Tokens left that have not expired.
    fn remaining(&mut self, now: Instant) -> u32 {
        self.older.expire(now);
        self.newer.expire(now);
        self.older.remaining + self.newer.remaining
    }

    fn spend(&mut self, cost: u32, now: Instant) -> LeaseDraw {
        let remaining = self.remaining(now);
        if let Some(rest) = remaining.checked_sub(cost) {
            let from_older = self.older.remaining.min(cost);
            self.older.remaining -= from_older;
            self.newer.remaining -= cost - from_older;
            return LeaseDraw::Paid { refill: rest < self.granted / 2 && self.claim_refill(now) };
        }
        let age = now.saturating_duration_since(self.asked);
        let used_up = self.granted > 0 && age < LEASE_TTL;
        let is_burst = age < BURST_GAP || used_up;
        LeaseDraw::Ask { more: if is_burst && self.claim_refill(now) { LEASE_MAX } else { 0 } }
    }

    fn store(&mut self, count: u32, now: Instant) {
        let remaining = self.remaining(now);
        self.asked = now;
        if count > 0 || remaining == 0 {
            if self.older.remaining == 0 {
                self.older = self.newer;
                self.newer = Batch { remaining: count, asked: now };
            } else if self.newer.remaining == 0 {
                self.newer = Batch { remaining: count, asked: now };
            } else {
                self.newer.remaining += count;
            }
            self.granted = remaining + count;
            self.refill_asked = None;
        }
    }
}

thread_local! {
    static LEASES: RefCell<HashMap<LeaseKey, Lease, ahash::RandomState>> = RefCell::default();
}

/// The result of spending leased tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseDraw {
    /// The lease paid for the request.
    Paid {
        /// Whether to ask the actor for a refill.
        refill: bool,
    },
    /// The actor must be asked.
    Ask {
        /// Tokens to lease in addition to the request's; 0 unless requests come in a burst.
        more: u32,
    },
}

/// Spends leased tokens for a request of this cost.
pub(crate) fn spend(key: LeaseKey, cost: u32, now: Instant) -> LeaseDraw {
    LEASES.with_borrow_mut(|leases| {
        leases.get_mut(&key).map_or(LeaseDraw::Ask { more: 0 }, |lease| lease.spend(cost, now))
    })
}

/// Stores leased tokens that were asked for at `now`: `count` tokens beyond those of the request.
pub(crate) fn store(key: LeaseKey, count: u32, now: Instant) {
    LEASES.with_borrow_mut(|leases| {
        if leases.len() >= LEASES_MAX && !leases.contains_key(&key) {
            leases.clear();
        }
        leases.entry(key).or_insert_with(|| Lease::new(now)).store(count, now);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAID: LeaseDraw = LeaseDraw::Paid { refill: false };
    const PAID_REFILL: LeaseDraw = LeaseDraw::Paid { refill: true };

    /// L2: a lease is valid for its tokens and its time, for one client of one bucket of one limiter
    #[test]
    fn a_lease_is_used_up_or_ends() {
        let now = crate::clock::now();
        let key = (1, Some(BucketId::new(0)), IpKey::V4(7));
        store(key, 2, now);
        for other in [
            (2, key.1, key.2),
            (1, Some(BucketId::new(1)), key.2),
            (1, None, key.2),
            (1, key.1, IpKey::V4(8)),
        ] {
            assert_eq!(spend(other, 1, now), LeaseDraw::Ask { more: 0 });
        }
        assert_eq!((spend(key, 1, now), spend(key, 1, now)), (PAID, PAID_REFILL));
        assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: 0 }, "a refill was asked for already");
        store(key, 2, now);
        assert_eq!(spend(key, 1, now + LEASE_TTL), LeaseDraw::Ask { more: 0 });
        store(key, 1, now + LEASE_TTL);
        assert_eq!(spend(key, 1, now + LEASE_TTL), PAID, "the tokens left of the old lease are lost");
        assert_eq!(spend(key, 1, now + LEASE_TTL), LeaseDraw::Ask { more: LEASE_MAX });
    }

    /// L4: a client with few requests is charged only for what it asks
    #[test]
    fn only_repeated_requests_lease() {
        let mut now = crate::clock::now();
        let key = (9, Some(BucketId::new(0)), IpKey::V4(7));
        for _ in 0..5 {
            assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: 0 });
            store(key, 0, now);
            now += BURST_GAP;
        }
        assert_eq!(spend(key, 1, now - BURST_GAP / 2), LeaseDraw::Ask { more: LEASE_MAX });
    }

    /// One caller at a time asks for a refill, and a caller that is gone does not block others.
    #[test]
    fn one_caller_refills() {
        let now = crate::clock::now();
        let key = (10, Some(BucketId::new(0)), IpKey::V4(7));
        store(key, 0, now);
        assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: LEASE_MAX });
        assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: 0 });
        store(key, 4, now);
        assert_eq!((spend(key, 1, now), spend(key, 1, now), spend(key, 1, now)), (PAID, PAID, PAID_REFILL));
        let later = now + LEASE_TTL / 2;
        store(key, 4, later);
        assert_eq!(spend(key, 1, later), PAID, "one old and four new tokens");
        for _ in 0..4 {
            spend(key, 1, later);
        }
        let expired = later + LEASE_TTL - BURST_GAP / 2;
        assert_eq!(spend(key, 1, expired), LeaseDraw::Ask { more: 0 });
        store(key, 0, expired);
        assert_eq!(spend(key, 1, expired + BURST_GAP / 2), LeaseDraw::Ask { more: LEASE_MAX });
    }

    /// L2: tokens that are left at a refill keep their end
    #[test]
    fn a_refill_prolongs_nothing() {
        let now = crate::clock::now();
        let key = (11, Some(BucketId::new(0)), IpKey::V4(7));
        store(key, 3, now);
        let later = now + LEASE_TTL / 2;
        store(key, 2, later);
        store(key, 0, later + LEASE_TTL / 4);
        assert_eq!(spend(key, 3, now + LEASE_TTL), LeaseDraw::Ask { more: LEASE_MAX }, "two are left");
        assert_eq!(spend(key, 2, now + LEASE_TTL), LeaseDraw::Paid { refill: false });
        store(key, 2, now + LEASE_TTL);
        assert!(matches!(spend(key, 1, later + LEASE_TTL), LeaseDraw::Paid { .. }), "the last two are left");
    }

    /// L2: a request spends its whole cost or nothing
    #[test]
    fn a_cost_is_spent_whole_or_not_at_all() {
        let now = crate::clock::now();
        let key = (12, Some(BucketId::new(0)), IpKey::V4(7));
        store(key, 2, now);
        store(key, 9, now);
        assert_eq!(spend(key, 10, now), PAID_REFILL, "from both batches");
        assert_eq!(spend(key, 10, now), LeaseDraw::Ask { more: 0 });
        assert_eq!(spend(key, 1, now), PAID, "the token that is left was not spent");
    }
}
