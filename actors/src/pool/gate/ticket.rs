//! The permit of the request path and its tickets, released by `Drop`.
//!
//! Only the state (`pool/state.rs`) builds tickets, and only there the live counts rise. `Drop` lowers them. It wakes the
//! actor without a payload, only if requests wait and no wake-up is pending.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::count::Gate;
use crate::pool::credentials::credential::{CredentialId, CredentialTicket};
use crate::pool::retry_budget::RetryWindow;

/// One of a bucket's endpoints, by its index in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId(pub usize);

/// A gate's counts and the wake-up of its actor.
pub(crate) struct GateShared {
    pub(crate) gate: Gate,
    wake_actor: Box<dyn Fn() + Send + Sync>,
    id: usize,
    granted: AtomicU64,
    /// Requests that have waited in the queue.
    waited: AtomicU64,
    /// Requests, retries and hedges of the last seconds; none before the first retry or hedge.
    retry_window: Mutex<Option<RetryWindow>>,
    /// Time between two grants from the queue, in nanoseconds; 0 if unknown.
    grant_interval_nanos: AtomicU64,
}

impl fmt::Debug for GateShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateShared").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl GateShared {
    pub(crate) fn new(wake_actor: impl Fn() + Send + Sync + 'static) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self {
            gate: Gate::new(),
            wake_actor: Box::new(wake_actor),
            id: NUMBER.fetch_add(1, Ordering::Relaxed),
            granted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            retry_window: Mutex::default(),
            grant_interval_nanos: AtomicU64::new(0),
        }
    }

    /// Counts a granted request; the retry budget is a share of these. Requests that the queue refused are not counted,
    /// because they did not reach the upstream.
    pub(crate) fn count_granted(&self) {
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that waits in the queue.
    pub(crate) fn count_waited(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    /// Wakes the actor unless a wake-up is pending.
    pub(crate) fn wake_once(&self) {
        if self.gate.claim_wake() {
            (self.wake_actor)();
        }
    }

    /// Number of requests that got a permit since the start.
    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Only the state calls this.
    pub(crate) fn publish_retry_window(&self, window: RetryWindow) {
        *self.retry_window.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
    }

    /// Upstream attempts per request over the last seconds.
    pub(crate) fn amplification(&self, now: Instant) -> f64 {
        let window = *self.retry_window.lock().unwrap_or_else(PoisonError::into_inner);
        window.map_or(1.0, |window| window.amplification(self.granted(), now))
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

    /// Wakes the actor if requests wait. Called when something other than a permit was released that a waiter may need.
    pub(crate) fn wake_if_waiting(&self) {
        if self.gate.claim_wake_if_waiting() {
            (self.wake_actor)();
        }
    }

    /// Wakes the actor in any case.
    pub(crate) fn wake(&self) {
        (self.wake_actor)();
    }

    /// Distinguishes the gates of one process.
    pub(crate) fn id(&self) -> usize {
        self.id
    }
}

/// One unit of the gate's width.
#[derive(Debug)]
struct GateTicket {
    shared: Arc<GateShared>,
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        if self.shared.gate.release() {
            (self.shared.wake_actor)();
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
    /// The counts rise; only the state calls this.
    pub(crate) fn new(
        shared: &Arc<GateShared>,
        endpoint: EndpointTicket,
        credential: Option<CredentialTicket>,
    ) -> Self {
        shared.gate.acquire();
        Self { credential, gate: GateTicket { shared: Arc::clone(shared) }, endpoint }
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

    /// Identifies the gate for the lifetime of the process.
    pub(crate) fn gate_id(&self) -> usize {
        self.gate.shared.id()
    }

    /// Replaces the endpoint; the gate ticket is kept.
    pub(crate) fn set_endpoint(&mut self, endpoint: EndpointTicket) {
        self.endpoint = endpoint;
    }
}
