//! An actor that handles one message per call, when the scheduler selects it. Shell, mailbox and state are those of the
//! product.
//!
//! The supervisor's part after a crash is done here too (restart in place, restart intensity, hold-down), because the
//! supervisor's future drains a mailbox at each poll and would leave no choice between two messages. A panic that is no
//! injected crash is a defect, even if the actor survives it. Timers of an actor do not run; their readings are
//! injected.

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

/// Result of an actor's step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepResult {
    /// No message waits.
    Idle,
    /// The supervisor would hold the actor down.
    HeldDown,
    Handled,
    Crashed,
    /// A panic that was not injected.
    Panicked(String),
}

/// A planted fault in an actor's surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepFault {
    None,
    /// The newest message first.
    NewestFirst,
    /// The message is lost.
    LoseMessage,
    /// The message stays in the mailbox and counts as handled.
    SkipMessage,
}

/// A stepped actor of any component.
pub(crate) trait SteppableActor {
    /// The actor's statistics.
    fn actor_stats(&self) -> &Arc<ActorStats>;
    /// Handles a message.
    fn step(&mut self, fault: StepFault, now: Instant) -> StepResult;
    /// Replaces the state by that of another actor of the same kind.
    fn replace_state(&mut self, other: Box<dyn SteppableActor>);
    /// For the downcast in `replace_state`.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// An actor that the scheduler steps.
pub(crate) struct SteppedActor<C: Component> {
    shell: ActorShell<C>,
    mailbox: AddressReceiver<ActorShell<C>>,
    context: Context<ActorShell<C>>,
    intensity: Intensity,
    stats: Arc<ActorStats>,
    is_started: bool,
    held_until: Option<Instant>,
}

impl<C: Component> SteppedActor<C> {
    pub(crate) fn new(
        shell: ActorShell<C>,
        mailbox: AddressReceiver<ActorShell<C>>,
        intensity: Intensity,
        stats: Arc<ActorStats>,
    ) -> Self {
        Self {
            shell,
            mailbox,
            context: Context::new(),
            intensity,
            stats,
            is_started: false,
            held_until: None,
        }
    }

    fn next_message(&mut self) -> Option<Envelope<ActorShell<C>>> {
        match Pin::new(&mut self.mailbox).poll_next(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(envelope) => envelope,
            Poll::Pending => None,
        }
    }

    fn on_crash(&mut self, message: &str, now: Instant) -> StepResult {
        self.stats.count_restart();
        if let RestartDecision::HoldDown(hold) = self.intensity.record_crash(now) {
            self.stats.set_failed_until(Some(now + hold));
            self.held_until = Some(now + hold);
        }
        // A restart drops the timers.
        self.context = Context::new();
        self.is_started = false;
        let shell = &mut self.shell;
        let context = &mut self.context;
        let restart = catch_panic(|| shell.restarting(context));
        if let Err(message) = restart {
            return StepResult::Panicked(format!("in restarting: {message}"));
        }
        if message.starts_with("chaos crash") {
            StepResult::Crashed
        } else {
            StepResult::Panicked(message.to_owned())
        }
    }
}

impl<C: Component> SteppableActor for SteppedActor<C> {
    fn actor_stats(&self) -> &Arc<ActorStats> {
        &self.stats
    }

    fn step(&mut self, fault: StepFault, now: Instant) -> StepResult {
        if self.stats.has_ended() {
            // A message that came after the stop is dropped. Its caller gets an error.
            while self.next_message().is_some() {}
            return StepResult::Idle;
        }
        if let Some(until) = self.held_until {
            if now < until {
                return StepResult::HeldDown;
            }
            self.held_until = None;
            self.stats.set_failed_until(None);
        }
        let (shell, context) = (&mut self.shell, &mut self.context);
        if !self.is_started {
            if let Err(message) = catch_panic(|| shell.started(context)) {
                return self.on_crash(&message, now);
            }
            self.is_started = true;
        }
        if fault == StepFault::SkipMessage {
            return StepResult::Handled;
        }
        let Some(mut envelope) = self.next_message() else { return StepResult::Idle };
        match fault {
            StepFault::None | StepFault::SkipMessage => {}
            StepFault::LoseMessage => return StepResult::Handled,
            StepFault::NewestFirst => {
                let mut waiting = vec![envelope];
                while let Some(next) = self.next_message() {
                    waiting.push(next);
                }
                for mut envelope in waiting.into_iter().rev() {
                    let (shell, context) = (&mut self.shell, &mut self.context);
                    if let Err(message) = catch_panic(|| envelope.handle(shell, context)) {
                        return self.on_crash(&message, now);
                    }
                }
                return StepResult::Handled;
            }
        }
        let (shell, context) = (&mut self.shell, &mut self.context);
        let handled = catch_panic(move || envelope.handle(shell, context));
        match handled {
            Ok(()) => StepResult::Handled,
            Err(message) => self.on_crash(&message, now),
        }
    }

    fn replace_state(&mut self, other: Box<dyn SteppableActor>) {
        if let Ok(other) = other.into_any().downcast::<Self>() {
            self.shell.replace_component(other.shell);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs work that may panic without output on the terminal; returns the panic's message.
fn catch_panic(work: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default_hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                default_hook(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    done.map_err(|panic| panic_message(&*panic))
}
