//! The pool's messages and its shell.

use std::time::Instant;

use slog::{Logger, debug, info, warn};
use tidegate_config::Priority;
use tokio::sync::oneshot;

use crate::client_waits::ClientWaits;
use crate::host::{Component, Serve};
use crate::mailbox::Request;
use crate::pool::alarm::Alarm;
use crate::pool::budget::{RetryTicket, Window};
use crate::pool::credential::{CredentialId, CredentialTicket};
use crate::pool::endpoint::{Check, Failure, Sentence};
use crate::pool::rotation::Turn;
use crate::pool::state::{Decision, Dismissal, NoCredential, PoolState, Refusal, Waiter};
use crate::pool::ticket::{EndpointId, EndpointTicket, Permit};

/// What becomes of somebody who waits.
pub(crate) type Handed = Result<Permit, Dismissal>;

impl Waiter for oneshot::Sender<Handed> {
    fn gone(&self) -> bool {
        self.is_closed()
    }

    fn hand(self, permit: Permit) -> Result<(), Permit> {
        match self.send(Ok(permit)) {
            Err(Ok(permit)) => Err(permit),
            _ => Ok(()),
        }
    }

    fn dismiss(self, dismissal: Dismissal) {
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
pub(crate) enum Acquired {
    Granted(Permit),
    Queued(oneshot::Receiver<Handed>),
    Refused(Refusal),
}

impl Request for Acquire {
    type Reply = Acquired;
    const NAME: &'static str = "pool.acquire";

    /// Every request of a bucket is alike here, so a likeness would condemn them all: it is the moment.
    fn likeness(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// A permit fell free while somebody waits.
pub(crate) struct Nudge;

impl Request for Nudge {
    type Reply = ();
    const NAME: &'static str = "pool.nudge";

    fn likeness(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// Another endpoint for a retry, or another credential, or both.
pub(crate) struct Repick {
    /// The endpoint that failed; none if it did not.
    pub(crate) avoid: Option<EndpointId>,
    /// The credential that it went on with, and whether it must be another.
    pub(crate) credential: Option<(CredentialId, bool)>,
}

/// What a retry goes on with, where that changes.
pub(crate) struct Repicked {
    pub(crate) endpoint: Option<EndpointTicket>,
    pub(crate) credential: Option<CredentialTicket>,
}

impl Request for Repick {
    type Reply = Result<Repicked, NoCredential>;
    const NAME: &'static str = "pool.repick";

    fn likeness(&self) -> u64 {
        let endpoint = self.avoid.map_or(0, |endpoint| endpoint.0 as u64 + 1);
        let credential = self.credential.map_or(0, |(credential, _)| credential.0 as u64 + 1);
        endpoint << 32 | credential
    }
}

/// May I try again?
pub(crate) struct Retry;

impl Request for Retry {
    type Reply = Option<RetryTicket>;
    const NAME: &'static str = "pool.retry";

    fn likeness(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

/// An endpoint failed a call.
pub(crate) struct Fail {
    pub(crate) endpoint: EndpointId,
    pub(crate) failure: Failure,
}

impl Request for Fail {
    type Reply = ();
    const NAME: &'static str = "pool.fail";

    fn likeness(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// A call succeeded while all endpoints were called because all had failed.
pub(crate) struct Succeed {
    pub(crate) endpoint: EndpointId,
}

impl Request for Succeed {
    type Reply = ();
    const NAME: &'static str = "pool.succeed";

    fn likeness(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// An endpoint was asked whether it is well.
pub(crate) struct Checked {
    pub(crate) endpoint: EndpointId,
    pub(crate) check: Check,
}

impl Request for Checked {
    type Reply = ();
    const NAME: &'static str = "pool.checked";

    fn likeness(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// An endpoint could be connected to.
pub(crate) struct Reach {
    pub(crate) endpoint: EndpointId,
    pub(crate) began: Instant,
}

impl Request for Reach {
    type Reply = ();
    const NAME: &'static str = "pool.reach";

    fn likeness(&self) -> u64 {
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
    pub(super) state: PoolState<oneshot::Sender<Handed>>,
    pub(super) names: PoolNames,
    pub(super) log: Logger,
    pub(super) alarm: Alarm,
    /// Places that wait for their clients.
    pub(super) waits: ClientWaits,
}

impl Pool {
    pub(crate) fn new(
        state: PoolState<oneshot::Sender<Handed>>,
        names: PoolNames,
        alarm: Alarm,
        log: Logger,
    ) -> Self {
        Self { state, names, log, alarm, waits: ClientWaits::default() }
    }

    /// Looks whether the gate is to be wider or narrower.
    fn learn(&mut self, now: Instant) {
        if let Some(moved) = self.state.learn(now) {
            debug!(self.log, "concurrency limit moved"; "bucket" => &self.names.bucket, "from" => moved.from,
                "to" => moved.to, "cause" => moved.cause.as_str());
        }
    }

    /// Logs what the rotation did.
    pub(super) fn report(&mut self) {
        self.report_credentials();
        let turns = self.state.rotation().take_turns();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |endpoint: usize| self.names.endpoints.get(endpoint).map_or("", String::as_str);
        for turn in turns {
            match turn {
                Turn::Left { endpoint, sentence, strike, time } => {
                    let how = match sentence {
                        Sentence::Rest => "endpoint rests",
                        Sentence::Eject => "endpoint ejected",
                    };
                    warn!(log, "{}", how; "bucket" => bucket, "endpoint" => name(endpoint),
                        "cause" => strike.as_str(), "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                Turn::FoundUnhealthy { endpoint } => {
                    warn!(log, "endpoint unhealthy"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                Turn::CameBack { endpoint } => {
                    info!(log, "endpoint back"; "bucket" => bucket, "endpoint" => name(endpoint));
                }
                Turn::Panicked => warn!(log, "all endpoints fail, all are called"; "bucket" => bucket),
                Turn::Calmed => info!(log, "an endpoint succeeds again"; "bucket" => bucket),
                Turn::FailedOver => warn!(log, "failed over to endpoints that stand by"; "bucket" => bucket),
                Turn::Returned => info!(log, "returned from endpoints that stand by"; "bucket" => bucket),
            }
        }
    }
}

impl Component for Pool {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
        self.waits.rebuild();
    }

    /// A nudge may have gone down with the crash; tickets dropped since then rely on it.
    fn restarted(&mut self, now: Instant) {
        self.state.nudge(now);
        self.wait_for_credentials(now);
    }
}

impl Serve<Acquire> for Pool {
    type Decision = Decision;

    fn decide(&self, message: &Acquire, now: Instant) -> Decision {
        self.state.decide(message.priority, message.deadline, now)
    }

    fn apply(&mut self, message: Acquire, decision: Decision, now: Instant) -> Acquired {
        let acquired = match decision {
            Decision::Grant if let Some(permit) = self.state.grant(now) => {
                self.report();
                Acquired::Granted(permit)
            }
            Decision::Grant | Decision::Queue => {
                let (waiter, permit) = oneshot::channel();
                self.state.enqueue(waiter, message.priority, now);
                self.wait_for_credentials(now);
                Acquired::Queued(permit)
            }
            Decision::Refuse(refusal) => Acquired::Refused(refusal),
        };
        self.learn(now);
        acquired
    }
}

impl Serve<Nudge> for Pool {
    type Decision = ();

    fn decide(&self, _: &Nudge, _: Instant) {}

    fn apply(&mut self, _: Nudge, (): (), now: Instant) {
        self.state.nudge(now);
        self.wait_for_credentials(now);
        self.learn(now);
    }
}

impl Serve<Repick> for Pool {
    type Decision = ();

    fn decide(&self, _: &Repick, _: Instant) {}

    fn apply(&mut self, message: Repick, (): (), now: Instant) -> Result<Repicked, NoCredential> {
        let Repick { avoid, credential } = message;
        let traded = credential.map(|(credential, must)| self.state.trade(credential, must, now));
        let credential = traded.transpose()?.flatten();
        let endpoint = avoid.map(|avoid| self.state.repick(avoid, now));
        self.report();
        Ok(Repicked { endpoint, credential })
    }
}

impl Serve<Retry> for Pool {
    type Decision = Option<Window>;

    fn decide(&self, _: &Retry, now: Instant) -> Option<Window> {
        self.state.decide_retry(now)
    }

    fn apply(&mut self, _: Retry, window: Option<Window>, _: Instant) -> Option<RetryTicket> {
        window.map(|window| self.state.retry(window))
    }
}

impl Serve<Fail> for Pool {
    type Decision = ();

    fn decide(&self, _: &Fail, _: Instant) {}

    fn apply(&mut self, message: Fail, (): (), now: Instant) {
        self.state.rotation().fail(message.endpoint.0, &message.failure, now);
        self.report();
    }
}

impl Serve<Succeed> for Pool {
    type Decision = ();

    fn decide(&self, _: &Succeed, _: Instant) {}

    fn apply(&mut self, message: Succeed, (): (), now: Instant) {
        self.state.rotation().succeed(message.endpoint.0, now);
        self.report();
    }
}

impl Serve<Checked> for Pool {
    type Decision = ();

    fn decide(&self, _: &Checked, _: Instant) {}

    fn apply(&mut self, message: Checked, (): (), now: Instant) {
        self.state.rotation().checked(message.endpoint.0, &message.check, now);
        self.report();
    }
}

impl Serve<Reach> for Pool {
    type Decision = ();

    fn decide(&self, _: &Reach, _: Instant) {}

    fn apply(&mut self, message: Reach, (): (), now: Instant) {
        self.state.rotation().reached(message.endpoint.0, message.began, now);
        self.report();
    }
}
