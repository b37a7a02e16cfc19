//! A request, as `src/http/proxy.rs` and `src/upstream/call.rs` send it through the actors: the same handles in the same order.
//!
//! Whatever awaits may be cancelled there. The request writes into the ledger what it was granted and when that was decided.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::breaker::{BreakerHandle, BreakerView, Cause, Outcome};
use crate::clock;
use crate::limiter::{Allowed, LimiterHandle, LimiterRejection};
use crate::mailbox::AskError;
use crate::pool::{EndpointId, Permit, PoolHandle, PoolRejection, Pressure, RetryTicket, Strike};
use crate::sessions::{Identity, SessionId};
use crate::simulation::circuits::Circuit;
use crate::simulation::dice::Dice;
use crate::simulation::episode::buckets;
use crate::simulation::held::Held;
use crate::simulation::ledger::{Counted, Invariant, Ledger};
use crate::simulation::mutant::Mutant;
use crate::simulation::signal::Signal;
use crate::simulation::upstream::{Course, Upstream};
use crate::system::Actors;
use crate::types::{BucketId, IpKey, KeyId, OperationClass};

/// Attempts of one request.
const ATTEMPTS_MAX: usize = 3;
/// All the time that a request has.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What every client sees.
pub(super) struct World {
    pub(super) actors: Actors,
    pub(super) pools: Vec<PoolHandle>,
    pub(super) breakers: Vec<BreakerHandle>,
    /// The limiter as each thread sees it.
    pub(super) limiters: Vec<LimiterHandle>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) dice: RefCell<Dice>,
    pub(super) upstreams: RefCell<Vec<Upstream>>,
    pub(super) mutant: Option<Mutant>,
}

impl World {
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        self.ledger.borrow().nanos(at)
    }

    /// All circuits and what they publish.
    pub(super) fn circuits(&self, now: Instant) -> impl Iterator<Item = (Circuit, BreakerView)> {
        buckets().zip(&self.breakers).flat_map(move |(bucket, breaker)| {
            let ids = OperationClass::ALL.map(|class| breaker.circuit(class));
            let circuits = ids.map(|id| Circuit { bucket, id });
            circuits.into_iter().zip(breaker.views(now))
        })
    }

    /// Every ask about a circuit goes to its own bucket's breaker.
    pub(super) fn breaker(&self, circuit: Circuit) -> &BreakerHandle {
        &self.breakers[circuit.bucket.index()]
    }

    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    /// Tells clients apart.
    pub(super) number: usize,
    /// Where its connection lives.
    pub(super) thread: usize,
    pub(super) bucket: BucketId,
    pub(super) address: IpKey,
    pub(super) key: KeyId,
    pub(super) proof: Proof,
    pub(super) class: OperationClass,
    pub(super) priority: Priority,
    /// Whether it waits for a circuit that refuses it.
    pub(super) is_patient: bool,
}

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    None,
    Good,
    Forged,
}

/// Why a request ended early; nobody needs to know more.
pub(super) struct Refused;

/// One client and its request.
pub(super) struct Client {
    pub(super) world: Rc<World>,
    pub(super) script: Script,
    pub(super) signal: Arc<Signal>,
    /// From when on a first byte is slow.
    pub(super) slow_from: Option<Duration>,
}

impl Client {
    /// The request, from its head to its last byte.
    pub(super) async fn run(self) {
        let _ = self.request().await;
    }

    async fn request(&self) -> Result<(), Refused> {
        let Self { world, script, .. } = self;
        let slot = world.actors.monitor.enter().map_err(|_| Refused)?;
        let slots = Rc::clone(&world.ledger.borrow().slots);
        let forgets = world.has(Mutant::ForgetsSlots) && world.dice.borrow_mut().once_in(20);
        let _slot = Held::new(&slots, Some(slot), forgets);
        self.pass_limits().await?;
        if script.proof != Proof::None {
            self.authenticate().await?;
        }
        let breaker = &world.breakers[script.bucket.index()];
        let circuit = Circuit { bucket: script.bucket, id: breaker.circuit(script.class) };
        let place = match breaker.peek(circuit.id, clock::now()) {
            Ok(_) => Some(self.wait_for_permit().await?),
            Err(refusal) if self.may_wait(circuit, &refusal) => None,
            Err(_) => return Err(Refused),
        };
        self.call(place, circuit).await
    }

