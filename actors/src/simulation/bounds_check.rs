//! Compares the counts of the product with those of the clients: within bounds after each step, and equal when idle.
//!
//! The simulation is idle when every actor has handled its messages and every client has seen its answer, without time
//! passing. Then no grant is in transit, and a difference is a leak.

use crate::breaker::CircuitState;
use crate::simulation::credential_observer::has_capacity;
use crate::simulation::ledger::Invariant;
use crate::simulation::scenario::Scenario;

/// Far more steps than the messages of all mailboxes and clients need.
const IDLE_STEPS_MAX: usize = 100_000;

impl Scenario {
    /// Checks the bounds that hold at every moment.
    pub(super) fn check_bounds(&mut self) {
        let mut ledger = self.shared.ledger.borrow_mut();
        let upstreams = self.plan.config.buckets.values().map(|bucket| &bucket.upstream);
        for ((bucket, pool), upstream) in self.shared.pools.iter().enumerate().zip(upstreams) {
            let max = upstream.concurrency.max_concurrent.get();
            let (queued, queued_max) = (pool.waiting(), upstream.concurrency.max_queued);
            let (live, limit) = (pool.in_flight(), pool.limit());
            ledger.check(Invariant::Gate, (1..=max).contains(&limit), || {
                format!("bucket {bucket}: a limit of {limit}, {max} allowed")
            });
            let (held, calls) = (ledger.buckets[bucket].permits.get(), ledger.buckets[bucket].calls.get());
            ledger.check(Invariant::Gate, calls <= held && held <= live && live <= max, || {
                format!("bucket {bucket}: {calls} calls, {held} permits held, {live} counted, {max} allowed")
            });
            let (retries, budget) = (ledger.buckets[bucket].retries.get(), upstream.retry.budget);
            let share = max * budget.percent as usize / 100;
            ledger.check(Invariant::Gate, retries <= share.max(budget.min_concurrent as usize), || {
                format!("bucket {bucket}: {retries} retries in flight, {budget:?} of {max}")
            });
            ledger.check(Invariant::Cache, queued <= queued_max, || {
                format!("bucket {bucket}: {queued} waiters, {queued_max} allowed")
            });
        }
        let (held, counted) = (ledger.slots.get(), self.shared.actors.monitor.in_flight());
        let max = self.plan.config.server.max_concurrent_requests.get();
        ledger.check(Invariant::Gate, held <= counted && counted <= max, || {
            format!("slots: {held} held, {counted} counted, {max} allowed")
        });
    }

    /// Runs actors and woken clients until none has work, without time passing.
    pub(super) fn run_until_idle(&mut self) {
        let mut steps = 0;
        loop {
            let before = steps;
            for at in 0..self.stepped_actors.len() {
                while !self.has_violation() && steps < IDLE_STEPS_MAX && self.step_actor(at) {
                    steps += 1;
                }
            }
            for at in 0..self.clients.len() {
                if self.clients[at].as_ref().is_some_and(|client| client.waker.is_woken()) {
                    self.poll_client(at);
                    steps += 1;
                }
            }
            if steps >= IDLE_STEPS_MAX {
                self.shared
                    .ledger
                    .borrow_mut()
                    .record_violation(Invariant::Stuck, "actors and clients do not become idle");
            }
            if steps == before || self.has_violation() {
                return;
            }
        }
    }

    pub(super) fn check_idle(&mut self) {
        self.run_until_idle();
        self.check_bounds();
        let mut ledger = self.shared.ledger.borrow_mut();
        if ledger.violation.is_some() {
            return;
        }
        ledger.discard_history();
        let (held, counted) = (ledger.slots.get(), self.shared.actors.monitor.in_flight());
        ledger.check(Invariant::Leak, held == counted, || format!("slots: {held} held, {counted} counted"));
        for (circuit, view) in self.shared.circuits(self.now) {
            let is_forgotten = view.state == CircuitState::Closed && view.waiting > 0;
            ledger.check(Invariant::Stuck, !is_forgotten, || {
                format!("{} requests wait for {circuit:?}, which is closed", view.waiting)
            });
        }
        for (bucket, pool) in self.shared.pools.iter().enumerate() {
            let (view, held) = (pool.view(self.now), ledger.buckets[bucket].permits.get());
            let runs = pool.actor().actor_stats().failed_for(self.now).is_none();
            let what = || format!("bucket {bucket}, {held} held: {view:?}");
            // Wide gates may cache permits for a moment.
            let exact = view.concurrent_max >= 64 || held == view.in_flight;
            ledger.check(
                Invariant::Leak,
                exact
                    && view.in_flight
                        == view.endpoints.iter().map(|endpoint| endpoint.in_flight).sum::<usize>(),
                what,
            );
            let of_credentials: usize = view.credentials.iter().map(|one| one.in_flight).sum();
            let has_each_one = view.credentials.is_empty() || of_credentials == view.in_flight;
            let is_equal = ledger.credentials[bucket].matches(&view.credentials);
            ledger.check(Invariant::Leak, has_each_one && is_equal, what);
            let has_room = view.credentials.is_empty() || view.credentials.iter().any(has_capacity);
            let is_stalled = runs && view.queued > 0 && view.in_flight < pool.limit() && has_room;
            ledger.check(Invariant::Stuck, !is_stalled, what);
        }
    }
}
