//! A simulated request. It uses the actors' handles in the order of `src/http/proxy.rs` and `src/upstream/attempt/call.rs`.
//!
//! It may be cancelled at every await. It records in the ledger what it was granted and when that was decided.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::breaker::{BreakerHandle, BreakerView, FailureCause, Outcome};
use crate::clock;
use crate::limiter::{Allowed, LimiterHandle, LimiterRejection};
use crate::mailbox::AskError;
use crate::pool::{EndpointId, FailureKind, OverloadSignal, Permit, PoolHandle, PoolRejection, RetryTicket};
use crate::seeded_rng::SeededRng;
use crate::sessions::{ClientIdentity, SessionId};
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::client_waker::ClientWaker;
use crate::simulation::ledger::{CountGuard, Invariant, Ledger};
use crate::simulation::planted_fault::PlantedFault;
use crate::simulation::scenario::bucket_ids;
use crate::simulation::tracked::Tracked;
use crate::simulation::upstream::{CallPlan, Upstream};
use crate::system::Actors;
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Most attempts of one request.
const ATTEMPTS_MAX: usize = 3;
/// Deadline of a request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// State shared by all clients.
pub(super) struct ScenarioShared {
    pub(super) actors: Actors,
    pub(super) pools: Vec<PoolHandle>,
    pub(super) breakers: Vec<BreakerHandle>,
    /// The limiter's handles, one per thread.
    pub(super) limiters: Vec<LimiterHandle>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) rng: RefCell<SeededRng>,
    pub(super) upstreams: RefCell<Vec<Upstream>>,
    pub(super) planted_fault: Option<PlantedFault>,
}

impl ScenarioShared {
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        self.ledger.borrow().nanos(at)
    }

    /// All circuits with their published state.
    pub(super) fn circuits(&self, now: Instant) -> impl Iterator<Item = (CircuitRef, BreakerView)> {
        bucket_ids().zip(&self.breakers).flat_map(move |(bucket, breaker)| {
            let ids = OperationClass::ALL.map(|class| breaker.circuit(class));
            let circuits = ids.map(|id| CircuitRef { bucket, id });
            circuits.into_iter().zip(breaker.views(now))
        })
    }

    /// The breaker of the circuit's bucket.
    pub(super) fn breaker(&self, circuit: CircuitRef) -> &BreakerHandle {
        &self.breakers[circuit.bucket.index()]
    }

    pub(super) fn has_fault(&self, fault: PlantedFault) -> bool {
        self.planted_fault == Some(fault)
    }
}

/// Identity and request of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientSpec {
    /// Identifies the client.
    pub(super) number: usize,
    /// Thread of its connection.
    pub(super) thread: usize,
    pub(super) bucket: BucketId,
    pub(super) address: IpKey,
    pub(super) key: KeyId,
    pub(super) credential: ClientCredential,
    pub(super) class: OperationClass,
    pub(super) priority: Priority,
    /// Whether the request may wait for a circuit that refuses it.
    pub(super) is_replayable: bool,
}

/// How a client authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCredential {
    None,
    Valid,
    Forged,
}

/// The request ended early; the cause does not matter.
pub(super) struct RequestEnded;

/// One client and its request.
pub(super) struct Client {
    pub(super) shared: Rc<ScenarioShared>,
    pub(super) spec: ClientSpec,
    pub(super) waker: Arc<ClientWaker>,
    /// Time to first byte above which a call is slow.
    pub(super) slow_from: Option<Duration>,
}

impl Client {
    /// Runs the request from its head to its last byte.
    pub(super) async fn run(self) {
        let _ = self.request().await;
    }

    async fn request(&self) -> Result<(), RequestEnded> {
        let Self { shared, spec, .. } = self;
        let slot = shared.actors.monitor.acquire_slot().map_err(|_| RequestEnded)?;
        let slots = Rc::clone(&shared.ledger.borrow().slots);
        let is_leaked = shared.has_fault(PlantedFault::LeakSlots) && shared.rng.borrow_mut().one_in(20);
        let _slot = Tracked::new(&slots, Some(slot), is_leaked);
        self.charge_limits().await?;
        if spec.credential != ClientCredential::None {
            self.authenticate().await?;
        }
        let breaker = &shared.breakers[spec.bucket.index()];
        let circuit = CircuitRef { bucket: spec.bucket, id: breaker.circuit(spec.class) };
        let permit = match breaker.check(circuit.id, clock::now()) {
            Ok(_) => Some(self.wait_for_permit().await?),
            Err(refusal) if self.may_wait(circuit, &refusal) => None,
            Err(_) => return Err(RequestEnded),
        };
        self.run_attempts(permit, circuit).await
    }

