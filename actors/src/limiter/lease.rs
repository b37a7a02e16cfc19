//! Admissions paid for in advance, for limits so high that an ask for each request is mostly talk.
//!
//! A worker that asks for the same client and bucket twice within a millisecond wants more than one admission. Where
//! the limits have more than half of their burst left, the actor then charges a few requests more than were asked
//! for, at most a two-thousandth of the smallest burst, and the worker may admit that many on its own within the next
//! 10 ms. They are debited first, so a limit is never exceeded (L2). What is not used by then is lost: that is at most
//! one lease at the end of each rush, and limits with a burst below 2,000 lease nothing; they stay exact in both
//! directions. A lease lives on one thread, only falls, and is forgotten with it.

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

/// The most that is leased at once.
pub(crate) const LEASE_MAX: u32 = 64;

/// What a lease is for; the first part tells limiters of one process apart.
type Key = (usize, BucketId, IpKey);

struct Lease {
    granted: u32,
    left: u32,
    asked: Instant,
}

impl Lease {
    /// Whether a rush used all of it while it was good: then the rush goes on.
    fn used_up(&self, age: Duration) -> bool {
        self.granted > 0 && self.left == 0 && age < GOOD_FOR
    }
}

thread_local! {
    static LEASES: RefCell<HashMap<Key, Lease, ahash::RandomState>> = RefCell::default();
}

/// What the leases on this thread say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is paid for.
    Paid,
    /// The actor must be asked, for so many admissions more than this one.
    Ask {
        /// None, unless this is a rush.
        more: u32,
    },
}

/// Uses one leased admission, if there is one.
pub(crate) fn take(key: Key, now: Instant) -> Taken {
    LEASES.with_borrow_mut(|leases| {
        let Some(lease) = leases.get_mut(&key) else { return Taken::Ask { more: 0 } };
        let age = now.saturating_duration_since(lease.asked);
        if lease.left > 0 && age < GOOD_FOR {
            lease.left -= 1;
            return Taken::Paid;
        }
        Taken::Ask { more: if age < RUSH || lease.used_up(age) { LEASE_MAX } else { 0 } }
    })
}

/// Keeps what an answer brought beyond the request that asked.
pub(crate) fn keep(key: Key, count: u32, now: Instant) {
    LEASES.with_borrow_mut(|leases| {
        if leases.len() >= LEASES_MAX {
            leases.clear();
        }
        leases.insert(key, Lease { granted: count, left: count, asked: now });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L2: a lease is good for its number and its time, for one client of one bucket of one limiter
    #[test]
    fn a_lease_is_used_up_or_ends() {
        let now = crate::clock::now();
        let key = (1, BucketId::new(0), IpKey::V4(7));
        keep(key, 2, now);
        for other in [(2, key.1, key.2), (1, BucketId::new(1), key.2), (1, key.1, IpKey::V4(8))] {
            assert_eq!(take(other, now), Taken::Ask { more: 0 });
        }
        assert_eq!((take(key, now), take(key, now)), (Taken::Paid, Taken::Paid));
        assert_eq!(take(key, now), Taken::Ask { more: LEASE_MAX });
        keep(key, 2, now);
        assert_eq!(take(key, now + GOOD_FOR), Taken::Ask { more: 0 });
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
}
