//! The permit: what the request path holds, and gives back by dropping it.
//!
//! The live counts rise only where the state builds a ticket, and fall here. A fall carries nothing: it is a nudge
//! to recount, sent only when somebody waits and nobody has nudged yet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::count::Gate;

/// One of a bucket's endpoints, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId(pub usize);

/// The gate's counts and how to wake its actor.
pub(crate) struct GateShared {
    pub(crate) gate: Gate,
    nudge: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for GateShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateShared").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl GateShared {
    pub(crate) fn new(nudge: impl Fn() + Send + Sync + 'static) -> Self {
        Self { gate: Gate::new(), nudge: Box::new(nudge) }
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
    _gate: GateTicket,
    endpoint: EndpointTicket,
}

impl Permit {
    /// Only the state calls this: the count rises.
    pub(crate) fn new(shared: &Arc<GateShared>, endpoint: EndpointTicket) -> Self {
        shared.gate.rise();
        Self { _gate: GateTicket { shared: Arc::clone(shared) }, endpoint }
    }

    /// The endpoint to call.
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Moves on to another endpoint, keeping the place in the gate.
    pub(crate) fn move_to(&mut self, endpoint: EndpointTicket) {
        self.endpoint = endpoint;
    }
}
