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

use crate::chaos::{Chaos, Crash, CrashPlace, Stall};
use crate::clock;
use crate::mailbox::{Ask, AskError, Request, Tell};
use crate::metrics::ActorMetrics;
use crate::vitals::Vitals;

/// A component's state and how it comes back from a crash.
pub(crate) trait Component: Send + Unpin + Sized + 'static {
    /// A crash struck while the state was being written: rebuild it so that nothing is forgiven.
    fn rebuild(&mut self, now: Instant);

    /// A restart is over. What must not survive a crash even with clean state goes here.
    fn restarted(&mut self, _now: Instant) {}

    /// Arms the timers; runs at the start and after every restart.
    fn started(&mut self, _ctx: &mut Context<Host<Self>>) {}
}

/// How a component serves one kind of message.
pub(crate) trait Serve<M: Request>: Component {
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
const SUSPECTS_MAX: usize = 64;
/// Crashes after which a likeness is refused.
const POISON_AFTER: u32 = 2;

/// The message being handled; what a restart finds here is what the actor crashed over.
struct Handling {
    likeness: Option<u64>,
    message: &'static str,
}

struct Suspect {
    likeness: u64,
    message: &'static str,
    crashes: u32,
    last: Instant,
}

/// The actix actor around a component.
pub(crate) struct Host<C> {
    component: C,
    dirty: bool,
    handling: Option<Handling>,
    suspects: VecDeque<Suspect>,
    /// How long a likeness stays suspect.
    memory: Duration,
    hasher: ahash::RandomState,
    chaos: Chaos,
    vitals: Arc<Vitals>,
    metrics: ActorMetrics,
    log: Logger,
}

impl<C: Component> Host<C> {
    pub(crate) fn new(
        component: C,
        memory: Duration,
        vitals: Arc<Vitals>,
        metrics: ActorMetrics,
        log: Logger,
    ) -> Self {
        Self {
            component,
            dirty: false,
            handling: None,
            suspects: VecDeque::new(),
            memory,
            hasher: ahash::RandomState::new(),
            chaos: Chaos::default(),
            vitals,
            metrics,
            log,
        }
    }

    /// Loses the component for another's, as a supervisor would that starts an actor over from nothing.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn lose_to(&mut self, other: Self) {
        self.component = other.component;
        self.dirty = false;
        self.handling = None;
    }

    /// Timers go the same way as messages.
    pub(crate) fn tick<M: Request<Reply = ()>>(&mut self, message: M)
    where
        C: Serve<M>,
    {
        self.serve(message, clock::now());
    }

    fn serve<M: Request>(&mut self, message: M, now: Instant) -> M::Reply
    where
        C: Serve<M>,
    {
        self.handling = Some(Handling { likeness: self.likeness(&message), message: M::NAME });
        self.chaos.strike(CrashPlace::Decide);
        let decision = self.component.decide(&message, now);
        self.dirty = true;
        self.chaos.strike(CrashPlace::Apply);
        let reply = self.component.apply(message, decision, now);
        self.chaos.strike(CrashPlace::Applied);
        self.dirty = false;
        self.handling = None;
        self.vitals.note_handled();
        reply
    }

    fn likeness<M: Request>(&self, message: &M) -> Option<u64> {
        if !M::CAN_BE_POISON {
            return None;
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(M::NAME.as_bytes());
        hasher.write_u64(message.likeness());
        Some(hasher.finish())
    }

    fn is_poison<M: Request>(&self, message: &M, now: Instant) -> bool {
        if self.suspects.is_empty() {
            return false;
        }
        let Some(likeness) = self.likeness(message) else { return false };
        self.suspects.iter().any(|suspect| {
            suspect.likeness == likeness
                && suspect.crashes >= POISON_AFTER
                && now.saturating_duration_since(suspect.last) < self.memory
        })
    }

    fn suspect(&mut self, likeness: u64, message: &'static str, now: Instant) {
        let memory = self.memory;
        self.suspects.retain(|suspect| now.saturating_duration_since(suspect.last) < memory);
        if let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.likeness == likeness) {
            suspect.crashes += 1;
            suspect.last = now;
            if suspect.crashes >= POISON_AFTER {
                error!(self.log, "poison message: its like is refused";
                    "message" => suspect.message, "crashes" => suspect.crashes);
            }
            return;
        }
        if self.suspects.len() == SUSPECTS_MAX {
            self.suspects.pop_front();
        }
        self.suspects.push_back(Suspect { likeness, message, crashes: 1, last: now });
    }
}

impl<C: Component> Actor for Host<C> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.chaos.strike(CrashPlace::Started);
        self.component.started(ctx);
    }
}

impl<C: Component> Supervised for Host<C> {
    fn restarting(&mut self, _: &mut Self::Context) {
        let now = clock::now();
        if let Some(Handling { likeness, message }) = self.handling.take() {
            warn!(self.log, "actor crashed over a message"; "message" => message, "dirty" => self.dirty);
            if let Some(likeness) = likeness {
                self.suspect(likeness, message, now);
            }
        }
        if std::mem::take(&mut self.dirty) {
            self.component.rebuild(now);
        }
        self.component.restarted(now);
    }
}

impl<C: Serve<M>, M: Request> Handler<Ask<M>> for Host<C> {
    type Result = MessageResult<Ask<M>>;

    fn handle(&mut self, ask: Ask<M>, _: &mut Self::Context) -> Self::Result {
        let Ask { message, seat, sent, deadline } = ask;
        let now = clock::now();
        self.metrics.wait.observe(now.saturating_duration_since(sent).as_secs_f64());
        if now > deadline {
            self.metrics.expired.inc();
            return MessageResult(Err(AskError::Expired));
        }
        if self.is_poison(&message, now) {
            self.vitals.note_poisoned();
            self.metrics.rejected_poison.inc();
            return MessageResult(Err(AskError::Poison));
        }
        let reply = self.serve(message, now);
        // A sample tells as much of the handling time as every message would, and the clock is not free.
        if self.vitals.handled().is_multiple_of(HANDLE_SAMPLE) {
            self.metrics.handle.observe(clock::now().saturating_duration_since(now).as_secs_f64());
        }
        drop(seat);
        MessageResult(Ok(reply))
    }
}

impl<C: Serve<M>, M: Request<Reply = ()>> Handler<Tell<M>> for Host<C> {
    type Result = ();

    fn handle(&mut self, Tell(message): Tell<M>, _: &mut Self::Context) {
        let now = clock::now();
        if self.is_poison(&message, now) {
            self.vitals.note_poisoned();
            self.metrics.rejected_poison.inc();
            return;
        }
        self.serve(message, now);
    }
}

impl<C: Component> Handler<Crash> for Host<C> {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Self::Context) {
        if crash.place == CrashPlace::Timer {
            ctx.run_later(Duration::ZERO, |host, _| {
                host.chaos.arm(CrashPlace::Timer);
                host.chaos.strike(CrashPlace::Timer);
            });
            return;
        }
        self.chaos.arm(crash.place);
        if crash.next_message {
            return;
        }
        if crash.place == CrashPlace::Started {
            // The way to `started()` leads over a restart; the armed crash strikes there.
            self.chaos.arm_now();
        }
        self.dirty = matches!(crash.place, CrashPlace::Apply | CrashPlace::Applied);
        self.chaos.strike_any();
    }
}

impl<C: Component> Handler<Stall> for Host<C> {
    type Result = ();

    fn handle(&mut self, stall: Stall, _: &mut Self::Context) {
        stall.hold();
    }
}
