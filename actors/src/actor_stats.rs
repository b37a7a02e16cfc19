//! What anybody may know of an actor without asking it: the status page, the stall watch, its handle.
//!
//! A crashed or stalled actor cannot report on itself, so its vital signs live beside it. They only count
//! or say what the supervisor decided; no policy is read from them but one: while an actor is `failed`, its
//! handle refuses at once instead of queueing into a mailbox that nobody serves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::count::BoundedCount;

/// One actor's vital signs.
#[derive(Debug)]
pub struct ActorStats {
    name: String,
    mailbox_slots: BoundedCount,
    created: Instant,
    restarts: AtomicU64,
    /// Nanoseconds after `born` until which the supervisor holds the actor down; 0 = running.
    failed_until: AtomicU64,
    handled: AtomicU64,
    poisoned: AtomicU64,
    stalled: AtomicU64,
}

/// What the supervisor last did with an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorStatus {
    /// Serving its mailbox.
    Running,
    /// Has waiting messages but has not handled one for a second.
    Stalled,
    /// Restarted too often; held down for this long still.
    Failed {
        /// Until the supervisor tries again.
        retry_after: Duration,
    },
}

impl ActorStatus {
    /// The word used in the status document and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Failed { .. } => "failed",
        }
    }
}

impl ActorStats {
    pub(crate) fn new(name: impl Into<String>, mailbox_capacity: usize) -> Self {
        Self {
            name: name.into(),
            mailbox_slots: BoundedCount::new(mailbox_capacity),
            created: clock::now(),
            restarts: AtomicU64::new(0),
            failed_until: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            poisoned: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
        }
    }

    /// The actor's name: its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Incarnations so far, the first is 1.
    pub fn generation(&self) -> u64 {
        self.restarts() + 1
    }

    /// Times the supervisor restarted it.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Messages that wait for it or are being handled.
    pub fn depth(&self) -> usize {
        self.mailbox_slots.in_use()
    }

    /// The bound on `depth`.
    pub fn capacity(&self) -> usize {
        self.mailbox_slots.capacity()
    }

    /// Messages handled in all; progress is what the stall watch looks at.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Messages refused because handling their like crashed twice.
    pub fn poisoned(&self) -> u64 {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Running, stalled or failed.
    pub fn status(&self, now: Instant) -> ActorStatus {
        if let Some(retry_after) = self.failed_for(now) {
            return ActorStatus::Failed { retry_after };
        }
        if self.stalled.load(Ordering::Relaxed) > 0 { ActorStatus::Stalled } else { ActorStatus::Running }
    }

    /// How long the actor stays failed, if it is.
    pub fn failed_for(&self, now: Instant) -> Option<Duration> {
        match self.failed_until.load(Ordering::Acquire) {
            0 => None,
            until => Some((self.created + Duration::from_nanos(until)).saturating_duration_since(now)),
        }
    }

    pub(crate) fn mailbox_slots(&self) -> &BoundedCount {
        &self.mailbox_slots
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_failed_until(&self, until: Option<Instant>) {
        let nanos = until.map_or(0, |until| {
            u64::try_from(until.saturating_duration_since(self.created).as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        self.failed_until.store(nanos, Ordering::Release);
    }

    pub(crate) fn count_handled(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_poisoned(&self) {
        self.poisoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(u64::from(stalled), Ordering::Relaxed);
    }
}
