//! How an episode ends: everybody leaves, the upstreams are well, and all that is left of the trouble must go away by itself.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate_config::Priority;

use crate::breaker::{BreakerRejection, Outcome};
use crate::pool::PoolRejection;
use crate::simulation::circuits::Circuit;
use crate::simulation::credentials::has_room;
use crate::simulation::episode::{Episode, buckets};
use crate::simulation::ledger::Invariant;
use crate::types::BucketId;

/// Longer than any hold, lease of a thread or poison lasts.
const QUIET: Duration = Duration::from_secs(12);
/// Nothing may keep a circuit from closing for longer, once its upstream is well: its longest open time, the longest lease,
/// and what a row of trials takes.
const HEALED_WITHIN: Duration = Duration::from_secs(700);
/// What is told to come again at once, and at once again, does not heal either.
const TRIES_MAX: usize = 10_000;
/// Between two trials of a circuit that heals.
const SOON: Duration = Duration::from_millis(1);
/// Crashes that may wait in a mailbox.
const CRASHES_AHEAD: usize = 300;

impl Episode {
    /// Lets all end, and looks for what does not.
    pub(super) async fn end(&mut self) {
        if self.is_wrong() {
            return;
        }
        self.hang_up_all();
        self.come_to_rest();
        // Crashes that are ahead still hold actors down, each for a while. Who waited for a credential and left is forgotten as
        // the first comes back.
        let mut rested = false;
        for round in 0..CRASHES_AHEAD {
            self.wait(QUIET).await;
            let runs = self.stages.iter().all(|stage| stage.vitals().failed_for(self.now).is_none());
            let of_pools = self.world.pools.iter().flat_map(|pool| pool.view(self.now).credentials);
            // The pool hears of it a moment after it is so.
            let rested_before = rested;
            rested = runs && of_pools.into_iter().all(|credential| has_room(&credential));
            if round > 2 && rested && rested_before {
                break;
            }
        }
        self.nothing_is_left();
        let circuits: Vec<Circuit> = self.world.circuits(self.now).map(|(circuit, _)| circuit).collect();
        for circuit in circuits {
            self.heals(circuit).await;
        }
        for bucket in buckets().take(self.world.pools.len()) {
            self.serves(bucket).await;
            self.rotates(bucket.index());
        }
    }

    fn nothing_is_left(&mut self) {
        let mut ledger = self.world.ledger.borrow_mut();
        let slots = self.world.actors.monitor.in_flight();
        ledger.check(Invariant::Leak, slots == 0, || format!("{slots} slots, and nobody is there"));
        for (bucket, pool) in self.world.pools.iter().enumerate() {
            let view = pool.view(self.now);
            let empty = view.in_flight == 0
                && view.queued == 0
                && view.endpoints.iter().all(|endpoint| endpoint.in_flight == 0);
            ledger
                .check(Invariant::Leak, empty, || format!("bucket {bucket}, and nobody is there: {view:?}"));
        }
        for (circuit, view) in self.world.circuits(self.now) {
            ledger.check(Invariant::Leak, view.held == 0, || {
                format!("{} wait for {circuit:?}, and nobody is there", view.held)
            });
        }
        for stage in &self.stages {
            let (name, depth) = (stage.vitals().name(), stage.vitals().depth());
            ledger.check(Invariant::Leak, depth == 0, || {
                format!("{depth} seats of {name}, and nobody is there")
            });
        }
    }

    /// Tries until the circuit is closed.
    async fn heals(&mut self, circuit: Circuit) {
        let began = self.now;
        let mut tries = 0;
        while !self.world.ledger.borrow().is_closed(circuit) && !self.is_wrong() {
            tries += 1;
            if self.now.saturating_duration_since(began) > HEALED_WITHIN || tries > TRIES_MAX {
                let view = self.world.circuits(self.now).find(|(other, _)| *other == circuit);
                let what = format!("does not heal: {view:?}");
                self.world.ledger.borrow_mut().accuse(Invariant::Wedge, what);
                return;
            }
            let wait = match self.try_once(circuit) {
                Ok(wait) => wait,
                Err(
                    BreakerRejection::Open { retry_after, .. }
                    | BreakerRejection::HalfOpenFull { retry_after },
                ) => retry_after,
                // Shadowed circuits refuse nobody, and forced ones are not drawn.
                Err(BreakerRejection::Forced { retry_after }) => retry_after,
                Err(BreakerRejection::Unavailable(error)) => error.retry_after(),
            };
            self.wait(wait.max(Duration::from_nanos(1))).await;
        }
    }

    /// One call that goes well; says when to come again.
    fn try_once(&mut self, circuit: Circuit) -> Result<Duration, BreakerRejection> {
        let breaker = self.world.breaker(circuit).clone();
        let clearance = breaker.peek(circuit.id, self.now)?;
        let ticket = self.await_answer(breaker.permit(circuit.id, clearance));
        let Some(ticket) = ticket.transpose()? else { return Ok(SOON) };
        let decided = self.world.ledger.borrow().nanos(self.now);
        // In shadow mode an open circuit is passed by, and what comes of it is none of its evidence.
        let wait = if ticket.is_trial().is_some() { SOON } else { Duration::from_secs(1) };
        {
            let mut ledger = self.world.ledger.borrow_mut();
            let decided = (decided, decided);
            let trial = ticket.is_trial().and_then(|is_trial| ledger.entered(circuit, is_trial, decided));
            if let Some(trial) = trial {
                ledger.circuit(circuit).ended(trial, true);
            }
        }
        ticket.report(Outcome::Success);
        self.come_to_rest();
        Ok(wait)
    }

    /// Who comes now gets a permit at once, or, where a crash was still ahead or credentials are left alone, once that is over.
    async fn serves(&mut self, bucket: BucketId) {
        let pool = self.world.pools[bucket.index()].clone();
        let mut permit = self.await_answer(pool.acquire(Priority::Low, self.now + QUIET));
        for _ in 0..CRASHES_AHEAD {
            let wait = match permit {
                Some(Err(PoolRejection::Unavailable(_))) => QUIET,
                Some(Err(PoolRejection::NoCredential { retry_after, .. })) => retry_after,
                _ => break,
            };
            self.wait(wait).await;
            permit = self.await_answer(pool.acquire(Priority::Low, self.now + QUIET));
        }
        let what = || format!("nobody is there, and bucket {} answers {permit:?}", bucket.index());
        self.world.ledger.borrow_mut().check(Invariant::Wedge, matches!(permit, Some(Ok(_))), what);
    }

    async fn wait(&mut self, span: Duration) {
        self.pass(span).await;
        self.come_to_rest();
    }

    /// Asks, and has the actors answer without time passing.
    pub(super) fn await_answer<T>(&mut self, asking: impl Future<Output = T>) -> Option<T> {
        let mut asking = pin!(asking);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = asking.as_mut().poll(&mut context) {
            return Some(answer);
        }
        self.come_to_rest();
        match asking.as_mut().poll(&mut context) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
}
