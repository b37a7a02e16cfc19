//! The gate and its queue, generic over what a waiter is; the choice of endpoint is `rotation.rs`, that of credential `roster.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::Priority;

use crate::pool::budget::{Budget, RetryTicket, Window};
use crate::pool::credential::{CredentialId, CredentialTicket};
use crate::pool::drain::{Drain, turn_after};
use crate::pool::handle::PoolBounds;
use crate::pool::hedge::{HedgeRefusal, Hedging, Purse, Tails};
use crate::pool::line::Line;
use crate::pool::roster::{Room, Roster};
use crate::pool::rotation::Rotation;
use crate::pool::samples::{Learner, Moved};
use crate::pool::signs::Signs;
use crate::pool::ticket::{EndpointId, EndpointTicket, GateShared, Permit};

/// Somebody in the queue.
pub(crate) trait Waiter {
    /// Whether it has left.
    fn gone(&self) -> bool;
    /// Hands the permit over, or gives it back because the waiter has left.
    fn hand(self, permit: Permit) -> Result<(), Permit>;
    /// Tells it that it waits in vain.
    fn dismiss(self, dismissal: Dismissal);
}

/// Why somebody waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dismissal {
    pub(crate) cause: DismissalCause,
    /// When those that wait will have been served; nothing where that is not known.
    pub(crate) retry_after: Duration,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DismissalCause {
    /// The queue is full, and one of a higher class came.
    Displaced,
    /// The queue is overloaded, and the newest go first.
    Overload,
}

/// What to do with a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The gate is free and nobody waits.
    Grant,
    /// Wait for a permit to fall free.
    Queue,
    /// There is no waiting for one.
    Refuse(Refusal),
}

/// Why a request cannot wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Even the queue is full.
    Full {
        /// Waiters.
        queued: usize,
        /// When those will have been served; nothing where that is not known.
        retry_after: Duration,
    },
    /// Its turn would come too late.
    Late {
        /// When its turn would come.
        expected: Duration,
        /// How long it could wait.
        left: Duration,
    },
    /// No credential may be used for longer than a request waits.
    Out {
        /// When the first may be used again.
        until: Instant,
        /// Whether the upstream refused it.
        is_refused: bool,
    },
}

/// No other credential has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoCredential;

/// One bucket's pool.
#[derive(Debug)]
pub(crate) struct PoolState<W> {
    shared: Arc<GateShared>,
    bounds: PoolBounds,
    line: Line<W>,
    drain: Drain,
    signs: Arc<Signs>,
    rotation: Rotation,
    budget: Budget,
    /// None where there is nothing to choose.
    roster: Option<Roster>,
    /// How wide the gate is, where that is learnt.
    learner: Option<Learner>,
    /// None where nothing is hedged.
    hedging: Option<Hedging>,
}

impl<W: Waiter> PoolState<W> {
    pub(crate) fn new(
        shared: Arc<GateShared>,
        bounds: PoolBounds,
        signs: Arc<Signs>,
        rotation: Rotation,
        budget: Budget,
    ) -> Self {
        let drain = Drain::new(bounds.concurrent_max);
        let line = Line::new(bounds.overload);
        Self {
            shared,
            bounds,
            line,
            drain,
            signs,
            rotation,
            budget,
            roster: None,
            learner: None,
            hedging: None,
        }
    }

    /// With hedges for slow reads.
    pub(crate) fn with_hedging(self, hedging: Option<Hedging>) -> Self {
        Self { hedging, ..self }
    }

    /// With credentials to choose from.
    pub(crate) fn with_roster(self, roster: Option<Roster>) -> Self {
        Self { roster, ..self }
    }

    /// The choice among the credentials.
    pub(crate) fn roster(&mut self) -> Option<&mut Roster> {
        self.roster.as_mut()
    }

    /// Learns how wide the gate is to be, up to its bound.
    pub(crate) fn learning(self, learner: Option<Learner>) -> Self {
        Self { learner, ..self }
    }

    /// Permits that may be out now.
    pub(crate) fn limit(&self) -> usize {
        let max = self.bounds.concurrent_max;
        self.learner.as_ref().map_or(max, |learner| learner.limit().min(max))
    }

    /// Looks at what requests have told since. Waiters have a share in a limit that rises.
    pub(crate) fn learn(&mut self, now: Instant) -> Option<Moved> {
        let moved = self.learner.as_mut()?.look(now)?;
        if moved.to > moved.from {
            self.serve_queue(now);
        }
        Some(moved)
    }

