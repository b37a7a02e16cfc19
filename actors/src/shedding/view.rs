//! A cursor as the status document and the metrics show it.

use std::time::{Duration, Instant};

use tidegate_config::{ActionMode, Priority};

use crate::shedding::clients::ClientCost;
use crate::shedding::cursor::CLASSES;
use crate::shedding::order;
use crate::shedding::published::CursorCause;
use crate::shedding::shedder::Shedder;
use crate::shedding::waits::WaitReading;

/// Requests of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCountsView {
    /// The class.
    pub class: Priority,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that would have been refused; the mode is `shadow`.
    pub shadowed: u64,
}

/// The part of a class that is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassCutView {
    /// The class.
    pub class: Priority,
    /// 0.0..=1.0
    pub fraction: f64,
}

/// One cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct SheddingView {
    /// The configured mode.
    pub mode: ActionMode,
    /// 0.0 cuts no request, 3.0 would cut all.
    pub cursor: f64,
    /// What raised it last.
    pub cause: CursorCause,
    /// The wait that moves it, as it was read last; none before the first.
    pub wait: Option<WaitReading>,
    /// The acceptable wait.
    pub target: Duration,
    /// The wait above which the cause raised it: the target, or half of it for an early wait.
    pub wait_threshold: Duration,
    /// The pressure above which the cursor moves, in percent.
    pub pressure_threshold: f64,
    /// The lowest class first.
    pub cuts: [ClassCutView; CLASSES],
    /// The lowest class first.
    pub counts: [ClassCountsView; CLASSES],
}

const LOWEST_FIRST: [Priority; CLASSES] = [Priority::Low, Priority::Normal, Priority::High];

impl Shedder {
    /// The present state.
    pub fn view(&self, now: Instant) -> SheddingView {
        let (reading, settings) = (self.published.reading(), self.settings());
        let (refused, shadowed) = self.counts();
        let cut = |class| ClassCutView {
            class,
            fraction: order::cut_fraction(reading.cursor, order::position(class)),
        };
        let counts = |class| {
            let position = order::position(class);
            ClassCountsView { class, refused: refused[position], shadowed: shadowed[position] }
        };
        SheddingView {
            mode: settings.mode,
            cursor: reading.cursor,
            cause: reading.cause,
            wait: self.wait.reading(now),
            target: settings.target.wait,
            wait_threshold: settings.target.threshold(reading.cause),
            pressure_threshold: settings.pressure_threshold,
            cuts: LOWEST_FIRST.map(cut),
            counts: LOWEST_FIRST.map(counts),
        }
    }

    /// The heaviest clients, the heaviest first.
    pub fn heaviest_clients(&self, most: usize) -> Vec<ClientCost> {
        self.known_clients().map_or_else(Vec::new, |clients| clients.heaviest(most))
    }
}

impl SheddingView {
    /// Requests that were refused.
    pub fn refused(&self) -> u64 {
        self.counts.iter().map(|counts| counts.refused).sum()
    }

    /// Requests that would have been refused.
    pub fn shadowed(&self) -> u64 {
        self.counts.iter().map(|counts| counts.shadowed).sum()
    }
}
