//! Tokens paid for in advance, for limits so high that an ask for each request is mostly talk.
//!
//! A worker that asks for the same client and bucket twice within a millisecond wants more than one admission. Where
//! the limits have more than half of their burst left, the actor then charges some tokens more than were asked
//! for, at most a two-thousandth of the smallest burst, and the worker may spend those on its own within the next
//! 10 ms. Before they are used up it asks for more, once at a time, so a rush seldom waits.
//!
//! A limit is never exceeded by that (L2): leased tokens are charged as if they arrived when the lease ends,
//! `TAT' = max(TAT, now + 10 ms) + tokens/rate`. At any moment of the lease the arrival time is then at least all leased tokens
//! ahead, as if they were used only now, so what a window sees of them is paid for within it. A lease that lived longer
//! than it was charged for would break that, so what a refill finds left keeps its own end.
//!
//! What is not used by then is lost: that is at most two leases at the end of each rush, and limits with a burst below 2,000
//! lease nothing; they stay exact in both directions. A lease lives on one thread and is forgotten with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{BucketId, IpKey};

/// Two asks within this time are a rush.
const BURST_GAP: Duration = Duration::from_millis(1);
/// How long a lease is good.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(10);
/// Leases on one thread; beyond it all are dropped, which costs an ask each.
const LEASES_MAX: usize = 1024;

/// The most that is leased at once: half of it outlasts one turn of a worker over its connections.
pub(crate) const LEASE_MAX: u32 = 128;

/// What a lease is for; the first part tells limiters of one process apart.
pub(crate) type LeaseKey = (usize, Option<BucketId>, IpKey);

/// Tokens that were paid for together.
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
    /// Used first, for its time ends first.
    older: Batch,
    newer: Batch,
    /// What was there after the last grant.
    granted: u32,
    asked: Instant,
    /// When more was asked for, until it comes. The asker may vanish, so after a while it counts for nothing.
    refill_asked: Option<Instant>,
}

impl Lease {
    fn new(now: Instant) -> Self {
        let none = Batch { remaining: 0, asked: now };
        Self { older: none, newer: none, granted: 0, asked: now, refill_asked: None }
    }

    /// Asks for more unless somebody does so already.
    fn claim_refill(&mut self, now: Instant) -> bool {
        let waits = self.refill_asked.is_some_and(|since| now.saturating_duration_since(since) < LEASE_TTL);
        if !waits {
            self.refill_asked = Some(now);
        }
        !waits
    }

    /// What is left and still good.
    fn remaining(&mut self, now: Instant) -> u32 {
        self.older.expire(now);
        self.newer.expire(now);
        self.older.remaining + self.newer.remaining
    }

    fn spend(&mut self, cost: u32, now: Instant) -> LeaseDraw {
        let left = self.remaining(now);
        if let Some(rest) = left.checked_sub(cost) {
            let of_older = self.older.remaining.min(cost);
            self.older.remaining -= of_older;
            self.newer.remaining -= cost - of_older;
            return LeaseDraw::Paid { refill: rest < self.granted / 2 && self.claim_refill(now) };
        }
        let age = now.saturating_duration_since(self.asked);
        let used_up = self.granted > 0 && age < LEASE_TTL;
        let rush = age < BURST_GAP || used_up;
        LeaseDraw::Ask { more: if rush && self.claim_refill(now) { LEASE_MAX } else { 0 } }
    }

    fn store(&mut self, count: u32, now: Instant) {
        let left = self.remaining(now);
        self.asked = now;
        if count > 0 || left == 0 {
            if self.older.remaining == 0 {
                self.older = self.newer;
                self.newer = Batch { remaining: count, asked: now };
            } else if self.newer.remaining == 0 {
                self.newer = Batch { remaining: count, asked: now };
            } else {
                self.newer.remaining += count;
            }
            self.granted = left + count;
            self.refill_asked = None;
        }
    }
}

thread_local! {
    static LEASES: RefCell<HashMap<LeaseKey, Lease, ahash::RandomState>> = RefCell::default();
}

/// What the leases on this thread say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseDraw {
    /// It is paid for.
    Paid {
        /// Whether the actor should be asked for more meanwhile.
        refill: bool,
    },
    /// The actor must be asked, for so many tokens more than this one's.
    Ask {
        /// None, unless this is a rush.
        more: u32,
    },
}

/// Spends leased tokens, if there are as many.
pub(crate) fn spend(key: LeaseKey, cost: u32, now: Instant) -> LeaseDraw {
    LEASES.with_borrow_mut(|leases| {
        leases.get_mut(&key).map_or(LeaseDraw::Ask { more: 0 }, |lease| lease.spend(cost, now))
    })
}

/// Keeps what an answer brought that was asked for at `now`: `count` tokens beyond those of the request that asked.
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

    /// L2: a lease is good for its number and its time, for one client of one bucket of one limiter
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
        assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: 0 }, "more is on its way already");
        store(key, 2, now);
        assert_eq!(spend(key, 1, now + LEASE_TTL), LeaseDraw::Ask { more: 0 });
        store(key, 1, now + LEASE_TTL);
        assert_eq!(spend(key, 1, now + LEASE_TTL), PAID, "what was left of the old one is lost");
        assert_eq!(spend(key, 1, now + LEASE_TTL), LeaseDraw::Ask { more: LEASE_MAX });
    }

    /// L4: a client that comes now and then pays for no more than it asks
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

    /// One asker at a time wants more, and one that vanished keeps nobody from asking.
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
        assert_eq!(spend(key, 1, later), PAID, "one of the old and four new, of five");
        for _ in 0..4 {
            spend(key, 1, later);
        }
        let vanished = later + LEASE_TTL - BURST_GAP / 2;
        assert_eq!(spend(key, 1, vanished), LeaseDraw::Ask { more: 0 });
        store(key, 0, vanished);
        assert_eq!(spend(key, 1, vanished + BURST_GAP / 2), LeaseDraw::Ask { more: LEASE_MAX });
    }

    /// L2: what a refill finds left ends when it would have ended without it
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
        assert!(matches!(spend(key, 1, later + LEASE_TTL), LeaseDraw::Paid { .. }), "of the last two");
    }

    /// L2: a request takes what it costs, or nothing
    #[test]
    fn a_heavy_request_is_paid_whole() {
        let now = crate::clock::now();
        let key = (12, Some(BucketId::new(0)), IpKey::V4(7));
        store(key, 2, now);
        store(key, 9, now);
        assert_eq!(spend(key, 10, now), PAID_REFILL, "of both");
        assert_eq!(spend(key, 10, now), LeaseDraw::Ask { more: 0 });
        assert_eq!(spend(key, 1, now), PAID, "the one that is left was not spent");
    }
}