    /// The choice among the endpoints.
    pub(crate) fn rotation(&mut self) -> &mut Rotation {
        &mut self.rotation
    }

    /// What becomes of a request that must have begun by its deadline.
    pub(crate) fn decide(&self, priority: Priority, deadline: Instant, now: Instant) -> Decision {
        if self.has_place(now) && self.line.is_deserted() {
            return Decision::Grant;
        }
        let left = deadline.saturating_duration_since(now).min(self.bounds.queue_timeout);
        let room = self.room(now);
        if let Room::Out { until, is_refused } = room
            && until > now + left
        {
            return Decision::Refuse(Refusal::Out { until, is_refused });
        }
        // While no credential may be used the queue stands still, which says nothing of its pace.
        let pace = self.drain.pace(now).filter(|_| !matches!(room, Room::Out { .. }));
        let turn = |ahead: usize| pace.map(|pace| turn_after(pace, ahead));
        let is_late = |ahead: usize| ahead > 0 && turn(ahead).is_some_and(|turn| turn > left);
        // Waiters that left are counted out only where it matters: when the queue looks too long.
        if self.line.len() < self.bounds.queued_max && !is_late(self.line.ahead(priority)) {
            return Decision::Queue;
        }
        let (queued, ahead) = (self.line.live(), self.line.live_ahead(priority));
        if queued >= self.bounds.queued_max && !self.line.yields_to(priority) {
            return Decision::Refuse(Refusal::Full { queued, retry_after: turn(ahead).unwrap_or_default() });
        }
        match turn(ahead) {
            Some(expected) if is_late(ahead) => Decision::Refuse(Refusal::Late { expected, left }),
            _ => Decision::Queue,
        }
    }

    /// Builds a permit, for which there must be a place: the live counts rise here and nowhere else.
    pub(crate) fn grant(&mut self, now: Instant) -> Option<Permit> {
        self.build(None, now)
    }

    fn build(&mut self, avoid: Option<EndpointId>, now: Instant) -> Option<Permit> {
        let credential = match &mut self.roster {
            Some(roster) => Some(roster.pick(None, now)?),
            None => None,
        };
        let endpoint = self.pick(avoid, now);
        Some(Permit::new(&self.shared, endpoint, credential))
    }

