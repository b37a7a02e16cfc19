//! The cursor of a bucket's queue (X11): moved every 100 ms while requests wait or the cursor is above 0.
//!
//! The measured wait is the mean of the requests that left the queue in the last window, permitted or refused, or the
//! age of the oldest request in the queue if that is greater: behind a hanging upstream no request leaves the queue. It
//! is late by itself: a request that leaves has entered a queue of the past. A controller of it would oscillate, so the
//! cursor follows the expected wait of a new request once the pace of the queue is known.
//!
//! A queue of a fast upstream is full before a request waits for long. A full queue refuses any client, so a queue that
//! stays more than half full raises the cursor too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shedding::{CursorOwner, PressureReading, Shedder, WaitWindow};

/// Time between two updates.
const PERIOD: Duration = Duration::from_millis(100);
/// A shorter queue is full by chance.
const LENGTH_MIN: usize = 32;

/// The queue at an update.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueReading {
    /// Arrival of the oldest request.
    pub(crate) oldest: Option<Instant>,
    /// Expected wait of a new request; none while the pace is unknown.
    pub(crate) expected: Option<Duration>,
    pub(crate) length: usize,
    /// The longest queue.
    pub(crate) length_max: usize,
}

impl QueueReading {
    /// The length in percent of the longest; none if the queue is short.
    fn percent(&self) -> Option<f64> {
        (self.length_max >= LENGTH_MIN).then(|| 100.0 * self.length as f64 / self.length_max as f64)
    }
}

/// The owner of a bucket's cursor.
#[derive(Debug)]
pub(crate) struct QueueCursor {
    owner: CursorOwner,
    window: WaitWindow,
    /// Length of the queue at the last update.
    percent: f64,
    /// Time of the next update; none while nothing waits and the cursor is 0.
    due: Option<Instant>,
}

impl QueueCursor {
    pub(crate) fn new(shedder: Arc<Shedder>, now: Instant) -> Self {
        Self { owner: CursorOwner::new(shedder, now), window: WaitWindow::new(now), percent: 0.0, due: None }
    }

