//! Restarts a crashed actor in place: same address, same mailbox, messages that waited are served (S2).
//!
//! `actix::Supervisor` does not: a panic unwinds through its poll and the actor is lost for good, with its
//! queue. What it lacks is a `catch_unwind` around the public `ContextFut`, whose `restart()` drops timers and
//! spawned futures but keeps the actor and its mailbox. That is all this future adds, with restart intensity
//! and back-off around it. While an actor is held down, nothing is polled: messages stay queued and its
//! handle refuses new ones.
//!
//! An actor whose addresses are all gone ends; nothing else ends one.

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

/// An actor that is not running yet, whatever its component.
pub(crate) trait Runnable: Send {
    /// Runs it under supervision on the current thread.
    fn start(self: Box<Self>);

    /// Has it handle messages one at a time, when somebody says so, instead of running.
    #[cfg(any(test, feature = "simulation"))]
    fn into_stepped(self: Box<Self>) -> Box<dyn SteppableActor>;
}

/// What an actor's life begins with.
pub(crate) struct Prepared<C: Component> {
    pub(crate) host: ActorShell<C>,
    pub(crate) mailbox: AddressReceiver<ActorShell<C>>,
    pub(crate) intensity: Intensity,
    pub(crate) stats: Arc<ActorStats>,
    pub(crate) log: Logger,
}

impl<C: Component> Runnable for Prepared<C> {
    fn start(self: Box<Self>) {
        let Self { host, mailbox, intensity, stats, log } = *self;
        supervise(host, mailbox, intensity, stats, log);
    }

    #[cfg(any(test, feature = "simulation"))]
    fn into_stepped(self: Box<Self>) -> Box<dyn SteppableActor> {
        let Self { host, mailbox, intensity, stats, log: _ } = *self;
        Box::new(SteppedActor::new(host, mailbox, intensity, stats))
    }
}

/// Runs a component under supervision on the current thread.
pub(crate) fn supervise<C: Component>(
    host: ActorShell<C>,
    mailbox: AddressReceiver<ActorShell<C>>,
    intensity: Intensity,
    stats: Arc<ActorStats>,
    log: Logger,
) {
    let actor = Context::with_receiver(mailbox).into_future(host);
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
    /// Restarts in place; false when nobody holds the address any more.
    fn restart(&mut self) -> bool {
        let actor = &mut self.actor;
        // `restarting` is ours and small, but a panic in it must not lose the actor either.
        catch_unwind(AssertUnwindSafe(|| actor.restart())).unwrap_or(true)
    }

    fn on_crash(&mut self, panic: &(dyn Any + Send)) {
        self.stats.count_restart();
        let generation = self.stats.generation();
        let now = clock::now();
        match self.intensity.record_crash(now) {
            RestartDecision::Restart => {
                error!(self.log, "actor crashed and restarts"; "panic" => panic_message(panic), "generation" => generation);
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

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
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
            info!(this.log, "actor is tried again"; "generation" => this.stats.generation());
        }
        let actor = &mut this.actor;
        match catch_unwind(AssertUnwindSafe(|| Pin::new(actor).poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(panic) => this.on_crash(&*panic),
        }
        if !this.restart() {
            return Poll::Ready(());
        }
        // Yielding between restarts keeps a crash loop from starving the thread it shares with requests.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
