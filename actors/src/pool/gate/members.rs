//! The pools that share a bucket's gate: the current one, and those of replaced configurations that still serve requests.
//!
//! All count on one `Gate` and obey the limit of the newest. A release wakes each pool with waiting requests. A released
//! permit belongs to the waiters of an older pool before a newer pool may grant it, as long as the older pool's actor
//! answers: its requests came first (P4).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::actor_stats::{ActorStats, ActorStatus};
use crate::count::{Gate, GateQueue};
use crate::limit_share::GateShare;

/// One pool at the gate.
pub(super) struct GateMember {
    pub(super) queue: GateQueue,
    /// A pool has a higher generation than its predecessor.
    pub(super) generation: u32,
    pub(super) wake_actor: Box<dyn Fn() + Send + Sync>,
    /// None in tests: the actor always answers.
    pub(super) stats: Option<Arc<ActorStats>>,
    /// Waiters for which only room in the gate is missing.
    waiting_for_room: AtomicUsize,
    has_left: AtomicBool,
}

/// What the pools of one bucket share.
pub(super) struct BucketGate {
    pub(super) gate: Arc<Gate>,
    /// What this process has of the limit.
    pub(super) share: GateShare,
    /// Requests that got a permit since the start.
    pub(super) granted: AtomicU64,
    /// Requests that have waited in a queue.
    pub(super) waited: AtomicU64,
    members: Mutex<Vec<Arc<GateMember>>>,
    /// Whether there is more than one member. While there is one, it needs no lock.
    is_shared: AtomicBool,
}

impl GateMember {
    pub(super) fn new(
        generation: u32,
        wake_actor: impl Fn() + Send + Sync + 'static,
        stats: Option<Arc<ActorStats>>,
    ) -> Self {
        Self {
            queue: GateQueue::new(),
            generation,
            wake_actor: Box::new(wake_actor),
            stats,
            waiting_for_room: AtomicUsize::new(0),
            has_left: AtomicBool::new(false),
        }
    }

    pub(super) fn wake_if_waiting(&self) {
        if self.queue.claim_wake_if_waiting() {
            (self.wake_actor)();
        }
    }

    pub(super) fn wake_once(&self) {
        if self.queue.claim_wake() {
            (self.wake_actor)();
        }
    }

    /// Returns the number that was published before.
    pub(super) fn publish_waiting_for_room(&self, waiting: usize) -> usize {
        self.waiting_for_room.swap(waiting, Ordering::AcqRel)
    }

    /// Permits that newer pools must leave to this one: none if its actor does not answer.
    fn reserved(&self, now: Instant) -> usize {
        let waiting = self.waiting_for_room.load(Ordering::Acquire);
        let answers = || self.stats.as_ref().is_none_or(|stats| stats.status(now) == ActorStatus::Running);
        if waiting > 0 && answers() { waiting } else { 0 }
    }
}

impl BucketGate {
    pub(super) fn new() -> Self {
        Self {
            gate: Arc::new(Gate::new()),
            share: GateShare::new(),
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            members: Mutex::default(),
            is_shared: AtomicBool::new(false),
        }
    }

    fn change_members(&self, change: impl FnOnce(&mut Vec<Arc<GateMember>>)) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut members);
        self.is_shared.store(members.len() > 1, Ordering::Release);
    }

    /// Adds a pool. It is in effect before the pool publishes waiters.
    pub(super) fn enter(&self, member: &Arc<GateMember>) {
        self.change_members(|members| {
            if !members.iter().any(|one| Arc::ptr_eq(one, member)) {
                members.push(Arc::clone(member));
            }
        });
    }

    /// Removes a pool without waiters.
    pub(super) fn leave(&self, member: &Arc<GateMember>) {
        // Before the other store: a ticket of this pool then wakes the others.
        member.has_left.store(true, Ordering::Release);
        self.change_members(|members| members.retain(|one| !Arc::ptr_eq(one, member)));
    }

    fn for_each(&self, action: impl Fn(&GateMember)) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().for_each(|member| action(member));
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    /// Wakes each pool that has waiters; `own` is the caller's.
    pub(super) fn wake_waiting(&self, own: &GateMember) {
        if !self.is_shared() && !own.has_left.load(Ordering::Acquire) {
            own.wake_if_waiting();
        } else {
            self.for_each(GateMember::wake_if_waiting);
        }
    }

    /// Wakes each pool unless a wake-up is pending.
    pub(super) fn wake_all(&self, own: &GateMember) {
        if !self.is_shared() && !own.has_left.load(Ordering::Acquire) {
            own.wake_once();
        } else {
            self.for_each(GateMember::wake_once);
        }
    }

    /// Wakes the other pools that have waiters.
    pub(super) fn wake_others(&self, own: &GateMember) {
        if self.is_shared() {
            self.for_each(|member| {
                if member.generation != own.generation {
                    member.wake_if_waiting();
                }
            });
        }
    }

    /// Wakes the pools that are newer than `own`: their waiters come after its waiters.
    pub(super) fn wake_newer(&self, own: &GateMember) {
        if self.is_shared() {
            self.for_each(|member| {
                if member.generation > own.generation {
                    member.wake_if_waiting();
                }
            });
        }
    }

    /// Permits that belong to waiters of older pools.
    pub(super) fn reserved(&self, own: &GateMember, now: Instant) -> usize {
        if !self.is_shared() {
            return 0;
        }
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let older = members.iter().filter(|member| member.generation < own.generation);
        older.map(|member| member.reserved(now)).sum()
    }
}
