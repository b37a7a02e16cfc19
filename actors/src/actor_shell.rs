//! The actix actor around every component. It owns the crash rule (`docs/design/crash-rule.md`).
//!
//! Handling a message has two steps. `decide` reads the state and may panic: nothing has changed. `apply` writes the
//! decision and builds the reply; `dirty` is set while it runs. A restart that finds `dirty` set makes the component
//! rebuild its state pessimistically; otherwise the state is kept. Nothing is cloned per message.
//!
//! The shell also refuses poison messages (handling the same message fingerprint crashed the actor twice), skips
//! expired messages, and runs the chaos crashes that the tests use. A handler must not await, and a component has no
//! means to do so.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, MessageResult, Supervised};
use slog::{Logger, debug, error, warn};

use crate::actor_stats::ActorStats;
use crate::chaos::{Chaos, Crash, CrashPoint, Stall};
use crate::clock;
use crate::mailbox::{ActorMessage, Ask, AskError, Notification, Stop};
use crate::metrics::ActorMetrics;

/// A component: its state and its recovery from a crash.
pub(crate) trait Component: Send + Unpin + Sized + 'static {
    /// Rebuilds the state after a crash in `apply`. The rebuilt state must admit nothing that the lost one refused.
    fn rebuild(&mut self, now: Instant);

    /// Called after every restart. Drops what must not survive a crash even if the state is clean.
    fn restarted(&mut self, _now: Instant) {}

    /// Called when the actor ends as planned. Its waiting callers must not wait for it any longer.
    fn stopping(&mut self, _now: Instant) {}

    /// Starts the timers; called at the start and after every restart.
    fn started(&mut self, _ctx: &mut Context<ActorShell<Self>>) {}
}

/// A component's handler of one message type.
pub(crate) trait MessageHandler<M: ActorMessage>: Component {
    /// The result of `decide`, which `apply` carries out.
    type Decision;
    /// Reads the state. May panic without harm.
    fn decide(&self, message: &M, now: Instant) -> Self::Decision;
    /// Writes the decision, publishes it and builds the reply. Must not panic.
    fn apply(&mut self, message: M, decision: Self::Decision, now: Instant) -> M::Reply;
}

/// The handling time of one in this many messages is measured.
const HANDLE_SAMPLE: u64 = 16;

/// Maximum number of crashed messages that are remembered.
const CRASHED_MESSAGES_MAX: usize = 64;
/// Crashes after which a fingerprint is refused.
const POISON_AFTER: u32 = 2;

/// The message being handled. If a restart finds one, its handling crashed the actor.
struct Handling {
    fingerprint: Option<u64>,
    message: &'static str,
}

struct CrashedMessage {
    fingerprint: u64,
    message: &'static str,
    crashes: u32,
    last: Instant,
}

/// The actix actor around a component.
pub(crate) struct ActorShell<C> {
    component: C,
    dirty: bool,
    handling: Option<Handling>,
    crashed_messages: VecDeque<CrashedMessage>,
    /// How long a crashed fingerprint is remembered.
    poison_ttl: Duration,
    hasher: ahash::RandomState,
    chaos: Chaos,
    stats: Arc<ActorStats>,
    metrics: ActorMetrics,
    log: Logger,
}

impl<C: Component> ActorShell<C> {
    pub(crate) fn new(
        component: C,
        poison_ttl: Duration,
        stats: Arc<ActorStats>,
        metrics: ActorMetrics,
        log: Logger,
    ) -> Self {
        Self {
            component,
            dirty: false,
            handling: None,
            crashed_messages: VecDeque::new(),
            poison_ttl,
            hasher: ahash::RandomState::new(),
            chaos: Chaos::default(),
            stats,
            metrics,
            log,
        }
    }

