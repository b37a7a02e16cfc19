//! Ends an open time early when a connection to the upstream succeeds.
//!
//! A circuit that opened because no connection could be made is open for a guessed time, and a successful connection
//! is better evidence. So the gateway makes one every `connect_probe_interval_ms`; the first that succeeds makes the
//! circuit half-open, and trials decide the rest. An open time that an answer led to (a 5xx or its Retry-After) is
//! not shortened, nor is the next open time, if the trials after a connection fail.
//!
//! The actor notifies the prober when such a circuit opens, so nothing is checked while all is well. The circuits to
//! probe are read from the publication, so a crash of the actor loses no probe. A report names the generation: a late
//! connection changes nothing. This module makes no connections; its callers do.

use std::time::Instant;

use crate::breaker::actor::ReportConnected;
use crate::breaker::circuit_id::CircuitId;
use crate::breaker::decision::CircuitState;
use crate::breaker::handle::BreakerHandle;
use crate::mailbox::AskError;

/// A circuit that is open until a connection succeeds or its open time elapses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbedCircuit {
    pub(crate) circuit: CircuitId,
    pub(crate) generation: u32,
}

impl BreakerHandle {
    /// Waits until a circuit of the bucket opens because no connection to its upstream could be made. The circuit may
    /// have changed again by then.
    pub async fn wait_for_probe(&self) {
        self.shared.published.wait_for_probe().await;
    }

    /// The bucket's circuits with an open time that a connection started from now on ends.
    pub fn probed_circuits(&self, now: Instant) -> Vec<ProbedCircuit> {
        let circuits = CircuitId::of_layout(self.settings.per_operation);
        let probed = |circuit: CircuitId| {
            let published = self.shared.published.snapshot(circuit);
            let is_open = published.state == CircuitState::Open && published.probed;
            let is_probed = is_open && published.open_until.is_some_and(|until| now < until);
            is_probed.then_some(ProbedCircuit { circuit, generation: published.generation })
        };
        circuits.filter_map(probed).collect()
    }

    /// Reports a connection that was started while this circuit was probed.
    ///
    /// The actor gave no reply; the circuit stays open.
    pub async fn report_connected(&self, probed: ProbedCircuit) -> Result<(), AskError> {
        let ProbedCircuit { circuit, generation } = probed;
        self.shared.mailbox.ask(ReportConnected { circuit, generation }).await
    }
}
