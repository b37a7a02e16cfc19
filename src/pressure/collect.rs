//! Gives memory that the allocator keeps back to the kernel.
//!
//! mimalloc keeps freed pages for reuse: each thread keeps its own, and returns them to the kernel only in the course of later
//! allocations. A thread without work keeps them for ever. So each thread collects its heap: with every sample from `warning` on, and
//! at `normal` now and then while little is in flight.

// Links the allocator that `main.rs` installs.
use mimalloc as _;
use tidegate_actors::{Level, MonitorView};

/// Samples between two collections at `normal`.
const IDLE_SAMPLES: u32 = 8;
/// Requests in flight up to which a thread collects at `normal`: with more, freed pages are needed again at once.
const IDLE_IN_FLIGHT_MAX: u64 = 8;

/// Decides when a thread collects.
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

/// Collects the heap of this thread if it is time.
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

    /// X8: before anything is refused memory is given back with every sample
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
    fn an_idle_process_collects_now_and_then() {
        let mut plan = CollectPlan::default();
        let collected = (0..80).filter(|_| plan.is_due(Level::Normal, Some(0))).count();
        assert_eq!(collected, 10);
        assert!((0..80).all(|_| !plan.is_due(Level::Normal, Some(9))));
        assert!(plan.is_due(Level::Normal, Some(8)), "the load has ended");
    }

    /// X8: the allocator's function is there and may be called at any time
    #[test]
    fn collecting_leaves_memory_in_use_alone() {
        let bytes = vec![7_u8; 1 << 20];
        collect();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
