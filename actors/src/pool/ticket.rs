//! The permit: what the request path holds, and gives back by dropping it.
//!
//! The live counts rise only where the state builds a ticket, and fall here. A fall carries nothing: it is a nudge
//! to recount, sent only when somebody waits and nobody has nudged yet.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::count::Gate;
use crate::pool::credential::{CredentialId, CredentialTicket};
use crate::pool::retry_budget::RetryWindow;

/// One of a bucket's endpoints, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId(pub usize);

/// The gate's counts and how to wake its actor.
pub(crate) struct GateShared {
    pub(crate) gate: Gate,
    wake_actor: Box<dyn Fn() + Send + Sync>,
    id: usize,
    granted: AtomicU64,
    /// What was spent on trying again; nothing yet is none.
    retry_window: Mutex<Option<RetryWindow>>,
    /// From one hand-over of the queue to the next, in nanoseconds; 0 where it is not known.
    grant_interval_nanos: AtomicU64,
}

impl fmt::Debug for GateShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateShared").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl GateShared {
    pub(crate) fn new(nudge: impl Fn() + Send + Sync + 'static) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self {
            gate: Gate::new(),
            wake_actor: Box::new(nudge),
            id: NUMBER.fetch_add(1, Ordering::Relaxed),
            granted: AtomicU64::new(0),
            retry_window: Mutex::default(),
            grant_interval_nanos: AtomicU64::new(0),
        }
    }

    /// A request has its permit. Merely a count: the retry budget is a share of it. Those that the queue refused are none of it, for
    /// the upstream never heard of them.
    pub(crate) fn count_granted(&self) {
        self.granted.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the actor, unless somebody has.
    pub(crate) fn wake_once(&self) {
        if self.gate.claim_wake() {
            (self.wake_actor)();
        }
    }

    /// Requests that ever got a permit.
    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Only the state calls this.
    pub(crate) fn publish_retry_window(&self, window: RetryWindow) {
        *self.retry_window.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
    }

    /// Attempts for each request over the last seconds.
    pub(crate) fn amplification(&self, now: Instant) -> f64 {
        let spent = *self.retry_window.lock().unwrap_or_else(PoisonError::into_inner);
        spent.map_or(1.0, |window| window.amplification(self.granted(), now))
    }

    /// Says how fast the queue drains; the actor does so while somebody waits.
    pub(crate) fn publish_grant_interval(&self, pace: Option<Duration>) {
        let nanos = pace.map_or(0, |pace| u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.grant_interval_nanos.store(nanos, Ordering::Relaxed);
    }

    /// From one hand-over of the queue to the next, as last published.
    pub(crate) fn grant_interval(&self) -> Option<Duration> {
        let nanos = self.grant_interval_nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Something other than a permit fell free: whoever waits may need just that.
    pub(crate) fn wake_if_waiting(&self) {
        if self.gate.claim_wake_if_waiting() {
            (self.wake_actor)();
        }
    }

    /// Has the queue served once more, whoever waits.
    pub(crate) fn wake(&self) {
        (self.wake_actor)();
    }

    /// Tells the gates of one process apart.
    pub(crate) fn id(&self) -> usize {
        self.id
    }
}

/// A place in the gate.
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

/// One request's share of an endpoint.
#[derive(Debug)]
pub struct EndpointTicket {
    id: EndpointId,
    in_flight: Arc<AtomicUsize>,
}

impl EndpointTicket {
    /// Only the state calls this: the count rises.
    pub(crate) fn new(id: EndpointId, in_flight: &Arc<AtomicUsize>) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self { id, in_flight: Arc::clone(in_flight) }
    }

    /// Which endpoint.
    pub fn id(&self) -> EndpointId {
        self.id
    }
}

impl Drop for EndpointTicket {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leave to call the upstream now. Held until the last body byte.
#[derive(Debug)]
pub struct Permit {
    /// Given back first, so that whoever is woken by the gate finds it.
    credential: Option<CredentialTicket>,
    gate: GateTicket,
    endpoint: EndpointTicket,
}

impl Permit {
    /// Only the state calls this: the count rises.
    pub(crate) fn new(
        shared: &Arc<GateShared>,
        endpoint: EndpointTicket,
        credential: Option<CredentialTicket>,
    ) -> Self {
        shared.gate.acquire();
        Self { credential, gate: GateTicket { shared: Arc::clone(shared) }, endpoint }
    }

    /// The credential to go on with, where there are several or one has a limit.
    pub fn credential(&self) -> Option<CredentialId> {
        self.credential.as_ref().map(CredentialTicket::id)
    }

    /// Gives its credential back: the request goes on as somebody else.
    pub fn release_credential(&mut self) {
        self.credential = None;
    }

    /// Moves on to another credential, keeping the place in the gate.
    pub(crate) fn set_credential(&mut self, credential: CredentialTicket) {
        self.credential = Some(credential);
    }

    /// The endpoint to call.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint.id
    }

    /// The permits of its gate that are out.
    pub(crate) fn live(&self) -> usize {
        self.gate.shared.gate.live()
    }

    /// Whether somebody waits for a permit of its gate.
    pub(crate) fn has_waiters(&self) -> bool {
        self.gate.shared.gate.waiting() > 0
    }

    /// A number that tells gates apart for as long as they live.
    pub(crate) fn gate_id(&self) -> usize {
        self.gate.shared.id()
    }

    /// Moves on to another endpoint, keeping the place in the gate.
    pub(crate) fn set_endpoint(&mut self, endpoint: EndpointTicket) {
        self.endpoint = endpoint;
    }
}
