//! The permit: what the request path holds, and gives back by dropping it.
//!
//! The live counts rise only where the state builds a ticket, and fall here. A fall carries nothing: it is a nudge
//! to recount, sent only when somebody waits and nobody has nudged yet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::count::Gate;

/// One of a bucket's endpoints, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId(pub usize);

/// The gate's counts and how to wake its actor.
pub(crate) struct GateShared {
    pub(crate) gate: Gate,
    nudge: Box<dyn Fn() + Send + Sync>,
    number: usize,
    asked: AtomicU64,
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
            nudge: Box::new(nudge),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            asked: AtomicU64::new(0),
        }
    }

    /// A request asks for a permit. Merely a count: the retry budget is a share of it.
    pub(crate) fn count_asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that ever asked for a permit.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Tells the gates of one process apart.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

/// A place in the gate.
#[derive(Debug)]
struct GateTicket {
    shared: Arc<GateShared>,
}

impl Drop for GateTicket {
    fn drop(&mut self) {
        if self.shared.gate.fall() {
            (self.shared.nudge)();
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
    gate: GateTicket,
    endpoint: EndpointTicket,
}

impl Permit {
    /// Only the state calls this: the count rises.
    pub(crate) fn new(shared: &Arc<GateShared>, endpoint: EndpointTicket) -> Self {
        shared.gate.rise();
        Self { gate: GateTicket { shared: Arc::clone(shared) }, endpoint }
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
    pub(crate) fn waited_for(&self) -> bool {
        self.gate.shared.gate.waiting() > 0
    }

    /// A number that tells gates apart for as long as they live.
    pub(crate) fn gate(&self) -> usize {
        self.gate.shared.number()
    }

    /// Moves on to another endpoint, keeping the place in the gate.
    pub(crate) fn move_to(&mut self, endpoint: EndpointTicket) {
        self.endpoint = endpoint;
    }
}
