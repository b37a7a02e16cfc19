//! Who looks whether an upstream can be connected to again, as `src/upstream/reachability.rs` does: asks the breaker what waits for a
//! connection, makes one, which takes its time, and tells pool and breaker if it succeeded, perhaps too late.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::EndpointId;
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::client::ScenarioShared;
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::scenario::{RunningClient, Scenario};
use crate::types::BucketId;

/// The longest that a connection takes.
const CONNECTING_MS_MAX: u64 = 200;

impl Scenario {
    /// Tries to connect to an endpoint, where a circuit waits for that.
    pub(super) fn start_connect_probe(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let chosen = self.rng.below(self.shared.pools.len());
        let bucket = BucketId::new(u16::try_from(chosen).unwrap_or(0));
        let endpoint = self.rng.below(self.shared.pools[chosen].view(self.now).endpoints.len());
        if self.shared.breakers[chosen].probed_circuits(self.now).is_empty() {
            return;
        }
        let takes = Duration::from_millis(self.rng.between(0, CONNECTING_MS_MAX));
        let connecting = run_connect_probe(Rc::clone(&self.shared), bucket, endpoint, takes);
        self.clients[at] = Some(RunningClient::new(connecting, Arc::clone(&ClientWaker::new()), 0));
        self.record_event("connection is tried", chosen);
    }
}

async fn run_connect_probe(shared: Rc<ScenarioShared>, bucket: BucketId, endpoint: usize, takes: Duration) {
    let breaker = &shared.breakers[bucket.index()];
    let began = crate::clock::now();
    let unreached = breaker.probed_circuits(began);
    if !shared.upstreams.borrow()[bucket.index()].accepts_connections(endpoint) {
        return;
    }
    tokio::time::sleep(takes).await;
    shared.pools[bucket.index()].report_connected(EndpointId(endpoint), began);
    for unreached in unreached {
        let circuit = CircuitRef { bucket, id: unreached.circuit };
        shared.ledger.borrow_mut().circuit(circuit).record_connected(unreached.generation);
        // without an answer the circuit waits on
        let _ = breaker.report_connected(unreached).await;
    }
}
