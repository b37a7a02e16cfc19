//! Moves one cursor: the part that the owning actor has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::ActionMode;

use crate::shedding::class_ladder::{ClassLadder, ClassPresence};
use crate::shedding::cursor::{CLASSES, Cursor, CursorInput, CursorTarget};
use crate::shedding::excess_hold::ExcessHold;
use crate::shedding::order::{self, ClassCut};
use crate::shedding::published::{CursorCause, CursorReading};
use crate::shedding::shedder::{Shedder, ShedderSettings};

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
        let cursor = Cursor::new(shedder.settings().target, 0.0);
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
        self.cursor = Cursor::new(self.shedder.settings().target, self.shedder.published.reading().cursor);
    }

    /// Continues with another configuration from the present cursor. `off` sets it to 0.
    pub(crate) fn reconfigure(&mut self, settings: ShedderSettings) {
        let before = self.shedder.settings();
        self.shedder.set_settings(settings);
        self.cursor.set_target(settings.target);
        let is_on = settings.mode != ActionMode::Off;
        if is_on == (before.mode != ActionMode::Off) {
            return;
        }
        self.shedder.set_tracking(is_on && !settings.target.is_queue);
        let cursor = self.cursor.lower_to(0.0);
        let cause = self.shedder.published.reading().cause;
        self.shedder.published.publish(CursorReading { cursor, cause }, [ClassCut::NONE; CLASSES]);
    }

    /// Starts the next period: nothing was measured before.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.updated = now;
        self.cursor.begin();
        self.shedder.set_tracking(self.shedder.settings().mode != ActionMode::Off);
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
        let ShedderSettings { mode, target, pressure_threshold: threshold } = shedder.settings();
        if mode == ActionMode::Off {
            return 0.0;
        }
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
        let ladder = if target.is_queue { present } else { ClassLadder::ALL };
        let before = self.cursor.value();
        let wanted = self.cursor.update(input, period, &ladder);
        let ends: [Option<f64>; CLASSES] = [0, 1, 2].map(|at: usize| order::excess_end(&costs[at]));
        let cursor_max = self.hold.cursor_max((before, wanted), (ends, &ladder), target.error(input), period);
        let cursor = self.cursor.lower_to(cursor_max);
        // While the cursor falls, the reading that raised it explains the refusals.
        let raised_by = if cursor < before { None } else { cause(&target, input, pressure) };
        let shedder = &self.shedder;
        let cause = raised_by.unwrap_or_else(|| shedder.published.reading().cause);
        shedder.published.publish(CursorReading { cursor, cause }, Shedder::cuts(cursor, &costs));
        cursor
    }
}

/// The reading with the larger error, of those that are above their threshold.
fn cause(
    target: &CursorTarget,
    input: CursorInput,
    pressure: Option<PressureReading>,
) -> Option<CursorCause> {
    let by_wait = input.wait.and_then(|wait| target.cause(wait));
    let wait_error = by_wait.map_or(-1.0, |_| target.wait_error(input.wait));
    match pressure.filter(|_| input.pressure.is_some_and(|error| error > wait_error.max(0.0))) {
        Some(PressureReading { percent, .. }) if target.is_queue => Some(CursorCause::QueueLength(percent)),
        Some(PressureReading { percent, .. }) => Some(CursorCause::Pressure(percent)),
        None => by_wait,
    }
}
