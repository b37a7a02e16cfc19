//! The queue of requests that wait for a permit, in three priority classes, generic over the waiter.
//!
//! Order (as HAProxy's `set-priority-class`): the highest class first, and first come, first served within a class. A
//! lower class gets the next permit after ten grants went past it, so it does not starve: its share is at least 1/11,
//! or 1/12 for each lower class if both wait.
//!
//! When the queue is full, the waiter that came last in the lowest class is displaced. It may be the newcomer itself;
//! without classes it always is. So a lower class never keeps a higher class out of the queue.
//!
//! With overload detection (`codel.rs`), an overloaded queue serves the newest of a class first and displaces the
//! oldest. It sheds the waiters that waited too long except one, so that a released permit finds a waiter. See
//! `docs/design/queue-and-permits.md`.

use std::collections::VecDeque;
use std::time::Instant;

use tidegate_config::Priority;

use crate::pool::queue::codel::{Codel, CodelSettings};
use crate::pool::state::Waiter;

/// Most grants in a row that may go past a waiting class.
const PASSED_OVER_MAX: u32 = 10;

/// A waiter and its arrival time.
#[derive(Debug)]
struct QueuedWaiter<W> {
    waiter: W,
    since: Instant,
}

impl<W: Waiter> QueuedWaiter<W> {
    fn is_live(&self) -> bool {
        !self.waiter.is_cancelled()
    }
}

/// Waiters of one class.
#[derive(Debug)]
struct PriorityClass<W> {
    waiting: VecDeque<QueuedWaiter<W>>,
    /// Grants to other classes since this class began to wait or was served.
    passed_over: u32,
}

/// The wait queue of one gate.
#[derive(Debug)]
pub(crate) struct WaitQueue<W> {
    /// Highest first.
    classes: [PriorityClass<W>; Priority::ALL.len()],
    codel: Option<Codel>,
}

/// The class to serve next.
#[derive(Debug)]
pub(crate) struct NextClass(usize);

impl<W: Waiter> WaitQueue<W> {
    /// An empty queue, with overload detection if `delay` is set.
    pub(crate) fn new(delay: Option<CodelSettings>) -> Self {
        let class = |_| PriorityClass { waiting: VecDeque::new(), passed_over: 0 };
        Self { classes: std::array::from_fn(class), codel: delay.map(Codel::new) }
    }

