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
const RUSH: Duration = Duration::from_millis(1);
/// How long a lease is good.
pub(super) const GOOD_FOR: Duration = Duration::from_millis(10);
/// Leases on one thread; beyond it all are dropped, which costs an ask each.
const LEASES_MAX: usize = 1024;

/// The most that is leased at once: half of it outlasts one turn of a worker over its connections.
pub(crate) const LEASE_MAX: u32 = 128;

/// What a lease is for; the first part tells limiters of one process apart.
pub(crate) type Key = (usize, Option<BucketId>, IpKey);

/// Tokens that were paid for together.
#[derive(Clone, Copy)]
struct Batch {
    left: u32,
    asked: Instant,
}

impl Batch {
    fn forget_if_late(&mut self, now: Instant) {
        if self.left > 0 && now.saturating_duration_since(self.asked) >= GOOD_FOR {
            self.left = 0;
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
    wanted: Option<Instant>,
}

impl Lease {
    fn new(now: Instant) -> Self {
        let none = Batch { left: 0, asked: now };
        Self { older: none, newer: none, granted: 0, asked: now, wanted: None }
    }

    /// Asks for more unless somebody does so already.
    fn want(&mut self, now: Instant) -> bool {
        let waits = self.wanted.is_some_and(|since| now.saturating_duration_since(since) < GOOD_FOR);
        if !waits {
            self.wanted = Some(now);
        }
        !waits
    }

    /// What is left and still good.
    fn left(&mut self, now: Instant) -> u32 {
        self.older.forget_if_late(now);
        self.newer.forget_if_late(now);
        self.older.left + self.newer.left
    }

    fn take(&mut self, cost: u32, now: Instant) -> Taken {
        let left = self.left(now);
        if let Some(rest) = left.checked_sub(cost) {
            let of_older = self.older.left.min(cost);
            self.older.left -= of_older;
            self.newer.left -= cost - of_older;
            return Taken::Paid { refill: rest < self.granted / 2 && self.want(now) };
        }
        let age = now.saturating_duration_since(self.asked);
        let used_up = self.granted > 0 && age < GOOD_FOR;
        let rush = age < RUSH || used_up;
        Taken::Ask { more: if rush && self.want(now) { LEASE_MAX } else { 0 } }
    }

    fn keep(&mut self, count: u32, now: Instant) {
        let left = self.left(now);
        self.asked = now;
        if count > 0 || left == 0 {
            if self.older.left == 0 {
                self.older = self.newer;
                self.newer = Batch { left: count, asked: now };
            } else if self.newer.left == 0 {
                self.newer = Batch { left: count, asked: now };
            } else {
                self.newer.left += count;
            }
            self.granted = left + count;
            self.wanted = None;
        }
    }
}

thread_local! {
    static LEASES: RefCell<HashMap<Key, Lease, ahash::RandomState>> = RefCell::default();
}

/// What the leases on this thread say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
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
pub(crate) fn take(key: Key, cost: u32, now: Instant) -> Taken {
    LEASES.with_borrow_mut(|leases| {
        leases.get_mut(&key).map_or(Taken::Ask { more: 0 }, |lease| lease.take(cost, now))
    })
}

/// Keeps what an answer brought that was asked for at `now`: `count` tokens beyond those of the request that asked.
pub(crate) fn keep(key: Key, count: u32, now: Instant) {
    LEASES.with_borrow_mut(|leases| {
        if leases.len() >= LEASES_MAX && !leases.contains_key(&key) {
            leases.clear();
        }
        leases.entry(key).or_insert_with(|| Lease::new(now)).keep(count, now);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAID: Taken = Taken::Paid { refill: false };
    const PAID_REFILL: Taken = Taken::Paid { refill: true };

    /// L2: a lease is good for its number and its time, for one client of one bucket of one limiter
    #[test]
    fn a_lease_is_used_up_or_ends() {
        let now = crate::clock::now();
        let key = (1, Some(BucketId::new(0)), IpKey::V4(7));
        keep(key, 2, now);
        for other in [
            (2, key.1, key.2),
            (1, Some(BucketId::new(1)), key.2),
            (1, None, key.2),
            (1, key.1, IpKey::V4(8)),
        ] {
            assert_eq!(take(other, 1, now), Taken::Ask { more: 0 });
        }
        assert_eq!((take(key, 1, now), take(key, 1, now)), (PAID, PAID_REFILL));
        assert_eq!(take(key, 1, now), Taken::Ask { more: 0 }, "more is on its way already");
        keep(key, 2, now);
        assert_eq!(take(key, 1, now + GOOD_FOR), Taken::Ask { more: 0 });
        keep(key, 1, now + GOOD_FOR);
        assert_eq!(take(key, 1, now + GOOD_FOR), PAID, "what was left of the old one is lost");
        assert_eq!(take(key, 1, now + GOOD_FOR), Taken::Ask { more: LEASE_MAX });
    }

    /// L4: a client that comes now and then pays for no more than it asks
    #[test]
    fn only_a_rush_leases() {
        let mut now = crate::clock::now();
        let key = (9, Some(BucketId::new(0)), IpKey::V4(7));
        for _ in 0..5 {
            assert_eq!(take(key, 1, now), Taken::Ask { more: 0 });
            keep(key, 0, now);
            now += RUSH;
        }
        assert_eq!(take(key, 1, now - RUSH / 2), Taken::Ask { more: LEASE_MAX });
    }

    /// One asker at a time wants more, and one that vanished keeps nobody from asking.
    #[test]
    fn one_asks_for_more() {
        let now = crate::clock::now();
        let key = (10, Some(BucketId::new(0)), IpKey::V4(7));
        keep(key, 0, now);
        assert_eq!(take(key, 1, now), Taken::Ask { more: LEASE_MAX });
        assert_eq!(take(key, 1, now), Taken::Ask { more: 0 });
        keep(key, 4, now);
        assert_eq!((take(key, 1, now), take(key, 1, now), take(key, 1, now)), (PAID, PAID, PAID_REFILL));
        let later = now + GOOD_FOR / 2;
        keep(key, 4, later);
        assert_eq!(take(key, 1, later), PAID, "one of the old and four new, of five");
        for _ in 0..4 {
            take(key, 1, later);
        }
        let vanished = later + GOOD_FOR - RUSH / 2;
        assert_eq!(take(key, 1, vanished), Taken::Ask { more: 0 });
        keep(key, 0, vanished);
        assert_eq!(take(key, 1, vanished + RUSH / 2), Taken::Ask { more: LEASE_MAX });
    }

    /// L2: what a refill finds left ends when it would have ended without it
    #[test]
    fn a_refill_prolongs_nothing() {
        let now = crate::clock::now();
        let key = (11, Some(BucketId::new(0)), IpKey::V4(7));
        keep(key, 3, now);
        let later = now + GOOD_FOR / 2;
        keep(key, 2, later);
        keep(key, 0, later + GOOD_FOR / 4);
        assert_eq!(take(key, 3, now + GOOD_FOR), Taken::Ask { more: LEASE_MAX }, "two are left");
        assert_eq!(take(key, 2, now + GOOD_FOR), Taken::Paid { refill: false });
        keep(key, 2, now + GOOD_FOR);
        assert!(matches!(take(key, 1, later + GOOD_FOR), Taken::Paid { .. }), "of the last two");
    }

    /// L2: a request takes what it costs, or nothing
    #[test]
    fn a_heavy_request_is_paid_whole() {
        let now = crate::clock::now();
        let key = (12, Some(BucketId::new(0)), IpKey::V4(7));
        keep(key, 2, now);
        keep(key, 9, now);
        assert_eq!(take(key, 10, now), PAID_REFILL, "of both");
        assert_eq!(take(key, 10, now), Taken::Ask { more: 0 });
        assert_eq!(take(key, 1, now), PAID, "the one that is left was not spent");
    }
}
