//! The last changes of a limit that has a table of cells.
//!
//! A change of the limit converts the times of every cell. A walk over a million cells would stop the limiter for that time, so a cell
//! is converted when it is used next: it has the number of the last change that it has seen, and goes through those that it has missed.

use std::collections::VecDeque;

use crate::limiter::gcra::Pace;
use crate::limiter::tat::Tat;

/// The most changes that are kept. When there are more, one walk converts all cells.
const CHANGES_MAX: usize = 256;

/// A change of the limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaceChange {
    pub(super) at: u64,
    /// The remaining time of leases of the limit before.
    pub(super) lease_left: u64,
    pub(super) old: Pace,
    pub(super) new: Pace,
}

impl PaceChange {
    pub(super) fn convert(&self, tat: Tat) -> Tat {
        self.new.convert(self.old, tat, self.lease_left, self.at)
    }
}

/// A cell of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    tat: Tat,
    /// The number of changes when the times were written.
    changes: u64,
}

/// The changes.
#[derive(Debug, Default)]
pub(super) struct PaceHistory {
    last: VecDeque<PaceChange>,
    /// The number of all changes.
    count: u64,
}

impl PaceHistory {
    /// A cell with times of the present limit.
    pub(super) fn cell(&self, tat: Tat) -> Cell {
        Cell { tat, changes: self.count }
    }

    /// The times of a cell under the present limit.
    pub(super) fn tat(&self, cell: Cell) -> Tat {
        let missed = usize::try_from(self.count - cell.changes).unwrap_or(usize::MAX);
        let seen = self.last.len().saturating_sub(missed);
        self.last.range(seen..).fold(cell.tat, |tat, change| change.convert(tat))
    }

    /// Whether all cells must be converted before another change.
    pub(super) fn is_full(&self) -> bool {
        self.last.len() >= CHANGES_MAX
    }

    pub(super) fn push(&mut self, change: PaceChange) {
        self.last.push_back(change);
        self.count += 1;
    }

    /// All cells have been converted.
    pub(super) fn clear(&mut self) {
        self.last.clear();
    }
}
