//! Checks of the learnt concurrency limit, above which nothing is granted, and of the resource level, which falls only
//! after its dwell time.

use crate::monitor::Level;
use crate::simulation::ledger::Invariant;
use crate::simulation::scenario::Scenario;

impl Scenario {
    /// Permits in use and limit of each bucket.
    pub(super) fn gates(&self) -> Vec<(usize, usize)> {
        self.shared.pools.iter().map(|pool| (pool.in_flight(), pool.limit())).collect()
    }

    /// A limit may fall below the permits in use; then nothing is granted. One step changes the limit at most once.
    /// After a crash in the step, a rise and the grants it allowed may be lost before they are observed.
    pub(super) fn check_gates(&mut self, before: &[(usize, usize)], crashed: bool) {
        let mut ledger = self.shared.ledger.borrow_mut();
        for (bucket, ((old_live, old_limit), (live, limit))) in before.iter().zip(self.gates()).enumerate() {
            ledger.check(
                Invariant::Gate,
                crashed || live <= *old_live || live <= limit.max(*old_limit),
                || {
                    format!(
                        "bucket {bucket}: {live} in use after {old_live}, limit {old_limit} and then {limit}"
                    )
                },
            );
        }
    }

    /// A level that rose stays for its dwell time, also after a crash.
    pub(super) fn check_level(&mut self, before: Level) {
        let level = self.shared.actors.monitor.level();
        if level == before {
            return;
        }
        let stayed = self.now.saturating_duration_since(self.level_rose_at);
        let dwell = self.plan.config.monitor.dwell;
        if level > before {
            self.level_rose_at = self.now;
        }
        self.shared.ledger.borrow_mut().check(Invariant::Level, level > before || stayed >= dwell, || {
            format!("{} fell to {} after {stayed:?} of {dwell:?}", before.as_str(), level.as_str())
        });
    }
}
