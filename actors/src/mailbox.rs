//! The way to an actor: seats, deadlines, typed errors.
//!
//! actix's mailboxes bound nothing: `do_send` always queues and a cloned `Addr` always gets one message in.
//! So a question carries a seat, taken before it is sent and given back when it was handled *or discarded*;
//! no seat means busy, at once. What a grant has prepaid (an outcome, a release) needs no seat: there are
//! never more of those than grants, and a release is a coalesced nudge.
//!
//! `Addr` never leaves this file and `supervisor.rs`.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use thiserror::Error;

use crate::chaos::{Crash, Stall};
use crate::clock;
use crate::host::{Component, Host, Serve};
use crate::metrics::ActorMetrics;
use crate::patience::{self, OutOfPatience};
use crate::vitals::Vitals;

/// A message and the type of its answer.
pub(crate) trait Request: Send + 'static {
    /// What the actor answers.
    type Reply: Send + 'static;
    /// The message's name in reports.
    const NAME: &'static str;
    /// What makes two messages alike: the fingerprint by which a poison message is recognised.
    fn likeness(&self) -> u64;
    /// False where all messages of a kind are alike: condemning one would condemn them all.
    const CAN_BE_POISON: bool = true;
}

/// Why a question got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// The mailbox is full.
    #[error("the actor's mailbox is full")]
    Busy,
    /// The supervisor holds the actor down after too many crashes.
    #[error("the actor has failed and is held down")]
    Failed {
        /// Until it is tried again.
        retry_after: Duration,
    },
    /// The actor crashed over this very message.
    #[error("the actor crashed over this message")]
    Crashed,
    /// The deadline passed first.
    #[error("the actor did not answer in time")]
    Expired,
    /// Handling a message like this one crashed twice.
    #[error("a message like this crashed the actor twice")]
    Poison,
}

impl AskError {
    /// When to try again; S5: at most a second after a crash.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Failed { retry_after } => retry_after,
            Self::Poison => Duration::from_secs(10),
            Self::Busy | Self::Crashed | Self::Expired => Duration::from_secs(1),
        }
    }

    /// The word in reasons and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Failed { .. } => "failed",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
            Self::Poison => "poison",
        }
    }
}

/// A taken place in a mailbox.
#[derive(Debug)]
pub(crate) struct Seat {
    vitals: Arc<Vitals>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.vitals.seats().give_back();
    }
}

/// A question in its envelope.
pub(crate) struct Ask<M> {
    pub(crate) message: M,
    pub(crate) seat: Seat,
    pub(crate) sent: Instant,
    pub(crate) deadline: Instant,
}

impl<M: Request> actix::Message for Ask<M> {
    type Result = Result<M::Reply, AskError>;
}

/// A prepaid statement in its envelope.
pub(crate) struct Tell<M>(pub(crate) M);

impl<M: Request> actix::Message for Tell<M> {
    type Result = ();
}

/// One actor's address, its seats and its patience.
pub(crate) struct Mailbox<C: Component> {
    addr: Addr<Host<C>>,
    vitals: Arc<Vitals>,
    metrics: ActorMetrics,
    patience: Duration,
}

impl<C: Component> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Self {
            addr: self.addr.clone(),
            vitals: Arc::clone(&self.vitals),
            metrics: self.metrics.clone(),
            patience: self.patience,
        }
    }
}

/// A supervised actor of any kind, as `system.rs` lists and disturbs them.
pub(crate) trait Supervised {
    fn vitals(&self) -> &Arc<Vitals>;
    /// Has the actor crash. Only the admin API's chaos verb and tests call this.
    fn crash(&self, crash: Crash);
    /// Has the actor stand still. Only the admin API's chaos verb calls this.
    fn stall(&self, stall: Stall);
}

impl<C: Component> Supervised for Mailbox<C> {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn crash(&self, crash: Crash) {
        #[expect(clippy::disallowed_methods, reason = "an operator's message, rare and not to be refused")]
        self.addr.do_send(crash);
    }

    fn stall(&self, stall: Stall) {
        #[expect(clippy::disallowed_methods, reason = "an operator's message, rare and not to be refused")]
        self.addr.do_send(stall);
    }
}

impl<C: Component> Mailbox<C> {
    pub(crate) fn new(
        addr: Addr<Host<C>>,
        vitals: Arc<Vitals>,
        metrics: ActorMetrics,
        patience: Duration,
    ) -> Self {
        Self { addr, vitals, metrics, patience }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Asks, and waits for the answer for as long as the actor's configured patience.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Reply, AskError>
    where
        M: Request,
        C: Serve<M>,
    {
        self.ask_within(message, self.patience).await
    }

    /// Asks, and waits for at most `patience`.
    pub(crate) async fn ask_within<M>(&self, message: M, patience: Duration) -> Result<M::Reply, AskError>
    where
        M: Request,
        C: Serve<M>,
    {
        let sent = clock::now();
        let seat = self.seat(sent)?;
        let deadline = sent + patience;
        let answer = pin!(self.addr.send(Ask { message, seat, sent, deadline }));
        match patience::wait(answer, deadline).await {
            Ok(Ok(answer)) => answer,
            // The reply channel was dropped unanswered: the message went down with the crash.
            Ok(Err(_)) => Err(AskError::Crashed),
            Err(OutOfPatience) => Err(AskError::Expired),
        }
    }

    /// States something a grant has prepaid. Never refused, and bounded by the grants.
    pub(crate) fn tell<M>(&self, message: M)
    where
        M: Request<Reply = ()>,
        C: Serve<M>,
    {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place: what a grant prepaid must not be refused"
        )]
        self.addr.do_send(Tell(message));
    }

    fn seat(&self, now: Instant) -> Result<Seat, AskError> {
        if let Some(retry_after) = self.vitals.failed_for(now) {
            self.metrics.rejected_failed.inc();
            return Err(AskError::Failed { retry_after });
        }
        if !self.vitals.seats().take() {
            self.metrics.rejected_busy.inc();
            return Err(AskError::Busy);
        }
        Ok(Seat { vitals: Arc::clone(&self.vitals) })
    }
}
