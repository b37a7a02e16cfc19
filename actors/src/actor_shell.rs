//! The actix side of every component, once: the crash rule lives here.
//!
//! A message is handled in two steps. `decide` reads the state and may panic: nothing has changed. `apply`
//! writes the decision and builds the reply; it is small and meant to be infallible, and `dirty` brackets
//! it. A restart that finds `dirty` set throws the state away and has the component rebuild it
//! pessimistically; otherwise the state is kept as it is. Nothing is cloned per message.
//!
//! The same place refuses poison messages (a likeness whose handling crashed twice), skips what has expired,
//! and carries the chaos crashes by which the tests prove all this. Handlers never await: a component has
//! no way to.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, MessageResult, Supervised};
use slog::{Logger, error, warn};

use crate::actor_stats::ActorStats;
use crate::chaos::{Chaos, Crash, CrashPoint, Stall};
use crate::clock;
use crate::mailbox::{ActorMessage, Ask, AskError, Notification};
use crate::metrics::ActorMetrics;

/// A component's state and how it comes back from a crash.
pub(crate) trait Component: Send + Unpin + Sized + 'static {
    /// A crash struck while the state was being written: rebuild it so that nothing is forgiven.
    fn rebuild(&mut self, now: Instant);

    /// A restart is over. What must not survive a crash even with clean state goes here.
    fn restarted(&mut self, _now: Instant) {}

    /// Arms the timers; runs at the start and after every restart.
    fn started(&mut self, _ctx: &mut Context<ActorShell<Self>>) {}
}

/// How a component serves one kind of message.
pub(crate) trait MessageHandler<M: ActorMessage>: Component {
    /// What `decide` found and `apply` carries out.
    type Decision;
    /// Reads the state. May panic without harm.
    fn decide(&self, message: &M, now: Instant) -> Self::Decision;
    /// Writes the decision, publishes, builds the reply.
    fn apply(&mut self, message: M, decision: Self::Decision, now: Instant) -> M::Reply;
}

/// One message in so many has its handling time measured.
const HANDLE_SAMPLE: u64 = 16;

/// How many different suspects are remembered.
const CRASHED_MESSAGES_MAX: usize = 64;
/// Crashes after which a likeness is refused.
const POISON_AFTER: u32 = 2;

/// The message being handled; what a restart finds here is what the actor crashed over.
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
    /// How long a likeness stays suspect.
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
        memory: Duration,
        stats: Arc<ActorStats>,
        metrics: ActorMetrics,
        log: Logger,
    ) -> Self {
        Self {
            component,
            dirty: false,
            handling: None,
            crashed_messages: VecDeque::new(),
            poison_ttl: memory,
            hasher: ahash::RandomState::new(),
            chaos: Chaos::default(),
            stats,
            metrics,
            log,
        }
    }

    /// Loses the component for another's, as a supervisor would that starts an actor over from nothing.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn replace_component(&mut self, other: Self) {
        self.component = other.component;
        self.dirty = false;
        self.handling = None;
    }

    /// Timers go the same way as messages.
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
        let Some(likeness) = self.fingerprint(message) else { return false };
        self.crashed_messages.iter().any(|suspect| {
            suspect.fingerprint == likeness
                && suspect.crashes >= POISON_AFTER
                && now.saturating_duration_since(suspect.last) < self.poison_ttl
        })
    }

    fn record_crashed_message(&mut self, likeness: u64, message: &'static str, now: Instant) {
        let memory = self.poison_ttl;
        self.crashed_messages.retain(|suspect| now.saturating_duration_since(suspect.last) < memory);
        if let Some(suspect) =
            self.crashed_messages.iter_mut().find(|suspect| suspect.fingerprint == likeness)
        {
            suspect.crashes += 1;
            suspect.last = now;
            if suspect.crashes >= POISON_AFTER {
                error!(self.log, "poison message: its like is refused";
                    "message" => suspect.message, "crashes" => suspect.crashes);
            }
            return;
        }
        if self.crashed_messages.len() == CRASHED_MESSAGES_MAX {
            self.crashed_messages.pop_front();
        }
        self.crashed_messages.push_back(CrashedMessage {
            fingerprint: likeness,
            message,
            crashes: 1,
            last: now,
        });
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
        if let Some(Handling { fingerprint: likeness, message }) = self.handling.take() {
            warn!(self.log, "actor crashed over a message"; "message" => message, "dirty" => self.dirty);
            if let Some(likeness) = likeness {
                self.record_crashed_message(likeness, message, now);
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
        // A sample tells as much of the handling time as every message would, and the clock is not free.
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
            ctx.run_later(Duration::ZERO, |host, _| {
                host.chaos.arm(CrashPoint::Timer);
                host.chaos.panic_if_armed(CrashPoint::Timer);
            });
            return;
        }
        self.chaos.arm(crash.point);
        if crash.next_message {
            return;
        }
        if crash.point == CrashPoint::Started {
            // The way to `started()` leads over a restart; the armed crash strikes there.
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
