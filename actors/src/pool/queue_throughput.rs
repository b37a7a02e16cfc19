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
const RESET_AFTER: Duration = Duration::from_secs(10);

/// When the turn comes of somebody behind so many others.
pub(crate) fn expected_wait(pace: Duration, ahead: usize) -> Duration {
    pace.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1))
}

/// Hand-overs, and the time they took.
#[derive(Debug, Clone, Copy, Default)]
struct GrantSample {
    grants: u32,
    span: Duration,
}

/// The pace of one queue.
#[derive(Debug)]
pub(crate) struct QueueThroughput {
    /// Places of the gate.
    width: usize,
    last: GrantSample,
    growing: GrantSample,
    state: QueueState,
}

#[derive(Debug, Clone, Copy)]
enum QueueState {
    /// Somebody waits; the last hand-over, or when the first began to wait.
    Waiting { since: Instant },
    /// Nobody waits, since then.
    Empty { since: Option<Instant> },
}

impl QueueThroughput {
    /// The pace of a queue before a gate of so many places; nothing is known of it.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            last: GrantSample::default(),
            growing: GrantSample::default(),
            state: QueueState::Empty { since: None },
        }
    }

    /// Forgets all.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.width);
    }

    /// Somebody waits.
    pub(crate) fn record_waiting(&mut self, now: Instant) {
        let QueueState::Empty { since } = self.state else { return };
        if since.is_some_and(|since| now.saturating_duration_since(since) > RESET_AFTER) {
            self.reset();
        }
        self.state = QueueState::Waiting { since: now };
    }

    /// A place fell free and was handed on.
    pub(crate) fn record_grant(&mut self, now: Instant) {
        self.advance(now);
        self.growing.grants += 1;
        if self.growing.grants >= self.sample_size() {
            self.last = std::mem::take(&mut self.growing);
        }
    }

    /// Nobody waits any more.
    pub(crate) fn record_empty(&mut self, now: Instant) {
        if let QueueState::Waiting { .. } = self.state {
            self.advance(now);
            self.state = QueueState::Empty { since: Some(now) };
        }
    }

    /// The time from one hand-over to the next, if it is known.
    pub(crate) fn grant_interval(&self, now: Instant) -> Option<Duration> {
        if self.last.grants == 0 {
            return None;
        }
        let handed = f64::from(self.last.grants + self.growing.grants);
        let span = self.last.span + self.growing.span;
        let pace = span.div_f64(handed);
        let silence = match self.state {
            QueueState::Waiting { since } => now.saturating_duration_since(since),
            QueueState::Empty { .. } => Duration::ZERO,
        };
        let held = pace.saturating_mul(u32::try_from(self.width).unwrap_or(u32::MAX));
        Some(if silence > held { (span + silence).div_f64(handed) } else { pace })
    }

    fn advance(&mut self, now: Instant) {
        if let QueueState::Waiting { since } = &mut self.state {
            self.growing.span += now.saturating_duration_since(*since);
            *since = now;
        }
    }

    fn sample_size(&self) -> u32 {
        u32::try_from(self.width.saturating_mul(2)).unwrap_or(u32::MAX).max(SAMPLE_MIN)
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
