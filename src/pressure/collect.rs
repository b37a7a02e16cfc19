//! Returns free pages of the allocator to the kernel.
//!
//! mimalloc keeps freed pages for reuse. Each thread keeps its own pages and returns them to the kernel only during later allocations, so a
//! thread without work keeps them. Therefore each thread collects its heap: with every sample at `warning` or above, and with every eighth
//! sample at `normal` while few requests are in flight. See `docs/design/memory.md`.

// Links the allocator that `src/main.rs` installs.
use mimalloc as _;
use tidegate_actors::{Level, MonitorView};

/// Samples between two collections at `normal`.
const IDLE_SAMPLES: u32 = 8;
/// A thread collects at `normal` only up to this number of requests in flight: with more, freed pages are soon needed again.
const IDLE_IN_FLIGHT_MAX: u64 = 8;

/// Schedule of a thread's collections.
#[derive(Debug, Default)]
pub(crate) struct CollectPlan {
    samples_since: u32,
}

impl CollectPlan {
    /// Whether to collect with this sample.
    fn is_due(&mut self, level: Level, in_flight: Option<u64>) -> bool {
        self.samples_since = self.samples_since.saturating_add(1);
        let is_idle = in_flight.is_some_and(|requests| requests <= IDLE_IN_FLIGHT_MAX);
        let is_due = level > Level::Normal || (is_idle && self.samples_since >= IDLE_SAMPLES);
        if is_due {
            self.samples_since = 0;
        }
        is_due
    }
}

/// Collects the heap of this thread if the schedule requires it.
pub(crate) fn collect_if_due(plan: &mut CollectPlan, view: &MonitorView) {
    if plan.is_due(view.level, view.in_flight()) {
        collect();
    }
}

#[expect(unsafe_code, reason = "the mimalloc crate has no safe interface for this")]
fn collect() {
    // The declaration of mimalloc.h.
    unsafe extern "C" {
        safe fn mi_collect(force: bool);
    }
    // Frees the empty pages of the calling thread, then purges all free memory of the process.
    mi_collect(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X8: memory is returned with every sample before requests are refused
    #[test]
    fn from_warning_on_every_sample_collects() {
        let mut plan = CollectPlan::default();
        for level in [Level::Warning, Level::Critical, Level::Exhausted] {
            assert!((0..10).all(|_| plan.is_due(level, Some(5000))), "{level:?}");
            assert!(plan.is_due(level, None), "{level:?}");
        }
    }

    /// X8: an idle process collects every 8th sample, a busy one does not
    #[test]
    fn an_idle_process_collects_every_8th_sample() {
        let mut plan = CollectPlan::default();
        let collected = (0..80).filter(|_| plan.is_due(Level::Normal, Some(0))).count();
        assert_eq!(collected, 10);
        assert!((0..80).all(|_| !plan.is_due(Level::Normal, Some(9))));
        assert!(plan.is_due(Level::Normal, Some(8)), "the load has ended");
    }

    /// X8: the allocator's function is linked and may be called at any time
    #[test]
    fn collecting_does_not_change_memory_in_use() {
        let bytes = vec![7_u8; 1 << 20];
        collect();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
