//! The messages of hedging, and what the pool's shell does with them.

use std::time::Instant;

use crate::host::Serve;
use crate::mailbox::Request;
use crate::pool::actor::Pool;
use crate::pool::hedge::{HedgeRefusal, Purse, Tails};
use crate::pool::ticket::{EndpointId, Permit};

/// May I ask for it a second time?
pub(crate) struct Hedge {
    /// The endpoint that is slow.
    pub(crate) avoid: EndpointId,
}

impl Request for Hedge {
    type Reply = Result<Permit, HedgeRefusal>;
    const NAME: &'static str = "pool.hedge";

    fn likeness(&self) -> u64 {
        self.avoid.0 as u64
    }

    const CAN_BE_POISON: bool = false;
}

impl Serve<Hedge> for Pool {
    type Decision = Result<Purse, HedgeRefusal>;

    fn decide(&self, _: &Hedge, now: Instant) -> Self::Decision {
        self.state.decide_hedge(now)
    }

    fn apply(
        &mut self,
        message: Hedge,
        decision: Self::Decision,
        now: Instant,
    ) -> Result<Permit, HedgeRefusal> {
        let permit = self.state.hedge(decision?, message.avoid, now);
        self.report();
        permit.ok_or(HedgeRefusal::Gate)
    }
}

/// Reads have been counted.
pub(crate) struct LearnTails;

impl Request for LearnTails {
    type Reply = ();
    const NAME: &'static str = "pool.learn_tails";

    fn likeness(&self) -> u64 {
        0
    }

    const CAN_BE_POISON: bool = false;
}

impl Serve<LearnTails> for Pool {
    type Decision = Option<Tails>;

    fn decide(&self, _: &LearnTails, now: Instant) -> Option<Tails> {
        self.state.look_at_tails(now)
    }

    fn apply(&mut self, _: LearnTails, tails: Option<Tails>, _: Instant) {
        if let Some(tails) = tails {
            self.state.learn_tails(tails);
        }
    }
}
