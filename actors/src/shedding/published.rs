//! The published cursor: one word with the cursor and what raised it, so that a refusal names the value that decided.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shedding::cursor::CLASSES;
use crate::shedding::order::ClassCut;

/// The cursor in thousandths.
const CURSOR_BITS: u32 = 16;
const CURSOR_MASK: u64 = (1 << CURSOR_BITS) - 1;
const THOUSANDTHS: f64 = 1000.0;
/// Set if the resource pressure raised it.
const PRESSURE: u64 = 1 << CURSOR_BITS;
/// Set if the length of the queue raised it.
const QUEUE_LENGTH: u64 = 2 << CURSOR_BITS;
/// Set if a wait below the target raised it.
const EARLY_WAIT: u64 = PRESSURE | QUEUE_LENGTH;
const VALUE_SHIFT: u32 = CURSOR_BITS + 2;
const VALUE_MAX: u64 = u64::MAX >> VALUE_SHIFT;

/// What raised the cursor, as measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CursorCause {
    /// Requests wait longer than the target.
    Wait(Duration),
    /// Requests wait longer than half of the target. A cursor of 0 starts there in a long queue.
    EarlyWait(Duration),
    /// The pressure on a resource, in percent of its limit.
    Pressure(f64),
    /// The length of the bucket's queue, in percent of the longest.
    QueueLength(f64),
}

/// A cursor and what raised it last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CursorReading {
    pub(crate) cursor: f64,
    pub(crate) cause: CursorCause,
}

/// The word and the cuts that follow from it.
#[derive(Debug)]
pub(crate) struct PublishedCursor {
    word: AtomicU64,
    above: [AtomicU64; CLASSES],
    limits: [AtomicU64; CLASSES],
    far_above: [AtomicU64; CLASSES],
    far_above_limits: [AtomicU64; CLASSES],
    cohorts: [AtomicU64; CLASSES],
}

impl Default for PublishedCursor {
    fn default() -> Self {
        let bits = |value: f64| [(); CLASSES].map(|()| AtomicU64::new(value.to_bits()));
        Self {
            word: AtomicU64::new(0),
            above: bits(ClassCut::NONE.above.0),
            limits: bits(ClassCut::NONE.above.1),
            far_above: bits(ClassCut::NONE.far_above.0),
            far_above_limits: bits(ClassCut::NONE.far_above.1),
            cohorts: bits(ClassCut::NONE.cohort),
        }
    }
}

impl PublishedCursor {
    /// Whether the cursor is above 0.
    pub(crate) fn is_active(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CURSOR_MASK != 0
    }

    pub(crate) fn publish(&self, reading: CursorReading, cuts: [ClassCut; CLASSES]) {
        for (position, cut) in cuts.into_iter().enumerate() {
            let store = |of: &[AtomicU64; CLASSES], value: f64| {
                of[position].store(value.to_bits(), Ordering::Relaxed);
            };
            store(&self.above, cut.above.0);
            store(&self.limits, cut.above.1);
            store(&self.far_above, cut.far_above.0);
            store(&self.far_above_limits, cut.far_above.1);
            store(&self.cohorts, cut.cohort);
        }
        self.word.store(encode(reading), Ordering::Release);
    }

    pub(crate) fn reading(&self) -> CursorReading {
        decode(self.word.load(Ordering::Acquire))
    }

    /// Cursor and cause as one word, for a successor.
    pub(crate) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    pub(crate) fn cut(&self, position: usize) -> ClassCut {
        let value = |of: &[AtomicU64; CLASSES]| f64::from_bits(of[position].load(Ordering::Relaxed));
        ClassCut {
            above: (value(&self.above), value(&self.limits)),
            far_above: (value(&self.far_above), value(&self.far_above_limits)),
            cohort: value(&self.cohorts),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from f64 saturate")]
fn encode(CursorReading { cursor, cause }: CursorReading) -> u64 {
    let cursor = ((cursor * THOUSANDTHS).round() as u64).min(CURSOR_MASK);
    let micros = |wait: Duration| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let (kind, value) = match cause {
        CursorCause::Wait(wait) => (0, micros(wait)),
        CursorCause::EarlyWait(wait) => (EARLY_WAIT, micros(wait)),
        CursorCause::Pressure(percent) => (PRESSURE, (percent.max(0.0) * THOUSANDTHS) as u64),
        CursorCause::QueueLength(percent) => (QUEUE_LENGTH, (percent.max(0.0) * THOUSANDTHS) as u64),
    };
    cursor | kind | value.min(VALUE_MAX) << VALUE_SHIFT
}

#[expect(clippy::cast_precision_loss, reason = "the figures are far below 2^53")]
pub(super) fn decode(word: u64) -> CursorReading {
    let value = word >> VALUE_SHIFT;
    let cause = match word & EARLY_WAIT {
        0 => CursorCause::Wait(Duration::from_micros(value)),
        PRESSURE => CursorCause::Pressure(value as f64 / THOUSANDTHS),
        QUEUE_LENGTH => CursorCause::QueueLength(value as f64 / THOUSANDTHS),
        _ => CursorCause::EarlyWait(Duration::from_micros(value)),
    };
    CursorReading { cursor: (word & CURSOR_MASK) as f64 / THOUSANDTHS, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X11, O4: cursor, cause and cuts are read as they were published, and 0 is not active
    #[test]
    fn the_cursor_is_read_as_published() {
        let published = PublishedCursor::default();
        assert!(!published.is_active() && published.cut(2) == ClassCut::NONE);
        let cuts =
            [1.0, 0.4, 0.0].map(|cohort| ClassCut { above: (9.0, 7.5), far_above: (15.0, 0.75), cohort });
        let causes = [
            CursorCause::Wait(Duration::from_millis(31)),
            CursorCause::EarlyWait(Duration::from_millis(12)),
            CursorCause::Pressure(93.25),
            CursorCause::QueueLength(71.0),
        ];
        for cause in causes {
            let reading = CursorReading { cursor: 1.4, cause };
            published.publish(reading, cuts);
            assert_eq!(published.reading(), reading);
            assert!(published.is_active() && published.cut(1) == cuts[1]);
        }
        let idle = CursorReading { cursor: 0.0, cause: CursorCause::Wait(Duration::from_secs(1 << 40)) };
        published.publish(idle, [ClassCut::NONE; CLASSES]);
        assert!(!published.is_active());
    }
}
