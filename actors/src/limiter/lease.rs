//! Admissions paid for in advance, for limits so high that an ask for each request is mostly talk.
//!
//! Where a client's limits have more than half of their burst left, the actor charges a few requests more than were asked
//! for, at most a thousandth of the smallest burst, and the worker that asked may admit that many on its own within
//! the next 10 ms. They are debited first, so the limit is never exceeded (L2); what is not used by then is lost, so
//! the rate may be missed by that thousandth, and limits with a burst below 2,000 lease nothing: they stay exact in
//! both directions. A lease lives on one thread, only falls, and is forgotten with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::types::{BucketId, IpKey};

/// How long a lease is good.
const GOOD_FOR: Duration = Duration::from_millis(10);
/// Leases on one thread; beyond it all are dropped, which costs an ask each.
const LEASES_MAX: usize = 1024;

/// The most that is leased at once.
pub(crate) const LEASE_MAX: u32 = 64;

/// What a lease is for; the first part tells limiters of one process apart.
type Key = (usize, BucketId, IpKey);

struct Lease {
    left: u32,
    until: Instant,
}

thread_local! {
    static LEASES: RefCell<HashMap<Key, Lease, ahash::RandomState>> = RefCell::default();
}

/// Uses one leased admission, if there is one.
pub(crate) fn take(key: Key, now: Instant) -> bool {
    LEASES.with_borrow_mut(|leases| {
        let Some(lease) = leases.get_mut(&key) else { return false };
        if lease.left == 0 || lease.until <= now {
            return false;
        }
        lease.left -= 1;
        true
    })
}

/// Keeps what an answer brought beyond the request that asked.
pub(crate) fn keep(key: Key, count: u32, now: Instant) {
    if count == 0 {
        return;
    }
    LEASES.with_borrow_mut(|leases| {
        if leases.len() >= LEASES_MAX {
            leases.clear();
        }
        leases.insert(key, Lease { left: count, until: now + GOOD_FOR });
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
            assert!(!take(other, now));
        }
        assert!(take(key, now) && take(key, now) && !take(key, now));
        keep(key, 2, now);
        assert!(!take(key, now + GOOD_FOR));
    }
}
