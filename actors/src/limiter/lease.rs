//! Leases: tokens charged in advance, for limits so high that one ask per request costs too much.
//!
//! A worker that asks twice within 2.5 ms for the same client and bucket gets a lease, where more than half of every
//! burst is left: as many tokens as 10 ms need at the client's pace, and at most a two-thousandth of the smallest burst, to
//! spend without asking within 10 ms. It asks for a refill before the tokens are used up, with one refill at a time.
//!
//! A lease never exceeds a limit (L2): its tokens are charged as if they arrived at its end, `TAT' = max(TAT, now +
//! 10 ms) + tokens/rate`. So a lease must not live longer than that, and tokens left at a refill keep their own end.
//! Unused tokens are lost. Limits with a burst below 2,000 lease nothing and stay exact. A lease belongs to one
//! thread. The reasons are in `docs/design/rate-limits.md`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{BucketId, IpKey};

/// Lifetime of a lease.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(10);
/// A lease that pays for fewer requests is not worth the tokens that are lost at its end.
const REQUESTS_MIN: u32 = 4;
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
    /// Tokens that requests needed since the actor was last asked, and when that was.
    needed: (u32, Instant),
    /// When a refill was asked for; none after it came. Ignored after `LEASE_TTL`, because the caller may be gone.
    refill_asked: Option<Instant>,
}

impl Lease {
    fn new(now: Instant) -> Self {
        let none = Batch { remaining: 0, asked: now };
        Self { older: none, newer: none, granted: 0, needed: (0, now), refill_asked: None }
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
        self.needed.0 = self.needed.0.saturating_add(cost);
        if let Some(rest) = remaining.checked_sub(cost) {
            let from_older = self.older.remaining.min(cost);
            self.older.remaining -= from_older;
            self.newer.remaining -= cost - from_older;
            let is_low = rest < self.granted / 2;
            return LeaseDraw::Paid { refill: if is_low { self.refill(cost, rest, now) } else { 0 } };
        }
        let more = self.refill(cost, remaining, now);
        self.needed = (0, now);
        LeaseDraw::Ask { more }
    }

    /// Tokens to ask for beside those that are left, so that both last for the lifetime of a lease at the pace since the last
    /// ask. 0 if both pay for less than [`REQUESTS_MIN`] of this cost, or if another caller asks already.
    fn refill(&mut self, cost: u32, left: u32, now: Instant) -> u32 {
        let (needed, since) = self.needed;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= LEASE_TTL {
            return 0;
        }
        let tokens = u128::from(needed) * LEASE_TTL.as_nanos() / elapsed.as_nanos().max(1);
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let more = tokens.saturating_sub(left).min(LEASE_MAX);
        if (left + more) / REQUESTS_MIN < cost || more == 0 || !self.claim_refill(now) {
            return 0;
        }
        self.needed = (0, now);
        more
    }

    fn store(&mut self, count: u32, now: Instant) {
        let remaining = self.remaining(now);
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
        /// Tokens to ask the actor for while the rest is used; 0 for none.
        refill: u32,
    },
    /// The actor must be asked.
    Ask {
        /// Tokens to lease in addition to the request's; 0 if requests are rare.
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

    const PAID: LeaseDraw = LeaseDraw::Paid { refill: 0 };
    const PAID_REFILL: LeaseDraw = LeaseDraw::Paid { refill: LEASE_MAX };
    /// Two requests within less than this time start a lease.
    const BURST_GAP: Duration = Duration::from_micros(2500);

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

    /// L4: a lease and its refills are as large as the client's pace needs, and its requests seldom ask
    #[test]
    fn a_lease_follows_the_pace() {
        for (id, gap_micros, lease_max) in [(20, 2_500, 4), (21, 2_000, 5), (22, 1_000, 10), (23, 200, 50)] {
            let key = (id, Some(BucketId::new(0)), IpKey::V4(7));
            let mut now = crate::clock::now();
            let (mut asks, mut leased) = (0, 0);
            store(key, 0, now);
            for _ in 0..100 {
                now += Duration::from_micros(gap_micros);
                let more = match spend(key, 1, now) {
                    LeaseDraw::Paid { refill } => refill,
                    LeaseDraw::Ask { more } => {
                        asks += 1;
                        store(key, more, now);
                        leased += more;
                        continue;
                    }
                };
                if more > 0 {
                    store(key, more, now);
                    leased += more;
                }
                assert!(more <= lease_max + 1, "{more} at {gap_micros} us");
            }
            assert!(asks <= 5 && leased <= 130, "{asks} asks, {leased} tokens at {gap_micros} us");
        }
    }

    /// L4: requests that cost more than the largest lease holds for four of them lease nothing
    #[test]
    fn a_lease_is_worth_four_requests() {
        let now = crate::clock::now();
        let key = |number| (number, Some(BucketId::new(0)), IpKey::V4(7));
        store(key(24), 0, now);
        assert_eq!(spend(key(24), 100, now + LEASE_TTL / 5), LeaseDraw::Ask { more: 0 });
        store(key(25), 0, now);
        assert_eq!(spend(key(25), 10, now + LEASE_TTL / 5), LeaseDraw::Ask { more: 50 });
    }

    /// L4: a client with few requests is charged only for what it asks
    #[test]
    fn only_repeated_requests_lease() {
        let mut now = crate::clock::now();
        let key = (9, Some(BucketId::new(0)), IpKey::V4(7));
        for _ in 0..5 {
            assert_eq!(spend(key, 1, now), LeaseDraw::Ask { more: 0 });
            store(key, 0, now);
            now += LEASE_TTL;
        }
        assert_eq!(spend(key, 1, now - LEASE_TTL + BURST_GAP), LeaseDraw::Ask { more: 4 });
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
        assert_eq!(spend(key, 1, expired + BURST_GAP), LeaseDraw::Ask { more: 4 });
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
        assert_eq!(spend(key, 3, now + LEASE_TTL), LeaseDraw::Ask { more: 0 }, "two are left");
        assert_eq!(spend(key, 2, now + LEASE_TTL), PAID_REFILL);
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
