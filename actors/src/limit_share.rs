//! A limit of concurrent requests that two processes share during an upgrade.
//!
//! The predecessor keeps what is in use and, of what is free, one unit for each of its connections and at most half. The successor
//! holds that many units as if they were in use. So both together never have more than the limit.

use std::sync::{Mutex, PoisonError};

use crate::count::Gate;

/// The limit, and what this process has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitShare {
    whole: usize,
    /// The most that this process may use since it handed over; none if it did not.
    kept: Option<usize>,
    /// What a predecessor may still use.
    held: usize,
}

impl LimitShare {
    pub(crate) fn new(whole: usize) -> Self {
        Self { whole, kept: None, held: 0 }
    }

    /// What this process may use.
    pub(crate) fn in_force(&self) -> usize {
        self.whole.min(self.kept.unwrap_or(usize::MAX)).saturating_sub(self.held)
    }

    /// Whether that may be less than the limit.
    pub(crate) fn is_shared(&self) -> bool {
        self.kept.is_some() || self.held > 0
    }

    pub(crate) fn set_whole(&mut self, whole: usize) {
        self.whole = whole;
    }

    /// Hands the limit over. Returns what this process may still use.
    pub(crate) fn keep(&mut self, in_use: usize, connections: usize) -> usize {
        let free = self.in_force().saturating_sub(in_use);
        let kept = in_use.saturating_add(connections.min(free / 2));
        self.kept = Some(kept);
        kept
    }

    /// After `keep`, with fewer connections. Returns what this process may still use.
    pub(crate) fn lower(&mut self, in_use: usize, connections: usize) -> usize {
        let Some(kept) = &mut self.kept else { return in_use };
        *kept = (*kept).min(in_use.saturating_add(connections));
        (*kept).max(in_use)
    }

    /// Takes back what `keep` handed over.
    pub(crate) fn take_back(&mut self) {
        self.kept = None;
    }

    /// Holds what a predecessor may still use, instead of what was held before.
    pub(crate) fn hold(&mut self, units: usize) {
        self.held = units;
    }
}

/// The share that a gate has.
#[derive(Debug)]
pub(crate) struct GateShare(Mutex<LimitShare>);

impl GateShare {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LimitShare::new(usize::MAX)))
    }

    /// Sets the limit of a generation at the gate. Returns whether more is in force than before; none if a later one has set it.
    pub(crate) fn set_limit(&self, gate: &Gate, generation: u32, limit: usize) -> Option<bool> {
        let mut share = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *share;
        next.set_whole(limit);
        let before = gate.set_limit(generation, next.in_force())?;
        *share = next;
        Some(before < next.in_force())
    }

    /// Changes the share.
    pub(crate) fn change<R>(&self, gate: &Gate, change: impl FnOnce(&mut LimitShare) -> R) -> R {
        let mut share = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut share);
        gate.set_limit(u32::try_from(gate.generation()).unwrap_or(u32::MAX), share.in_force());
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// G8, P3: predecessor and successor together never have more than the limit, whatever they use and however connections end
        #[test]
        fn both_processes_stay_within_the_limit(
            whole in 1usize..200, in_use in 0usize..200, connections in 0usize..300,
            steps in prop::collection::vec((0usize..200, 0usize..300), 0..20),
        ) {
            let (mut before, mut after) = (LimitShare::new(whole), LimitShare::new(whole));
            let mut in_use = in_use.min(whole);
            let mut left = connections;
            after.hold(before.keep(in_use, left));
            prop_assert!(before.in_force() >= in_use);
            prop_assert!(before.in_force() + after.in_force() <= whole);
            for (used, ended) in steps {
                // It uses no more than it may, and the successor learns of each change later.
                in_use = used.min(before.in_force());
                left = left.saturating_sub(ended);
                let may_use = before.lower(in_use, left);
                prop_assert!(may_use >= in_use && may_use <= in_use + left);
                prop_assert!(before.in_force() + after.in_force() <= whole);
                after.hold(may_use);
                prop_assert!(before.in_force() + after.in_force() <= whole);
            }
            after.hold(0);
            prop_assert_eq!(after.in_force(), whole);
            before.take_back();
            prop_assert_eq!(before.in_force(), whole);
        }
    }
}
