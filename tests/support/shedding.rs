//! The target of the process's cursor in tests.

use super::gateway::Builder;

impl Builder {
    /// The process sheds when its threads wait for the CPU, and they do while many tests share two cores. A test of shedding sets its own
    /// target.
    pub(super) fn without_process_shedding(self) -> Self {
        let sets_it = |text: &str| text.to_ascii_uppercase().contains("SHEDDING");
        let is_set = self.environment.iter().any(|(name, _)| sets_it(name) && !sets_it("CONCURRENCY"));
        if is_set || self.file.as_deref().is_some_and(sets_it) {
            return self;
        }
        self.set("shedding.target_wait_ms", "60000")
    }
}
