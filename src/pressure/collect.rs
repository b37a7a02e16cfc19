//! Returns free pages of the allocator to the kernel.
//!
//! mimalloc keeps freed pages for reuse. Each thread keeps its own pages and returns them to the kernel only during later allocations, so a
//! thread without work keeps them. Therefore each thread collects its heap: often at `warning` or above, and seldom at `normal` while few
//! requests are in flight. See `docs/design/memory.md`.

use std::time::{Duration, Instant};

// Links the allocator that `src/main.rs` installs.
use mimalloc as _;
use tidegate_actors::{Level, MonitorView};

use crate::pressure::schedule::has_passed;

/// Time between two collections at `normal`.
const IDLE_EVERY: Duration = Duration::from_secs(2);
/// Time between two collections at `warning` or above.
const SHORT_EVERY: Duration = Duration::from_millis(250);
/// A thread collects at `normal` only up to this number of requests in flight: with more, freed pages are soon needed again.
const IDLE_IN_FLIGHT_MAX: u64 = 8;

/// Schedule of a thread's collections.
#[derive(Debug, Default)]
pub(crate) struct CollectPlan {
    collected: Option<Instant>,
}

impl CollectPlan {
    /// Whether to collect with this sample.
    fn is_due(&mut self, level: Level, in_flight: Option<u64>, now: Instant) -> bool {
        let is_idle = in_flight.is_some_and(|requests| requests <= IDLE_IN_FLIGHT_MAX);
        let every = if level > Level::Normal { SHORT_EVERY } else { IDLE_EVERY };
        let is_due = (level > Level::Normal || is_idle) && has_passed(every, self.collected, now);
        if is_due {
            self.collected = Some(now);
        }
        is_due
    }
}

/// Collects the heap of this thread if the schedule requires it.
pub(crate) fn collect_if_due(plan: &mut CollectPlan, view: &MonitorView, now: Instant) {
    if plan.is_due(view.level, view.in_flight(), now) {
        collect();
    }
}

/// Collects the heap of this thread and returns all free memory of the process. After large parts have been freed this takes tens of
/// milliseconds, for which no thread may stop that serves requests.
#[expect(unsafe_code, reason = "the mimalloc crate has no safe interface for this")]
pub(crate) fn collect() {
    // The declaration of mimalloc.h.
    unsafe extern "C" {
        safe fn mi_collect(force: bool);
    }
    // Frees the empty pages of the calling thread, then purges all free memory of the process.
    mi_collect(true);
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// The collections in ten seconds with a sample every 100 ms.
    fn collections(level: Level, in_flight: Option<u64>) -> usize {
        let (mut plan, start) = (CollectPlan::default(), clock::now());
        let samples = (0..100).map(|n| start + Duration::from_millis(100) * n);
        samples.filter(|now| plan.is_due(level, in_flight, *now)).count()
    }

    /// X8: from `warning` on memory is returned several times a second, before requests are refused
    #[test]
    fn memory_is_returned_often_from_warning_on() {
        for level in [Level::Warning, Level::Critical, Level::Exhausted] {
            for in_flight in [Some(5000), None] {
                let count = collections(level, in_flight);
                assert!((30..=40).contains(&count), "{level:?}: {count}");
            }
        }
    }

    /// X8: an idle process collects every two seconds, a busy one does not
    #[test]
    fn an_idle_process_collects_seldom() {
        assert_eq!(collections(Level::Normal, Some(8)), 5);
        assert_eq!(collections(Level::Normal, Some(9)), 0);
        assert_eq!(collections(Level::Normal, None), 0);
    }

    /// X8: the allocator's function is linked and may be called at any time
    #[test]
    fn collecting_does_not_change_memory_in_use() {
        let bytes = vec![7_u8; 1 << 20];
        collect();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
