//! End of a scenario: all clients disconnect, all configurations but the current one retire, and nothing of them is left.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::simulation::ledger::Invariant;
use crate::simulation::poll_answer;
use crate::simulation::reload::config_plan::ConfigPlan;
use crate::simulation::reload::scenario::ReloadScenario;
use crate::types::{IpKey, OperationClass};

/// Longer than any hold-down, thread lease or quarantine lasts.
const QUIET_PERIOD: Duration = Duration::from_secs(12);
/// Most rounds until every pending crash is over.
const ROUNDS_MAX: usize = 300;
/// Far more steps than the messages of all mailboxes need.
const IDLE_STEPS_MAX: usize = 100_000;

impl ReloadScenario {
    /// Ends everything and checks what is left.
    pub(super) async fn tear_down(&mut self) {
        if self.has_violation() {
            return;
        }
        self.clients.iter_mut().for_each(|client| *client = None);
        for round in 0..ROUNDS_MAX {
            self.run_until_idle();
            self.advance(QUIET_PERIOD).await;
            let current = Rc::clone(&self.shared.current.borrow());
            self.slots.fill(current);
            self.run_until_idle();
            self.retire_unused();
            let runs =
                self.stepped_actors.iter().all(|actor| actor.actor_stats().failed_for(self.now).is_none());
            if round > 3 && self.preparing.is_none() && runs {
                break;
            }
        }
        self.run_until_idle();
        self.check_bounds();
        self.check_actors();
        self.shared.ledger.borrow_mut().check_no_permits();
        self.check_limits();
        self.check_series();
    }

    fn run_until_idle(&mut self) {
        let mut steps = 0;
        loop {
            let before = steps;
            for at in 0..self.stepped_actors.len() {
                while !self.has_violation() && steps < IDLE_STEPS_MAX && self.step_actor(at) {
                    steps += 1;
                }
            }
            self.continue_reload();
            self.retire_unused();
            if steps >= IDLE_STEPS_MAX {
                let what = || "the actors do not become idle".to_owned();
                self.shared.ledger.borrow_mut().check(Invariant::Stuck, false, what);
            }
            if steps == before || self.has_violation() {
                return;
            }
        }
    }

    /// The running actors are those of the current configuration, and each has an empty mailbox.
    fn check_actors(&mut self) {
        let current = Rc::clone(&self.shared.current.borrow());
        let configurations = self.in_use.len();
        let mut expected: Vec<String> =
            current.actors.actor_stats().map(|stats| stats.name().to_owned()).collect();
        let running = self.stepped_actors.iter().map(|actor| actor.actor_stats());
        let depth: usize = running.clone().map(|stats| stats.depth()).sum();
        let mut running: Vec<String> = running.map(|stats| stats.name().to_owned()).collect();
        expected.sort_unstable();
        running.sort_unstable();
        let mut ledger = self.shared.ledger.borrow_mut();
        ledger.check(Invariant::Leak, configurations == 1, || {
            format!("{configurations} configurations without a client")
        });
        ledger.check(Invariant::Leak, expected == running, || {
            format!("the configuration has {expected:?}, {running:?} run")
        });
        ledger
            .check(Invariant::Leak, depth == 0, || format!("{depth} mailbox slots in use without a client"));
        let slots = current.actors.monitor.in_flight();
        ledger.check(Invariant::Leak, slots == 0, || format!("{slots} slots in use without a client"));
    }

    /// The limiter has no limit of a bucket or key that no configuration has.
    fn check_limits(&mut self) {
        let (buckets, keys) = std::mem::take(&mut self.gone);
        let limiter = self.shared.current.borrow().actors.limiter.clone();
        let (class, nobody) = (OperationClass::Read, IpKey::V4(u32::MAX));
        let general = self.ask(limiter.peek(None, class, Some(nobody), None));
        let Some(Ok(general)) = general else { return };
        let of_buckets = buckets.into_iter().map(|bucket| (Some(bucket), None));
        let of_keys = keys.into_iter().map(|key| (None, Some(key)));
        for (bucket, key) in of_buckets.chain(of_keys) {
            let found = self.ask(limiter.peek(bucket, class, Some(nobody), key));
            let Some(Ok(found)) = found else { continue };
            let is_gone = found.len() == general.len();
            self.shared.ledger.borrow_mut().check(Invariant::Leak, is_gone, || {
                format!("{bucket:?} {key:?} is gone and has a limit: {found:?}")
            });
        }
    }

    /// Sends a message and lets the actors answer without time passing.
    fn ask<T>(&mut self, asking: impl Future<Output = T>) -> Option<T> {
        poll_answer(asking, || self.run_until_idle())
    }

    /// No metric has a series of a bucket that the current configuration lacks.
    fn check_series(&mut self) {
        let current = Rc::clone(&self.shared.current.borrow());
        current.actors.observe(self.now);
        let mut found = BTreeSet::new();
        for family in self.registry.gather() {
            for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
                let name = label.value().rsplit(':').next().unwrap_or_default();
                if ConfigPlan::is_bucket_name(name) && current.upstream(name).is_none() {
                    found.insert(format!("{} of {name}", family.name()));
                }
            }
        }
        let what = || format!("series of buckets that are gone: {found:?}");
        self.shared.ledger.borrow_mut().check(Invariant::Leak, found.is_empty(), what);
    }
}
