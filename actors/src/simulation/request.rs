//! Admission of an attempt, as `src/upstream/attempt/circuit_wait.rs` does it: a permit of the bucket's gate and a ticket of
//! the circuit. A replayable request may wait for the circuit, without a permit.
//!
//! A waiter gets its ticket in the step that admits it, possibly before it has polled the actor's answer to its request
//! to wait. So the time of the admission is only known to lie between that answer and now, and the circuit's observer
//! checks that span. Waiters are counted here, independently of the product, so that a leaked waiter is detected.

use std::future::poll_fn;
use std::rc::Rc;

use crate::breaker::{BreakerRejection, BreakerTicket, CircuitCheck, Outcome};
use crate::clock;
use crate::monitor::Action;
use crate::pool::Permit;
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::client::{Client, REQUEST_TIMEOUT, RequestEnded};
use crate::simulation::planted_fault::PlantedFault;
use crate::simulation::tracked::Tracked;

/// A ticket that also ends its trial in the ledger.
pub(super) struct TrackedTicket<'a> {
    client: &'a Client,
    circuit: CircuitRef,
    pub(super) is_slow: bool,
    ticket: Option<BreakerTicket>,
    trial: Option<u64>,
}

impl<'a> TrackedTicket<'a> {
    /// A ticket that was granted at some time of the span `decided`.
    pub(super) fn new(
        client: &'a Client,
        circuit: CircuitRef,
        ticket: BreakerTicket,
        decided: (u64, u64),
    ) -> Self {
        let mut ledger = client.shared.ledger.borrow_mut();
        let trial = ticket.is_trial().and_then(|is_trial| ledger.record_ticket(circuit, is_trial, decided));
        Self { client, circuit, is_slow: false, ticket: Some(ticket), trial }
    }

    pub(super) fn report(mut self, outcome: Outcome) {
        self.record_trial_end(outcome == Outcome::Success && !self.is_slow);
        if let Some(mut ticket) = self.ticket.take() {
            if self.is_slow {
                ticket.mark_slow();
            }
            ticket.report(outcome);
        }
    }

    fn record_trial_end(&mut self, succeeded: bool) {
        if let Some(trial) = self.trial.take() {
            self.client.shared.ledger.borrow_mut().circuit(self.circuit).record_trial_end(trial, succeeded);
        }
    }
}

impl Drop for TrackedTicket<'_> {
    fn drop(&mut self) {
        self.record_trial_end(false);
    }
}

impl Client {
    /// Whether this request may wait for the circuit that refused it.
    pub(super) fn may_wait(&self, circuit: CircuitRef, refusal: &BreakerRejection) -> bool {
        self.spec.is_replayable
            && self.shared.breaker(circuit).may_wait(circuit.id, refusal)
            && !self.shared.actors.monitor.actions().applies(Action::Retries)
    }

    /// Acquires what an attempt needs. A request without a permit waits for the circuit first.
    pub(super) async fn acquire_attempt(
        &self,
        permit: Option<Tracked<Permit>>,
        circuit: CircuitRef,
    ) -> Result<(Tracked<Permit>, TrackedTicket<'_>), RequestEnded> {
        if let Some(permit) = permit {
            match self.acquire_circuit(circuit).await {
                Ok(ticket) => return Ok((permit, ticket)),
                Err(refusal) if self.may_wait(circuit, &refusal) => drop(permit),
                Err(_) => return Err(RequestEnded),
            }
        }
        let ticket = self.wait_for_circuit(circuit).await?;
        Ok((self.wait_for_permit().await?, ticket))
    }

    /// The circuit's ticket, immediately before the call.
    async fn acquire_circuit(&self, circuit: CircuitRef) -> Result<TrackedTicket<'_>, BreakerRejection> {
        let shared = &self.shared;
        let breaker = shared.breaker(circuit);
        let asked = clock::now();
        let check = match breaker.check(circuit.id, asked) {
            Err(BreakerRejection::Open { .. }) if shared.has_fault(PlantedFault::IgnoreOpenCircuit) => {
                let view = shared.circuits(asked).find(|(other, _)| *other == circuit);
                CircuitCheck::Closed { generation: view.map_or(0, |(_, view)| view.generation) }
            }
            check => check?,
        };
        let ticket = breaker.acquire(circuit.id, check).await?;
        let decided = self.decided_at(asked);
        Ok(TrackedTicket::new(self, circuit, ticket, (decided, decided)))
    }

    async fn wait_for_circuit(&self, circuit: CircuitRef) -> Result<TrackedTicket<'_>, RequestEnded> {
        let shared = &self.shared;
        let asked = clock::now();
        let waiting = Rc::clone(&shared.ledger.borrow_mut().circuit(circuit).waiting);
        let is_leaked = shared.has_fault(PlantedFault::LeakCircuitWaits) && shared.rng.borrow_mut().one_in(2);
        let ticket = {
            let wait =
                Box::pin(shared.breaker(circuit).wait_for_circuit(circuit.id, asked + REQUEST_TIMEOUT));
            let mut wait = Tracked::new(&waiting, Some(wait), is_leaked);
            let Some(future) = &mut wait.value else { return Err(RequestEnded) };
            let ticket = poll_fn(|cx| future.as_mut().poll(cx)).await;
            wait.is_leaked = false;
            ticket.map_err(|_| RequestEnded)?
        };
        let decided = (self.decided_at(asked), shared.nanos(clock::now()));
        let ticket = TrackedTicket::new(self, circuit, ticket, decided);
        shared.ledger.borrow_mut().circuit(circuit).waited_total += 1;
        Ok(ticket)
    }
}
