//! End of a scenario: all clients disconnect, the upstreams are healthy, and every remaining fault must resolve by
//! itself.

use std::time::Duration;

use tidegate_config::Priority;

use crate::breaker::{BreakerRejection, Outcome};
use crate::pool::PoolRejection;
use crate::simulation::circuit_observer::CircuitRef;
use crate::simulation::credential_observer::has_capacity;
use crate::simulation::ledger::Invariant;
use crate::simulation::poll_answer;
use crate::simulation::scenario::{Scenario, bucket_ids};
use crate::types::BucketId;

/// Longer than any hold-down, thread lease or quarantine lasts.
const QUIET_PERIOD: Duration = Duration::from_secs(12);
/// Longest time until a circuit closes once its upstream is healthy: its longest open time, the longest lease, and the
/// time of a series of trials.
const CLOSED_WITHIN: Duration = Duration::from_secs(700);
/// A circuit that keeps asking for an immediate retry does not recover either.
const TRIES_MAX: usize = 10_000;
/// Pause between two trials of a circuit that recovers.
const SOON: Duration = Duration::from_millis(1);
/// Most crashes pending in a mailbox.
const PENDING_CRASHES_MAX: usize = 300;

impl Scenario {
    /// Ends everything and checks what does not end.
    pub(super) async fn tear_down(&mut self) {
        if self.has_violation() {
            return;
        }
        self.disconnect_all();
        self.run_until_idle();
        // Pending crashes still hold actors down, each for some time. A cancelled waiter for a credential is removed
        // when the first credential returns.
        let mut is_idle = false;
        for round in 0..PENDING_CRASHES_MAX {
            self.advance_until_idle(QUIET_PERIOD).await;
            let runs =
                self.stepped_actors.iter().all(|actor| actor.actor_stats().failed_for(self.now).is_none());
            let of_pools = self.shared.pools.iter().flat_map(|pool| pool.view(self.now).credentials);
            // The pool is notified a moment after the change.
            let was_idle = is_idle;
            is_idle = runs && of_pools.into_iter().all(|credential| has_capacity(&credential));
            if round > 2 && is_idle && was_idle {
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
        ledger.check(Invariant::Leak, slots == 0, || format!("{slots} slots in use without a client"));
        for (bucket, pool) in self.shared.pools.iter().enumerate() {
            let view = pool.view(self.now);
            let empty = view.in_flight == 0
                && view.queued == 0
                && view.endpoints.iter().all(|endpoint| endpoint.in_flight == 0);
            ledger.check(Invariant::Leak, empty, || {
                format!("bucket {bucket} is in use without a client: {view:?}")
            });
        }
        for (circuit, view) in self.shared.circuits(self.now) {
            ledger.check(Invariant::Leak, view.waiting == 0, || {
                format!("{} waiters for {circuit:?} without a client", view.waiting)
            });
        }
        for actor in &self.stepped_actors {
            let (name, depth) = (actor.actor_stats().name(), actor.actor_stats().depth());
            ledger.check(Invariant::Leak, depth == 0, || {
                format!("{depth} mailbox slots of {name} in use without a client")
            });
        }
    }

    /// Makes trial calls until the circuit is closed.
    async fn check_circuit_closes(&mut self, circuit: CircuitRef) {
        let began = self.now;
        let mut tries = 0;
        while !self.shared.ledger.borrow().is_closed(circuit) && !self.has_violation() {
            tries += 1;
            if self.now.saturating_duration_since(began) > CLOSED_WITHIN || tries > TRIES_MAX {
                let view = self.shared.circuits(self.now).find(|(other, _)| *other == circuit);
                let what = format!("the circuit does not close: {view:?}");
                self.shared.ledger.borrow_mut().record_violation(Invariant::Stuck, what);
                return;
            }
            let wait = match self.run_trial(circuit) {
                Ok(wait) => wait,
                Err(
                    BreakerRejection::Open { retry_after, .. }
                    | BreakerRejection::HalfOpenFull { retry_after },
                ) => retry_after,
                // Shadowed circuits refuse no request, and forced ones are not drawn.
                Err(BreakerRejection::Forced { retry_after }) => retry_after,
                Err(BreakerRejection::Unavailable(error)) => error.retry_after(),
            };
            self.advance_until_idle(wait.max(Duration::from_nanos(1))).await;
        }
    }

    /// Makes a successful call; returns the pause until the next one.
    fn run_trial(&mut self, circuit: CircuitRef) -> Result<Duration, BreakerRejection> {
        let breaker = self.shared.breaker(circuit).clone();
        let check = breaker.check(circuit.id, self.now)?;
        let ticket = self.poll_answer(breaker.acquire(circuit.id, check));
        let Some(ticket) = ticket.transpose()? else { return Ok(SOON) };
        let decided = self.shared.ledger.borrow().nanos(self.now);
        // In shadow mode an open circuit is passed, and the call's outcome does not count for the circuit.
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

    /// Checks that a new request gets a permit at once, or after a pending crash or a credential's time out of
    /// rotation.
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
        let what = || format!("bucket {} answers {permit:?} without a client", bucket.index());
        self.shared.ledger.borrow_mut().check(Invariant::Stuck, matches!(permit, Some(Ok(_))), what);
    }

    async fn advance_until_idle(&mut self, span: Duration) {
        self.advance(span).await;
        self.run_until_idle();
    }

    /// Sends a message and lets the actors answer without time passing.
    pub(super) fn poll_answer<T>(&mut self, asking: impl Future<Output = T>) -> Option<T> {
        poll_answer(asking, || self.run_until_idle())
    }
}
