//! Moves one cursor: the part that the owning actor has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::ActionMode;

use crate::shedding::class_ladder::ClassPresence;
use crate::shedding::cursor::{CLASSES, Cursor, CursorInput};
use crate::shedding::excess_hold::ExcessHold;
use crate::shedding::order;
use crate::shedding::published::{CursorCause, CursorReading};
use crate::shedding::shedder::Shedder;

/// The pressure on the scarcest resource that refusing requests can free, or the length of a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PressureReading {
    /// In percent of its limit.
    pub(crate) percent: f64,
    /// The percentage at which all requests are refused.
    pub(crate) exhausted: f64,
}

/// A cursor and its owner's state.
#[derive(Debug)]
pub(crate) struct CursorOwner {
    cursor: Cursor,
    presence: ClassPresence,
    hold: ExcessHold,
    updated: Instant,
    shedder: Arc<Shedder>,
}

impl CursorOwner {
    pub(crate) fn new(shedder: Arc<Shedder>, now: Instant) -> Self {
        let cursor = Cursor::new(shedder.target, 0.0);
        Self {
            cursor,
            presence: ClassPresence::default(),
            hold: ExcessHold::default(),
            updated: now,
            shedder,
        }
    }

    pub(crate) fn shedder(&self) -> &Arc<Shedder> {
        &self.shedder
    }

    /// Goes on from the published cursor after a crash.
    pub(crate) fn rebuild(&mut self) {
        self.cursor = Cursor::new(self.shedder.target, self.shedder.published.reading().cursor);
    }

    /// Starts the next period: nothing was measured before.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.updated = now;
        self.shedder.set_tracking(self.shedder.mode != ActionMode::Off);
    }

    /// Publishes the measured wait.
    pub(crate) fn publish_wait(&self, wait: Option<Duration>, now: Instant) {
        if let Some(wait) = wait {
            self.shedder.wait.publish(wait, now);
        }
    }

    /// Takes a sample: the wait, none if nothing waits or nothing is known, and the pressure.
    pub(crate) fn update(
        &mut self,
        wait: Option<Duration>,
        pressure: Option<PressureReading>,
        now: Instant,
    ) -> f64 {
        let period = now.saturating_duration_since(self.updated);
        self.updated = now;
        let shedder = &self.shedder;
        if let Some(clients) = shedder.known_clients() {
            clients.decay(period);
        }
        if shedder.mode == ActionMode::Off {
            return 0.0;
        }
        let threshold = shedder.pressure_threshold;
        let error = |reading: PressureReading| {
            (reading.percent - threshold) / (reading.exhausted - threshold).max(f64::MIN_POSITIVE)
        };
        let input = CursorInput { wait, pressure: pressure.map(error) };
        let is_by_pressure = self.cursor.is_by_pressure(input);
        let costs = shedder.class_costs();
        let (refused, shadowed) = shedder.counts();
        let all_refused = [0, 1, 2].map(|at: usize| refused[at] + shadowed[at]);
        let ladder = self.presence.ladder(&costs, all_refused, period);
        let before = self.cursor.value();
        let wanted = self.cursor.update(input, period, &ladder);
        let ends: [Option<f64>; CLASSES] = [0, 1, 2].map(|at: usize| order::excess_end(&costs[at]));
        let cursor_max =
            self.hold.cursor_max((before, wanted), (ends, &ladder), shedder.target.error(input), period);
        let cursor = self.cursor.lower_to(cursor_max);
        let cause = match pressure {
            Some(PressureReading { percent, .. }) if is_by_pressure && percent > threshold => {
                if shedder.target.is_queue {
                    CursorCause::QueueLength(percent)
                } else {
                    CursorCause::Pressure(percent)
                }
            }
            // It falls: the reading that raised it explains the refusals until it is 0.
            _ if shedder.is_active()
                && wait.is_none_or(|wait| wait <= shedder.target.wait)
                && cursor > 0.0 =>
            {
                shedder.published.reading().cause
            }
            _ => CursorCause::Wait(wait.unwrap_or_default()),
        };
        shedder.published.publish(CursorReading { cursor, cause }, Shedder::cuts(cursor, &costs));
        cursor
    }
}
