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

use crate::host::{Component, Host};
use crate::intensity::{Intensity, Verdict};
use crate::supervisor::text;
use crate::vitals::Vitals;

/// What became of an actor's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// No message waits.
    Idle,
    /// The supervisor would hold it down.
    Held,
    Handled,
    Crashed,
    /// It panicked of its own accord.
    Panicked(String),
}

/// A fault of the machinery around an actor, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    None,
    /// The newest message first.
    NewestFirst,
    /// This one is lost.
    Lose,
    /// It stays where it is, and is said to be handled.
    Nothing,
}

/// A staged actor, whatever its component.
pub(crate) trait Stage {
    /// The actor's name.
    fn vitals(&self) -> &Arc<Vitals>;
    /// Has it handle a message.
    fn turn(&mut self, tampering: Tampering, now: Instant) -> Turn;
    /// Goes on with the state of another of its kind.
    fn lose_to(&mut self, other: Box<dyn Stage>);
    /// What `lose_to` takes apart.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// An actor on the stage.
pub(crate) struct Staged<C: Component> {
    host: Host<C>,
    mailbox: AddressReceiver<Host<C>>,
    context: Context<Host<C>>,
    intensity: Intensity,
    vitals: Arc<Vitals>,
    started: bool,
    held_until: Option<Instant>,
}

impl<C: Component> Staged<C> {
    pub(crate) fn new(
        host: Host<C>,
        mailbox: AddressReceiver<Host<C>>,
        intensity: Intensity,
        vitals: Arc<Vitals>,
    ) -> Self {
        Self { host, mailbox, context: Context::new(), intensity, vitals, started: false, held_until: None }
    }

    fn next(&mut self) -> Option<Envelope<Host<C>>> {
        match Pin::new(&mut self.mailbox).poll_next(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(envelope) => envelope,
            Poll::Pending => None,
        }
    }

    fn crashed(&mut self, said: &str, now: Instant) -> Turn {
        self.vitals.restarted();
        if let Verdict::HoldDown(hold) = self.intensity.crashed(now) {
            self.vitals.set_failed_until(Some(now + hold));
            self.held_until = Some(now + hold);
        }
        // A restart drops the timers.
        self.context = Context::new();
        self.started = false;
        let host = &mut self.host;
        let context = &mut self.context;
        let restart = quietly(|| host.restarting(context));
        if let Err(said) = restart {
            return Turn::Panicked(format!("in restarting: {said}"));
        }
        if said.starts_with("chaos crash") { Turn::Crashed } else { Turn::Panicked(said.to_owned()) }
    }
}

impl<C: Component> Stage for Staged<C> {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn turn(&mut self, tampering: Tampering, now: Instant) -> Turn {
        if let Some(until) = self.held_until {
            if now < until {
                return Turn::Held;
            }
            self.held_until = None;
            self.vitals.set_failed_until(None);
        }
        let (host, context) = (&mut self.host, &mut self.context);
        if !self.started {
            if let Err(said) = quietly(|| host.started(context)) {
                return self.crashed(&said, now);
            }
            self.started = true;
        }
        if tampering == Tampering::Nothing {
            return Turn::Handled;
        }
        let Some(mut envelope) = self.next() else { return Turn::Idle };
        match tampering {
            Tampering::None | Tampering::Nothing => {}
            Tampering::Lose => return Turn::Handled,
            Tampering::NewestFirst => {
                let mut waiting = vec![envelope];
                while let Some(next) = self.next() {
                    waiting.push(next);
                }
                for mut envelope in waiting.into_iter().rev() {
                    let (host, context) = (&mut self.host, &mut self.context);
                    if let Err(said) = quietly(|| envelope.handle(host, context)) {
                        return self.crashed(&said, now);
                    }
                }
                return Turn::Handled;
            }
        }
        let (host, context) = (&mut self.host, &mut self.context);
        let handled = quietly(move || envelope.handle(host, context));
        match handled {
            Ok(()) => Turn::Handled,
            Err(said) => self.crashed(&said, now),
        }
    }

    fn lose_to(&mut self, other: Box<dyn Stage>) {
        if let Ok(other) = other.into_any().downcast::<Self>() {
            self.host.lose_to(other.host);
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
fn quietly(work: impl FnOnce()) -> Result<(), String> {
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
    done.map_err(|panic| text(&*panic))
}
