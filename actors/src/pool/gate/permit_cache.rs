//! Per-thread cache of permits: passes a permit to the next request on the same thread without a message to the actor.
//!
//! A returned permit is cached, still counted as in use, if no request waits, the gate is less than half full, no
//! credential ticket is attached and the bucket has one endpoint. So the live count never rises and the limit holds. A
//! cached permit is dropped after 10 ms, and it goes to requests of the same pool only: its endpoint is an index there.
//! The number of waiters is checked before a permit is stored and before it is reused, so that the queue goes first (P4).
//! Gates narrower than 64 cache nothing and stay exact.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::clock;
use crate::pool::gate::ticket::Permit;

/// How long a permit may be cached, and the interval of the expiry task.
pub(crate) const CACHE_TTL: Duration = Duration::from_millis(10);
/// Largest number of permits cached on one thread.
const CACHED_MAX: usize = 256;
/// Narrowest gate with a cache.
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

/// Whether a gate of this width and use may cache permits.
fn may_cache(concurrent_max: usize, live: usize) -> bool {
    concurrent_max >= GATE_SIZE_MIN && live <= concurrent_max / 2
}

/// Caches a permit for the next request, or drops it.
pub(crate) fn store(permit: Permit, concurrent_max: usize, now: Instant) {
    // A credential's limit may be far below the gate's, so its ticket is released at once.
    if permit.credential().is_some() || !may_cache(concurrent_max, permit.live()) || permit.has_waiters() {
        return;
    }
    PERMIT_CACHE.with_borrow_mut(|cache| {
        if cache.permits.len() < CACHED_MAX {
            cache.permits.push(CachedPermit { permit, since: now });
        }
        if !cache.is_expiry_running {
            cache.is_expiry_running = true;
            actix_rt::spawn(expire_all());
        }
    });
}

/// Takes a cached permit of this gate, if there is one and no request waits.
pub(crate) fn pop(gate: usize) -> Option<Permit> {
    let cached = PERMIT_CACHE.with_borrow_mut(|cache| {
        let at = cache.permits.iter().rposition(|cached| cached.permit.gate_id() == gate)?;
        Some(cache.permits.swap_remove(at))
    })?;
    // The permit that is dropped here goes to the head of the queue.
    if cached.permit.has_waiters() { None } else { Some(cached.permit) }
}

/// Drops expired permits until the cache is empty.
async fn expire_all() {
    loop {
        tokio::time::sleep(CACHE_TTL).await;
        if !drop_expired() {
            return;
        }
    }
}

/// Drops permits that have expired or that a request waits for. Returns whether any permit is left.
pub(crate) fn drop_expired() -> bool {
    let now = clock::now();
    let (dropped, is_left) = PERMIT_CACHE.with_borrow_mut(|cache| {
        let old = |cached: &CachedPermit| {
            now.saturating_duration_since(cached.since) >= CACHE_TTL || cached.permit.has_waiters()
        };
        let dropped: Vec<CachedPermit> = cache.permits.extract_if(.., |cached| old(cached)).collect();
        cache.is_expiry_running = !cache.permits.is_empty();
        (dropped, cache.is_expiry_running)
    });
    // The drop may wake the actor, which must not find the cache borrowed.
    drop(dropped);
    is_left
}

/// Replaces this thread's cache, so that one thread can run as several.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn swap(with: &mut PermitCache) {
    PERMIT_CACHE.with_borrow_mut(|cache| std::mem::swap(cache, with));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::pool::gate::ticket::{EndpointId, EndpointTicket, GateShared, GateTicket};

    fn permit(shared: &Arc<GateShared>) -> Permit {
        let gate = GateTicket::try_acquire_below(usize::MAX, shared).unwrap();
        Permit::new(gate, EndpointTicket::new(EndpointId(0), &Arc::new(AtomicUsize::new(0))), None)
    }

    /// P3, P4: a cached permit stays counted, goes to the same gate only, yields to waiters, and expires
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
        assert_eq!(shared.gate.live(), 0, "a narrow gate caches nothing");
        store(permit(&shared), 64, clock::now());
        shared.publish_waiting(1, true);
        assert!(pop(gate).is_none());
        assert_eq!(shared.gate.live(), 0, "the permit went to the queue");
        shared.publish_waiting(0, true);
        store(permit(&shared), 64, clock::now());
        tokio::time::sleep(CACHE_TTL * 3).await;
        assert_eq!(shared.gate.live(), 0, "dropped after the expiry");
    }

    /// P3: a gate that is half full caches nothing
    #[actix_rt::test]
    async fn a_busy_gate_caches_nothing() {
        let shared = Arc::new(GateShared::new(|| {}));
        let _out: Vec<Permit> = (0..32).map(|_| permit(&shared)).collect();
        store(permit(&shared), 64, clock::now());
        assert_eq!(shared.gate.live(), 32);
    }
}
