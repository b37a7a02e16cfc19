//! Retries and hedges of a request: further attempts, each of which a budget must allow (R5).

use std::time::Instant;

use crate::pool::gate::ticket::{EndpointId, Permit};
use crate::pool::hedge::{HedgeRefusal, LatencyTails};
use crate::pool::retry_budget::RetryTicket;
use crate::pool::state::{PoolState, Waiter};

impl<W: Waiter> PoolState<W> {
    /// Whether the retry budget has room for one more retry.
    pub(crate) fn decide_retry(&self, now: Instant) -> bool {
        self.retry_budget.has_room(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Spends the retry, if the budget still has room.
    pub(crate) fn grant_retry(&mut self, now: Instant) -> Option<RetryTicket> {
        self.retry_budget.spend(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Whether a slow read may be hedged: only with a permit that is free at once.
    pub(crate) fn decide_hedge(&self, now: Instant) -> Result<(), HedgeRefusal> {
        if !self.hedging.as_ref().is_some_and(|hedging| hedging.has_room(self.shared.granted())) {
            return Err(HedgeRefusal::Budget);
        }
        if self.has_capacity(now) && self.wait_queue.is_all_cancelled() {
            Ok(())
        } else {
            Err(HedgeRefusal::Gate)
        }
    }

    /// Grants a hedge, at another endpoint if one is usable.
    pub(crate) fn grant_hedge(&mut self, avoid: EndpointId, now: Instant) -> Result<Permit, HedgeRefusal> {
        let permit = self.build_permit(Some(avoid), now).ok_or(HedgeRefusal::Gate)?;
        let requests = self.shared.granted();
        if !self.hedging.as_mut().is_some_and(|hedging| hedging.spend(requests)) {
            return Err(HedgeRefusal::Budget);
        }
        self.retry_budget.count_hedge(requests, now);
        Ok(permit)
    }

    /// The latency tails with the samples up to now.
    pub(crate) fn sample_tails(&self, now: Instant) -> Option<LatencyTails> {
        self.hedging.as_ref().map(|hedging| hedging.sample(now))
    }

    pub(crate) fn set_tails(&mut self, tails: LatencyTails) {
        if let Some(hedging) = &mut self.hedging {
            hedging.set_tails(tails);
        }
    }
}
