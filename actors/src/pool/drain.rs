//! How fast a bucket's queue drains, and so how long somebody in it has to wait: Little's law, places ahead over their rate.
//!
//! Measured only while somebody waits. The gate is full then, so every place that falls free is handed on, and the
//! hand-overs of a time are what the upstream serves at that width. An empty queue costs nothing and says nothing, and what
//! was measured is forgotten once nobody has waited for a while.
//!
//! A sample is twice as many hand-overs as the gate has places: places taken at one moment fall free at one moment, and
//! half of such a wave would tell a wrong rate. Two samples are kept, the last whole one and the one that grows, so that a
//! change of pace is known after as many hand-overs again. A silence that is shorter than a place is held for on
//! average is the rhythm of such waves; a longer one is news, and counts.
//!
//! Until the first sample is whole nothing is known, and nobody is refused for it. Deliberately absent: how long a place is
//! held, which would cost every request a look at the clock, and says less where answers are streamed slowly.

use std::time::{Duration, Instant};

/// Hand-overs of a sample, at least: fewer are chance.
const SAMPLE_MIN: u32 = 8;
/// After so long without a queue its pace is no news any more.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// When the turn comes of somebody behind so many others.
pub(crate) fn turn_after(pace: Duration, ahead: usize) -> Duration {
    pace.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1))
}

/// Hand-overs, and the time they took.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    handed: u32,
    span: Duration,
}

/// The pace of one queue.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Places of the gate.
    width: usize,
    last: Sample,
    growing: Sample,
    state: Queue,
}

#[derive(Debug, Clone, Copy)]
enum Queue {
    /// Somebody waits; the last hand-over, or when the first began to wait.
    Waits { since: Instant },
    /// Nobody waits, since then.
    Empty { since: Option<Instant> },
}

impl Drain {
    /// The pace of a queue before a gate of so many places; nothing is known of it.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            last: Sample::default(),
            growing: Sample::default(),
            state: Queue::Empty { since: None },
        }
    }

    /// Forgets all.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.width);
    }

    /// Somebody waits.
    pub(crate) fn waits(&mut self, now: Instant) {
        let Queue::Empty { since } = self.state else { return };
        if since.is_some_and(|since| now.saturating_duration_since(since) > FORGET_AFTER) {
            self.forget();
        }
        self.state = Queue::Waits { since: now };
    }

    /// A place fell free and was handed on.
    pub(crate) fn handed(&mut self, now: Instant) {
        self.pass(now);
        self.growing.handed += 1;
        if self.growing.handed >= self.sample() {
            self.last = std::mem::take(&mut self.growing);
        }
    }

    /// Nobody waits any more.
    pub(crate) fn emptied(&mut self, now: Instant) {
        if let Queue::Waits { .. } = self.state {
            self.pass(now);
            self.state = Queue::Empty { since: Some(now) };
        }
    }

    /// The time from one hand-over to the next, if it is known.
    pub(crate) fn pace(&self, now: Instant) -> Option<Duration> {
        if self.last.handed == 0 {
            return None;
        }
        let handed = f64::from(self.last.handed + self.growing.handed);
        let span = self.last.span + self.growing.span;
        let pace = span.div_f64(handed);
        let silence = match self.state {
            Queue::Waits { since } => now.saturating_duration_since(since),
            Queue::Empty { .. } => Duration::ZERO,
        };
        let held = pace.saturating_mul(u32::try_from(self.width).unwrap_or(u32::MAX));
        Some(if silence > held { (span + silence).div_f64(handed) } else { pace })
    }

    fn pass(&mut self, now: Instant) {
        if let Queue::Waits { since } = &mut self.state {
            self.growing.span += now.saturating_duration_since(*since);
            *since = now;
        }
    }

    fn sample(&self) -> u32 {
        u32::try_from(self.width.saturating_mul(2)).unwrap_or(u32::MAX).max(SAMPLE_MIN)
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
