//! Moves one cursor: the part that the owning actor has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::ActionMode;

use crate::shedding::class_ladder::{ClassLadder, ClassPresence};
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
        self.cursor.begin();
        self.shedder.set_tracking(self.shedder.mode != ActionMode::Off);
    }

    /// Publishes the wait that moves the cursor.
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
        self.update_queue((wait, None), pressure, now)
    }

    /// The same with the expected wait of a new request in a queue, which is given even if the wait does not count; none
    /// while it is unknown.
    pub(crate) fn update_queue(
        &mut self,
        (wait, expected): (Option<Duration>, Option<Duration>),
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
        let input = CursorInput { wait, expected, pressure: pressure.map(error) };
        let costs = shedder.class_costs();
        let (refused, shadowed) = shedder.counts();
        let all_refused = [0, 1, 2].map(|at: usize| refused[at] + shadowed[at]);
        // The wait inside the process has causes beside its requests, so class low is cut first even if it has no traffic: a short
        // lag then refuses no request of a higher class.
        let present = self.presence.ladder(&costs, all_refused, period);
        let ladder = if shedder.target.is_queue { present } else { ClassLadder::ALL };
        let before = self.cursor.value();
        let wanted = self.cursor.update(input, period, &ladder);
        let ends: [Option<f64>; CLASSES] = [0, 1, 2].map(|at: usize| order::excess_end(&costs[at]));
        let cursor_max =
            self.hold.cursor_max((before, wanted), (ends, &ladder), shedder.target.error(input), period);
        let cursor = self.cursor.lower_to(cursor_max);
        // While the cursor falls, the reading that raised it explains the refusals.
        let raised_by = if cursor < before { None } else { self.cause(input, pressure) };
        let shedder = &self.shedder;
        let cause = raised_by.unwrap_or_else(|| shedder.published.reading().cause);
        shedder.published.publish(CursorReading { cursor, cause }, Shedder::cuts(cursor, &costs));
        cursor
    }

    /// The reading with the larger error, of those that are above their threshold.
    fn cause(&self, input: CursorInput, pressure: Option<PressureReading>) -> Option<CursorCause> {
        let target = &self.shedder.target;
        let by_wait = input.wait.and_then(|wait| target.cause(wait));
        let wait_error = by_wait.map_or(-1.0, |_| target.wait_error(input.wait));
        match pressure.filter(|_| input.pressure.is_some_and(|error| error > wait_error.max(0.0))) {
            Some(PressureReading { percent, .. }) if target.is_queue => {
                Some(CursorCause::QueueLength(percent))
            }
            Some(PressureReading { percent, .. }) => Some(CursorCause::Pressure(percent)),
            None => by_wait,
        }
    }
}
