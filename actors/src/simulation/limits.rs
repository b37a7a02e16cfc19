//! What the gateway sets for itself: nobody is let in over the limit that a pool learns, and the level of resources falls only after
//! its dwell.

use crate::monitor::Level;
use crate::simulation::ledger::Invariant;
use crate::simulation::scenario::Scenario;

impl Scenario {
    /// Permits that are out, and how many may be, of each bucket.
    pub(super) fn gates(&self) -> Vec<(usize, usize)> {
        self.shared.pools.iter().map(|pool| (pool.in_flight(), pool.limit())).collect()
    }

    /// A limit may fall below what is out. Nothing is granted then. In a turn it moves once at most, unless that crashed: then what it
    /// rose to, and what was granted for that, may be forgotten before anybody could look.
    pub(super) fn check_gates(&mut self, before: &[(usize, usize)], crashed: bool) {
        let mut ledger = self.shared.ledger.borrow_mut();
        for (bucket, ((was_out, was), (out, is))) in before.iter().zip(self.gates()).enumerate() {
            ledger.check(Invariant::Gate, crashed || out <= *was_out || out <= is.max(*was), || {
                format!("bucket {bucket}: {out} out after {was_out}, though {was} and then {is} may be")
            });
        }
    }

    /// A level that rose is kept for its dwell before it falls, crash or not.
    pub(super) fn check_level(&mut self, before: Level) {
        let level = self.shared.actors.monitor.level();
        if level == before {
            return;
        }
        let kept = self.now.saturating_duration_since(self.level_rose_at);
        let dwell = self.plan.config.monitor.dwell;
        if level > before {
            self.level_rose_at = self.now;
        }
        self.shared.ledger.borrow_mut().check(Invariant::Level, level > before || kept >= dwell, || {
            format!("{} fell to {} after {kept:?} of {dwell:?}", before.as_str(), level.as_str())
        });
    }
}
