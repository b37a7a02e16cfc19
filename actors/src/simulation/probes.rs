//! Who looks whether an upstream can be connected to again, as `src/upstream/reachability.rs` does: asks the breaker what waits for a
//! connection, makes one, which takes its time, and tells pool and breaker if it succeeded, perhaps too late.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::EndpointId;
use crate::simulation::circuits::Circuit;
use crate::simulation::client::World;
use crate::simulation::episode::{Episode, Running};
use crate::simulation::signal::Signal;
use crate::types::BucketId;

/// The longest that a connection takes.
const CONNECTING_MS_MAX: u64 = 200;

impl Episode {
    /// Tries to connect to an endpoint, where a circuit waits for that.
    pub(super) fn probe(&mut self) {
        let Some(at) = self.clients.iter().position(Option::is_none) else { return };
        let chosen = self.dice.below(self.world.pools.len());
        let bucket = BucketId::new(u16::try_from(chosen).unwrap_or(0));
        let endpoint = self.dice.below(self.world.pools[chosen].view(self.now).endpoints.len());
        if self.world.breakers[chosen].awaiting(self.now).is_empty() {
            return;
        }
        let takes = Duration::from_millis(self.dice.between(0, CONNECTING_MS_MAX));
        let connecting = connect(Rc::clone(&self.world), bucket, endpoint, takes);
        self.clients[at] = Some(Running::new(connecting, Arc::clone(&Signal::new()), 0));
        self.note("connection is tried", chosen);
    }
}

async fn connect(world: Rc<World>, bucket: BucketId, endpoint: usize, takes: Duration) {
    let breaker = &world.breakers[bucket.index()];
    let began = crate::clock::now();
    let unreached = breaker.awaiting(began);
    if !world.upstreams.borrow()[bucket.index()].connects(endpoint) {
        return;
    }
    tokio::time::sleep(takes).await;
    world.pools[bucket.index()].reached(EndpointId(endpoint), began);
    for unreached in unreached {
        let circuit = Circuit { bucket, id: unreached.circuit };
        world.ledger.borrow_mut().circuit(circuit).connected(unreached.generation);
        // without an answer the circuit waits on
        let _ = breaker.reached(unreached).await;
    }
}
