//! Who waits, and whose turn it is: a line of three classes, generic over what a waiter is.
//!
//! The next place is the highest class's (as HAProxy's `set-priority-class`), within a class that of whoever came first. So that a
//! lower class does not starve, it gets the place after ten went past it: its share is at least an eleventh, or, where both lower
//! classes wait, each has one of twelve.
//!
//! When the line is full its last goes: the one that came last in the lowest class. That may be the newcomer itself, and
//! without classes it always is. So a place in the line is kept from nobody by those of a lower class.
//!
//! Where overload is told from a burst (`codel.rs`), the newest of a class goes first in it, its last is the oldest, and those who waited
//! too long are told to go, but for one: a place that falls free must find somebody.

use std::collections::VecDeque;
use std::time::Instant;

use tidegate_config::Priority;

use crate::pool::codel::{Codel, CodelSettings};
use crate::pool::state::Waiter;

/// So many grants in a row may go past a class that waits.
const PASSED_OVER_MAX: u32 = 10;

/// Somebody and when they came.
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

/// Those of one class.
#[derive(Debug)]
struct PriorityClass<W> {
    waiting: VecDeque<QueuedWaiter<W>>,
    /// Grants that went to others since this one waits or was served.
    passed_over: u32,
}

/// A line before a gate.
#[derive(Debug)]
pub(crate) struct WaitQueue<W> {
    /// Highest first.
    classes: [PriorityClass<W>; Priority::ALL.len()],
    codel: Option<Codel>,
}

/// The class whose turn it is.
#[derive(Debug)]
pub(crate) struct NextClass(usize);

impl<W: Waiter> WaitQueue<W> {
    /// An empty line; with a delay, one that tells overload from a burst.
    pub(crate) fn new(delay: Option<CodelSettings>) -> Self {
        let class = |_| PriorityClass { waiting: VecDeque::new(), passed_over: 0 };
        Self { classes: std::array::from_fn(class), codel: delay.map(Codel::new) }
    }

    /// Those in it, of whom some may have left.
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.waiting.is_empty())
    }

    /// Whether all have left.
    pub(crate) fn is_all_cancelled(&self) -> bool {
        !self.classes.iter().flat_map(|class| &class.waiting).any(QueuedWaiter::is_live)
    }

    /// Whether the newest goes first.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.codel.is_some_and(|codel| codel.is_overloaded())
    }

    /// Those who have not left.
    pub(crate) fn live_len(&self) -> usize {
        self.classes.iter().flat_map(|class| &class.waiting).filter(|place| place.is_live()).count()
    }

    /// Those ahead of a newcomer, of whom some may have left.
    pub(crate) fn len_ahead(&self, priority: Priority) -> usize {
        self.classes[..self.first_behind(priority)].iter().map(|class| class.waiting.len()).sum()
    }

    /// Those ahead of a newcomer who have not left.
    pub(crate) fn live_len_ahead(&self, priority: Priority) -> usize {
        let ahead = self.classes[..self.first_behind(priority)].iter().flat_map(|class| &class.waiting);
        ahead.filter(|place| place.is_live()).count()
    }

    /// Whether somebody would have to go for a newcomer.
    pub(crate) fn has_displaceable(&self, priority: Priority) -> bool {
        self.classes[self.first_behind(priority)..]
            .iter()
            .flat_map(|class| &class.waiting)
            .any(QueuedWaiter::is_live)
    }

    /// Joins the line.
    pub(crate) fn push(&mut self, waiter: W, priority: Priority, now: Instant) {
        self.classes[index(priority)].waiting.push_back(QueuedWaiter { waiter, since: now });
    }

    /// Takes out the last in the line, if a newcomer stands before it.
    pub(crate) fn displace(&mut self, priority: Priority) -> Option<W> {
        let (behind, newest_first) = (self.first_behind(priority), self.is_overloaded());
        let mut last = self.classes[behind..].iter_mut().rev();
        last.find_map(|class| match newest_first {
            true => class.waiting.pop_front(),
            false => class.waiting.pop_back(),
        })
        .map(|place| place.waiter)
    }

    /// Strikes those out who have left.
    pub(crate) fn prune(&mut self) {
        for class in &mut self.classes {
            class.waiting.retain(QueuedWaiter::is_live);
        }
    }

    /// Looks whether this is a burst or an overload.
    pub(crate) fn update_overload(&mut self, now: Instant) {
        let Some(codel) = &mut self.codel else { return };
        for class in &mut self.classes {
            while class.waiting.front().is_some_and(|place| !place.is_live()) {
                class.waiting.pop_front();
            }
        }
        let oldest =
            self.classes.iter().filter_map(|class| class.waiting.front()).map(|place| place.since).min();
        codel.update(oldest, now);
    }

    /// In overload, takes out those who waited too long, of the lowest class first; one stays, whoever it is.
    pub(crate) fn shed(&mut self, now: Instant) -> Vec<W> {
        let mut shed = Vec::new();
        let Some(codel) = self.codel.filter(|codel| codel.is_overloaded()) else { return shed };
        self.prune();
        let mut others = self.len().saturating_sub(1);
        for class in self.classes.iter_mut().rev() {
            while others > 0 && class.waiting.front().is_some_and(|place| codel.is_late(place.since, now)) {
                shed.extend(class.waiting.pop_front().map(|place| place.waiter));
                others -= 1;
            }
        }
        shed
    }

    /// Whose turn it is.
    pub(crate) fn next_class(&mut self) -> Option<NextClass> {
        let newest_first = self.is_overloaded();
        for class in &mut self.classes {
            while class.next(newest_first).is_some_and(|place| !place.is_live()) {
                class.pop(newest_first);
            }
        }
        let waits = |class: &PriorityClass<W>| !class.waiting.is_empty();
        let overdue = |class: &PriorityClass<W>| waits(class) && class.passed_over >= PASSED_OVER_MAX;
        let next = self.classes.iter().position(overdue).or_else(|| self.classes.iter().position(waits));
        next.map(NextClass)
    }

    /// Takes out whose turn it is.
    pub(crate) fn pop(&mut self, NextClass(next): NextClass) -> Option<W> {
        let newest_first = self.is_overloaded();
        let (higher, lower) = self.classes.split_at_mut(next + 1);
        for class in lower {
            class.passed_over = if class.waiting.is_empty() { 0 } else { class.passed_over + 1 };
        }
        let served = higher.last_mut()?;
        served.passed_over = 0;
        served.pop(newest_first).map(|place| place.waiter)
    }

    /// Forgets everybody.
    pub(crate) fn clear(&mut self) {
        for class in &mut self.classes {
            *class = PriorityClass { waiting: VecDeque::new(), passed_over: 0 };
        }
        if let Some(codel) = &mut self.codel {
            codel.reset();
        }
    }

    /// The first class that stands behind a newcomer of this one.
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
#[path = "line_tests.rs"]
mod tests;