    /// When what has just been answered was decided.
    pub(super) fn decided(&self, asked: Instant) -> u64 {
        self.signal.decided(self.world.nanos(asked), self.world.nanos(clock::now()))
    }

    async fn pass_limits(&self) -> Result<(), Refused> {
        let Self { world, script, .. } = self;
        let asked = clock::now();
        let allowed = match world.limiters[script.thread]
            .admit(script.bucket, script.class, script.address, asked)
            .await
        {
            Ok(allowed) => allowed,
            Err(LimiterRejection::Unavailable(AskError::Crashed)) if world.has(Mutant::CrashAdmits) => {
                Allowed::default()
            }
            Err(_) => return Err(Refused),
        };
        let decided = self.decided(asked);
        let of = (script.bucket, script.class);
        world.ledger.borrow_mut().admitted(of, script.address, allowed.shadowed, decided);
        Ok(())
    }

    async fn authenticate(&self) -> Result<(), Refused> {
        let Self { world, script, .. } = self;
        let (limiter, sessions) = (&world.actors.limiter, &world.actors.sessions);
        let bucket = Some(script.bucket);
        limiter.may_authenticate(script.address, bucket, clock::now()).map_err(|_| Refused)?;
        if script.proof == Proof::Forged {
            let asked = clock::now();
            let heard = limiter.failed_to_authenticate(script.address, bucket).await;
            if heard.is_ok_and(|allowed| allowed.shadowed.is_empty()) {
                let decided = self.decided(asked);
                world.ledger.borrow_mut().failure_heard(script.address, decided);
            }
            return Err(Refused);
        }
        let name = format!("session-{}-{}", script.key.index(), script.number % 8);
        let Ok(id) = SessionId::parse(&name) else { return Err(Refused) };
        match sessions.resolve(&id).await {
            Some(identity) => world.ledger.borrow_mut().check(
                Invariant::Cache,
                identity == Identity::Key(script.key),
                || format!("{name} is said to be {identity:?}"),
            ),
            None => sessions.remember(&id, Identity::Key(script.key)).await,
        }
        if let Ok(report) = sessions.inspect().await {
            let bound = report.capacity * 2;
            let within = report.len <= bound;
            let what = || format!("{} sessions and keys, at most {bound} are remembered", report.len);
            world.ledger.borrow_mut().check(Invariant::Cache, within, what);
        }
        let asked = clock::now();
        let allowed = limiter.admit_key(script.key, bucket, script.class).await.map_err(|_| Refused)?;
        let decided = self.decided(asked);
        if allowed.shadowed.is_empty() {
            let of = (script.bucket, script.class);
            world.ledger.borrow_mut().key_admitted(of, script.key, decided);
        }
        Ok(())
    }

