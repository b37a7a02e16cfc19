//! Statistics of one actor that are readable without asking it: for the status page, the stall watch and its handle.
//!
//! A crashed or stalled actor cannot report on itself, so its counters live outside its mailbox. They only count, or
//! record what the supervisor decided. One policy is read from them: while an actor is `failed`, its handle refuses
//! at once, because nothing drains the mailbox.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::count::BoundedCount;

/// `failed_until` of an actor that was stopped.
const STOPPED: u64 = u64::MAX;
/// When to ask again after a stop. Requests of a newer configuration ask another actor.
const STOPPED_RETRY: Duration = Duration::from_secs(1);

/// The statistics of one actor.
#[derive(Debug)]
pub struct ActorStats {
    name: String,
    mailbox_slots: BoundedCount,
    created: Instant,
    restarts: AtomicU64,
    /// Nanoseconds after `created` until which the supervisor holds the actor down; 0 = running. `STOPPED` is final.
    failed_until: AtomicU64,
    /// The actor has handled the stop, and its memory is freed.
    ended: AtomicBool,
    handled: AtomicU64,
    poisoned: AtomicU64,
    busy: AtomicU64,
    stalled: AtomicU64,
}

/// The state of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorStatus {
    /// It handles messages.
    Running,
    /// Messages wait, and it has handled none for a second.
    Stalled,
    /// It crashed too often and is held down.
    Failed {
        /// Time until the supervisor restarts it.
        retry_after: Duration,
    },
}

impl ActorStatus {
    /// The value in the status document and in metrics.
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
            ended: AtomicBool::new(false),
            handled: AtomicU64::new(0),
            poisoned: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
        }
    }

    /// The statistics of an actor that replaces this one: its restarts are counted on.
    pub(crate) fn successor(&self, mailbox_capacity: usize) -> Self {
        let restarts = AtomicU64::new(self.restarts());
        Self { restarts, ..Self::new(self.name.clone(), mailbox_capacity) }
    }

    /// The actor's name: its folder, followed by `:BUCKET` where each bucket has one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of incarnations; the first is 1.
    pub fn generation(&self) -> u64 {
        self.restarts() + 1
    }

    /// Number of restarts.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Asks that wait in the mailbox or are being handled.
    pub fn depth(&self) -> usize {
        self.mailbox_slots.in_use()
    }

    /// The maximum of `depth`.
    pub fn capacity(&self) -> usize {
        self.mailbox_slots.capacity()
    }

    /// Number of messages handled. The stall watch compares it to detect progress.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Messages refused because their fingerprint crashed the actor twice.
    pub fn poisoned(&self) -> u64 {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Messages refused because the mailbox was full.
    pub fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Running, stalled or failed.
    pub fn status(&self, now: Instant) -> ActorStatus {
        if let Some(retry_after) = self.failed_for(now) {
            return ActorStatus::Failed { retry_after };
        }
        if self.stalled.load(Ordering::Relaxed) > 0 { ActorStatus::Stalled } else { ActorStatus::Running }
    }

    /// Time until a failed actor is restarted; none if it runs. A stopped one is failed for good.
    pub fn failed_for(&self, now: Instant) -> Option<Duration> {
        match self.failed_until.load(Ordering::Acquire) {
            0 => None,
            STOPPED => Some(STOPPED_RETRY),
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
        let nanos = until.map_or(0, |until| clock::nanos_between(self.created, until).max(1));
        let replaced = |before| (before != STOPPED).then_some(nanos);
        // The stop is final, so a refused update is right.
        let _ = self.failed_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, replaced);
    }

    /// The actor is to end: its handle refuses new messages from now on.
    pub(crate) fn set_stopped(&self) {
        self.failed_until.store(STOPPED, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.failed_until.load(Ordering::Acquire) == STOPPED
    }

    /// The actor has handled its last message.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn count_handled(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_poisoned(&self) {
        self.poisoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(u64::from(stalled), Ordering::Relaxed);
    }
}
