//! Restarts a crashed actor in place (S2): the same address, the same mailbox, and waiting messages are handled.
//!
//! `actix::Supervisor` cannot do this: a panic unwinds through its poll, and the actor is lost with its queue. This
//! future polls the public `ContextFut` inside `catch_unwind` and calls its `restart()`, which drops timers and
//! spawned futures but keeps the actor and its mailbox. Restart intensity and back-off are in `intensity.rs`. While
//! an actor is held down it is not polled: messages stay queued, and its handle refuses new ones.
//!
//! An actor ends when it is stopped or when all its addresses are dropped, and only then (`docs/design/supervision.md`).
//! A stopped actor is dropped with its state, even while handles keep its address.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use actix::dev::ContextFut;
use actix::dev::channel::AddressReceiver;
use actix::{Actor, Context};
use slog::{Logger, error, info};
use tokio::time::Sleep;

use crate::actor_shell::{ActorShell, Component};
use crate::actor_stats::ActorStats;
use crate::clock;
use crate::intensity::{Intensity, RestartDecision};
#[cfg(any(test, feature = "simulation"))]
use crate::simulation::{SteppableActor, SteppedActor};

/// A prepared actor of any component type.
pub(crate) trait Runnable: Send {
    /// Runs the actor under supervision on the current thread.
    fn start(self: Box<Self>);

    /// Converts it into an actor that handles one message per call, for the simulation.
    #[cfg(any(test, feature = "simulation"))]
    fn into_stepped(self: Box<Self>) -> Box<dyn SteppableActor>;
}

/// Everything that the supervisor needs to run an actor.
pub(crate) struct Prepared<C: Component> {
    pub(crate) shell: ActorShell<C>,
    pub(crate) mailbox: AddressReceiver<ActorShell<C>>,
    pub(crate) intensity: Intensity,
    pub(crate) stats: Arc<ActorStats>,
    pub(crate) log: Logger,
}

impl<C: Component> Runnable for Prepared<C> {
    fn start(self: Box<Self>) {
        let Self { shell, mailbox, intensity, stats, log } = *self;
        supervise(shell, mailbox, intensity, stats, log);
    }

    #[cfg(any(test, feature = "simulation"))]
    fn into_stepped(self: Box<Self>) -> Box<dyn SteppableActor> {
        let Self { shell, mailbox, intensity, stats, log: _ } = *self;
        Box::new(SteppedActor::new(shell, mailbox, intensity, stats))
    }
}

/// Runs a component under supervision on the current thread.
pub(crate) fn supervise<C: Component>(
    shell: ActorShell<C>,
    mailbox: AddressReceiver<ActorShell<C>>,
    intensity: Intensity,
    stats: Arc<ActorStats>,
    log: Logger,
) {
    let actor = Context::with_receiver(mailbox).into_future(shell);
    actix_rt::spawn(SupervisionTask { actor, intensity, hold: None, stats, log });
}

struct SupervisionTask<A>
where
    A: Actor<Context = Context<A>>,
{
    actor: ContextFut<A, Context<A>>,
    intensity: Intensity,
    hold: Option<Pin<Box<Sleep>>>,
    stats: Arc<ActorStats>,
    log: Logger,
}

impl<A> SupervisionTask<A>
where
    A: actix::Supervised + Actor<Context = Context<A>>,
{
    /// Restarts the actor in place; false if no address is left.
    fn restart(&mut self) -> bool {
        let actor = &mut self.actor;
        // A panic in our own `restarting` must not lose the actor either.
        catch_unwind(AssertUnwindSafe(|| actor.restart())).unwrap_or(true)
    }

    fn on_crash(&mut self, panic: &(dyn Any + Send)) {
        self.stats.count_restart();
        let generation = self.stats.generation();
        let now = clock::now();
        match self.intensity.record_crash(now) {
            RestartDecision::Restart => {
                error!(self.log, "actor crashed and was restarted"; "panic" => panic_message(panic), "generation" => generation);
            }
            RestartDecision::HoldDown(hold) => {
                let until = now + hold;
                self.stats.set_failed_until(Some(until));
                self.hold = Some(Box::pin(tokio::time::sleep_until(until.into())));
                error!(self.log, "actor crashed too often and is held down"; "panic" => panic_message(panic),
                    "generation" => generation, "hold_ms" => u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
            }
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a string".to_owned())
}

impl<A> Future for SupervisionTask<A>
where
    A: actix::Supervised + Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(hold) = &mut this.hold {
            if hold.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.hold = None;
            this.stats.set_failed_until(None);
            info!(this.log, "actor runs again after being held down"; "generation" => this.stats.generation());
        }
        let actor = &mut this.actor;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(actor).poll(cx)));
        if this.stats.has_ended() {
            return Poll::Ready(());
        }
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(panic) => this.on_crash(&*panic),
        }
        if !this.restart() {
            return Poll::Ready(());
        }
        // Yield between restarts, so that a crash loop does not starve the requests on the same thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