    pub(super) async fn wait_for_permit(&self) -> Result<Held<Permit>, Refused> {
        let Self { world, script, .. } = self;
        let asked = clock::now();
        let deadline = asked + REQUEST_TIMEOUT;
        let mut acquiring = pin!(world.pools[script.bucket.index()].acquire(script.priority, deadline));
        let at_once = poll_fn(|cx| Poll::Ready(acquiring.as_mut().poll(cx))).await;
        let permit = match at_once {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                let place = world.ledger.borrow_mut().queued(script.bucket, script.number, script.priority);
                let mut waiting = Waiting { client: self, place, handed: false };
                let permit = acquiring.await;
                waiting.handed = permit.is_ok();
                permit
            }
        };
        match permit {
            Ok(permit) => {
                let (endpoint, decided) = (permit.endpoint().0, self.decided(asked));
                let permits =
                    world.ledger.borrow_mut().granted(script.bucket, endpoint, decided, clock::now());
                let forgets = world.has(Mutant::ForgetsPermits) && world.dice.borrow_mut().once_in(20);
                let mut permit = Held::new(&permits, Some(permit), forgets);
                self.goes_on_as(&mut permit, decided);
                Ok(permit)
            }
            Err(PoolRejection::Unavailable(AskError::Crashed)) if world.has(Mutant::CrashGrants) => {
                self.call_upstream(0).await;
                Err(Refused)
            }
            Err(_) => Err(Refused),
        }
    }

    async fn call(&self, mut place: Option<Held<Permit>>, circuit: Circuit) -> Result<(), Refused> {
        let Self { world, script, .. } = self;
        let pool = &world.pools[script.bucket.index()];
        let mut retrying: Option<Held<RetryTicket>> = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let (mut permit, mut passed) = self.enter(place.take(), circuit).await?;
            if world.has(Mutant::ReleasesEarly) {
                permit = Held::new(&Rc::default(), None, false);
            }
            let began = clock::now();
            let course = self.call_hedged(&mut permit, &mut passed, circuit).await;
            let ended = clock::now();
            if let Some(kind) = self.read_kind().filter(|_| course.outcome == Outcome::Success) {
                pool.measured(kind, ended.saturating_duration_since(began), ended);
            }
            passed.slow = self.slow_from.is_some_and(|slow| course.to_first_byte > slow);
            drop(retrying.take());
            let failed = matches!(course.outcome, Outcome::Failure { .. });
            let is_against = permit.thing.as_ref().is_some_and(|permit| self.judge(permit, &course));
            let may_go_on = attempt < ATTEMPTS_MAX;
            if may_go_on && (failed || is_against && self.trade(&mut permit).await) {
                retrying = self.may_retry().await;
            }
            passed.report(blame(pool, EndpointId(permit.endpoint()), &course, began));
            if retrying.is_none() || !self.comes_again(&mut permit).await {
                permit.finish(pool);
                break;
            }
            place = Some(permit);
        }
        Ok(())
    }

    /// Pauses before a retry; whether there is somewhere to go.
    async fn comes_again(&self, permit: &mut Held<Permit>) -> bool {
        let pause = Duration::from_millis(self.world.dice.borrow_mut().between(0, 100));
        tokio::time::sleep(pause).await;
        self.move_on(permit).await.is_ok()
    }

    /// Leave of the budget to try again.
    async fn may_retry(&self) -> Option<Held<RetryTicket>> {
        let Self { world, script, .. } = self;
        let asked = clock::now();
        let ticket = world.pools[script.bucket.index()].retry().await?;
        // The clock may have leapt between the answer and its arrival.
        let decided = self.decided(asked);
        world.ledger.borrow_mut().retry_allowed(script.bucket, decided);
        let retries = Rc::clone(&world.ledger.borrow().buckets[script.bucket.index()].retries);
        Some(Held::new(&retries, Some(ticket), false))
    }

    pub(super) async fn call_upstream(&self, endpoint: usize) -> Course {
        let Self { world, script, .. } = self;
        let calls = Rc::clone(&world.ledger.borrow().buckets[script.bucket.index()].calls);
        let _call = Counted::in_(&calls);
        let course = {
            let upstreams = world.upstreams.borrow();
            upstreams[script.bucket.index()].call(endpoint, &mut world.dice.borrow_mut())
        };
        tokio::time::sleep(course.to_first_byte).await;
        tokio::time::sleep(course.body).await;
        course
    }
}

/// Tells the pool how a call went; says what the circuit is to know of it.
fn blame(pool: &PoolHandle, endpoint: EndpointId, course: &Course, began: Instant) -> Outcome {
    match course.outcome {
        Outcome::Failure { cause: Cause::Timeout, .. } => pool.pressed(Pressure::Timeout, began),
        Outcome::Failure { cause: Cause::Status(_), .. } => pool.pressed(Pressure::Throttling, began),
        _ => {}
    }
    let strike = match course.outcome {
        Outcome::Neutral => return Outcome::Neutral,
        Outcome::Success => {
            pool.answered(endpoint, course.to_first_byte, began);
            pool.succeeded(endpoint);
            return Outcome::Success;
        }
        Outcome::Failure { cause: Cause::Connect, .. } => Strike::Unreachable,
        Outcome::Failure { cause: Cause::Timeout, .. } => Strike::Silent,
        Outcome::Failure { cause: Cause::Status(_), .. } => Strike::Status,
        Outcome::Failure { .. } => Strike::Broken,
    };
    if pool.failed(endpoint, strike, began, clock::now()) { course.outcome } else { Outcome::Neutral }
}

/// A place in the queue, as the ledger sees it.
struct Waiting<'a> {
    client: &'a Client,
    place: u64,
    handed: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Client { world, script, .. } = self.client;
        world.ledger.borrow_mut().left_queue(script.bucket, self.place, self.handed);
    }
}