    /// Number of waiters, including cancelled ones.
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiting.is_empty())
    }

    /// Whether all waiters are cancelled.
    pub(crate) fn is_all_cancelled(&self) -> bool {
        !self.classes.iter().flat_map(|class| &class.waiting).any(QueuedWaiter::is_live)
    }

    /// Whether the newest waiter is served first.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.codel.is_some_and(|codel| codel.is_overloaded())
    }

    /// Number of waiters without cancelled ones.
    pub(crate) fn live_len(&self) -> usize {
        self.classes.iter().flat_map(|class| &class.waiting).filter(|entry| entry.is_live()).count()
    }

    /// Waiters ahead of a newcomer, including cancelled ones.
    pub(crate) fn len_ahead(&self, priority: Priority) -> usize {
        self.classes[..self.first_behind(priority)].iter().map(|class| class.waiting.len()).sum()
    }

    /// Waiters ahead of a newcomer without cancelled ones.
    pub(crate) fn live_len_ahead(&self, priority: Priority) -> usize {
        let ahead = self.classes[..self.first_behind(priority)].iter().flat_map(|class| &class.waiting);
        ahead.filter(|entry| entry.is_live()).count()
    }

    /// Whether a newcomer of this priority could displace a waiter.
    pub(crate) fn has_displaceable(&self, priority: Priority) -> bool {
        self.classes[self.first_behind(priority)..]
            .iter()
            .flat_map(|class| &class.waiting)
            .any(QueuedWaiter::is_live)
    }

    pub(crate) fn push(&mut self, waiter: W, priority: Priority, now: Instant) {
        self.classes[index(priority)].waiting.push_back(QueuedWaiter { waiter, since: now });
    }

    /// Removes the last waiter of the queue if a newcomer goes before it.
    pub(crate) fn displace(&mut self, priority: Priority) -> Option<W> {
        let (behind, newest_first) = (self.first_behind(priority), self.is_overloaded());
        let mut last = self.classes[behind..].iter_mut().rev();
        last.find_map(|class| match newest_first {
            true => class.waiting.pop_front(),
            false => class.waiting.pop_back(),
        })
        .map(|entry| entry.waiter)
    }

    /// Removes cancelled waiters.
    pub(crate) fn prune(&mut self) {
        for class in &mut self.classes {
            class.waiting.retain(QueuedWaiter::is_live);
        }
    }

    /// Arrival of the oldest waiter that is not cancelled. Overload reverses the order in which a class is served, so all
    /// are looked at.
    pub(crate) fn oldest_live(&self) -> Option<Instant> {
        let waiting = self.classes.iter().flat_map(|class| &class.waiting);
        waiting.filter(|entry| entry.is_live()).map(|entry| entry.since).min()
    }

    /// Updates the overload detection with the oldest waiter's age.
    pub(crate) fn update_overload(&mut self, now: Instant) {
        let Some(codel) = &mut self.codel else { return };
        for class in &mut self.classes {
            while class.waiting.front().is_some_and(|entry| !entry.is_live()) {
                class.waiting.pop_front();
            }
        }
        let oldest =
            self.classes.iter().filter_map(|class| class.waiting.front()).map(|entry| entry.since).min();
        codel.update(oldest, now);
    }

    /// In overload, removes the waiters that waited too long, lowest class first. One waiter always stays.
    pub(crate) fn shed(&mut self, now: Instant) -> Vec<W> {
        let mut shed = Vec::new();
        let Some(codel) = self.codel.filter(|codel| codel.is_overloaded()) else { return shed };
        self.prune();
        let mut others = self.len().saturating_sub(1);
        for class in self.classes.iter_mut().rev() {
            while others > 0 && class.waiting.front().is_some_and(|entry| codel.is_late(entry.since, now)) {
                shed.extend(class.waiting.pop_front().map(|entry| entry.waiter));
                others -= 1;
            }
        }
        shed
    }

    /// Selects the class to serve next.
    pub(crate) fn next_class(&mut self) -> Option<NextClass> {
        let newest_first = self.is_overloaded();
        for class in &mut self.classes {
            while class.next(newest_first).is_some_and(|entry| !entry.is_live()) {
                class.pop(newest_first);
            }
        }
        let waits = |class: &PriorityClass<W>| !class.waiting.is_empty();
        let overdue = |class: &PriorityClass<W>| waits(class) && class.passed_over >= PASSED_OVER_MAX;
        let next = self.classes.iter().position(overdue).or_else(|| self.classes.iter().position(waits));
        next.map(NextClass)
    }

    /// Removes the next waiter of that class.
    pub(crate) fn pop(&mut self, NextClass(next): NextClass) -> Option<W> {
        let newest_first = self.is_overloaded();
        let (higher, lower) = self.classes.split_at_mut(next + 1);
        for class in lower {
            class.passed_over = if class.waiting.is_empty() { 0 } else { class.passed_over + 1 };
        }
        let served = higher.last_mut()?;
        served.passed_over = 0;
        served.pop(newest_first).map(|entry| entry.waiter)
    }

    /// Removes all waiters.
    pub(crate) fn clear(&mut self) {
        for class in &mut self.classes {
            *class = PriorityClass { waiting: VecDeque::new(), passed_over: 0 };
        }
        if let Some(codel) = &mut self.codel {
            codel.reset();
        }
    }

    /// The first class that a newcomer of this priority goes before.
    fn first_behind(&self, priority: Priority) -> usize {
        if self.is_overloaded() { index(priority) } else { index(priority) + 1 }
    }
}

impl<W> PriorityClass<W> {
    fn next(&self, newest_first: bool) -> Option<&QueuedWaiter<W>> {
        if newest_first { self.waiting.back() } else { self.waiting.front() }
    }

    fn pop(&mut self, newest_first: bool) -> Option<QueuedWaiter<W>> {
        if newest_first { self.waiting.pop_back() } else { self.waiting.pop_front() }
    }
}

fn index(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[cfg(test)]
#[path = "wait_queue_tests.rs"]
mod tests;
