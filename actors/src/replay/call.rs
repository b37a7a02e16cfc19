//! Requests in progress, and what happens to each at a time.

use std::cmp::Ordering;
use std::time::Duration;

use crate::breaker::TicketKind;
use crate::client_counts::ClientTicket;
use crate::pool::Permit;
use crate::types::{BucketId, OperationClass};

/// What a request does once it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It ends in the gateway: a local reply, or a refusal that a replay does not decide.
    Local {
        /// Time to its last byte.
        took: Duration,
    },
    /// It calls the upstream.
    Call {
        /// Time from its permit to its last byte.
        service: Duration,
        /// What its last attempt proves about the upstream.
        outcome: CallOutcome,
    },
}

/// The outcome of a request's attempts, for the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOutcome {
    /// Attempts that failed, in a row.
    pub failures: u8,
    /// Whether the last attempt succeeded. Without success and failure the call proves nothing.
    pub is_success: bool,
    /// The status of the failures; none if there was no response.
    pub status: Option<u16>,
    /// Time to the head of the response, for slow calls.
    pub first_byte: Duration,
}

/// A request in progress.
pub(super) struct Flight<T> {
    pub(super) request: T,
    /// None for a request without a gate.
    pub(super) bucket: Option<BucketId>,
    pub(super) class: OperationClass,
    pub(super) arrived: Duration,
    pub(super) service: Duration,
    pub(super) outcome: CallOutcome,
    /// The number of its wait in the queue.
    pub(super) wait: Option<u64>,
    pub(super) permit: Option<Permit>,
    pub(super) ticket: Option<TicketKind>,
    pub(super) client_ticket: Option<ClientTicket>,
}

impl<T> Flight<T> {
    /// A request that needs no permit.
    pub(super) fn local(request: T) -> Self {
        Self {
            request,
            bucket: None,
            class: OperationClass::Read,
            arrived: Duration::ZERO,
            service: Duration::ZERO,
            outcome: CallOutcome::default(),
            wait: None,
            permit: None,
            ticket: None,
            client_ticket: None,
        }
    }
}

/// The requests in progress, by number. A number is used again.
pub(super) struct Flights<T> {
    flights: Vec<Option<Flight<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { flights: Vec::new(), free: Vec::new() }
    }
}

impl<T> Flights<T> {
    pub(super) fn insert(&mut self, flight: Flight<T>) -> u32 {
        if let Some(id) = self.free.pop() {
            self.flights[id as usize] = Some(flight);
            return id;
        }
        self.flights.push(Some(flight));
        u32::try_from(self.flights.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Flight<T>> {
        self.flights.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Flight<T>> {
        let flight = self.flights.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(flight)
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueKind {
    /// The last byte.
    End,
    /// The end of a wait in the queue.
    QueueTimeout { wait: u64 },
    /// An update of a bucket's cursor.
    Cursor { bucket: BucketId },
}

/// Something that happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Duration,
    /// The request in progress; 0 for a cursor.
    pub(super) flight: u32,
    pub(super) kind: DueKind,
}

impl Ord for Due {
    /// The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at).then_with(|| other.flight.cmp(&self.flight))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
