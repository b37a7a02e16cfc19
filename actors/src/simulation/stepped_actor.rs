//! An actor that handles one message when it is told to: the very host, mailbox and state that run in the product, but whose
//! turn it is, the scheduler says.
//!
//! What the supervisor does about a crash is done here too (restart in place, intensity, hold), because its future drains
//! a mailbox at each poll and would leave the scheduler no choice between two messages. A panic that is no chaos crash is
//! a defect, whoever survives it. Timers of an actor do not run; its readings are told instead.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use actix::dev::channel::AddressReceiver;
use actix::dev::{Envelope, EnvelopeProxy};
use actix::prelude::Stream;
use actix::{Actor, Context, Supervised};

use crate::actor_shell::{ActorShell, Component};
use crate::actor_stats::ActorStats;
use crate::intensity::{Intensity, RestartDecision};
use crate::supervisor::panic_message;

/// What became of an actor's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepResult {
    /// No message waits.
    Idle,
    /// The supervisor would hold it down.
    HeldDown,
    Handled,
    Crashed,
    /// It panicked of its own accord.
    Panicked(String),
}

/// A fault of the machinery around an actor, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepFault {
    None,
    /// The newest message first.
    NewestFirst,
    /// This one is lost.
    LoseMessage,
    /// It stays where it is, and is said to be handled.
    SkipMessage,
}

/// A staged actor, whatever its component.
pub(crate) trait SteppableActor {
    /// The actor's name.
    fn actor_stats(&self) -> &Arc<ActorStats>;
    /// Has it handle a message.
    fn step(&mut self, tampering: StepFault, now: Instant) -> StepResult;
    /// Goes on with the state of another of its kind.
    fn replace_state(&mut self, other: Box<dyn SteppableActor>);
    /// What `lose_to` takes apart.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// An actor on the stage.
pub(crate) struct SteppedActor<C: Component> {
    host: ActorShell<C>,
    mailbox: AddressReceiver<ActorShell<C>>,
    context: Context<ActorShell<C>>,
    intensity: Intensity,
    stats: Arc<ActorStats>,
    is_started: bool,
    held_until: Option<Instant>,
}

impl<C: Component> SteppedActor<C> {
    pub(crate) fn new(
        host: ActorShell<C>,
        mailbox: AddressReceiver<ActorShell<C>>,
        intensity: Intensity,
        stats: Arc<ActorStats>,
    ) -> Self {
        Self { host, mailbox, context: Context::new(), intensity, stats, is_started: false, held_until: None }
    }

    fn next_message(&mut self) -> Option<Envelope<ActorShell<C>>> {
        match Pin::new(&mut self.mailbox).poll_next(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(envelope) => envelope,
            Poll::Pending => None,
        }
    }

    fn on_crash(&mut self, said: &str, now: Instant) -> StepResult {
        self.stats.count_restart();
        if let RestartDecision::HoldDown(hold) = self.intensity.record_crash(now) {
            self.stats.set_failed_until(Some(now + hold));
            self.held_until = Some(now + hold);
        }
        // A restart drops the timers.
        self.context = Context::new();
        self.is_started = false;
        let host = &mut self.host;
        let context = &mut self.context;
        let restart = catch_panic(|| host.restarting(context));
        if let Err(said) = restart {
            return StepResult::Panicked(format!("in restarting: {said}"));
        }
        if said.starts_with("chaos crash") {
            StepResult::Crashed
        } else {
            StepResult::Panicked(said.to_owned())
        }
    }
}

impl<C: Component> SteppableActor for SteppedActor<C> {
    fn actor_stats(&self) -> &Arc<ActorStats> {
        &self.stats
    }

    fn step(&mut self, tampering: StepFault, now: Instant) -> StepResult {
        if let Some(until) = self.held_until {
            if now < until {
                return StepResult::HeldDown;
            }
            self.held_until = None;
            self.stats.set_failed_until(None);
        }
        let (host, context) = (&mut self.host, &mut self.context);
        if !self.is_started {
            if let Err(said) = catch_panic(|| host.started(context)) {
                return self.on_crash(&said, now);
            }
            self.is_started = true;
        }
        if tampering == StepFault::SkipMessage {
            return StepResult::Handled;
        }
        let Some(mut envelope) = self.next_message() else { return StepResult::Idle };
        match tampering {
            StepFault::None | StepFault::SkipMessage => {}
            StepFault::LoseMessage => return StepResult::Handled,
            StepFault::NewestFirst => {
                let mut waiting = vec![envelope];
                while let Some(next) = self.next_message() {
                    waiting.push(next);
                }
                for mut envelope in waiting.into_iter().rev() {
                    let (host, context) = (&mut self.host, &mut self.context);
                    if let Err(said) = catch_panic(|| envelope.handle(host, context)) {
                        return self.on_crash(&said, now);
                    }
                }
                return StepResult::Handled;
            }
        }
        let (host, context) = (&mut self.host, &mut self.context);
        let handled = catch_panic(move || envelope.handle(host, context));
        match handled {
            Ok(()) => StepResult::Handled,
            Err(said) => self.on_crash(&said, now),
        }
    }

    fn replace_state(&mut self, other: Box<dyn SteppableActor>) {
        if let Ok(other) = other.into_any().downcast::<Self>() {
            self.host.replace_component(other.host);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may panic, without a word on the terminal; what the panic said comes back.
fn catch_panic(work: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    done.map_err(|panic| panic_message(&*panic))
}
