//! The pool's messages and the actor component that handles them.

use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use slog::{Logger, debug};
use tidegate_config::Priority;
use tokio::sync::oneshot;

use crate::actor_shell::{ActorShell, Component, MessageHandler};
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::events::ActorEvents;
use crate::mailbox::ActorMessage;
use crate::pool::credentials::credential::{CredentialId, CredentialTicket};
use crate::pool::decision::{AcquireDecision, AcquireRefusal, ReassignRefusal, WaitRejection};
use crate::pool::gate::ticket::{EndpointId, EndpointTicket, Permit};
use crate::pool::load_balancer::endpoint::{EndpointFailure, HealthCheckResult};
use crate::pool::queue::wake_timer::WakeTimer;
use crate::pool::queue_cursor::QueueCursor;
use crate::pool::retry_budget::RetryTicket;
use crate::pool::state::{PoolState, Waiter};

/// Result of a wait in the queue.
pub(crate) type GrantResult = Result<Permit, WaitRejection>;

impl Waiter for oneshot::Sender<GrantResult> {
    fn is_cancelled(&self) -> bool {
        self.is_closed()
    }

    fn try_grant(self, permit: Permit) -> Result<(), Permit> {
        match self.send(Ok(permit)) {
            Err(Ok(permit)) => Err(permit),
            _ => Ok(()),
        }
    }

    fn reject(self, rejection: WaitRejection) {
        // A waiter that was cancelled in the meantime needs no answer.
        drop(self.send(Err(rejection)));
    }
}

/// Asks for a permit to call the upstream.
pub(crate) struct Acquire {
    pub(crate) priority: Priority,
    /// The permit is of no use after this time.
    pub(crate) deadline: Instant,
}

/// Answer to [`Acquire`].
pub(crate) enum AcquireReply {
    Granted(Permit),
    Queued(oneshot::Receiver<GrantResult>),
    Refused(AcquireRefusal),
}

impl ActorMessage for Acquire {
    type Reply = AcquireReply;
    const NAME: &'static str = "pool.acquire";

    /// All requests of a bucket have the same fingerprint, so a quarantine would refuse every request of the bucket. A
    /// crash here depends on the state, not on the message.
    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// A permit was released while requests wait.
pub(crate) struct WakeQueue;

impl ActorMessage for WakeQueue {
    type Reply = ();
    const NAME: &'static str = "pool.nudge";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// Asks for another endpoint for a retry, or another credential, or both.
pub(crate) struct ReassignPermit {
    /// The endpoint that failed; none if the endpoint did not fail.
    pub(crate) avoid: Option<EndpointId>,
    /// The credential of the failed attempt, and whether the retry must use another one.
    pub(crate) credential: Option<(CredentialId, bool)>,
}

/// Replacements for a retry; an absent one is unchanged.
pub(crate) struct Reassigned {
    pub(crate) endpoint: Option<EndpointTicket>,
    pub(crate) credential: Option<CredentialTicket>,
}

impl ActorMessage for ReassignPermit {
    type Reply = Result<Reassigned, ReassignRefusal>;
    const NAME: &'static str = "pool.repick";

    fn message_fingerprint(&self) -> u64 {
        let endpoint = self.avoid.map_or(0, |endpoint| endpoint.0 as u64 + 1);
        let credential = self.credential.map_or(0, |(credential, _)| credential.0 as u64 + 1);
        endpoint << 32 | credential
    }
}

/// Asks for permission to retry.
pub(crate) struct AcquireRetry;

impl ActorMessage for AcquireRetry {
    type Reply = Option<RetryTicket>;
    const NAME: &'static str = "pool.retry";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// An endpoint failed a call.
pub(crate) struct ReportFailure {
    pub(crate) endpoint: EndpointId,
    pub(crate) failure: EndpointFailure,
}

impl ActorMessage for ReportFailure {
    type Reply = ();
    const NAME: &'static str = "pool.fail";