    /// Time at which an answer was decided; the request was sent at `asked`.
    pub(super) fn decided_at(&self, asked: Instant) -> u64 {
        self.waker.decided_at(self.shared.nanos(asked), self.shared.nanos(clock::now()))
    }

    async fn charge_limits(&self) -> Result<(), RequestEnded> {
        let Self { shared, spec, .. } = self;
        let asked = clock::now();
        let allowed =
            match shared.limiters[spec.thread].admit(spec.bucket, spec.class, spec.address, asked).await {
                Ok(allowed) => allowed,
                Err(LimiterRejection::Unavailable(AskError::Crashed))
                    if shared.has_fault(PlantedFault::AdmitOnCrash) =>
                {
                    Allowed::default()
                }
                Err(_) => return Err(RequestEnded),
            };
        let decided = self.decided_at(asked);
        let of = (spec.bucket, spec.class);
        shared.ledger.borrow_mut().record_admitted(of, spec.address, allowed.shadowed_scopes(), decided);
        Ok(())
    }

    async fn authenticate(&self) -> Result<(), RequestEnded> {
        let Self { shared, spec, .. } = self;
        let (limiter, sessions) = (&shared.actors.limiter, &shared.actors.sessions);
        let bucket = Some(spec.bucket);
        limiter.check_auth_lockout(spec.address, bucket, clock::now()).map_err(|_| RequestEnded)?;
        if spec.credential == ClientCredential::Forged {
            let asked = clock::now();
            let charged = limiter.charge_auth_failure(spec.address, bucket).await;
            if charged.is_ok_and(|allowed| allowed.shadowed.is_empty()) {
                let decided = self.decided_at(asked);
                shared.ledger.borrow_mut().record_auth_failure(spec.address, decided);
            }
            return Err(RequestEnded);
        }
        let name = format!("session-{}-{}", spec.key.index(), spec.number % 8);
        let Ok(id) = SessionId::parse(&name) else { return Err(RequestEnded) };
        match sessions.session(&id).await {
            Some(identity) => shared.ledger.borrow_mut().check(
                Invariant::Cache,
                identity == ClientIdentity::Key(spec.key),
                || format!("{name} belongs to {identity:?}"),
            ),
            None => sessions.insert_session(&id, ClientIdentity::Key(spec.key)).await,
        }
        if let Ok(report) = sessions.inspect().await {
            let bound = report.capacity * 2;
            let within = report.len <= bound;
            let what = || format!("{} sessions and keys, {bound} allowed", report.len);
            shared.ledger.borrow_mut().check(Invariant::Cache, within, what);
        }
        let asked = clock::now();
        let allowed = limiter.admit_key(spec.key, bucket, spec.class).await.map_err(|_| RequestEnded)?;
        let decided = self.decided_at(asked);
        if allowed.shadowed.is_empty() {
            let of = (spec.bucket, spec.class);
            shared.ledger.borrow_mut().record_key_admitted(of, spec.key, decided);
        }
        Ok(())
    }