    /// When to serve the queue again though nobody may have given anything back: a credential comes back then.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if self.line.is_empty() || self.shared.gate.live() >= self.limit() {
            return None;
        }
        match self.room(now) {
            Room::Free => None,
            Room::Busy { next } => next,
            Room::Out { until, .. } => Some(until),
        }
    }

    /// Queues a waiter. The gate may have fallen free since `decide`, so the queue is served at once.
    pub(crate) fn enqueue(&mut self, waiter: W, priority: Priority, now: Instant) {
        if self.line.len() >= self.bounds.queued_max {
            self.line.prune();
        }
        self.line.look(now);
        if self.line.len() >= self.bounds.queued_max
            && let Some(last) = self.line.displace(priority)
        {
            let is_overloaded = self.line.is_overloaded();
            let cause = if is_overloaded { DismissalCause::Overload } else { DismissalCause::Displaced };
            last.dismiss(self.dismissal(cause, now));
        }
        self.line.join(waiter, priority, now);
        self.drain.waits(now);
        self.serve_queue(now);
    }

    /// A permit fell free.
    pub(crate) fn nudge(&mut self, now: Instant) {
        self.shared.gate.nudge_received();
        self.serve_queue(now);
    }

    /// Another endpoint for a retry, the one to avoid only if no other is usable.
    pub(crate) fn repick(&mut self, avoid: EndpointId, now: Instant) -> EndpointTicket {
        self.pick(Some(avoid), now)
    }

    /// Another credential for a retry, if one has room; or, unless it must be another, that one while it is in rotation.
    pub(crate) fn trade(
        &mut self,
        credential: CredentialId,
        must: bool,
        now: Instant,
    ) -> Result<Option<CredentialTicket>, NoCredential> {
        match &mut self.roster {
            None => Ok(None),
            Some(roster) if !must && roster.is_in_rotation(credential, now) => Ok(None),
            Some(roster) => roster.pick(Some(credential), now).map(Some).ok_or(NoCredential),
        }
    }

    /// Whether the bucket may try once more.
    pub(crate) fn decide_retry(&self, now: Instant) -> Option<Window> {
        self.budget.decide(self.shared.granted(), self.shared.gate.live(), now)
    }

    /// Tries once more.
    pub(crate) fn retry(&mut self, window: Window) -> RetryTicket {
        let ticket = self.budget.spend(window);
        self.shared.publish_spent(self.budget.spent());
        ticket
    }

    /// Whether a slow read may be asked for a second time: only into a place that is free at once.
    pub(crate) fn decide_hedge(&self, now: Instant) -> Result<Purse, HedgeRefusal> {
        let purse = self.hedging.as_ref().and_then(|hedging| hedging.decide(self.shared.granted()));
        let purse = purse.ok_or(HedgeRefusal::Budget)?;
        if self.has_place(now) && self.line.is_deserted() { Ok(purse) } else { Err(HedgeRefusal::Gate) }
    }

    /// Asks for it a second time, at another endpoint if one is usable.
    pub(crate) fn hedge(&mut self, purse: Purse, avoid: EndpointId, now: Instant) -> Option<Permit> {
        let permit = self.build(Some(avoid), now)?;
        if let Some(hedging) = &mut self.hedging {
            hedging.spend(purse);
        }
        self.budget.count_hedge(self.shared.granted(), now);
        self.shared.publish_spent(self.budget.spent());
        Some(permit)
    }

    /// What the tails are with what was counted by now.
    pub(crate) fn look_at_tails(&self, now: Instant) -> Option<Tails> {
        self.hedging.as_ref().map(|hedging| hedging.look(now))
    }

    pub(crate) fn learn_tails(&mut self, tails: Tails) {
        if let Some(hedging) = &mut self.hedging {
            hedging.learn(tails);
        }
    }

    /// Drops the waiters, whose callers see the crash; the live tickets keep the counts, and nothing is left to retry with.
    pub(crate) fn rebuild(&mut self, now: Instant) {
        self.budget.forfeit(self.shared.granted(), now);
        if let Some(hedging) = &mut self.hedging {
            hedging.forfeit(self.shared.granted(), now);
        }
        self.line.clear();
        self.drain.forget();
        self.shared.publish_pace(None);
        if let Some(roster) = &mut self.roster {
            roster.rebuild();
        }
        if let Some(learner) = &mut self.learner {
            learner.forget(now);
        }
        self.shared.gate.publish_waiting(0);
        self.shared.gate.nudge_received();
        self.rotation.publish_all();
    }

    fn serve_queue(&mut self, now: Instant) {
        self.line.look(now);
        loop {
            self.hand_on(now);
            for late in self.line.shed(now) {
                late.dismiss(self.dismissal(DismissalCause::Overload, now));
            }
            // A ticket that falls from here on sees the waiters and nudges; one that fell before is seen here.
            self.shared.gate.publish_waiting(self.line.len());
            if self.line.is_empty() || !self.has_place(now) {
                break;
            }
        }
        if self.line.is_empty() {
            self.line.look(now);
            self.drain.emptied(now);
        }
        self.shared.publish_pace(self.drain.pace(now));
    }

    fn dismissal(&self, cause: DismissalCause, now: Instant) -> Dismissal {
        let drained = self.drain.pace(now).map(|pace| turn_after(pace, self.line.len()));
        Dismissal { cause, retry_after: drained.unwrap_or_default() }
    }

    /// Hands the places that are free to those whose turn it is.
    fn hand_on(&mut self, now: Instant) {
        let somebody_waited = !self.line.is_empty();
        let mut is_handed = false;
        while self.has_place(now) {
            let Some(turn) = self.line.whose_turn() else { break };
            let Some(permit) = self.grant(now) else { break };
            let Some(waiter) = self.line.take(turn) else { break };
            // One that left in this moment gives the permit back, which then goes to the next.
            if waiter.hand(permit).is_ok() {
                self.drain.handed(now);
                is_handed = true;
            }
        }
        if somebody_waited && self.line.is_empty() && !is_handed {
            // Nobody took it, but it did fall free while somebody seemed to wait.
            self.drain.handed(now);
        }
    }

    /// A place in the gate, and a credential to go with it.
    fn has_place(&self, now: Instant) -> bool {
        self.shared.gate.live() < self.limit() && self.room(now) == Room::Free
    }

    fn room(&self, now: Instant) -> Room {
        self.roster.as_ref().map_or(Room::Free, |roster| roster.room(now))
    }

    fn pick(&mut self, avoid: Option<EndpointId>, now: Instant) -> EndpointTicket {
        let chosen = self.rotation.pick(avoid.map(|id| id.0), now);
        EndpointTicket::new(EndpointId(chosen), self.signs.of(chosen).in_flight())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
