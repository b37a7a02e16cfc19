//! Waiting for a circuit: a request that can be repeated may wait instead of being refused, if the circuit may admit
//! it soon.
//!
//! Off unless `hold_ms` is set. A request that meets an open circuit, or a half-open one without a free trial, waits
//! up to `hold_ms`, first come first served. It waits only if the circuit can admit requests in that time: its open
//! time ends within it, or a connection may end it (`connect_probe.rs`). At most `max_held` requests wait for a
//! circuit; further ones are refused at once.
//!
//! The actor owns the queue and hands each ticket to its head, so no request overtakes another. Waiters have no slot
//! in the bucket's gate; they acquire it after the ticket. Waiters report an elapsed open time (`OpenTimeElapsed`),
//! because the actor has no timer. A crash that loses the state cancels all waiters and admits none. A reload keeps the
//! waiters and wakes them, because the open time may end earlier. No request waits for a circuit that is forced open. The
//! reasons are in `docs/design/circuit-breaker.md`.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;
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

/// How often a waiter checks a circuit that may admit requests at any moment.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The bucket's configuration of waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimits {
    pub(super) timeout: Duration,
    pub(super) waiters_max: usize,
}

/// A ticket, or a slot in the queue.
pub(crate) enum WaitReply {
    Admitted(BreakerTicket),
    Queued(oneshot::Receiver<BreakerTicket>, WaitSlot),
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// The circuit admitted the request.
    Released,
    /// No ticket came in time.
    TimedOut,
    /// The client disconnected, or a crash cancelled the wait.
    Cancelled,
}

impl WaitOutcome {
    pub(crate) const ALL: [Self; 3] = [Self::Released, Self::TimedOut, Self::Cancelled];

    /// The value in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "left",
        }
    }
}

/// One waiter of a circuit in the published count. The count rises when the actor builds the slot, and falls when it
/// is dropped.
pub(crate) struct WaitSlot {
    published: Arc<PublishedCircuits>,
    metrics: Arc<BreakerMetrics>,
    circuit: CircuitId,
    outcome: WaitOutcome,
}

impl WaitSlot {
    /// Counts a waiter. Only the actor calls this.
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

/// A queued request: the parts of its ticket, and where to send it.
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
    /// Whether a request with this refusal may wait. A queue that has filled up since refuses it nevertheless.
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

    /// Waits for a ticket, for at most `hold_ms` and not beyond `deadline`.
    ///
    /// # Errors
    /// Too many requests wait, the circuit did not admit the request in time, or the actor gave no reply.
    pub async fn wait_for_circuit(
        &self,
        circuit: CircuitId,
        deadline: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        let timeout = self.settings.wait.map_or(Duration::ZERO, |limits| limits.timeout);
        let deadline = deadline.min(clock::now() + timeout);
        let shared = Arc::clone(&self.shared);
        let answer = self.shared.mailbox.ask(WaitForCircuit { circuit, shared }).await;
        match answer.map_err(BreakerRejection::Unavailable)?? {
            WaitReply::Admitted(ticket) => Ok(ticket),
            WaitReply::Queued(ticket, slot) => self.wait_for_ticket(circuit, ticket, slot, deadline).await,
        }
    }

    async fn wait_for_ticket(
        &self,
        circuit: CircuitId,
        mut ticket: oneshot::Receiver<BreakerTicket>,
        mut slot: WaitSlot,
        deadline: Instant,
    ) -> Result<BreakerTicket, BreakerRejection> {
        while !self.is_forced_open(circuit) {
            let reconfigured = self.shared.published.reconfigured();
            let next = self.next_poll(circuit, clock::now()).min(deadline);
            match timeout_at(next.into(), ticket_or_change(&mut ticket, reconfigured)).await {
                Ok(Some(Ok(ticket))) => {
                    slot.outcome = WaitOutcome::Released;
                    return Ok(ticket);
                }
                Ok(Some(Err(_))) => return Err(BreakerRejection::Unavailable(AskError::Crashed)),
                Err(_) if clock::now() >= deadline => break,
                Ok(None) | Err(_) => {}
            }
        }
        slot.outcome = WaitOutcome::TimedOut;
        drop((ticket, slot));
        // The circuit may admit requests since this moment.
        let check = self.check(circuit, clock::now())?;
        self.acquire(circuit, check).await
    }

    fn is_forced_open(&self, circuit: CircuitId) -> bool {
        let published = self.shared.published.snapshot(circuit);
        published.state == CircuitState::Open && published.open_until.is_none()
    }

    /// When to check the circuit again. Notifies the actor if the open time has elapsed.
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

/// The ticket; none if the bucket has a new configuration first.
async fn ticket_or_change(
    ticket: &mut oneshot::Receiver<BreakerTicket>,
    reconfigured: Notified<'_>,
) -> Option<Result<BreakerTicket, oneshot::error::RecvError>> {
    let mut reconfigured = pin!(reconfigured);
    poll_fn(|cx| match Pin::new(&mut *ticket).poll(cx) {
        Poll::Ready(ticket) => Poll::Ready(Some(ticket)),
        Poll::Pending => reconfigured.as_mut().poll(cx).map(|()| None),
    })
    .await
}
