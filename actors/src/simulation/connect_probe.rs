//! Probes whether an upstream accepts connections again, as `src/upstream/health/reachability.rs` does: gets the circuits that
//! wait for a connection, makes one, which takes time, and reports a success to pool and breaker, perhaps too late.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::EndpointId;
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::client::ScenarioShared;
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::running_client::RunningClient;
use crate::simulation::scenario::Scenario;
use crate::types::BucketId;

/// Longest time of a connection attempt, in ms.
const CONNECTING_MS_MAX: u64 = 200;

impl Scenario {
    /// Starts a connection attempt to an endpoint of a bucket with a circuit that waits for one.
    pub(super) fn start_connect_probe(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let chosen = self.rng.below(self.shared.pools.len());
        let bucket = BucketId::new(u32::try_from(chosen).unwrap_or(0));
        let endpoint = self.rng.below(self.shared.pools[chosen].view(self.now).endpoints.len());
        if self.shared.breakers[chosen].probed_circuits(self.now).is_empty() {
            return;
        }
        let takes = Duration::from_millis(self.rng.between(0, CONNECTING_MS_MAX));
        let connecting = run_connect_probe(Rc::clone(&self.shared), bucket, endpoint, takes);
        self.clients[at] = Some(RunningClient::new(connecting, Arc::clone(&ClientWaker::new()), 0));
        self.record_event("connection attempt starts", chosen);
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
        // Without an answer the circuit keeps waiting.
        let _ = breaker.report_connected(unreached).await;
    }
}
