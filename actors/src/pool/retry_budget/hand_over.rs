//! The retry budget in an upgrade: both processes together never have more than one budget (G8, R5).
//!
//! The predecessor keeps one retry for each of its connections, at most half of those that are left, and the same of the retries in
//! flight. The successor holds these as if they were spent or in flight. As the predecessor uses them, or loses connections, it
//! reports fewer. What it has no more counts as spent at that time, because it may have been.
//!
//! The seconds of two processes begin at different times. So retries count for up to a second longer than in one process, and
//! requests for up to two seconds less.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{NANOS, RetryBudget, RetryWindow, SLOTS, SpentRetries, WindowSlot};

/// The largest count that crosses, so that no sum of counts overflows.
const COUNT_MAX: u64 = 1 << 40;

/// The window as it crosses to a successor: requests and retries of each second, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedRetries {
    seconds: Vec<(u64, u64)>,
}

/// What a process may still use of a retry budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetriesInUse {
    /// Retries that it may begin.
    pub may_begin: u64,
    /// Retries that may be in flight at a time.
    pub in_flight: usize,
}

impl SpentRetries {
    /// After a hand-over that the actor did not answer: no retry begins any more. Returns what this process may still use.
    pub(crate) fn keep_none(&self) -> RetriesInUse {
        let mut spent = self.lock();
        spent.kept = Some(0);
        let in_flight = spent.in_flight.keep(self.retrying.load(Ordering::Acquire), 0);
        RetriesInUse { may_begin: 0, in_flight }
    }

    /// After a hand-over, with fewer connections. Returns what this process may still use.
    pub(crate) fn lower(&self, connections: usize) -> RetriesInUse {
        let mut spent = self.lock();
        spent.kept = spent.kept.map(|kept| kept.min(u64::try_from(connections).unwrap_or(u64::MAX)));
        let in_flight = spent.in_flight.lower(self.retrying.load(Ordering::Acquire), connections);
        RetriesInUse { may_begin: spent.kept.unwrap_or(0), in_flight }
    }

    /// Takes back what a hand-over left to a successor.
    pub(crate) fn take_back(&self) {
        let mut spent = self.lock();
        spent.kept = None;
        spent.in_flight.take_back();
    }

    /// Holds what a predecessor may still use, instead of what was held before.
    pub(crate) fn hold(&self, used: RetriesInUse, granted: u64, now: Instant) {
        let mut spent = self.lock();
        let may_begin = used.may_begin.min(COUNT_MAX);
        let begun = spent.held.saturating_sub(may_begin);
        if begun > 0 {
            let mut window = spent.window.advance(granted, now);
            let slot = window.slot(window.counted_until_nanos / NANOS);
            slot.reserved = slot.reserved.saturating_add(begun);
            spent.window = window;
        }
        spent.held = may_begin;
        spent.in_flight.hold(used.in_flight);
    }
}

impl RetryBudget {
    /// Hands the budget over. Returns the window, and what this process may still use.
    pub(crate) fn hand_over(
        &mut self,
        (granted, in_flight): (u64, usize),
        connections: u64,
        now: Instant,
    ) -> (ExportedRetries, RetriesInUse) {
        let mut spent = self.spent.lock();
        let mut window = spent.window.advance(granted, now);
        let left = self.retries_max(&window).saturating_sub(window.spent()).saturating_sub(spent.held);
        // An export that came too late must not raise what `keep_none` left.
        let is_late = spent.kept.is_some();
        let may_begin = spent.kept.unwrap_or_else(|| connections.min(left / 2));
        let last = window.counted_until_nanos / NANOS;
        let newest_first = (0..SLOTS).map_while(|age| last.checked_sub(age.into())).map(|second| {
            let WindowSlot { requests, retries, reserved, .. } = *window.slot(second);
            (requests, retries.saturating_add(reserved))
        });
        let exported = ExportedRetries { seconds: newest_first.collect() };
        spent.window = window;
        spent.kept = Some(may_begin);
        let (retrying, connections) =
            (self.spent.retrying.load(Ordering::Acquire), usize::try_from(connections));
        let connections = connections.unwrap_or(usize::MAX);
        let in_flight = if is_late {
            spent.in_flight.lower(retrying, 0)
        } else {
            spent.in_flight.set_whole(self.in_flight_max(in_flight));
            spent.in_flight.keep(retrying, connections)
        };
        (exported, RetriesInUse { may_begin, in_flight })
    }

    /// Goes on from the window of a predecessor, as it was `elapsed` ago. What that keeps is held.
    pub(crate) fn import(
        &mut self,
        exported: &ExportedRetries,
        elapsed: Duration,
        granted: u64,
        now: Instant,
    ) {
        let mut spent = self.spent.lock();
        let before = spent.window.advance(granted, now);
        // The first second begins now.
        let mut window = RetryWindow::new(now, granted);
        let (begun, ended) = (elapsed.as_secs(), elapsed.as_nanos().div_ceil(NANOS));
        let ended = u64::try_from(ended).unwrap_or(u64::MAX);
        for (age, (requests, retries)) in (0..SLOTS).zip(&exported.seconds) {
            if let Some(slot) = window.of_age(begun.saturating_add(age)) {
                slot.retries = slot.retries.saturating_add((*retries).min(COUNT_MAX));
            }
            if let Some(slot) = window.of_age(ended.saturating_add(age + 1)) {
                slot.requests = slot.requests.saturating_add((*requests).min(COUNT_MAX));
            }
        }
        window.slot(0).reserved = before.spent();
        spent.window = window;
    }
}

impl RetryWindow {
    /// The slot of a second before the first one; none if it has left the window.
    fn of_age(&mut self, age: u64) -> Option<&mut WindowSlot> {
        let second = SLOTS.checked_sub(age).filter(|second| *second > 0)?;
        Some(self.slot(second.into()))
    }
}
