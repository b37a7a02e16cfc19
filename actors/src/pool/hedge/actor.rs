//! Messages of hedging and their handlers.

use std::time::Instant;

use crate::actor_shell::MessageHandler;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::gate::ticket::{EndpointId, Permit};
use crate::pool::hedge::{HedgeRefusal, LatencyTails};

/// Asks for a permit for a hedge.
pub(crate) struct AcquireHedge {
    /// The slow endpoint.
    pub(crate) avoid: EndpointId,
}

impl ActorMessage for AcquireHedge {
    type Reply = Result<Permit, HedgeRefusal>;
    const NAME: &'static str = "pool.hedge";

    fn message_fingerprint(&self) -> u64 {
        self.avoid.0 as u64
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<AcquireHedge> for Pool {
    type Decision = Result<(), HedgeRefusal>;

    fn decide(&self, _: &AcquireHedge, now: Instant) -> Self::Decision {
        self.state.decide_hedge(now)
    }

    fn apply(
        &mut self,
        message: AcquireHedge,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Permit, HedgeRefusal> {
        decision?;
        let permit = self.state.grant_hedge(message.avoid, now);
        self.log_events();
        permit
    }
}

/// Enough time has passed to evaluate the counted reads.
pub(crate) struct UpdateLatencyTails;

impl ActorMessage for UpdateLatencyTails {
    type Reply = ();
    const NAME: &'static str = "pool.learn_tails";

    fn message_fingerprint(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl MessageHandler<UpdateLatencyTails> for Pool {
    type Decision = Option<LatencyTails>;

    fn decide(&self, _: &UpdateLatencyTails, now: Instant) -> Option<LatencyTails> {
        self.state.sample_tails(now)
    }

    fn apply(&mut self, _: UpdateLatencyTails, tails: Option<LatencyTails>, _: Instant) {
        if let Some(tails) = tails {
            self.state.set_tails(tails);
        }
    }
}
