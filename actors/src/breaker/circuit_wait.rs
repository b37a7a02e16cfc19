//! Waiting for a circuit: a request that can be repeated need not be refused if the circuit will soon let it through.
//!
//! Off unless `hold_ms` is set. Then a request that meets an open circuit, or one whose trials are all taken, may wait for so long,
//! first come first served, if the circuit can open in that time: because its open time ends within it, or because a connection
//! may end it (`reach.rs`). At most `max_held` wait for a circuit; whoever comes then is refused at once, as all are by default.
//! That number also bounds what an upstream meets that comes back: they are let through as trials first, and the rest as the
//! circuit closes.
//!
//! The queue is the actor's. It hands leave over directly, so that nobody overtakes: each ticket is built for the head of the
//! queue and handed to it; a trial that comes back from one who left goes on to the next. What is taken last is otherwise the trial; those
//! who wait take their place in the bucket's gate after it, lest they keep others from theirs while they wait. A ticket is
//! given back by its drop, whichever of the two is refused.
//!
//! Time is looked at when somebody asks, hence those who wait ask: the one whose circuit's time is up says so (`Wake`). A crash that
//! throws the state away sends all of them away; none is let through by it.
//!
//! Deliberately absent: waiting where the operator keeps the circuit open, which ends when he says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::breaker::actor::{OpenTimeElapsed, WaitForCircuit};
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::circuit_queue::Waiter;
use crate::breaker::decision::CircuitState;
use crate::breaker::handle::{BreakerHandle, BreakerRejection};
use crate::breaker::metrics::BreakerMetrics;
use crate::breaker::published_circuits::PublishedCircuits;
use crate::breaker::ticket::{BreakerShared, BreakerTicket};
use crate::clock;
use crate::mailbox::AskError;

/// How often those who wait look at a circuit that could open at any moment.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What a bucket's configuration says of waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimits {
    pub(super) timeout: Duration,
    pub(super) waiters_max: usize,
}

/// Leave, or a place to wait for it.
pub(crate) enum WaitReply {
    Admitted(BreakerTicket),
    Queued(oneshot::Receiver<BreakerTicket>, WaitSlot),
}

/// How somebody's wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// The circuit let it through.
    Released,
    /// Nothing came in time.
    TimedOut,
    /// The client left, or a crash sent it away.
    Cancelled,
}

impl WaitOutcome {
    pub(crate) const ALL: [Self; 3] = [Self::Released, Self::TimedOut, Self::Cancelled];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "left",
        }
    }
}

/// One of a circuit's places to wait. The count rises in the actor, as it builds the place, and falls here.
pub(crate) struct WaitSlot {
    published: Arc<PublishedCircuits>,
    metrics: Arc<BreakerMetrics>,
    circuit: CircuitId,
    outcome: WaitOutcome,
}

impl WaitSlot {
    /// Only the actor calls this.
    pub(crate) fn acquire(
        published: Arc<PublishedCircuits>,
        metrics: Arc<BreakerMetrics>,
        circuit: CircuitId,
    ) -> Self {
        published.add_waiter(circuit);
        metrics.wait_started(circuit);
        Self { published, metrics, circuit, outcome: WaitOutcome::Cancelled }
    }
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        self.published.remove_waiter(self.circuit);
        self.metrics.wait_ended(self.circuit, self.outcome);
    }
}

/// Somebody in the queue, and what a ticket for it is made of.
pub(crate) struct CircuitWaiter {
    pub(crate) shared: Arc<BreakerShared>,
    pub(crate) ticket: oneshot::Sender<BreakerTicket>,
}

impl Waiter for CircuitWaiter {
    fn is_cancelled(&self) -> bool {
        self.ticket.is_closed()
    }
}

impl BreakerHandle {
    /// Whether a request may wait that was refused like this. A room that is full by now refuses it still.
    pub fn may_wait(&self, circuit: CircuitId, refusal: &BreakerRejection) -> bool {
        let Some(WaitLimits { timeout, waiters_max }) = self.settings.wait else { return false };
        let can_open = match *refusal {
            BreakerRejection::Open { retry_after, .. } => {
                retry_after <= timeout || self.shared.published.snapshot(circuit).probed
            }
            BreakerRejection::HalfOpenFull { .. } => true,
            BreakerRejection::Forced { .. } | BreakerRejection::Unavailable(_) => false,
        };
        can_open && self.shared.published.waiting(circuit) < waiters_max
    }

    /// Waits for leave, for as long as is configured, but not beyond `deadline`.
    ///
    /// # Errors
    /// Too many wait, the circuit did not let it through in time, or the actor gave no answer.
    pub async fn wait_for_circuit(
        &self,
        circuit: CircuitId,
        deadline: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let hold = self.settings.wait.map_or(Duration::ZERO, |patience| patience.timeout);
        let deadline = deadline.min(clock::now() + hold);
        let shared = Arc::clone(&self.shared);
        let answer = self.shared.mailbox.ask(WaitForCircuit { circuit, shared }).await;
        match answer.map_err(BreakerRejection::Unavailable)?? {
            WaitReply::Admitted(ticket) => Ok(ticket),
            WaitReply::Queued(ticket, place) => self.wait_for_ticket(circuit, ticket, place, deadline).await,
        }
    }

    async fn wait_for_ticket(
        &self,
        circuit: CircuitId,
        mut ticket: oneshot::Receiver<BreakerTicket>,
        mut place: WaitSlot,
        deadline: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        loop {
            let next = self.next_poll(circuit, clock::now()).min(deadline);
            match timeout_at(next.into(), &mut ticket).await {
                Ok(Ok(ticket)) => {
                    place.outcome = WaitOutcome::Released;
                    return Ok(ticket);
                }
                Ok(Err(_)) => return Err(BreakerRejection::Unavailable(AskError::Crashed)),
                Err(_) if clock::now() >= deadline => break,
                Err(_) => {}
            }
        }
        place.outcome = WaitOutcome::TimedOut;
        drop((ticket, place));
        // It may have opened in this very moment.
        let clearance = self.check(circuit, clock::now())?;
        self.acquire(circuit, clearance).await
    }

    /// When to look at the circuit again. If its time is up, the actor hears of it.
    fn next_poll(&self, circuit: CircuitId, now: Instant) -> Instant {
        let published = self.shared.published.snapshot(circuit);
        match published.open_until.filter(|_| published.state == CircuitState::Open) {
            Some(until) if now < until => until,
            Some(_) => {
                self.shared.mailbox.notify(OpenTimeElapsed { circuit });
                now + POLL_INTERVAL
            }
            None => now + POLL_INTERVAL,
        }
    }
}
