//! The way to an attempt, as `src/upstream/hold.rs` has it: a place in the bucket's gate, and leave of the circuit, which a patient
//! request may wait for, without a place.
//!
//! Leave that was waited for is handed over in whatever turn lets it through, and perhaps unheard, behind the answer that it
//! was to wait. So its moment is known only to lie between that answer and now; the watch over circuits judges it by that.
//! Who waits is counted here, apart from the places, so that a place that nobody is in shows.

use std::future::poll_fn;
use std::rc::Rc;

use crate::breaker::{BreakerRejection, BreakerTicket, Clearance, Outcome};
use crate::clock;
use crate::monitor::Level;
use crate::pool::Permit;
use crate::simulation::circuits::Circuit;
use crate::simulation::client::{Client, REQUEST_TIMEOUT, Refused};
use crate::simulation::held::Held;
use crate::simulation::mutant::Mutant;

/// A ticket that ends as a trial in the ledger, too.
pub(super) struct Passed<'a> {
    client: &'a Client,
    circuit: Circuit,
    pub(super) slow: bool,
    ticket: Option<BreakerTicket>,
    trial: Option<u64>,
}

impl<'a> Passed<'a> {
    /// Leave that was given at some moment from the first of these to the last.
    pub(super) fn new(
        client: &'a Client,
        circuit: Circuit,
        ticket: BreakerTicket,
        decided: (u64, u64),
    ) -> Self {
        let mut ledger = client.world.ledger.borrow_mut();
        let trial = ticket.is_trial().and_then(|is_trial| ledger.entered(circuit, is_trial, decided));
        Self { client, circuit, slow: false, ticket: Some(ticket), trial }
    }

    pub(super) fn report(mut self, outcome: Outcome) {
        self.end(outcome == Outcome::Success && !self.slow);
        if let Some(mut ticket) = self.ticket.take() {
            if self.slow {
                ticket.drag();
            }
            ticket.report(outcome);
        }
    }

    fn end(&mut self, succeeded: bool) {
        if let Some(trial) = self.trial.take() {
            self.client.world.ledger.borrow_mut().circuit(self.circuit).ended(trial, succeeded);
        }
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Client {
    /// Whether this request may wait for the circuit that refused it.
    pub(super) fn may_wait(&self, circuit: Circuit, refusal: &BreakerRejection) -> bool {
        self.script.is_patient
            && self.world.breaker(circuit).may_hold(circuit.id, refusal)
            && self.world.actors.monitor.level() < Level::Critical
    }

    /// Takes what an attempt needs; who has no place waits for the circuit first.
    pub(super) async fn enter(
        &self,
        place: Option<Held<Permit>>,
        circuit: Circuit,
    ) -> Result<(Held<Permit>, Passed<'_>), Refused> {
        if let Some(permit) = place {
            match self.pass_circuit(circuit).await {
                Ok(passed) => return Ok((permit, passed)),
                Err(refusal) if self.may_wait(circuit, &refusal) => drop(permit),
                Err(_) => return Err(Refused),
            }
        }
        let passed = self.wait_for_circuit(circuit).await?;
        Ok((self.wait_for_permit().await?, passed))
    }

    /// Leave of the circuit, immediately before the call.
    async fn pass_circuit(&self, circuit: Circuit) -> Result<Passed<'_>, BreakerRejection> {
        let world = &self.world;
        let breaker = world.breaker(circuit);
        let asked = clock::now();
        let clearance = match breaker.peek(circuit.id, asked) {
            Err(BreakerRejection::Open { .. }) if world.has(Mutant::DeafToOpen) => {
                let view = world.circuits(asked).find(|(other, _)| *other == circuit);
                Clearance::Closed { generation: view.map_or(0, |(_, view)| view.generation) }
            }
            clearance => clearance?,
        };
        let ticket = breaker.permit(circuit.id, clearance).await?;
        let decided = self.decided(asked);
        Ok(Passed::new(self, circuit, ticket, (decided, decided)))
    }

    async fn wait_for_circuit(&self, circuit: Circuit) -> Result<Passed<'_>, Refused> {
        let world = &self.world;
        let asked = clock::now();
        let waiting = Rc::clone(&world.ledger.borrow_mut().circuit(circuit).waiting);
        let forgets = world.has(Mutant::ForgetsHeld) && world.dice.borrow_mut().once_in(2);
        let ticket = {
            let holding = Box::pin(world.breaker(circuit).hold(circuit.id, asked + REQUEST_TIMEOUT));
            let mut holding = Held::new(&waiting, Some(holding), forgets);
            let Some(hold) = &mut holding.thing else { return Err(Refused) };
            let ticket = poll_fn(|cx| hold.as_mut().poll(cx)).await;
            holding.forgets = false;
            ticket.map_err(|_| Refused)?
        };
        let decided = (self.decided(asked), world.nanos(clock::now()));
        let passed = Passed::new(self, circuit, ticket, decided);
        world.ledger.borrow_mut().circuit(circuit).held_total += 1;
        Ok(passed)
    }
}