    fn message_fingerprint(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// A call succeeded in panic mode, that is while all endpoints are called because all failed.
pub(crate) struct ReportSuccess {
    pub(crate) endpoint: EndpointId,
}

impl ActorMessage for ReportSuccess {
    type Reply = ();
    const NAME: &'static str = "pool.succeed";

    fn message_fingerprint(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// Result of a health check of an endpoint.
pub(crate) struct ReportHealthCheck {
    pub(crate) endpoint: EndpointId,
    pub(crate) check: HealthCheckResult,
}

impl ActorMessage for ReportHealthCheck {
    type Reply = ();
    const NAME: &'static str = "pool.checked";

    fn message_fingerprint(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// A connection to an endpoint succeeded.
pub(crate) struct ReportConnected {
    pub(crate) endpoint: EndpointId,
    pub(crate) began: Instant,
}

impl ActorMessage for ReportConnected {
    type Reply = ();
    const NAME: &'static str = "pool.reach";

    fn message_fingerprint(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// The state of a running pool. Its waiters are other tasks.
pub(crate) type SharedPoolState = PoolState<oneshot::Sender<GrantResult>>;

/// Names of a pool, its endpoints and its credentials in logs and metrics.
pub(crate) struct PoolNames {
    pub(crate) bucket: String,
    pub(crate) endpoints: Vec<String>,
    pub(crate) credentials: Vec<String>,
}

/// The supervised component.
pub(crate) struct Pool {
    pub(super) state: SharedPoolState,
    pub(super) names: Arc<PoolNames>,
    pub(super) log: Logger,
    pub(super) wake_timer: WakeTimer,
    /// Permits of requests that wait for their clients.
    pub(super) client_waits: ClientWaits,
    pub(super) events: ActorEvents,
    pub(super) cursor: QueueCursor,
}

impl Pool {
    pub(crate) fn new(
        state: SharedPoolState,
        names: Arc<PoolNames>,
        (wake_timer, cursor): (WakeTimer, QueueCursor),
        log: Logger,
    ) -> Self {
        Self {
            state,
            names,
            log,
            wake_timer,
            client_waits: ClientWaits::default(),
            events: ActorEvents::default(),
            cursor,
        }
    }

    /// Moves the bucket's cursor if its period is over. Requests that wait, and a cursor above 0, need a wake-up then.
    pub(super) fn update_cursor(&mut self, now: Instant) {
        if self.cursor.is_idle() && self.state.is_queue_empty() {
            return;
        }
        let state = &self.state;
        let read = || state.queue_reading(now);
        if let Some(due) = self.cursor.update(read, now) {
            self.wake_timer.schedule(due, now);
        }
    }

    /// Reports ejections and returns.
    pub(crate) fn with_events(self, events: ActorEvents) -> Self {
        Self { events, ..self }
    }

    /// Adjusts the gate's width to the learnt limit.
    fn update_limit(&mut self, now: Instant) {
        if let Some(moved) = self.state.update_limit(now) {
            debug!(self.log, "concurrency limit moved"; "bucket" => &self.names.bucket, "from" => moved.from,
                "to" => moved.to, "cause" => moved.cause.as_str());
        }
    }
}

impl Component for Pool {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
        self.client_waits.rebuild();
        self.cursor.rebuild();
    }

    /// The crash may have lost a wake-up. Tickets that were dropped since then rely on it.
    fn restarted(&mut self, now: Instant) {
        self.apply_imports(now);
        self.state.on_wake(now);
        self.schedule_wake(now);
        self.update_cursor(now);
    }

    fn started(&mut self, _: &mut Context<ActorShell<Self>>) {
        let now = clock::now();
        self.state.enter(now);
        self.schedule_drain_expiry(now);
        self.update_cursor(now);
    }

    fn stopping(&mut self, _: Instant) {
        self.state.leave();
    }
}

impl MessageHandler<Acquire> for Pool {
    type Decision = AcquireDecision;

    fn decide(&self, message: &Acquire, now: Instant) -> AcquireDecision {
        self.state.decide(message.priority, message.deadline, now)
    }

    fn apply(&mut self, message: Acquire, decision: AcquireDecision, now: Instant) -> AcquireReply {
        let acquired = match decision {
            AcquireDecision::Grant if let Some(permit) = self.state.grant(now) => {
                self.log_events();
                AcquireReply::Granted(permit)
            }
            AcquireDecision::Grant | AcquireDecision::Queue => {
                let (waiter, permit) = oneshot::channel();
                self.state.enqueue(waiter, message.priority, now);
                self.schedule_wake(now);
                AcquireReply::Queued(permit)
            }
            AcquireDecision::Refuse(refusal) => AcquireReply::Refused(refusal),
        };
        self.update_limit(now);
        self.update_cursor(now);
        acquired
    }
}

impl MessageHandler<WakeQueue> for Pool {
    type Decision = ();

    fn decide(&self, _: &WakeQueue, _: Instant) {}

    fn apply(&mut self, _: WakeQueue, (): (), now: Instant) {
        self.end_expired_drains(now);
        self.state.on_wake(now);
        self.schedule_wake(now);
        self.update_limit(now);
        self.update_cursor(now);
    }
}

impl MessageHandler<ReassignPermit> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReassignPermit, _: Instant) {}

    fn apply(
        &mut self,
        message: ReassignPermit,
        (): (),
        now: Instant,
    ) -> Result<Reassigned, ReassignRefusal> {
        let ReassignPermit { avoid, credential } = message;
        let switched =
            credential.map(|(credential, must)| self.state.switch_credential(credential, must, now));
        let credential = switched.transpose()?.flatten();
        let picked = avoid.map(|avoid| self.state.pick_other_endpoint(avoid, now));
        self.log_events();
        let endpoint = picked.map(|picked| picked.ok_or(ReassignRefusal::Draining)).transpose()?;
        Ok(Reassigned { endpoint, credential })
    }
}

impl MessageHandler<AcquireRetry> for Pool {
    type Decision = bool;

    fn decide(&self, _: &AcquireRetry, now: Instant) -> bool {
        self.state.decide_retry(now)
    }

    fn apply(&mut self, _: AcquireRetry, has_room: bool, now: Instant) -> Option<RetryTicket> {
        if has_room { self.state.grant_retry(now) } else { None }
    }
}

impl MessageHandler<ReportFailure> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportFailure, _: Instant) {}

    fn apply(&mut self, message: ReportFailure, (): (), now: Instant) {
        self.state.load_balancer().record_failure(message.endpoint.0, &message.failure, now);
        self.log_events();
    }
}

impl MessageHandler<ReportSuccess> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportSuccess, _: Instant) {}

    fn apply(&mut self, message: ReportSuccess, (): (), now: Instant) {
        self.state.load_balancer().record_success(message.endpoint.0, now);
        self.log_events();
    }
}

impl MessageHandler<ReportHealthCheck> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportHealthCheck, _: Instant) {}

    fn apply(&mut self, message: ReportHealthCheck, (): (), now: Instant) {
        self.state.load_balancer().record_check(message.endpoint.0, &message.check, now);
        self.log_events();
    }
}

impl MessageHandler<ReportConnected> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportConnected, _: Instant) {}

    fn apply(&mut self, message: ReportConnected, (): (), now: Instant) {
        self.state.load_balancer().record_connected(message.endpoint.0, message.began, now);
        self.log_events();
    }
}
