//! Messages without content: each wakes an actor, which then does what waits beside its mailbox. A crash over one loses nothing.

use std::time::Instant;

use crate::actor_shell::{Component, MessageHandler};
use crate::mailbox::ActorMessage;

/// A message that wakes an actor.
pub(crate) trait WakeUp: Send + 'static {
    /// The actor.
    type Actor: Component;
    /// The message's name in logs.
    const NAME: &'static str;
    /// Does what waits.
    fn wake(actor: &mut Self::Actor, now: Instant);
}

impl<W: WakeUp> ActorMessage for W {
    type Reply = ();
    const NAME: &'static str = <W as WakeUp>::NAME;
    // All messages of the type are equal.
    const CAN_BE_POISON: bool = false;

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

impl<C: Component, W: WakeUp<Actor = C>> MessageHandler<W> for C {
    type Decision = ();

    fn decide(&self, _: &W, _: Instant) {}

    fn apply(&mut self, _: W, (): (), now: Instant) {
        W::wake(self, now);
    }
}
