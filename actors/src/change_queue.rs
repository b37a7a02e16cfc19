//! Changes of the configuration on their way to an actor. They survive a crash of the actor.
//!
//! A message that an actor crashes over is lost. A lost change of a limit would let requests pass a limit, so the change
//! itself waits here, and the message is only a wake-up. The actor applies what waits when it handles the wake-up, and
//! after each restart before it handles the next message.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The changes that an actor has not applied yet.
#[derive(Debug)]
pub(crate) struct ChangeQueue<C>(Mutex<VecDeque<C>>);

impl<C> Default for ChangeQueue<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> ChangeQueue<C> {
    /// Adds a change. The caller wakes the actor afterwards.
    pub(crate) fn push(&self, change: C) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }

    /// Applies all changes in their order. A change leaves the queue after it was applied: if `apply` panics, it is
    /// applied again.
    pub(crate) fn apply_all(&self, mut apply: impl FnMut(&C)) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(change) = changes.front() {
            apply(change);
            changes.pop_front();
        }
    }

    /// Whether the actor has applied all changes.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// S5: changes are applied in their order, and a change that was not applied whole is applied again
    #[test]
    fn a_panic_loses_no_change() {
        let queue = ChangeQueue::default();
        (1..=3).for_each(|change| queue.push(change));
        let mut applied = Vec::new();
        let crashed = catch_unwind(AssertUnwindSafe(|| {
            queue.apply_all(|change| {
                applied.push(*change);
                assert_ne!(*change, 2, "crash");
            });
        }));
        assert!(crashed.is_err());
        queue.apply_all(|change| applied.push(*change));
        queue.apply_all(|change| applied.push(*change));
        assert_eq!(applied, [1, 2, 2, 3]);
    }
}
