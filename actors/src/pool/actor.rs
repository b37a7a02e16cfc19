//! The pool's messages and its shell.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::host::{Component, Serve};
use crate::mailbox::Request;
use crate::pool::budget::{RetryTicket, Window};
use crate::pool::state::{Decision, PoolState, Waiter};
use crate::pool::ticket::{EndpointId, EndpointTicket, Permit};

impl Waiter for oneshot::Sender<Permit> {
    fn gone(&self) -> bool {
        self.is_closed()
    }

    fn hand(self, permit: Permit) -> Result<(), Permit> {
        self.send(permit)
    }
}

/// May I call the upstream?
pub(crate) struct Acquire;

/// Yes, later, or no.
pub(crate) enum Acquired {
    Granted(Permit),
    Queued(oneshot::Receiver<Permit>),
    Refused { queued: usize },
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

/// Another endpoint for a retry.
pub(crate) struct Repick {
    pub(crate) avoid: EndpointId,
}

impl Request for Repick {
    type Reply = EndpointTicket;
    const NAME: &'static str = "pool.repick";

    fn likeness(&self) -> u64 {
        self.avoid.0 as u64
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

/// An endpoint refused a connection.
pub(crate) struct Ail {
    pub(crate) endpoint: EndpointId,
}

impl Request for Ail {
    type Reply = ();
    const NAME: &'static str = "pool.ail";

    fn likeness(&self) -> u64 {
        self.endpoint.0 as u64
    }
}

/// The component.
pub(crate) struct Pool {
    state: PoolState<oneshot::Sender<Permit>>,
}

impl Pool {
    pub(crate) fn new(state: PoolState<oneshot::Sender<Permit>>) -> Self {
        Self { state }
    }
}

impl Component for Pool {
    fn rebuild(&mut self, now: Instant) {
        self.state.rebuild(now);
    }

    /// A nudge may have gone down with the crash; tickets dropped since then rely on it.
    fn restarted(&mut self, now: Instant) {
        self.state.nudge(now);
    }
}

impl Serve<Acquire> for Pool {
    type Decision = Decision;

    fn decide(&self, _: &Acquire, _: Instant) -> Decision {
        self.state.decide()
    }

    fn apply(&mut self, _: Acquire, decision: Decision, now: Instant) -> Acquired {
        match decision {
            Decision::Grant => Acquired::Granted(self.state.grant(now)),
            Decision::Queue => {
                let (waiter, permit) = oneshot::channel();
                self.state.enqueue(waiter, now);
                Acquired::Queued(permit)
            }
            Decision::Refuse { queued } => Acquired::Refused { queued },
        }
    }
}

impl Serve<Nudge> for Pool {
    type Decision = ();

    fn decide(&self, _: &Nudge, _: Instant) {}

    fn apply(&mut self, _: Nudge, (): (), now: Instant) {
        self.state.nudge(now);
    }
}

impl Serve<Repick> for Pool {
    type Decision = ();

    fn decide(&self, _: &Repick, _: Instant) {}

    fn apply(&mut self, message: Repick, (): (), now: Instant) -> EndpointTicket {
        self.state.repick(message.avoid, now)
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

impl Serve<Ail> for Pool {
    type Decision = ();

    fn decide(&self, _: &Ail, _: Instant) {}

    fn apply(&mut self, message: Ail, (): (), now: Instant) {
        self.state.ail(message.endpoint, now);
    }
}