    pub(super) async fn wait_for_permit(&self) -> Result<Tracked<Permit>, RequestEnded> {
        let Self { shared, spec, .. } = self;
        let asked = clock::now();
        let deadline = asked + REQUEST_TIMEOUT;
        let mut acquiring = pin!(shared.pools[spec.bucket.index()].acquire(spec.priority, deadline));
        let at_once = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
        let permit = match at_once {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                let position =
                    shared.ledger.borrow_mut().record_queued(spec.bucket, spec.number, spec.priority);
                let mut waiting = QueuedClient { client: self, position, is_granted: false };
                let permit = acquiring.await;
                waiting.is_granted = permit.is_ok();
                permit
            }
        };
        match permit {
            Ok(permit) => {
                let (endpoint, decided) = (permit.endpoint().0, self.decided_at(asked));
                let permits =
                    shared.ledger.borrow_mut().record_grant(spec.bucket, endpoint, decided, clock::now());
                let is_leaked =
                    shared.has_fault(PlantedFault::LeakPermits) && shared.rng.borrow_mut().one_in(20);
                let mut permit = Tracked::new(&permits, Some(permit), is_leaked);
                self.track_credential(&mut permit, decided);
                Ok(permit)
            }
            Err(PoolRejection::Unavailable(AskError::Crashed))
                if shared.has_fault(PlantedFault::GrantOnCrash) =>
            {
                self.call_upstream(0).await;
                Err(RequestEnded)
            }
            Err(_) => Err(RequestEnded),
        }
    }

    async fn run_attempts(
        &self,
        mut permit_kept: Option<Tracked<Permit>>,
        circuit: CircuitRef,
    ) -> Result<(), RequestEnded> {
        let Self { shared, spec, .. } = self;
        let pool = &shared.pools[spec.bucket.index()];
        let mut retrying: Option<Tracked<RetryTicket>> = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let (mut permit, mut ticket) = self.acquire_attempt(permit_kept.take(), circuit).await?;
            if shared.has_fault(PlantedFault::ReleaseEarly) {
                permit = Tracked::new(&Rc::default(), None, false);
            }
            let began = clock::now();
            let call = self.call_hedged(&mut permit, &mut ticket, circuit).await;
            let ended = clock::now();
            if let Some(kind) = self.read_kind().filter(|_| call.outcome == Outcome::Success) {
                pool.record_read_latency(kind, ended.saturating_duration_since(began), ended);
            }
            ticket.is_slow = self.slow_from.is_some_and(|slow| call.to_first_byte > slow);
            drop(retrying.take());
            let failed = matches!(call.outcome, Outcome::Failure { .. });
            let is_credential_error =
                permit.value.as_ref().is_some_and(|permit| self.report_credential(permit, &call));
            let may_retry = attempt < ATTEMPTS_MAX;
            if may_retry && (failed || is_credential_error && self.switch_credential(&mut permit).await) {
                retrying = self.acquire_retry().await;
            }
            ticket.report(attribute(pool, EndpointId(permit.endpoint()), &call, began));
            if retrying.is_none() || !self.prepare_retry(&mut permit).await {
                permit.release(pool);
                break;
            }
            permit_kept = Some(permit);
        }
        Ok(())
    }

    /// Pauses before a retry. Returns whether the retry has an endpoint and a credential.
    async fn prepare_retry(&self, permit: &mut Tracked<Permit>) -> bool {
        let pause = Duration::from_millis(self.shared.rng.borrow_mut().between(0, 100));
        tokio::time::sleep(pause).await;
        self.reassign(permit).await.is_ok()
    }

    /// Asks the retry budget.
    async fn acquire_retry(&self) -> Option<Tracked<RetryTicket>> {
        let Self { shared, spec, .. } = self;
        let asked = clock::now();
        let ticket = shared.pools[spec.bucket.index()].acquire_retry().await?;
        // The clock may have advanced between the decision and its arrival.
        let decided = self.decided_at(asked);
        shared.ledger.borrow_mut().record_retry(spec.bucket, decided);
        let retries = Rc::clone(&shared.ledger.borrow().buckets[spec.bucket.index()].retries);
        Some(Tracked::new(&retries, Some(ticket), false))
    }

    pub(super) async fn call_upstream(&self, endpoint: usize) -> CallPlan {
        let Self { shared, spec, .. } = self;
        let calls = Rc::clone(&shared.ledger.borrow().buckets[spec.bucket.index()].calls);
        let _call = CountGuard::increment(&calls);
        let call = {
            let upstreams = shared.upstreams.borrow();
            upstreams[spec.bucket.index()].plan_call(endpoint, &mut shared.rng.borrow_mut())
        };
        tokio::time::sleep(call.to_first_byte).await;
        tokio::time::sleep(call.body).await;
        call
    }
}

/// Reports a call to the pool; returns the outcome for the circuit.
fn attribute(pool: &PoolHandle, endpoint: EndpointId, call: &CallPlan, began: Instant) -> Outcome {
    match call.outcome {
        Outcome::Failure { cause: FailureCause::Timeout, .. } => {
            pool.report_overload(OverloadSignal::Timeout, began)
        }
        Outcome::Failure { cause: FailureCause::Status(_), .. } => {
            pool.report_overload(OverloadSignal::Throttling, began)
        }
        _ => {}
    }
    let kind = match call.outcome {
        Outcome::Neutral => return Outcome::Neutral,
        Outcome::Success => {
            pool.record_response(endpoint, call.to_first_byte, began);
            pool.report_success(endpoint);
            return Outcome::Success;
        }
        Outcome::Failure { cause: FailureCause::Connect, .. } => FailureKind::Unreachable,
        Outcome::Failure { cause: FailureCause::Timeout, .. } => FailureKind::Timeout,
        Outcome::Failure { cause: FailureCause::Status(_), .. } => FailureKind::Status,
        Outcome::Failure { .. } => FailureKind::Broken,
    };
    if pool.report_failure(endpoint, kind, began, clock::now()) { call.outcome } else { Outcome::Neutral }
}

/// A place in the queue, as recorded in the ledger.
struct QueuedClient<'a> {
    client: &'a Client,
    position: u64,
    is_granted: bool,
}

impl Drop for QueuedClient<'_> {
    fn drop(&mut self) {
        let Client { shared, spec, .. } = self.client;
        shared.ledger.borrow_mut().record_dequeued(spec.bucket, self.position, self.is_granted);
    }
}
