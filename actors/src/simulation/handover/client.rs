//! A simulated request at one of the processes. It may be cancelled at every await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::{Config, Priority};

use crate::breaker::{FailureCause, Outcome};
use crate::clock;
use crate::ids::Ids;
use crate::seeded_rng::SeededRng;
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::handover::ledger::{Admission, HandoverLedger};
use crate::simulation::tracked::Tracked;
use crate::system::Actors;
use crate::types::{BucketId, IpKey, OperationClass};

/// Deadline of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// State shared by all clients.
pub(super) struct HandoverShared {
    pub(super) ledger: RefCell<HandoverLedger>,
    pub(super) rng: RefCell<SeededRng>,
    /// Whether the upstreams fail.
    pub(super) is_failing: Cell<bool>,
}

/// One process.
pub(super) struct Process {
    pub(super) number: usize,
    pub(super) actors: Actors,
    pub(super) config: Config,
    pub(super) ids: Ids,
}

/// One client and its request.
pub(super) struct HandoverClient {
    pub(super) shared: Rc<HandoverShared>,
    pub(super) process: Rc<Process>,
    pub(super) waker: Arc<ClientWaker>,
    pub(super) bucket: BucketId,
    pub(super) address: IpKey,
    pub(super) class: OperationClass,
}

impl HandoverClient {
    /// Runs the request from its head to its last byte.
    pub(super) async fn run(self) {
        let _ = self.request().await;
    }

    async fn request(&self) -> Option<()> {
        let Self { shared, process, bucket, address, class, .. } = self;
        let actors = &process.actors;
        let slot = actors.monitor.acquire_slot().ok()?;
        let slots = Rc::clone(&shared.ledger.borrow().slots);
        let _slot = Tracked::new(&slots, Some(slot), false);
        let asked = clock::now();
        actors.limiter.admit(*bucket, *class, *address, asked).await.ok()?;
        {
            let mut ledger = shared.ledger.borrow_mut();
            let at = self.waker.decided_at(ledger.nanos(asked), ledger.nanos(clock::now()));
            ledger.record(Admission { at, process: process.number, bucket: *bucket, client: *address });
        }
        let (breaker, pool) = (actors.breaker(*bucket), actors.pool(*bucket));
        let circuit = breaker.circuit(*class);
        breaker.check(circuit, clock::now()).ok()?;
        let permit = pool.acquire(Priority::Low, clock::now() + REQUEST_TIMEOUT).await.ok()?;
        let permits = shared.ledger.borrow_mut().permits(*bucket);
        let permit = Tracked::new(&permits, Some(permit), false);
        let ticket = breaker.acquire(circuit, breaker.check(circuit, clock::now()).ok()?).await.ok()?;
        let took = shared.rng.borrow_mut().choose([0, 1, 5, 20, 50, 300, 3_000]);
        tokio::time::sleep(Duration::from_millis(took)).await;
        ticket.report(if shared.is_failing.get() {
            Outcome::Failure { cause: FailureCause::Reset, retry_after: None }
        } else {
            Outcome::Success
        });
        permit.release(pool);
        Some(())
    }
}