    /// Replaces the component and its state, like a supervisor that restarts an actor with empty state.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn replace_component(&mut self, other: Self) {
        self.component = other.component;
        self.dirty = false;
        self.handling = None;
    }

    /// Handles a timer's message under the same rule as any other message.
    pub(crate) fn handle_timer<M: ActorMessage<Reply = ()>>(&mut self, message: M)
    where
        C: MessageHandler<M>,
    {
        self.handle_message(message, clock::now());
    }

    fn handle_message<M: ActorMessage>(&mut self, message: M, now: Instant) -> M::Reply
    where
        C: MessageHandler<M>,
    {
        self.handling = Some(Handling { fingerprint: self.fingerprint(&message), message: M::NAME });
        self.chaos.panic_if_armed(CrashPoint::Decide);
        let decision = self.component.decide(&message, now);
        self.dirty = true;
        self.chaos.panic_if_armed(CrashPoint::Apply);
        let reply = self.component.apply(message, decision, now);
        self.chaos.panic_if_armed(CrashPoint::Applied);
        self.dirty = false;
        self.handling = None;
        self.stats.count_handled();
        reply
    }

    fn fingerprint<M: ActorMessage>(&self, message: &M) -> Option<u64> {
        if !M::CAN_BE_POISON {
            return None;
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(M::NAME.as_bytes());
        hasher.write_u64(message.message_fingerprint());
        Some(hasher.finish())
    }

    fn is_poison<M: ActorMessage>(&self, message: &M, now: Instant) -> bool {
        if self.crashed_messages.is_empty() {
            return false;
        }
        let Some(fingerprint) = self.fingerprint(message) else { return false };
        self.crashed_messages.iter().any(|crashed| {
            crashed.fingerprint == fingerprint
                && crashed.crashes >= POISON_AFTER
                && now.saturating_duration_since(crashed.last) < self.poison_ttl
        })
    }

    fn record_crashed_message(&mut self, fingerprint: u64, message: &'static str, now: Instant) {
        let poison_ttl = self.poison_ttl;
        self.crashed_messages.retain(|crashed| now.saturating_duration_since(crashed.last) < poison_ttl);
        if let Some(crashed) =
            self.crashed_messages.iter_mut().find(|crashed| crashed.fingerprint == fingerprint)
        {
            crashed.crashes += 1;
            crashed.last = now;
            if crashed.crashes >= POISON_AFTER {
                error!(self.log, "message refused: the same fingerprint crashed the actor twice";
                    "message" => crashed.message, "crashes" => crashed.crashes);
            }
            return;
        }
        if self.crashed_messages.len() == CRASHED_MESSAGES_MAX {
            self.crashed_messages.pop_front();
        }
        self.crashed_messages.push_back(CrashedMessage { fingerprint, message, crashes: 1, last: now });
    }
}

impl<C: Component> Actor for ActorShell<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.chaos.panic_if_armed(CrashPoint::Started);
        self.component.started(ctx);
    }
}

impl<C: Component> Supervised for ActorShell<C> {
    fn restarting(&mut self, _: &mut Self::Context) {
        let now = clock::now();
        if let Some(Handling { fingerprint, message }) = self.handling.take() {
            warn!(self.log, "actor crashed while it handled a message"; "message" => message, "dirty" => self.dirty);
            if let Some(fingerprint) = fingerprint {
                self.record_crashed_message(fingerprint, message, now);
            }
        }
        if std::mem::take(&mut self.dirty) {
            self.component.rebuild(now);
        }
        self.component.restarted(now);
    }
}

impl<C: MessageHandler<M>, M: ActorMessage> Handler<Ask<M>> for ActorShell<C> {
    type Result = MessageResult<Ask<M>>;

    fn handle(&mut self, ask: Ask<M>, _: &mut Self::Context) -> Self::Result {
        let Ask { message, slot, sent, deadline } = ask;
        let now = clock::now();
        self.metrics.wait.observe(now.saturating_duration_since(sent).as_secs_f64());
        if now > deadline {
            self.metrics.expired.inc();
            return MessageResult(Err(AskError::Expired));
        }
        if self.is_poison(&message, now) {
            self.stats.count_poisoned();
            self.metrics.rejected_poison.inc();
            return MessageResult(Err(AskError::Poison));
        }
        let reply = self.handle_message(message, now);
        // A sample is representative, and each clock read has a cost.
        if self.stats.handled().is_multiple_of(HANDLE_SAMPLE) {
            self.metrics.handle.observe(clock::now().saturating_duration_since(now).as_secs_f64());
        }
        drop(slot);
        MessageResult(Ok(reply))
    }
}

impl<C: MessageHandler<M>, M: ActorMessage<Reply = ()>> Handler<Notification<M>> for ActorShell<C> {
    type Result = ();

    fn handle(&mut self, Notification(message): Notification<M>, _: &mut Self::Context) {
        let now = clock::now();
        if self.is_poison(&message, now) {
            self.stats.count_poisoned();
            self.metrics.rejected_poison.inc();
            return;
        }
        self.handle_message(message, now);
    }
}

impl<C: Component> Handler<Crash> for ActorShell<C> {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Self::Context) {
        if crash.point == CrashPoint::Timer {
            ctx.run_later(Duration::ZERO, |shell, _| {
                shell.chaos.arm(CrashPoint::Timer);
                shell.chaos.panic_if_armed(CrashPoint::Timer);
            });
            return;
        }
        self.chaos.arm(crash.point);
        if crash.next_message {
            return;
        }
        if crash.point == CrashPoint::Started {
            // `started()` runs only after a restart: this crash causes it, and the armed one panics in `started()`.
            self.chaos.arm_now();
        }
        self.dirty = matches!(crash.point, CrashPoint::Apply | CrashPoint::Applied);
        self.chaos.panic_now();
    }
}

impl<C: Component> Handler<Stall> for ActorShell<C> {
    type Result = ();

    fn handle(&mut self, stall: Stall, _: &mut Self::Context) {
        stall.block_thread();
    }
}

impl<C: Component> Handler<Stop> for ActorShell<C> {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // First, so that a panic below does not restart the actor.
        self.stats.set_ended();
        debug!(self.log, "actor stopped");
        ctx.stop();
        self.component.stopping(clock::now());
    }
}
