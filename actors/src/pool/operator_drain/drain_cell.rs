//! The drain of a bucket or of one endpoint, as it is published: the order, and a flag that the request path reads.
//!
//! Only an actor of the bucket's pools writes it, and the import of an upgrade before the actor runs. The pools of all configurations of a
//! bucket share it, so a drain holds for the requests of each, and it outlives a crash of the actor and a reload. A drain that has expired
//! has no effect from that time on, also before an actor removes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A drain that an operator has ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Its begin. A further order for the same target does not change it.
    pub began: Instant,
    /// Its end, if it has one.
    pub until: Option<Instant>,
    /// Who ordered it.
    pub ordered_by: String,
    /// Why.
    pub reason: Option<String>,
}

impl Drain {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The published drain of one target.
#[derive(Debug)]
pub(crate) struct DrainCell {
    /// Identifies the target in all configurations. It is not 0.
    number: u64,
    is_set: AtomicBool,
    drain: Mutex<Option<Arc<Drain>>>,
}

impl Default for DrainCell {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { number, is_set: AtomicBool::new(false), drain: Mutex::default() }
    }
}

impl DrainCell {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether there is a drain, which may have expired. The request path reads this first.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// The drain in effect.
    pub(crate) fn drain(&self, now: Instant) -> Option<Arc<Drain>> {
        if !self.is_set() {
            return None;
        }
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drain.filter(|drain| !drain.is_over(now))
    }

    pub(crate) fn is_draining(&self, now: Instant) -> bool {
        self.is_set() && self.drain(now).is_some()
    }

    /// Begins a drain, or replaces its reason and its end.
    pub(crate) fn set(&self, mut drain: Drain) {
        let mut stored = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = stored.as_ref().filter(|before| !before.is_over(drain.began)) {
            drain.began = before.began;
        }
        *stored = Some(Arc::new(drain));
        self.is_set.store(true, Ordering::Release);
    }

    /// Ends the drain and returns it.
    pub(crate) fn end(&self) -> Option<Arc<Drain>> {
        let mut stored = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_set.store(false, Ordering::Release);
        stored.take()
    }

    /// Removes the drain if it has expired, and returns it.
    pub(crate) fn take_expired(&self, now: Instant) -> Option<Arc<Drain>> {
        if !self.is_set() {
            return None;
        }
        let mut stored = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = stored.take_if(|drain| drain.is_over(now))?;
        self.is_set.store(false, Ordering::Release);
        Some(expired)
    }

    /// Publishes the flag again, after a crash in mid-write.
    pub(crate) fn publish(&self) {
        let stored = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_set.store(stored.is_some(), Ordering::Release);
    }

    /// When the drain expires.
    pub(crate) fn until(&self) -> Option<Instant> {
        if !self.is_set() {
            return None;
        }
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drain(began: Instant, until: Option<Instant>, reason: &str) -> Drain {
        Drain { began, until, ordered_by: "test".to_owned(), reason: Some(reason.to_owned()) }
    }

    /// P5: a further order replaces the reason and the end, and keeps the begin of a drain that is in effect
    #[test]
    fn a_further_order_keeps_the_begin() {
        let (cell, now) = (DrainCell::default(), crate::clock::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!cell.is_set() && cell.drain(now).is_none() && cell.end().is_none());
        cell.set(drain(now, Some(after(10)), "disk"));
        cell.set(drain(after(5), Some(after(30)), "move"));
        let found = cell.drain(after(29)).unwrap();
        assert_eq!(
            (found.began, found.reason.as_deref(), cell.until()),
            (now, Some("move"), Some(after(30)))
        );
        cell.set(drain(after(40), None, "again"));
        assert_eq!(cell.drain(after(1000)).unwrap().began, after(40), "the one before had expired");
        assert_eq!(cell.end().unwrap().reason.as_deref(), Some("again"));
        assert!(!cell.is_set());
    }

    /// P5: an expired drain has no effect, and is removed once
    #[test]
    fn a_drain_expires() {
        let (cell, now) = (DrainCell::default(), crate::clock::now());
        let until = now + Duration::from_secs(10);
        cell.set(drain(now, Some(until), "disk"));
        assert!(cell.is_draining(until - Duration::from_nanos(1)) && cell.take_expired(now).is_none());
        assert!(!cell.is_draining(until) && cell.is_set());
        assert!(cell.take_expired(until).is_some() && cell.take_expired(until).is_none());
        assert!(!cell.is_set());
    }
}
