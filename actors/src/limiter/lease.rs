//! Admissions paid for in advance, for limits so high that an ask for each request is mostly talk.
//!
//! A worker that asks for the same client and bucket twice within a millisecond wants more than one admission. Where
//! the limits have more than half of their burst left, the actor then charges some requests more than were asked
//! for, at most a two-thousandth of the smallest burst, and the worker may admit that many on its own within the next
//! 10 ms. Before they are used up it asks for more, once at a time, so a rush seldom waits. They are debited first, so a
//! limit is never exceeded (L2). What is not used by then is lost: that is at most two leases at the end of each rush,
//! and limits with a burst below 2,000 lease nothing; they stay exact in both directions. A lease lives on one thread and
//! is forgotten with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{BucketId, IpKey};

/// Two asks within this time are a rush.
const RUSH: Duration = Duration::from_millis(1);
/// How long a lease is good.
const GOOD_FOR: Duration = Duration::from_millis(10);
/// Leases on one thread; beyond it all are dropped, which costs an ask each.
const LEASES_MAX: usize = 1024;

/// The most that is leased at once: half of it outlasts one turn of a worker over its connections.
pub(crate) const LEASE_MAX: u32 = 128;

/// What a lease is for; the first part tells limiters of one process apart.
pub(crate) type Key = (usize, BucketId, IpKey);

struct Lease {
    granted: u32,
    left: u32,
    asked: Instant,
    /// When more was asked for, until it comes. The asker may vanish, so after a while it counts for nothing.
    wanted: Option<Instant>,
}

impl Lease {
    /// Asks for more unless somebody does so already.
    fn want(&mut self, now: Instant) -> bool {
        let waits = self.wanted.is_some_and(|since| now.saturating_duration_since(since) < GOOD_FOR);
        if !waits {
            self.wanted = Some(now);
        }
        !waits
    }

    fn take(&mut self, now: Instant) -> Taken {
        let age = now.saturating_duration_since(self.asked);
        if self.left > 0 && age < GOOD_FOR {
            self.left -= 1;
            return Taken::Paid { refill: self.left < self.granted / 2 && self.want(now) };
        }
        let used_up = self.granted > 0 && self.left == 0 && age < GOOD_FOR;
        let rush = age < RUSH || used_up;
        Taken::Ask { more: if rush && self.want(now) { LEASE_MAX } else { 0 } }
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
    /// The actor must be asked, for so many admissions more than this one.
    Ask {
        /// None, unless this is a rush.
        more: u32,
    },
}

/// Uses one leased admission, if there is one.
pub(crate) fn take(key: Key, now: Instant) -> Taken {
    LEASES.with_borrow_mut(|leases| {
        leases.get_mut(&key).map_or(Taken::Ask { more: 0 }, |lease| lease.take(now))
    })
}

/// Keeps what an answer brought that was asked for at `now`: `count` admissions beyond the request that asked.
pub(crate) fn keep(key: Key, count: u32, now: Instant) {
    LEASES.with_borrow_mut(|leases| {
        if leases.len() >= LEASES_MAX && !leases.contains_key(&key) {
            leases.clear();
        }
        let lease = leases.entry(key).or_insert(Lease { granted: 0, left: 0, asked: now, wanted: None });
        if now.saturating_duration_since(lease.asked) >= GOOD_FOR {
            lease.left = 0;
        }
        lease.asked = now;
        if count > 0 || lease.left == 0 {
            lease.left += count;
            lease.granted = lease.left;
            lease.wanted = None;
        }
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
        let key = (1, BucketId::new(0), IpKey::V4(7));
        keep(key, 2, now);
        for other in [(2, key.1, key.2), (1, BucketId::new(1), key.2), (1, key.1, IpKey::V4(8))] {
            assert_eq!(take(other, now), Taken::Ask { more: 0 });
        }
        assert_eq!((take(key, now), take(key, now)), (PAID, PAID_REFILL));
        assert_eq!(take(key, now), Taken::Ask { more: 0 }, "more is on its way already");
        keep(key, 2, now);
        assert_eq!(take(key, now + GOOD_FOR), Taken::Ask { more: 0 });
        keep(key, 1, now + GOOD_FOR);
        assert_eq!(take(key, now + GOOD_FOR), PAID, "what was left of the old one is lost");
        assert_eq!(take(key, now + GOOD_FOR), Taken::Ask { more: LEASE_MAX });
    }

    /// L4: a client that comes now and then pays for no more than it asks
    #[test]
    fn only_a_rush_leases() {
        let mut now = crate::clock::now();
        let key = (9, BucketId::new(0), IpKey::V4(7));
        for _ in 0..5 {
            assert_eq!(take(key, now), Taken::Ask { more: 0 });
            keep(key, 0, now);
            now += RUSH;
        }
        assert_eq!(take(key, now - RUSH / 2), Taken::Ask { more: LEASE_MAX });
    }

    /// One asker at a time wants more, and one that vanished keeps nobody from asking.
    #[test]
    fn one_asks_for_more() {
        let now = crate::clock::now();
        let key = (10, BucketId::new(0), IpKey::V4(7));
        keep(key, 0, now);
        assert_eq!(take(key, now), Taken::Ask { more: LEASE_MAX });
        assert_eq!(take(key, now), Taken::Ask { more: 0 });
        keep(key, 4, now);
        assert_eq!((take(key, now), take(key, now), take(key, now)), (PAID, PAID, PAID_REFILL));
        let later = now + GOOD_FOR / 2;
        keep(key, 4, later);
        assert_eq!(take(key, later), PAID, "one of the old and four new, of five");
        for _ in 0..4 {
            take(key, later);
        }
        let vanished = later + GOOD_FOR - RUSH / 2;
        assert_eq!(take(key, vanished), Taken::Ask { more: 0 });
        keep(key, 0, vanished);
        assert_eq!(take(key, vanished + RUSH / 2), Taken::Ask { more: LEASE_MAX });
    }
}
