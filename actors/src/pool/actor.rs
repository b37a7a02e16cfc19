//! The pool's messages and its shell.

use std::time::Instant;

use slog::{Logger, debug, info, warn};
use tidegate_config::Priority;
use tokio::sync::oneshot;

use crate::actor_shell::{Component, MessageHandler};
use crate::client_waits::ClientWaits;
use crate::mailbox::ActorMessage;
use crate::pool::credential::{CredentialId, CredentialTicket};
use crate::pool::endpoint::{EjectionAction, EndpointFailure, HealthCheckResult};
use crate::pool::load_balancer::EndpointEvent;
use crate::pool::retry_budget::{RetryTicket, RetryWindow};
use crate::pool::state::{AcquireDecision, AcquireRefusal, NoCredential, PoolState, WaitRejection, Waiter};
use crate::pool::ticket::{EndpointId, EndpointTicket, Permit};
use crate::pool::wake_timer::WakeTimer;

/// What becomes of somebody who waits.
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

    fn reject(self, dismissal: WaitRejection) {
        // One that left in this moment needs no answer.
        drop(self.send(Err(dismissal)));
    }
}

/// May I call the upstream?
pub(crate) struct Acquire {
    pub(crate) priority: Priority,
    /// Later than this there is no use in it.
    pub(crate) deadline: Instant,
}

/// Yes, later, or no.
pub(crate) enum AcquireReply {
    Granted(Permit),
    Queued(oneshot::Receiver<GrantResult>),
    Refused(AcquireRefusal),
}

impl ActorMessage for Acquire {
    type Reply = AcquireReply;
    const NAME: &'static str = "pool.acquire";

    /// Every request of a bucket is alike here, so a likeness would condemn them all: it is the moment.
    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// A permit fell free while somebody waits.
pub(crate) struct WakeQueue;

impl ActorMessage for WakeQueue {
    type Reply = ();
    const NAME: &'static str = "pool.nudge";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// Another endpoint for a retry, or another credential, or both.
pub(crate) struct ReassignPermit {
    /// The endpoint that failed; none if it did not.
    pub(crate) avoid: Option<EndpointId>,
    /// The credential that it went on with, and whether it must be another.
    pub(crate) credential: Option<(CredentialId, bool)>,
}

/// What a retry goes on with, where that changes.
pub(crate) struct Reassigned {
    pub(crate) endpoint: Option<EndpointTicket>,
    pub(crate) credential: Option<CredentialTicket>,
}

impl ActorMessage for ReassignPermit {
    type Reply = Result<Reassigned, NoCredential>;
    const NAME: &'static str = "pool.repick";

    fn message_fingerprint(&self) -> u64 {
        let endpoint = self.avoid.map_or(0, |endpoint| endpoint.0 as u64 + 1);
        let credential = self.credential.map_or(0, |(credential, _)| credential.0 as u64 + 1);
        endpoint << 32 | credential
    }
}

/// May I try again?
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

/// A call succeeded while all endpoints were called because all had failed.
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

/// An endpoint was asked whether it is well.
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

/// An endpoint could be connected to.
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

/// What a pool and its endpoints are called in logs.
pub(crate) struct PoolNames {
    pub(crate) bucket: String,
    pub(crate) endpoints: Vec<String>,
    pub(crate) credentials: Vec<String>,
}

/// The component.
pub(crate) struct Pool {
    pub(super) state: PoolState<oneshot::Sender<GrantResult>>,
    pub(super) names: PoolNames,
    pub(super) log: Logger,
    pub(super) wake_timer: WakeTimer,
    /// Places that wait for their clients.
    pub(super) client_waits: ClientWaits,
}

impl Pool {
    pub(crate) fn new(
        state: PoolState<oneshot::Sender<GrantResult>>,
        names: PoolNames,
        alarm: WakeTimer,
        log: Logger,
    ) -> Self {
        Self { state, names, log, wake_timer: alarm, client_waits: ClientWaits::default() }
    }

    /// Looks whether the gate is to be wider or narrower.
    fn update_limit(&mut self, now: Instant) {
        if let Some(moved) = self.state.update_limit(now) {
            debug!(self.log, "concurrency limit moved"; "bucket" => &self.names.bucket, "from" => moved.from,
                "to" => moved.to, "cause" => moved.cause.as_str());
        }
    }

    /// Logs what the rotation did.
    pub(super) fn log_events(&mut self) {
        self.log_credential_events();
        let turns = self.state.load_balancer().drain_events();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |endpoint: usize| self.names.endpoints.get(endpoint).map_or("", String::as_str);
        for turn in turns {
            match turn {
                EndpointEvent::Excluded { endpoint, action: sentence, kind: strike, time } => {
                    let how = match sentence {
                        EjectionAction::BackOff => "endpoint rests",
                        EjectionAction::Eject => "endpoint ejected",
                    };
                    warn!(log, "{}", how; "bucket" => bucket, "endpoint" => name(endpoint),
                        "cause" => strike.as_str(), "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                EndpointEvent::FoundUnhealthy { endpoint } => {
                    warn!(log, "endpoint unhealthy"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                EndpointEvent::Returned { endpoint } => {
                    info!(log, "endpoint back"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                EndpointEvent::PanicEntered => {
                    warn!(log, "all endpoints fail, all are called"; "bucket" => bucket)
                }
                EndpointEvent::PanicEnded => info!(log, "an endpoint succeeds again"; "bucket" => bucket),
                EndpointEvent::FailedOver => {
                    warn!(log, "failed over to endpoints that stand by"; "bucket" => bucket)
                }
                EndpointEvent::FailedBack => {
                    info!(log, "returned from endpoints that stand by"; "bucket" => bucket)
                }
            }
        }
    }
}

impl Component for Pool {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
        self.client_waits.rebuild();
    }

    /// A nudge may have gone down with the crash; tickets dropped since then rely on it.
    fn restarted(&mut self, now: Instant) {
        self.state.on_wake(now);
        self.schedule_wake(now);
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
        acquired
    }
}

impl MessageHandler<WakeQueue> for Pool {
    type Decision = ();

    fn decide(&self, _: &WakeQueue, _: Instant) {}

    fn apply(&mut self, _: WakeQueue, (): (), now: Instant) {
        self.state.on_wake(now);
        self.schedule_wake(now);
        self.update_limit(now);
    }
}

impl MessageHandler<ReassignPermit> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReassignPermit, _: Instant) {}

    fn apply(&mut self, message: ReassignPermit, (): (), now: Instant) -> Result<Reassigned, NoCredential> {
        let ReassignPermit { avoid, credential } = message;
        let traded = credential.map(|(credential, must)| self.state.switch_credential(credential, must, now));
        let credential = traded.transpose()?.flatten();
        let endpoint = avoid.map(|avoid| self.state.pick_other_endpoint(avoid, now));
        self.log_events();
        Ok(Reassigned { endpoint, credential })
    }
}

impl MessageHandler<AcquireRetry> for Pool {
    type Decision = Option<RetryWindow>;

    fn decide(&self, _: &AcquireRetry, now: Instant) -> Option<RetryWindow> {
        self.state.decide_retry(now)
    }

    fn apply(&mut self, _: AcquireRetry, window: Option<RetryWindow>, _: Instant) -> Option<RetryTicket> {
        window.map(|window| self.state.grant_retry(window))
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
