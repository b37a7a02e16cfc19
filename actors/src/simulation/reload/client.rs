//! A simulated request of one configuration. It may be cancelled at every await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::breaker::{FailureCause, Outcome};
use crate::clock;
use crate::pool::{Permit, PoolHandle};
use crate::seeded_rng::SeededRng;
use crate::sessions::{ClientIdentity, SessionId, SigningKeyId};
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::ledger::Invariant;
use crate::simulation::reload::configuration::{Configuration, Named};
use crate::simulation::reload::ledger::ReloadLedger;
use crate::simulation::reload::planted_fault::ReloadFault;
use crate::simulation::tracked::Tracked;
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Deadline of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// State shared by all clients.
pub(super) struct ReloadShared {
    pub(super) ledger: RefCell<ReloadLedger>,
    pub(super) rng: RefCell<SeededRng>,
    /// The current configuration.
    pub(super) current: RefCell<Rc<Configuration>>,
    /// Whether the upstreams fail.
    pub(super) is_failing: Cell<bool>,
    pub(super) planted_fault: Option<ReloadFault>,
}

/// One client and its request.
pub(super) struct ReloadClient {
    pub(super) shared: Rc<ReloadShared>,
    pub(super) configuration: Rc<Configuration>,
    pub(super) waker: Arc<ClientWaker>,
    pub(super) thread: usize,
    pub(super) bucket: Named<BucketId>,
    pub(super) key: Option<Named<KeyId>>,
    pub(super) address: IpKey,
    pub(super) class: OperationClass,
}

impl ReloadClient {
    /// Runs the request from its head to its last byte.
    pub(super) async fn run(self) {
        let _ = self.request().await;
    }

    async fn request(&self) -> Option<()> {
        let Self { shared, configuration, bucket, .. } = self;
        let slot = configuration.actors.monitor.acquire_slot().ok()?;
        let slots = Rc::clone(&shared.ledger.borrow().slots);
        let _slot = Tracked::new(&slots, Some(slot), false);
        let asked = clock::now();
        let limiter = configuration.limiters.get(self.thread)?;
        let allowed = limiter.admit(bucket.1, self.class, self.address, asked).await.ok()?;
        if allowed.shadowed.is_empty() {
            let at = self.decided_at(asked);
            shared.ledger.borrow_mut().record_admitted(configuration.number, bucket.1, self.address, at);
        }
        if let Some(key) = &self.key {
            self.authenticate(key).await?;
        }
        self.call().await
    }

    /// Time at which an answer was decided; the request was sent at `asked`.
    fn decided_at(&self, asked: Instant) -> u64 {
        let ledger = self.shared.ledger.borrow();
        self.waker.decided_at(ledger.nanos(asked), ledger.nanos(clock::now()))
    }

    async fn authenticate(&self, (name, id): &Named<KeyId>) -> Option<()> {
        let Self { shared, configuration, .. } = self;
        let (sessions, number) = (&configuration.actors.sessions, configuration.number);
        let entry = format!("session-{name}-{}", shared.rng.borrow_mut().below(3));
        let session = SessionId::parse(&entry).ok()?;
        let is_barred = shared.ledger.borrow().is_barred(*id, number);
        let found = match sessions.session(&session).await {
            // A key that another configuration added is unknown to this one.
            Some(ClientIdentity::Key(found)) => Some(found).filter(|found| configuration.has_key(*found)),
            _ => None,
        };
        if let Some(found) = found {
            let by = (number, is_barred && found == *id);
            shared.ledger.borrow_mut().record_found((&entry, name), found, by);
        } else {
            shared.ledger.borrow_mut().record_insert(&entry, *id, number);
            sessions.insert_session(&session, ClientIdentity::Key(*id)).await;
        }
        self.derive_signing_key(name, *id).await;
        let bucket = Some(self.bucket.1);
        let asked = clock::now();
        configuration.actors.limiter.admit_key(*id, bucket, self.class).await.ok()?;
        let at = self.decided_at(asked);
        shared.ledger.borrow_mut().record_key_admitted(number, *id, at);
        Some(())
    }

    async fn derive_signing_key(&self, name: &str, id: KeyId) {
        let Self { shared, configuration, .. } = self;
        let (sessions, number) = (&configuration.actors.sessions, configuration.number);
        let (fingerprint, own) = (configuration.fingerprint(name), configuration.signing_key(name));
        let signing_key = SigningKeyId::new(id, fingerprint, "20250101", "r");
        let entry = format!("signing key {fingerprint:?}");
        let is_barred = shared.ledger.borrow().is_barred(id, number);
        if let Some(found) = sessions.signing_key(&signing_key).await {
            let mut ledger = shared.ledger.borrow_mut();
            ledger.record_found((&entry, name), id, (number, is_barred));
            ledger.check(Invariant::Identity, found == own, || format!("{name} finds another signing key"));
        } else {
            shared.ledger.borrow_mut().record_insert(&entry, id, number);
            sessions.insert_signing_key(&signing_key, own).await;
        }
    }

    /// The pool that grants the permit.
    fn pool(&self) -> PoolHandle {
        let current = self.shared.current.borrow();
        if self.shared.planted_fault == Some(ReloadFault::MixConfigurations)
            && current.has_bucket(self.bucket.1)
        {
            return current.actors.pool(self.bucket.1).clone();
        }
        self.configuration.actors.pool(self.bucket.1).clone()
    }

    /// The permit's endpoint and credential are those of the request's own configuration.
    fn check_permit(&self, pool: &PoolHandle, permit: &Permit) {
        let (name, id) = &self.bucket;
        let Some(upstream) = self.configuration.upstream(name) else { return };
        let endpoint = permit.endpoint().0;
        let own = upstream.endpoints.get(endpoint).map(|endpoint| &endpoint.authority);
        let of_pool = pool.endpoint_names().get(endpoint);
        let mut ledger = self.shared.ledger.borrow_mut();
        ledger.check(Invariant::Identity, own.is_some() && own == of_pool, || {
            format!(
                "{name}, {id:?}: endpoint {endpoint} is {own:?} for the request and {of_pool:?} for its pool"
            )
        });
        let (credential, count) = (permit.credential(), upstream.credentials_by_name.len());
        let is_own = credential.map_or(count == 0, |credential| credential.0 < count);
        ledger
            .check(Invariant::Identity, is_own, || format!("{name}: {credential:?} of {count} credentials"));
    }

    async fn call(&self) -> Option<()> {
        let Self { shared, configuration, bucket, .. } = self;
        let (breaker, pool) = (configuration.actors.breaker(bucket.1), self.pool());
        let circuit = breaker.circuit(self.class);
        breaker.check(circuit, clock::now()).ok()?;
        let permit = pool.acquire(Priority::Low, clock::now() + REQUEST_TIMEOUT).await.ok()?;
        self.check_permit(&pool, &permit);
        let permits = shared.ledger.borrow().permits(bucket.1);
        let permit = Tracked::new(&permits, Some(permit), false);
        let check = breaker.check(circuit, clock::now()).ok()?;
        let ticket = breaker.acquire(circuit, check).await.ok()?;
        let took = shared.rng.borrow_mut().choose([0, 1, 1, 5, 5, 20, 20, 50, 300, 60_000]);
        tokio::time::sleep(Duration::from_millis(took)).await;
        let is_failing = shared.is_failing.get();
        let outcome = if is_failing {
            Outcome::Failure { cause: FailureCause::Reset, retry_after: None }
        } else {
            Outcome::Success
        };
        ticket.report(outcome);
        permit.release(&pool);
        Some(())
    }
}
