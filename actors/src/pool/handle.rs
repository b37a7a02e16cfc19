//! What the request path sees of one bucket's pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::chaos::{Crash, Stall};
use crate::clock;
use crate::mailbox::{AskError, Mailbox};
use crate::pool::PoolMetrics;
use crate::pool::actor::{Acquire, Acquired, Ail, Pool, Repick, Retry};
use crate::pool::budget::RetryTicket;
use crate::pool::stash;
use crate::pool::ticket::{EndpointId, GateShared, Permit};
use crate::vitals::Vitals;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolRejection {
    /// The queue is full; with `max_queued = 0`, the gate.
    QueueFull {
        /// Waiters.
        queued: usize,
        /// Permits out.
        in_flight: usize,
    },
    /// No permit fell free within the queue's deadline.
    QueueTimeout {
        /// The deadline.
        waited: Duration,
    },
    /// The actor gave no answer.
    Unavailable(AskError),
}

/// What the status page shows.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Permits out.
    pub in_flight: usize,
    /// Most permits at once.
    pub concurrent_max: usize,
    /// Waiters.
    pub queued: usize,
    /// Most waiters.
    pub queued_max: usize,
    /// Requests per endpoint.
    pub endpoints: Vec<usize>,
}

/// The settings a handle needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolBounds {
    pub(crate) concurrent_max: usize,
    pub(crate) queued_max: usize,
    pub(crate) queue_timeout: Duration,
}

/// Asks one bucket's pool.
#[derive(Clone)]
pub struct PoolHandle {
    mailbox: Mailbox<Pool>,
    shared: Arc<GateShared>,
    loads: Vec<Arc<AtomicUsize>>,
    bounds: PoolBounds,
    metrics: PoolMetrics,
}

impl PoolHandle {
    pub(crate) fn new(
        mailbox: Mailbox<Pool>,
        shared: Arc<GateShared>,
        loads: Vec<Arc<AtomicUsize>>,
        bounds: PoolBounds,
        metrics: PoolMetrics,
    ) -> Self {
        Self { mailbox, shared, loads, bounds, metrics }
    }

    /// Waits for a permit in the bucket's queue, for at most its deadline.
    ///
    /// # Errors
    /// The queue is full, the deadline passed, or the actor gave no answer.
    pub async fn acquire(&self) -> Result<Permit, PoolRejection> {
        self.shared.count_asked();
        if let Some(permit) = stash::take(self.shared.number()) {
            self.metrics.wait.observe(0.0);
            return Ok(permit);
        }
        match self.mailbox.ask(Acquire).await.map_err(PoolRejection::Unavailable)? {
            Acquired::Granted(permit) => {
                self.metrics.wait.observe(0.0);
                Ok(permit)
            }
            Acquired::Queued(permit) => {
                let since = clock::now();
                let granted = tokio::time::timeout(self.bounds.queue_timeout, permit).await;
                self.metrics.wait.observe(clock::now().saturating_duration_since(since).as_secs_f64() * 1e3);
                match granted {
                    Ok(Ok(permit)) => Ok(permit),
                    Ok(Err(_)) => Err(PoolRejection::Unavailable(AskError::Crashed)),
                    Err(_) => {
                        self.metrics.queue_timeout.inc();
                        Err(PoolRejection::QueueTimeout { waited: self.bounds.queue_timeout })
                    }
                }
            }
            Acquired::Refused { queued } => {
                self.metrics.queue_full.inc();
                Err(PoolRejection::QueueFull { queued, in_flight: self.shared.gate.live() })
            }
        }
    }

    /// Ends a permit, or keeps it a moment for the next request on this thread. Dropping it is as good, but slower.
    pub fn finish(&self, permit: Permit, now: Instant) {
        if self.loads.len() == 1 {
            stash::keep(permit, self.bounds.concurrent_max, now);
        }
    }

    /// Asks for leave to try again (R5); none if the bucket's budget is spent, or its actor gave no answer.
    pub async fn retry(&self) -> Option<RetryTicket> {
        let ticket = self.mailbox.ask(Retry).await.ok()?;
        if ticket.is_none() {
            self.metrics.budget_exhausted.inc();
        }
        ticket
    }

    /// Moves a permit to another endpoint for a retry; with one endpoint, or without an answer, it stays.
    pub async fn repick(&self, permit: &mut Permit) {
        if self.loads.len() > 1
            && let Ok(ticket) = self.mailbox.ask(Repick { avoid: permit.endpoint() }).await
        {
            permit.move_to(ticket);
        }
    }

    /// An endpoint refused a connection.
    pub fn ail(&self, endpoint: EndpointId) {
        if self.loads.len() > 1 {
            self.mailbox.tell(Ail { endpoint });
        }
    }

    /// Permits out.
    pub fn in_flight(&self) -> usize {
        self.shared.gate.live()
    }

    /// What the status page shows.
    pub fn view(&self) -> PoolView {
        PoolView {
            in_flight: self.shared.gate.live(),
            concurrent_max: self.bounds.concurrent_max,
            queued: self.shared.gate.waiting(),
            queued_max: self.bounds.queued_max,
            endpoints: self.loads.iter().map(|load| load.load(Ordering::Relaxed)).collect(),
        }
    }

    /// Copies the depth into its gauge and returns it; called before a scrape is answered.
    pub(crate) fn observe(&self) -> usize {
        let waiting = self.shared.gate.waiting();
        self.metrics.depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        waiting
    }

    /// The actor's vital signs.
    pub fn vitals(&self) -> &Arc<Vitals> {
        self.mailbox.vitals()
    }

    /// Has the actor crash.
    pub fn crash(&self, crash: Crash) {
        self.mailbox.crash(crash);
    }

    /// Has the actor stand still; chaos only.
    pub fn stall(&self, stall: Stall) {
        self.mailbox.stall(stall);
    }
}
