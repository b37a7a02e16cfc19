//! The mailbox of an actor: bounded slots, deadlines, typed errors.
//!
//! actix does not bound a mailbox: `do_send` always queues, and a cloned `Addr` always accepts one more message. So
//! every ask carries a slot, acquired before it is sent and released when it was handled *or discarded*. Without a
//! free slot the ask fails at once (`Busy`). A notification that a grant has prepaid (an outcome, a release) needs no
//! slot: there are never more of these than grants, and wake-ups for releases are coalesced.
//!
//! `Addr` must not leave this file and `supervisor.rs`.

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

/// A message and the type of its reply.
pub(crate) trait ActorMessage: Send + 'static {
    /// The actor's reply.
    type Reply: Send + 'static;
    /// The message's name in logs.
    const NAME: &'static str;
    /// Fingerprint of the message, by which a poison message is recognised.
    fn message_fingerprint(&self) -> u64;
    /// False where all messages of this type have the same fingerprint: refusing one would refuse them all.
    const CAN_BE_POISON: bool = true;
}

/// Ends an actor as planned: no restart, no crash.
pub(crate) struct Stop;

impl actix::Message for Stop {
    type Result = ();
}

/// The pause before a full mailbox is tried again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Crashes over one message after which it is sent once more.
const CRASHES_MAX: u32 = 2;

/// Why an ask got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// The mailbox is full.
    #[error("the actor's mailbox is full")]
    Busy,
    /// The supervisor holds the actor down after too many crashes, or the actor was stopped.
    #[error("the actor has crashed too often and is held down")]
    Failed {
        /// Time until the supervisor restarts the actor.
        retry_after: Duration,
    },
    /// The actor crashed while it handled this message.
    #[error("the actor crashed while it handled this message")]
    Crashed,
    /// The deadline passed before the reply.
    #[error("the actor did not answer in time")]
    Expired,
    /// Handling a message with the same fingerprint crashed the actor twice.
    #[error("a message with the same fingerprint crashed the actor twice")]
    Poison,
}

impl AskError {
    /// When to retry; at most a second after a crash (S5).
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

/// One acquired slot of a mailbox. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct MailboxSlot {
    stats: Arc<ActorStats>,
}

impl Drop for MailboxSlot {
    fn drop(&mut self) {
        self.stats.mailbox_slots().release();
    }
}

/// A message that waits for a reply, with its slot and deadline.
pub(crate) struct Ask<M> {
    pub(crate) message: M,
    pub(crate) slot: MailboxSlot,
    pub(crate) sent: Instant,
    pub(crate) deadline: Instant,
}

impl<M: ActorMessage> actix::Message for Ask<M> {
    type Result = Result<M::Reply, AskError>;
}

/// A prepaid message without a reply.
pub(crate) struct Notification<M>(pub(crate) M);

impl<M: ActorMessage> actix::Message for Notification<M> {
    type Result = ();
}

/// One actor's address, its slots and its ask timeout.
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

/// A supervised actor of any type: its statistics, and the chaos operations that `system.rs` forwards.
pub(crate) trait SupervisedActor {
    /// The actor's statistics.
    fn actor_stats(&self) -> &Arc<ActorStats>;
    /// Crashes the actor. Only the admin API's chaos operation and tests call this.
    fn crash(&self, crash: Crash);
    /// Blocks the actor's thread. Only the admin API's chaos operation calls this.
    fn stall(&self, stall: Stall);
    /// Ends the actor. It handles the messages that wait in its mailbox; later ones are refused.
    fn stop(&self);
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

    fn stop(&self) {
        self.stats.set_stopped();
        #[expect(clippy::disallowed_methods, reason = "sent once, and not to be refused")]
        self.addr.do_send(Stop);
    }
}

impl<C: Component> Mailbox<C> {
    pub(crate) fn new(
        addr: Addr<ActorShell<C>>,
        stats: Arc<ActorStats>,
        metrics: ActorMetrics,
        ask_timeout: Duration,
    ) -> Self {
        Self { addr, stats, metrics, ask_timeout }
    }

    /// Sends a message and waits for the reply, for at most the configured `ask_timeout`.
    pub(crate) async fn ask<M>(&self, message: M) -> Result<M::Reply, AskError>
    where
        M: ActorMessage,
        C: MessageHandler<M>,
    {
        self.ask_within(message, self.ask_timeout).await
    }

    /// Sends a message and waits for the reply, for at most `timeout`.
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
            Ok(Err(_)) => Err(self.lost_reply()),
            Err(AskTimeout) => Err(AskError::Expired),
        }
    }

    /// Asks again while the mailbox is full, and if the actor crashes over the message, for at most `timeout`.
    pub(crate) async fn ask_again<M, F>(&self, message: F, timeout: Duration) -> Result<M::Reply, AskError>
    where
        M: ActorMessage,
        C: MessageHandler<M>,
        F: Fn() -> M,
    {
        let (deadline, mut crashes) = (clock::now() + timeout, 0);
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            match self.ask_within(message(), left).await {
                Err(AskError::Busy) if left > ASK_AGAIN_AFTER => tokio::time::sleep(ASK_AGAIN_AFTER).await,
                Err(AskError::Crashed) if crashes < CRASHES_MAX => crashes += 1,
                reply => return reply,
            }
        }
    }

    /// Why a reply channel was dropped: the message was lost with a crash, or the actor has ended.
    pub(crate) fn lost_reply(&self) -> AskError {
        match self.stats.failed_for(clock::now()) {
            Some(retry_after) if self.stats.is_stopped() => AskError::Failed { retry_after },
            _ => AskError::Crashed,
        }
    }

    /// Sends a message that a grant has prepaid. It is never refused; the number of grants bounds such messages.
    pub(crate) fn notify<M>(&self, message: M)
    where
        M: ActorMessage<Reply = ()>,
        C: MessageHandler<M>,
    {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only call: a message that a grant prepaid must not be refused"
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
            self.stats.count_busy();
            return Err(AskError::Busy);
        }
        Ok(MailboxSlot { stats: Arc::clone(&self.stats) })
    }
}
