//! The state of the process: what outlives each configuration.
//!
//! [`Process`] has the log, the metrics, decisions, live requests, the listeners' certificates and ticket keys, the budgets of memory, the
//! drain and the predecessor. [`Shared`] is the state of
//! one configuration. Both are shared by all threads. [`configurations::Configurations`] has the current one.

pub(crate) mod configurations;
pub(crate) mod drain_progress;
pub(crate) mod drain_report;
pub(crate) mod last_reload;
pub(crate) mod predecessors;
pub(crate) mod retirement;
pub(crate) mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use slog::Logger;
use tokio::sync::{Mutex, watch};

use crate::buffers::ReservedBytes;
use crate::buffers::body_memory::BodyMemory;
use crate::buffers::{BufferBudget, BufferMetrics};
use crate::chaos::Chaos;
use crate::decisions::Decisions;
use crate::degradation::published::Degradation;
use crate::live_requests::LiveRequests;
use crate::server::AcceptMetrics;
use crate::server::idle_closer::IdleCloser;
use crate::server::idle_connections::IdleConnections;
use crate::server::tls::ServerTls;
use crate::server::tls_tickets::TicketKeys;
use crate::shortage::ShortageMetrics;
use crate::telemetry::log::{AccessLog, LogStats};
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::rules::event_streams::EventStreams;
use drain_report::{DrainReports, DrainRequests};
use last_reload::Reloads;
use predecessors::Predecessors;

pub(crate) use shared::Shared;

/// Phase of the shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainPhase {
    /// No shutdown was requested.
    Serving,
    /// A successor serves new connections. Each response is the last of its connection.
    HandedOver,
    /// Each response is the last of its connection.
    Draining,
    /// The data listener is closed, and idle connections close.
    Closing,
    /// The drain timeout is over: event streams end with the end of their protocol.
    EndingStreams,
    /// Unfinished requests and answers are cut off.
    CuttingOff,
}

impl DrainPhase {
    /// Back from a hand-over that has failed. False in other phases, which it does not change.
    fn serve_again(&mut self) -> bool {
        let is_handed_over = *self == Self::HandedOver;
        if is_handed_over {
            *self = Self::Serving;
        }
        is_handed_over
    }

    /// Its name in the status document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::HandedOver => "handed_over",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::EndingStreams => "ending_streams",
            Self::CuttingOff => "cutting_off",
        }
    }
}

/// The state of the process.
pub(crate) struct Process {
    pub(crate) metrics: RequestMetrics,
    /// The causes of degradation.
    pub(crate) degradation: Degradation,
    /// The reloads of the configuration.
    pub(crate) reloads: Reloads,
    pub(crate) log: Logger,
    pub(crate) access_log: AccessLog,
    pub(crate) log_stats: Arc<LogStats>,
    /// The decisions of all threads.
    pub(crate) decisions: Arc<Decisions>,
    /// The requests under way, by bucket.
    pub(crate) live_requests: LiveRequests,
    /// The phase of the drain.
    pub(crate) drain: watch::Sender<DrainPhase>,
    /// How far the drain is; none before it begins.
    pub(crate) drain_report: DrainReports,
    /// Requests to drain, from the admin listener.
    pub(crate) drain_requests: DrainRequests,
    /// Held while an upgrade hands over. Who needs the state of the actors as it is before or after that waits for it: an order to drain a
    /// bucket or an endpoint, and a stop.
    pub(crate) hand_over_lock: Arc<Mutex<()>>,
    /// The event streams of the data listener.
    pub(crate) event_streams: EventStreams,
    /// Those of the admin listener.
    pub(crate) status_streams: EventStreams,
    /// The process ID of the successor of an upgrade, once it serves the new connections; 0 before.
    pub(crate) successor: AtomicU32,
    /// The process before this one, while it drains.
    pub(crate) predecessors: Predecessors,
    /// The TLS certificate of the data listener; `None` for cleartext.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The same of the admin listener.
    pub(crate) admin_tls: Option<Arc<ServerTls>>,
    /// The keys of TLS session tickets at both listeners.
    pub(crate) ticket_keys: Arc<TicketKeys>,
    pub(crate) chaos: Chaos,
    /// The memory for finished responses that wait for their clients.
    pub(crate) send_buffer: ReservedBytes,
    /// The data listener's connections.
    pub(crate) client_connections: Arc<IdleConnections>,
    pub(crate) idle_closer: IdleCloser,
    pub(crate) shortages: ShortageMetrics,
    pub(crate) accepting: AcceptMetrics,
    /// The budget for enlarged socket buffers.
    pub(crate) buffer_budget: Arc<BufferBudget>,
    /// The memory of bodies that are read whole.
    pub(crate) body_memory: Arc<BodyMemory>,
    pub(crate) buffer_metrics: BufferMetrics,
}

impl Process {
    /// Whether new requests should go to another gateway. The successor of an upgrade has the same address, so a process that has handed
    /// over is as ready as its successor.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow() != DrainPhase::Serving && !self.has_handed_over()
    }

    /// Whether the successor of an upgrade serves the new connections.
    pub(crate) fn has_handed_over(&self) -> bool {
        self.successor.load(Ordering::Relaxed) != 0
    }

    /// Notes that this successor serves the new connections, unless this process drains already.
    pub(crate) fn hand_over(&self, successor: u32) -> bool {
        let is_serving = *self.drain.borrow() == DrainPhase::Serving;
        if is_serving {
            self.successor.store(successor, Ordering::Relaxed);
            self.drain.send_replace(DrainPhase::HandedOver);
        }
        is_serving
    }

    /// Takes that back, if there is something: the successor does not serve. A drain that has begun goes on.
    pub(crate) fn serve_again(&self) {
        if self.successor.swap(0, Ordering::Relaxed) != 0 && self.drain_report.last().is_none() {
            self.drain.send_if_modified(DrainPhase::serve_again);
        }
    }

    /// The reason of a request that ends without its complete response, if nothing else is known: the client has
    /// closed its connection, unless the gateway has.
    pub(crate) fn unfinished_reason(&self) -> &'static str {
        if *self.drain.borrow() == DrainPhase::CuttingOff { "drain_timeout" } else { "client_gone" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8, G4: a hand-over that is taken back changes no phase of a drain
    #[test]
    fn only_a_hand_over_is_taken_back() {
        use DrainPhase::*;
        for mut phase in [Serving, Draining, Closing, EndingStreams, CuttingOff] {
            let before = phase;
            assert!(!phase.serve_again() && phase == before, "{phase:?}");
        }
        let mut phase = HandedOver;
        assert!(phase.serve_again() && phase == Serving);
    }
}
