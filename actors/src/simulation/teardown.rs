//! How an episode ends: everybody leaves, the upstreams are well, and all that is left of the trouble must go away by itself.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_config::Priority;

use crate::breaker::{BreakerRejection, Outcome};
use crate::pool::PoolRejection;
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::credential_observer::has_capacity;
use crate::simulation::ledger::Invariant;
use crate::simulation::scenario::{Scenario, bucket_ids};
use crate::types::BucketId;

/// Longer than any hold, lease of a thread or poison lasts.
const QUIET_PERIOD: Duration = Duration::from_secs(12);
/// Nothing may keep a circuit from closing for longer, once its upstream is well: its longest open time, the longest lease,
/// and what a row of trials takes.
const CLOSED_WITHIN: Duration = Duration::from_secs(700);
/// What is told to come again at once, and at once again, does not heal either.
const TRIES_MAX: usize = 10_000;
/// Between two trials of a circuit that heals.
const SOON: Duration = Duration::from_millis(1);
/// Crashes that may wait in a mailbox.
const PENDING_CRASHES_MAX: usize = 300;

impl Scenario {
    /// Lets all end, and looks for what does not.
    pub(super) async fn tear_down(&mut self) {
        if self.has_violation() {
            return;
        }
        self.disconnect_all();
        self.run_until_idle();
        // Crashes that are ahead still hold actors down, each for a while. Who waited for a credential and left is forgotten as
        // the first comes back.
        let mut rested = false;
        for round in 0..PENDING_CRASHES_MAX {
            self.advance_until_idle(QUIET_PERIOD).await;
            let runs =
                self.stepped_actors.iter().all(|actor| actor.actor_stats().failed_for(self.now).is_none());
            let of_pools = self.shared.pools.iter().flat_map(|pool| pool.view(self.now).credentials);
            // The pool hears of it a moment after it is so.
            let rested_before = rested;
            rested = runs && of_pools.into_iter().all(|credential| has_capacity(&credential));
            if round > 2 && rested && rested_before {
                break;
            }
        }
        self.check_no_leaks();
        let circuits: Vec<CircuitRef> = self.shared.circuits(self.now).map(|(circuit, _)| circuit).collect();
        for circuit in circuits {
            self.check_circuit_closes(circuit).await;
        }
        for bucket in bucket_ids().take(self.shared.pools.len()) {
            self.check_pool_grants(bucket).await;
            self.check_all_picked(bucket.index());
        }
    }

    fn check_no_leaks(&mut self) {
        let mut ledger = self.shared.ledger.borrow_mut();
        let slots = self.shared.actors.monitor.in_flight();
        ledger.check(Invariant::Leak, slots == 0, || format!("{slots} slots, and nobody is there"));
        for (bucket, pool) in self.shared.pools.iter().enumerate() {
            let view = pool.view(self.now);
            let empty = view.in_flight == 0
                && view.queued == 0
                && view.endpoints.iter().all(|endpoint| endpoint.in_flight == 0);
            ledger
                .check(Invariant::Leak, empty, || format!("bucket {bucket}, and nobody is there: {view:?}"));
        }
        for (circuit, view) in self.shared.circuits(self.now) {
            ledger.check(Invariant::Leak, view.waiting == 0, || {
                format!("{} wait for {circuit:?}, and nobody is there", view.waiting)
            });
        }
        for actor in &self.stepped_actors {
            let (name, depth) = (actor.actor_stats().name(), actor.actor_stats().depth());
            ledger.check(Invariant::Leak, depth == 0, || {
                format!("{depth} seats of {name}, and nobody is there")
            });
        }
    }

    /// Tries until the circuit is closed.
    async fn check_circuit_closes(&mut self, circuit: CircuitRef) {
        let began = self.now;
        let mut tries = 0;
        while !self.shared.ledger.borrow().is_closed(circuit) && !self.has_violation() {
            tries += 1;
            if self.now.saturating_duration_since(began) > CLOSED_WITHIN || tries > TRIES_MAX {
                let view = self.shared.circuits(self.now).find(|(other, _)| *other == circuit);
                let what = format!("does not heal: {view:?}");
                self.shared.ledger.borrow_mut().record_violation(Invariant::Stuck, what);
                return;
            }
            let wait = match self.run_trial(circuit) {
                Ok(wait) => wait,
                Err(
                    BreakerRejection::Open { retry_after, .. }
                    | BreakerRejection::HalfOpenFull { retry_after },
                ) => retry_after,
                // Shadowed circuits refuse nobody, and forced ones are not drawn.
                Err(BreakerRejection::Forced { retry_after }) => retry_after,
                Err(BreakerRejection::Unavailable(error)) => error.retry_after(),
            };
            self.advance_until_idle(wait.max(Duration::from_nanos(1))).await;
        }
    }

    /// One call that goes well; says when to come again.
    fn run_trial(&mut self, circuit: CircuitRef) -> Result<Duration, BreakerRejection> {
        let breaker = self.shared.breaker(circuit).clone();
        let check = breaker.check(circuit.id, self.now)?;
        let ticket = self.poll_answer(breaker.acquire(circuit.id, check));
        let Some(ticket) = ticket.transpose()? else { return Ok(SOON) };
        let decided = self.shared.ledger.borrow().nanos(self.now);
        // In shadow mode an open circuit is passed by, and what comes of it is none of its evidence.
        let wait = if ticket.is_trial().is_some() { SOON } else { Duration::from_secs(1) };
        {
            let mut ledger = self.shared.ledger.borrow_mut();
            let decided = (decided, decided);
            let trial =
                ticket.is_trial().and_then(|is_trial| ledger.record_ticket(circuit, is_trial, decided));
            if let Some(trial) = trial {
                ledger.circuit(circuit).record_trial_end(trial, true);
            }
        }
        ticket.report(Outcome::Success);
        self.run_until_idle();
        Ok(wait)
    }

    /// Who comes now gets a permit at once, or, where a crash was still ahead or credentials are left alone, once that is over.
    async fn check_pool_grants(&mut self, bucket: BucketId) {
        let pool = self.shared.pools[bucket.index()].clone();
        let mut permit = self.poll_answer(pool.acquire(Priority::Low, self.now + QUIET_PERIOD));
        for _ in 0..PENDING_CRASHES_MAX {
            let wait = match permit {
                Some(Err(PoolRejection::Unavailable(_))) => QUIET_PERIOD,
                Some(Err(PoolRejection::NoCredential { retry_after, .. })) => retry_after,
                _ => break,
            };
            self.advance_until_idle(wait).await;
            permit = self.poll_answer(pool.acquire(Priority::Low, self.now + QUIET_PERIOD));
        }
        let what = || format!("nobody is there, and bucket {} answers {permit:?}", bucket.index());
        self.shared.ledger.borrow_mut().check(Invariant::Stuck, matches!(permit, Some(Ok(_))), what);
    }

    async fn advance_until_idle(&mut self, span: Duration) {
        self.advance(span).await;
        self.run_until_idle();
    }

    /// Asks, and has the actors answer without time passing.
    pub(super) fn poll_answer<T>(&mut self, asking: impl Future<Output = T>) -> Option<T> {
        let mut asking = pin!(asking);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = asking.as_mut().poll(&mut context) {
            return Some(answer);
        }
        self.run_until_idle();
        match asking.as_mut().poll(&mut context) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
}
