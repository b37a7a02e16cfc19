//! The permit of the request path and its tickets, released by `Drop`.
//!
//! Only the state (`pool/state.rs`) builds tickets, and only there the live counts rise. `Drop` lowers them. It wakes the
//! actor without a payload, only if requests wait and no wake-up is pending.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::actor_stats::ActorStats;
use crate::change_queue::ChangeQueue;
use crate::count::Gate;
use crate::limit_share::LimitShare;
use crate::pool::credentials::credential::{CredentialId, CredentialTicket};
use crate::pool::gate::members::{BucketGate, GateMember};
use crate::pool::handover::PoolImport;

/// One of a bucket's endpoints, by its index in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId(pub usize);

/// One pool's part in its bucket's gate: its wake-up, and what it shares with the pools of other configurations.
pub(crate) struct GateShared {
    pub(crate) gate: Arc<Gate>,
    bucket: Arc<BucketGate>,
    own: Arc<GateMember>,
    id: usize,
    /// Time between two grants from the queue, in nanoseconds; 0 if unknown.
    grant_interval_nanos: AtomicU64,
    /// The state of a predecessor, until the actor has it.
    pub(crate) imports: ChangeQueue<PoolImport>,
}

impl fmt::Debug for GateShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateShared").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl GateShared {
    /// The gate of a bucket's first pool, without a limit.
    pub(crate) fn new(wake_actor: impl Fn() + Send + Sync + 'static) -> Self {
        Self::first(wake_actor, None)
    }

    /// As `new`, with the statistics of the pool's actor: while it does not answer, newer pools do not wait for it.
    pub(crate) fn first(
        wake_actor: impl Fn() + Send + Sync + 'static,
        stats: Option<Arc<ActorStats>>,
    ) -> Self {
        let shared = Self::join(Arc::new(BucketGate::new()), GateMember::new(0, wake_actor, stats));
        shared.enter();
        shared
    }

    /// The part of a pool that replaces this one. It has no effect before `enter`.
    pub(crate) fn successor(
        &self,
        wake_actor: impl Fn() + Send + Sync + 'static,
        stats: Option<Arc<ActorStats>>,
    ) -> Self {
        let generation = self.own.generation.saturating_add(1);
        Self::join(Arc::clone(&self.bucket), GateMember::new(generation, wake_actor, stats))
    }

    fn join(bucket: Arc<BucketGate>, own: GateMember) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self {
            gate: Arc::clone(&bucket.gate),
            bucket,
            own: Arc::new(own),
            id: NUMBER.fetch_add(1, Ordering::Relaxed),
            grant_interval_nanos: AtomicU64::new(0),
            imports: ChangeQueue::default(),
        }
    }

    /// Adds the pool to those that are woken.
    pub(crate) fn enter(&self) {
        self.bucket.enter(&self.own);
    }

    /// The pool has ended; it has no waiters.
    pub(crate) fn leave(&self) {
        self.bucket.leave(&self.own);
    }

    /// Number of pools that replaced one another before this one.
    pub(crate) fn generation(&self) -> u32 {
        self.own.generation
    }

    /// Whether this pool's configuration sets the limit: no newer pool has entered.
    pub(crate) fn sets_limit(&self) -> bool {
        self.gate.generation() == self.own.generation as usize
    }

    /// Sets the limit, unless a newer pool does. The waiters of the other pools are woken if it rises.
    pub(crate) fn set_limit(&self, limit: usize) {
        if self.bucket.share.set_limit(&self.gate, self.own.generation, limit) == Some(true) {
            self.bucket.wake_others(&self.own);
        }
    }

    /// Changes what this process has of the limit. Waiters of all pools are served if it rises.
    pub(crate) fn change_share<R>(&self, change: impl FnOnce(&mut LimitShare) -> R) -> R {
        let changed = self.bucket.share.change(&self.gate, change);
        self.bucket.wake_waiting(&self.own);
        changed
    }

    /// Permits that this pool must leave to the waiters of older ones.
    pub(crate) fn reserved(&self, now: Instant) -> usize {
        self.bucket.reserved(&self.own, now)
    }

    /// Counts a granted request; the retry budget is a share of these. Requests that the queue refused are not counted,
    /// because they did not reach the upstream.
    pub(crate) fn count_granted(&self) {
        self.bucket.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that waits in the queue.
    pub(crate) fn count_waited(&self) {
        self.bucket.waited.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self) -> u64 {
        self.bucket.waited.load(Ordering::Relaxed)
    }

    /// Wakes each actor of the bucket unless a wake-up is pending.
    pub(crate) fn wake_once(&self) {
        self.bucket.wake_all(&self.own);
    }

    /// Number of requests that got a permit since the start.
    pub(crate) fn granted(&self) -> u64 {
        self.bucket.granted.load(Ordering::Relaxed)
    }

    /// Publishes the number of waiters and returns the live permits of the same instant. `needs_room`: only room in the
    /// gate is missing. Only the actor calls this.
    pub(crate) fn publish_waiting(&self, waiting: usize, needs_room: bool) -> usize {
        let for_room = if needs_room { waiting } else { 0 };
        let before = self.own.publish_waiting_for_room(for_room);
        let live = self.gate.publish_waiting(&self.own.queue, waiting);
        if for_room < before {
            // Newer pools may have left permits to these waiters.
            self.bucket.wake_newer(&self.own);
        }
        live
    }

    /// The actor has received its wake-up.
    pub(crate) fn wake_received(&self) {
        self.own.queue.wake_received();
    }

    /// Publishes the time between two grants. The actor calls this while requests wait.
    pub(crate) fn publish_grant_interval(&self, pace: Option<Duration>) {
        let nanos = pace.map_or(0, |pace| u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.grant_interval_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Time between two grants from the queue, as last published.
    pub(crate) fn grant_interval(&self) -> Option<Duration> {
        let nanos = self.grant_interval_nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Wakes the actors with waiters. Called when something other than a permit was released that a waiter may need.
    pub(crate) fn wake_if_waiting(&self) {
        if self.gate.has_waiters_after_free() {
            self.bucket.wake_waiting(&self.own);
        }
    }

    /// Wakes the actor in any case.
    pub(crate) fn wake(&self) {
        (self.own.wake_actor)();
    }

    /// Distinguishes the pools of one process: a permit is cached for the pool that granted it.
    pub(crate) fn id(&self) -> usize {
        self.id
    }
}

/// One unit of the gate's width.
#[derive(Debug)]
pub(crate) struct GateTicket {
    shared: Arc<GateShared>,
}

impl GateTicket {
    /// The live count rises, if fewer than `max` permits exist and the gate's limit allows one more. Only the state
    /// calls this.
    pub(crate) fn try_acquire_below(max: usize, shared: &Arc<GateShared>) -> Option<Self> {
        shared.gate.try_acquire_below(max).then(|| Self { shared: Arc::clone(shared) })
    }
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        if self.shared.gate.release() {
            self.shared.bucket.wake_waiting(&self.shared.own);
        }
    }
}

/// A request that counts for the load of one endpoint.
#[derive(Debug)]
pub struct EndpointTicket {
    id: EndpointId,
    in_flight: Arc<AtomicUsize>,
}

impl EndpointTicket {
    /// The count rises; only the state calls this.
    pub(crate) fn new(id: EndpointId, in_flight: &Arc<AtomicUsize>) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self { id, in_flight: Arc::clone(in_flight) }
    }

    /// The endpoint.
    pub fn id(&self) -> EndpointId {
        self.id
    }
}

impl Drop for EndpointTicket {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Permission to call the upstream now. Held until the last body byte.
#[derive(Debug)]
pub struct Permit {
    /// Dropped first, so that a waiter which the gate wakes finds the credential free.
    credential: Option<CredentialTicket>,
    gate: GateTicket,
    endpoint: EndpointTicket,
}

impl Permit {
    /// Only the state calls this.
    pub(crate) fn new(
        gate: GateTicket,
        endpoint: EndpointTicket,
        credential: Option<CredentialTicket>,
    ) -> Self {
        Self { credential, gate, endpoint }
    }

    /// The credential to use, if the bucket has several or one with a limit.
    pub fn credential(&self) -> Option<CredentialId> {
        self.credential.as_ref().map(CredentialTicket::id)
    }

    /// Releases the credential ticket: the request carries its client's own credentials upstream.
    pub fn release_credential(&mut self) {
        self.credential = None;
    }

    /// Replaces the credential; the gate ticket is kept.
    pub(crate) fn set_credential(&mut self, credential: CredentialTicket) {
        self.credential = Some(credential);
    }

    /// The endpoint to call.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Permits of the same gate in use.
    pub(crate) fn live(&self) -> usize {
        self.gate.shared.gate.live()
    }

    /// Whether a request waits for a permit of the same gate.
    pub(crate) fn has_waiters(&self) -> bool {
        self.gate.shared.gate.waiting() > 0
    }

    /// Identifies the pool that granted the permit.
    pub(crate) fn gate_id(&self) -> usize {
        self.gate.shared.id()
    }

    /// Replaces the endpoint; the gate ticket is kept.
    pub(crate) fn set_endpoint(&mut self, endpoint: EndpointTicket) {
        self.endpoint = endpoint;
    }
}
