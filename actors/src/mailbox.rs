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

use crate::actor_shell::{ActorShell, Component, MessageHandler};
use crate::actor_stats::ActorStats;
use crate::ask_timeout::{self, AskTimeout};
use crate::chaos::{Crash, Stall};
use crate::clock;
use crate::metrics::ActorMetrics;

/// A message and the type of its answer.
pub(crate) trait ActorMessage: Send + 'static {
    /// What the actor answers.
    type Reply: Send + 'static;
    /// The message's name in reports.
    const NAME: &'static str;
    /// What makes two messages alike: the fingerprint by which a poison message is recognised.
    fn message_fingerprint(&self) -> u64;
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
pub(crate) struct MailboxSlot {
    stats: Arc<ActorStats>,
}

impl Drop for MailboxSlot {
    fn drop(&mut self) {
        self.stats.mailbox_slots().release();
    }
}

/// A question in its envelope.
pub(crate) struct Ask<M> {
    pub(crate) message: M,
    pub(crate) slot: MailboxSlot,
    pub(crate) sent: Instant,
    pub(crate) deadline: Instant,
}

impl<M: ActorMessage> actix::Message for Ask<M> {
    type Result = Result<M::Reply, AskError>;
}

/// A prepaid statement in its envelope.
pub(crate) struct Notification<M>(pub(crate) M);

impl<M: ActorMessage> actix::Message for Notification<M> {
    type Result = ();
}

/// One actor's address, its seats and its patience.
pub(crate) struct Mailbox<C: Component> {
    addr: Addr<ActorShell<C>>,
    stats: Arc<ActorStats>,
    metrics: ActorMetrics,
    ask_timeout: Duration,
}

impl<C: Component> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Self {
            addr: self.addr.clone(),
            stats: Arc::clone(&self.stats),
            metrics: self.metrics.clone(),
            ask_timeout: self.ask_timeout,
        }
    }
}

/// A supervised actor of any kind, as `system.rs` lists and disturbs them.
pub(crate) trait SupervisedActor {
    fn actor_stats(&self) -> &Arc<ActorStats>;
    /// Has the actor crash. Only the admin API's chaos verb and tests call this.
    fn crash(&self, crash: Crash);
    /// Has the actor stand still. Only the admin API's chaos verb calls this.
    fn stall(&self, stall: Stall);
}

impl<C: Component> SupervisedActor for Mailbox<C> {
    fn actor_stats(&self) -> &Arc<ActorStats> {
        &self.stats
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
        addr: Addr<ActorShell<C>>,
        stats: Arc<ActorStats>,
        metrics: ActorMetrics,
        patience: Duration,
    ) -> Self {
        Self { addr, stats, metrics, ask_timeout: patience }
    }

    pub(crate) fn actor_stats(&self) -> &Arc<ActorStats> {
        &self.stats
    }

    /// Asks, and waits for the answer for as long as the actor's configured patience.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Reply, AskError>
    where
        M: ActorMessage,
        C: MessageHandler<M>,
    {
        self.ask_within(message, self.ask_timeout).await
    }

    /// Asks, and waits for at most `patience`.
    pub(crate) async fn ask_within<M>(&self, message: M, timeout: Duration) -> Result<M::Reply, AskError>
    where
        M: ActorMessage,
        C: MessageHandler<M>,
    {
        let sent = clock::now();
        let slot = self.acquire_slot(sent)?;
        let deadline = sent + timeout;
        let answer = pin!(self.addr.send(Ask { message, slot, sent, deadline }));
        match ask_timeout::wait(answer, deadline).await {
            Ok(Ok(answer)) => answer,
            // The reply channel was dropped unanswered: the message went down with the crash.
            Ok(Err(_)) => Err(AskError::Crashed),
            Err(AskTimeout) => Err(AskError::Expired),
        }
    }

    /// States something a grant has prepaid. Never refused, and bounded by the grants.
    pub(crate) fn notify<M>(&self, message: M)
    where
        M: ActorMessage<Reply = ()>,
        C: MessageHandler<M>,
    {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place: what a grant prepaid must not be refused"
        )]
        self.addr.do_send(Notification(message));
    }

    fn acquire_slot(&self, now: Instant) -> Result<MailboxSlot, AskError> {
        if let Some(retry_after) = self.stats.failed_for(now) {
            self.metrics.rejected_failed.inc();
            return Err(AskError::Failed { retry_after });
        }
        if !self.stats.mailbox_slots().try_acquire() {
            self.metrics.rejected_busy.inc();
            return Err(AskError::Busy);
        }
        Ok(MailboxSlot { stats: Arc::clone(&self.stats) })
    }
}
