//! The end of an open time by a connection: whoever makes connections asks here what waits for one, and tells that it was made.
//!
//! A circuit that opened because nobody could be connected to is open for a guess; that a bare connection succeeds is better
//! than any guess. So the gateway makes one every so often (`connect_probe_interval_ms`), and the first that succeeds
//! turns the circuit half-open; whether the upstream is well is still the trials' to say. An open time that an answer asked for, a
//! 5xx or its Retry-After, runs to its end: whoever answered can be connected to, and means it. So does the one after
//! an open time that a connection ended in vain.
//!
//! The actor rings as such a circuit opens, so that nobody looks while nothing is wrong. The answer to "what waits?" is read from
//! the publication, hence a crash of the actor loses no probe; and what was reached is named with its generation, which
//! makes a connection that comes late change nothing.
//!
//! Deliberately absent: the connections themselves, which are not this crate's business.

use std::time::Instant;

use crate::breaker::actor::ReportConnected;
use crate::breaker::circuit_id::{self, CircuitId};
use crate::breaker::decision::CircuitState;
use crate::breaker::handle::BreakerHandle;
use crate::mailbox::AskError;

/// A circuit that is open until its upstream can be connected to, or its time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbedCircuit {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
}

impl BreakerHandle {
    /// Waits until one of the bucket's circuits opens because its upstream cannot be connected to. It may be over by then.
    pub async fn wait_for_probe(&self) {
        self.shared.published.wait_for_probe().await;
    }

    /// The bucket's circuits whose open time a connection ends, if it is begun from now on.
    pub fn probed_circuits(&self, now: Instant) -> Vec<ProbedCircuit> {
        let circuits = circuit_id::labelled_circuits(self.settings.per_operation);
        let waits = |circuit: CircuitId| {
            let published = self.shared.published.snapshot(circuit);
            let is_open = published.state == CircuitState::Open && published.probed;
            let waits = is_open && published.open_until.is_some_and(|until| now < until);
            waits.then_some(ProbedCircuit { circuit, generation: published.generation })
        };
        circuits.filter_map(|(circuit, _)| waits(circuit)).collect()
    }

    /// A connection was made that began while this circuit waited for one.
    ///
    /// # Errors
    /// The actor gave no answer; the circuit waits on.
    pub async fn report_connected(&self, unreached: ProbedCircuit) -> Result<(), AskError> {
        let ProbedCircuit { circuit, generation } = unreached;
        self.shared.mailbox.ask(ReportConnected { circuit, generation }).await
    }
}