    /// Whether no update is due.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_none()
    }

    /// Goes on from the published cursor after a crash.
    pub(crate) fn rebuild(&mut self) {
        self.owner.rebuild();
        if self.owner.shedder().is_active() {
            // In the past: the next message updates the cursor.
            self.due.get_or_insert_with(|| self.window.began());
        }
    }

    /// Updates the cursor if it is due; `read` reads the queue, which takes a moment. Returns the time of
    /// the next update.
    pub(crate) fn update(&mut self, read: impl FnOnce() -> QueueReading, now: Instant) -> Option<Instant> {
        let Some(due) = self.due else {
            // The first request waits. Earlier waits are not of this window.
            self.window.restart(self.owner.shedder().queue_waits().totals(), now);
            self.owner.begin(now);
            self.percent = 0.0;
            return self.schedule(now);
        };
        if now < due {
            return Some(due);
        }
        self.window.sample(self.owner.shedder().queue_waits().totals(), now);
        let reading = read();
        let QueueReading { oldest, expected, .. } = reading;
        let age = oldest.map(|since| now.saturating_duration_since(since));
        let measured = self.window.mean().max(age);
        let wait = expected.or(measured);
        self.owner.publish_wait(wait, now);
        // The lower of two lengths counts. A burst that drains in between is no overload.
        let lower =
            reading.percent().map(|percent| percent.min(std::mem::replace(&mut self.percent, percent)));
        let pressure = lower.map(|percent| PressureReading { percent, exhausted: 100.0 });
        let counted = wait.filter(|wait| self.counts(*wait, reading.length));
        let cursor = self.owner.update_queue((counted, expected), pressure, now);
        if cursor <= 0.0 && oldest.is_none() {
            self.due = None;
            self.owner.shedder().set_tracking(false);
            return None;
        }
        self.schedule(now)
    }

    /// Whether a wait moves the cursor. In a long queue the cursor rises from half of the target on, so that the heaviest
    /// clients are cut before a timeout refuses any client. A few requests that wait less than the target are no overload.
    fn counts(&self, wait: Duration, length: usize) -> bool {
        let shedder = self.owner.shedder();
        length >= LENGTH_MIN || shedder.is_active() || wait > shedder.target_wait()
    }

    fn schedule(&mut self, now: Instant) -> Option<Instant> {
        self.due = Some(now + PERIOD);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::{ActionMode, Priority};

    use super::*;
    use crate::clock;
    use crate::shedding::{CursorCause, CursorTarget};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn waiting_since(oldest: Instant) -> QueueReading {
        QueueReading { oldest: Some(oldest), ..QueueReading::default() }
    }

    fn cursor(now: Instant) -> (Arc<Shedder>, QueueCursor) {
        let shedder =
            Arc::new(Shedder::new((ActionMode::Enforce, CursorTarget::of_queue(ms(50))), 50.0, now));
        (Arc::clone(&shedder), QueueCursor::new(shedder, now))
    }

    /// X1, X11: a queue that does not move raises the cursor by the age of its oldest request; an empty one ends it
    #[test]
    fn a_hanging_queue_raises_the_cursor() {
        let t0 = clock::now();
        let (shedder, mut cursor) = cursor(t0);
        assert!(cursor.is_idle() && !shedder.is_tracking());
        assert_eq!(cursor.update(|| waiting_since(t0), t0), Some(t0 + ms(100)));
        assert!(shedder.is_tracking());
        assert_eq!(cursor.update(|| waiting_since(t0), t0 + ms(99)), Some(t0 + ms(100)), "not due");
        for step in 1..=20 {
            cursor.update(|| waiting_since(t0), t0 + ms(100 * step));
        }
        let view = shedder.view(t0 + ms(2_000));
        assert!(view.cursor > 1.0, "{view:?}");
        assert_eq!(view.wait.map(|wait| wait.wait), Some(ms(2_000)));
        let mut now = t0 + ms(2_000);
        while let Some(due) = cursor.update(QueueReading::default, now) {
            now = due;
        }
        assert!(now < t0 + ms(7_000) && !shedder.is_active() && !shedder.is_tracking() && cursor.is_idle());
    }

    /// X1: the waits of requests that left the queue count, those of an earlier time do not
    #[test]
    fn requests_that_left_count() {
        let t0 = clock::now();
        let (shedder, mut cursor) = cursor(t0);
        shedder.record_queue_wait(ms(10_000));
        cursor.update(|| waiting_since(t0), t0);
        shedder.record_queue_wait(ms(60));
        shedder.record_queue_wait(ms(80));
        cursor.update(QueueReading::default, t0 + ms(100));
        assert_eq!(shedder.view(t0 + ms(100)).wait.map(|wait| wait.wait), Some(ms(70)));
        assert!(shedder.is_active());
    }

    /// X11: once the pace is known the cursor follows the expected wait, which is published
    #[test]
    fn the_expected_wait_moves_the_cursor() {
        let t0 = clock::now();
        let (shedder, mut cursor) = cursor(t0);
        let read = || QueueReading {
            expected: Some(ms(10)),
            length: LENGTH_MIN,
            length_max: 1_000,
            ..waiting_since(t0)
        };
        for step in 0..=20 {
            cursor.update(read, t0 + ms(100 * step));
        }
        let view = shedder.view(t0 + ms(2_000));
        assert!(view.cursor < 1e-9 && view.cause == CursorCause::Wait(ms(0)), "{view:?}");
        assert_eq!(view.wait.map(|wait| wait.wait), Some(ms(10)));
    }

    /// X11: a long queue raises the cursor before its wait reaches the target; a few requests that wait less than the target do not
    #[test]
    fn a_few_requests_below_the_target_raise_nothing() {
        let is_raised = |length: usize, expected: Duration| {
            let t0 = clock::now();
            let (shedder, mut cursor) = cursor(t0);
            for step in 0..=20 {
                let (now, expected) = (t0 + ms(100 * step), Some(expected));
                cursor
                    .update(|| QueueReading { oldest: Some(now), expected, length, length_max: 1_000 }, now);
            }
            shedder.is_active()
        };
        assert!(!is_raised(LENGTH_MIN - 1, ms(45)));
        assert!(is_raised(LENGTH_MIN, ms(45)) && is_raised(1, ms(55)));
    }

    /// X11: a queue that stays nearly full raises the cursor before a request waits for long; a burst and a short queue do not
    #[test]
    fn a_queue_that_stays_long_raises_the_cursor() {
        let raised = |lengths: [usize; 6], length_max: usize| {
            let t0 = clock::now();
            let (shedder, mut cursor) = cursor(t0);
            cursor.update(|| waiting_since(t0), t0);
            for (length, step) in lengths.into_iter().zip(1..) {
                let now = t0 + ms(100 * step);
                let read = QueueReading { oldest: Some(now), expected: Some(ms(10)), length, length_max };
                cursor.update(|| read, now);
            }
            let view = shedder.view(t0 + ms(600));
            (view.cursor > 0.0).then_some(view.cause)
        };
        assert_eq!(raised([60, 70, 80, 90, 90, 90], 100), Some(CursorCause::QueueLength(90.0)));
        assert_eq!(raised([0, 100, 0, 100, 0, 100], 100), None);
        assert_eq!(raised([39, 45, 47, 45, 45, 45], 100), None, "less than half of the length");
        assert_eq!(raised([10; 6], 10), None);
    }

    /// X11: the age of the oldest request is no growth of the wait, and neither is the step to the first expected wait: a queue
    /// that stalls is not cut by half at half of its target
    #[test]
    fn an_age_is_no_excess() {
        let t0 = clock::now();
        let target = CursorTarget::of_queue(ms(4_000));
        let shedder = Arc::new(Shedder::new((ActionMode::Enforce, target), 50.0, t0));
        let mut cursor = QueueCursor::new(Arc::clone(&shedder), t0);
        let stalled = QueueReading { length: 40, length_max: 1_000, ..waiting_since(t0) };
        for step in 0..=25 {
            cursor.update(|| stalled, t0 + ms(100 * step));
        }
        assert!(!shedder.is_active(), "{:?}", shedder.view(t0 + ms(2_500)));
        for step in 26..=60 {
            cursor.update(|| stalled, t0 + ms(100 * step));
        }
        assert!(shedder.is_active(), "an age above the target raises it");
    }

    /// S5: after a crash the cursor goes on from the published one
    #[test]
    fn a_crash_keeps_the_cursor() {
        let t0 = clock::now();
        let (shedder, mut cursor) = cursor(t0);
        for step in 0..=20 {
            cursor.update(|| waiting_since(t0), t0 + ms(100 * step));
        }
        let before = shedder.view(t0).cursor;
        let mut restarted = QueueCursor::new(Arc::clone(&shedder), t0);
        restarted.rebuild();
        assert!(!restarted.is_idle());
        restarted.update(QueueReading::default, t0 + ms(2_100));
        let after = shedder.view(t0).cursor;
        assert!(after < before && after > before - 0.3, "{before} {after}");
        assert!(shedder.peek(None, Priority::Low, t0).0 < 1.0);
    }
}
