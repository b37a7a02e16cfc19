//! The state of the process: what outlives each configuration.
//!
//! [`Process`] has the log, the metrics, the listeners' certificates, the budgets of memory and the drain. [`Shared`] is the state of
//! one configuration. Both are shared by all threads. [`configurations::Configurations`] has the current one.

pub(crate) mod configurations;
pub(crate) mod retirement;
pub(crate) mod shared;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use slog::Logger;
use tokio::sync::watch;

use crate::buffers::ReservedBytes;
use crate::buffers::body_memory::BodyMemory;
use crate::buffers::{BufferBudget, BufferMetrics};
use crate::chaos::Chaos;
use crate::decisions::Decisions;
use crate::degradation::published::Degradation;
use crate::server::AcceptMetrics;
use crate::server::idle_closer::IdleCloser;
use crate::server::idle_connections::IdleConnections;
use crate::server::tls::ServerTls;
use crate::server::tls_tickets::TicketKeys;
use crate::shortage::ShortageMetrics;
use crate::telemetry::log::LogStats;
use crate::telemetry::metrics::RequestMetrics;

pub(crate) use shared::Shared;

/// Phase of the shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainPhase {
    /// No shutdown was requested.
    Serving,
    /// Each response is the last of its connection.
    Draining,
    /// The data listener is closed, and idle connections close.
    Closing,
    /// The drain timeout is over: unfinished requests and answers are cut off.
    CuttingOff,
}

/// The state of the process.
pub(crate) struct Process {
    pub(crate) metrics: RequestMetrics,
    /// The causes of degradation.
    pub(crate) degradation: Degradation,
    pub(crate) log: Logger,
    pub(crate) log_stats: Arc<LogStats>,
    /// The decisions of all threads.
    pub(crate) decisions: Arc<Decisions>,
    /// The phase of the drain.
    pub(crate) drain: watch::Sender<DrainPhase>,
    /// The time of the signal to stop.
    pub(crate) drain_began: OnceLock<Instant>,
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
    /// Whether the gateway drains or stops.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow() != DrainPhase::Serving
    }

    /// The reason of a request that ends without its complete response, if nothing else is known: the client has
    /// closed its connection, unless the gateway has.
    pub(crate) fn unfinished_reason(&self) -> &'static str {
        if *self.drain.borrow() == DrainPhase::CuttingOff { "drain_timeout" } else { "client_gone" }
    }
}
