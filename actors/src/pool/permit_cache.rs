//! Permits passed from one request to the next on the same thread, where a gate is so wide that an ask for each is
//! mostly talk.
//!
//! A permit that ends is kept for a moment, still counted as out, if nobody waits, the gate is less than half full and
//! the bucket has one endpoint to choose from. The next request on this thread takes it over without an ask. The live
//! count never rises by this, so the limit holds; a permit that has lain for 10 ms is dropped as any other, and one
//! look at the waiters, before it is kept and before it is taken, lets the queue go first (P4). Gates below 64 keep
//! nothing: they stay exact to the last place.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::clock;
use crate::pool::ticket::Permit;

/// How long a permit may lie, and how often that is looked at.
pub(crate) const CACHE_TTL: Duration = Duration::from_millis(10);
/// Permits on one thread; more than that are never needed at once.
const CACHED_MAX: usize = 256;
/// The narrowest gate that keeps permits.
const GATE_SIZE_MIN: usize = 64;

struct CachedPermit {
    permit: Permit,
    since: Instant,
}

/// One thread's permits.
#[derive(Default)]
pub(crate) struct PermitCache {
    permits: Vec<CachedPermit>,
    is_expiry_running: bool,
}

thread_local! {
    static PERMIT_CACHE: RefCell<PermitCache> = RefCell::default();
}

/// Whether a gate of this width and use may keep permits at all.
fn may_cache(concurrent_max: usize, live: usize) -> bool {
    concurrent_max >= GATE_SIZE_MIN && live <= concurrent_max / 2
}

/// Keeps a permit for the next request, or drops it.
pub(crate) fn store(permit: Permit, concurrent_max: usize, now: Instant) {
    // A credential's limit may be far below the gate's: its place is given back at once.
    if permit.credential().is_some() || !may_cache(concurrent_max, permit.live()) || permit.has_waiters() {
        return;
    }
    PERMIT_CACHE.with_borrow_mut(|stash| {
        if stash.permits.len() < CACHED_MAX {
            stash.permits.push(CachedPermit { permit, since: now });
        }
        if !stash.is_expiry_running {
            stash.is_expiry_running = true;
            actix_rt::spawn(expire_all());
        }
    });
}

/// Takes over a permit of this gate, if one lies here and nobody waits for it.
pub(crate) fn pop(gate: usize) -> Option<Permit> {
    let kept = PERMIT_CACHE.with_borrow_mut(|stash| {
        let at = stash.permits.iter().rposition(|kept| kept.permit.gate_id() == gate)?;
        Some(stash.permits.swap_remove(at))
    })?;
    // Dropped here, it goes to the head of the queue.
    if kept.permit.has_waiters() { None } else { Some(kept.permit) }
}

/// Looks after what lies here for as long as anything does.
async fn expire_all() {
    loop {
        tokio::time::sleep(CACHE_TTL).await;
        if !drop_expired() {
            return;
        }
    }
}

/// Drops what has lain too long or is waited for. Returns whether anything is left.
pub(crate) fn drop_expired() -> bool {
    let now = clock::now();
    let (dropped, is_left) = PERMIT_CACHE.with_borrow_mut(|stash| {
        let old = |kept: &CachedPermit| {
            now.saturating_duration_since(kept.since) >= CACHE_TTL || kept.permit.has_waiters()
        };
        let dropped: Vec<CachedPermit> = stash.permits.extract_if(.., |kept| old(kept)).collect();
        stash.is_expiry_running = !stash.permits.is_empty();
        (dropped, stash.is_expiry_running)
    });
    // A drop may nudge the actor, which must not find the stash borrowed.
    drop(dropped);
    is_left
}

/// Lets this thread stand in for another, whose permits these are, and back.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn swap(with: &mut PermitCache) {
    PERMIT_CACHE.with_borrow_mut(|stash| std::mem::swap(stash, with));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::pool::ticket::{EndpointId, EndpointTicket, GateShared};

    fn permit(shared: &Arc<GateShared>) -> Permit {
        Permit::new(shared, EndpointTicket::new(EndpointId(0), &Arc::new(AtomicUsize::new(0))), None)
    }

    /// P3, P4: a kept permit stays counted, goes to the same gate only, yields to waiters, and does not lie for long
    #[actix_rt::test]
    async fn a_cached_permit_is_reused_or_dropped() {
        tokio::time::pause();
        let shared = Arc::new(GateShared::new(|| {}));
        let other = Arc::new(GateShared::new(|| {}));
        let first = permit(&shared);
        let gate = first.gate_id();
        store(first, 64, clock::now());
        assert_eq!(shared.gate.live(), 1, "still counted");
        assert!(pop(permit(&other).gate_id()).is_none());
        let again = pop(gate).unwrap();
        assert_eq!(shared.gate.live(), 1);
        store(again, 63, clock::now());
        assert_eq!(shared.gate.live(), 0, "a narrow gate keeps nothing");
        store(permit(&shared), 64, clock::now());
        shared.gate.publish_waiting(1);
        assert!(pop(gate).is_none());
        assert_eq!(shared.gate.live(), 0, "it went to the queue");
        shared.gate.publish_waiting(0);
        store(permit(&shared), 64, clock::now());
        tokio::time::sleep(CACHE_TTL * 3).await;
        assert_eq!(shared.gate.live(), 0, "dropped in time");
    }

    /// P3: a gate that is half full keeps nothing
    #[actix_rt::test]
    async fn a_busy_gate_caches_nothing() {
        let shared = Arc::new(GateShared::new(|| {}));
        let _out: Vec<Permit> = (0..32).map(|_| permit(&shared)).collect();
        store(permit(&shared), 64, clock::now());
        assert_eq!(shared.gate.live(), 32);
    }
}
