//! What the request path sees of the monitor: an atomic and a counter. Nobody is asked.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use slog::Logger;
use thiserror::Error;
use tidegate_config::{ClientConcurrencyConfig, MonitorConfig};
use tokio::sync::watch;

use crate::clock;
use crate::count::Bounded;
use crate::mailbox::{AskError, Mailbox, Supervised};
use crate::monitor::actor::Monitor;
#[cfg(any(test, feature = "simulation"))]
use crate::monitor::actor::Sample;
use crate::monitor::clients::Clients;
use crate::monitor::level::Level;
use crate::monitor::metrics::MonitorMetrics;
#[cfg(any(test, feature = "simulation"))]
use crate::monitor::reading::{MemorySource, MemoryUse, Readings};
use crate::monitor::reason::Reason;
use crate::monitor::view::{Board, MonitorView};
use crate::vitals::Vitals;

/// What a shed request is told: long enough for a few samples.
const SHED_RETRY: Duration = Duration::from_secs(1);

/// Why a request may not enter.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum MonitorRejection {
    /// Resources are exhausted (X2).
    #[error("resources are exhausted")]
    Exhausted {
        /// Why.
        reason: Option<Reason>,
        /// When to try again.
        retry_after: Duration,
    },
    /// All slots are taken, or as many as the memory is enough for (P2, X6).
    #[error("{in_flight} requests are in flight, the limit is {limit}")]
    Full {
        /// Requests in flight.
        in_flight: usize,
        /// The cap.
        limit: usize,
    },
    /// The client has as many requests in flight as one client may.
    #[error("the client has {in_flight} requests in flight, the limit is {limit}")]
    ClientFull {
        /// Its requests in flight.
        in_flight: usize,
        /// The cap for one client.
        limit: usize,
    },
    /// As many forms are being read as may be.
    #[error("{pending} forms are being read, the limit is {limit}")]
    FormsFull {
        /// Forms that are being read.
        pending: usize,
        /// The cap.
        limit: usize,
        /// Whether both are the client's own.
        is_clients: bool,
    },
    /// The actor gave no answer.
    #[error("the monitor gave no answer: {0}")]
    Unavailable(AskError),
}

/// A place among the requests in flight. Held until the last body byte; dropping it gives it back.
#[derive(Debug)]
#[must_use = "a slot that is dropped is given back"]
pub struct Slot {
    slots: Arc<Bounded>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give_back();
    }
}

/// Reads what the monitor published, and counts requests in and out.
#[derive(Clone)]
pub struct MonitorHandle {
    pub(super) mailbox: Mailbox<Monitor>,
    board: Arc<Board>,
    slots: Arc<Bounded>,
    pub(super) metrics: MonitorMetrics,
    /// `concurrency.max_per_client`
    pub(super) per_client_max: usize,
}

impl MonitorHandle {
    /// The handle and the component it reads from, which also watches these actors for standing still.
    pub(crate) fn new(
        mailbox: Mailbox<Monitor>,
        config: &MonitorConfig,
        (in_flight_max, concurrency): (usize, &ClientConcurrencyConfig),
        watched: Vec<Arc<Vitals>>,
        registry: &Registry,
        log: Logger,
    ) -> Result<(Self, Monitor), prometheus::Error> {
        let metrics = MonitorMetrics::register(registry)?;
        let slots = Arc::new(Bounded::new(in_flight_max));
        let clients = Clients::new(concurrency, in_flight_max);
        let counts = (Arc::clone(&slots), clients);
        let monitor = Monitor::new(config.clone(), counts, watched, metrics.clone(), log, clock::now());
        let board = Arc::clone(monitor.board());
        let per_client_max = concurrency.max_per_client;
        Ok((Self { mailbox, board, slots, metrics, per_client_max }, monitor))
    }

    /// Takes a slot, or says no at once.
    ///
    /// # Errors
    /// Resources are exhausted, or all slots are taken.
    pub fn enter(&self) -> Result<Slot, MonitorRejection> {
        self.check_level()?;
        let limit = self.board.in_flight_max();
        if !self.slots.take_below(limit) {
            self.metrics.full.inc();
            let (in_flight, limit) = (self.slots.taken(), self.slots.capacity().min(limit));
            return Err(MonitorRejection::Full { in_flight, limit });
        }
        Ok(Slot { slots: Arc::clone(&self.slots) })
    }

    /// Whether the level lets requests in.
    ///
    /// # Errors
    /// Resources are exhausted.
    pub fn check_level(&self) -> Result<(), MonitorRejection> {
        if self.board.level() < Level::Exhausted {
            return Ok(());
        }
        self.metrics.shed.inc();
        let reason = self.board.view().reason;
        Err(MonitorRejection::Exhausted { reason, retry_after: SHED_RETRY })
    }

    /// The published level.
    pub fn level(&self) -> Level {
        self.board.level()
    }

    /// What the status page shows.
    pub fn view(&self) -> Arc<MonitorView> {
        self.board.view()
    }

    /// Receives a new view with every sample (`monitor.interval_ms`).
    pub fn subscribe(&self) -> watch::Receiver<Arc<MonitorView>> {
        self.board.subscribe()
    }

    /// Requests that hold a slot.
    pub fn in_flight(&self) -> usize {
        self.slots.taken()
    }

    /// Copies the requests in flight into their gauge; called before a scrape is answered.
    pub(crate) fn observe(&self) {
        self.metrics.in_flight(self.in_flight());
    }

    /// Injects a sample in which this process uses so many percent of the memory.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sense(&self, percent: u64) {
        let memory = MemoryUse {
            used_bytes: percent,
            limit_bytes: 100,
            own_bytes: percent,
            own_limit_bytes: 100,
            sockets_bytes: 0,
            rss_bytes: percent,
            source: MemorySource::Configured,
        };
        self.mailbox.tell(Sample(Readings { memory: Some(memory), ..Readings::NONE }));
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.mailbox.vitals()
    }

    /// The actor, whatever its kind.
    pub(crate) fn actor(&self) -> &dyn Supervised {
        &self.mailbox
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
