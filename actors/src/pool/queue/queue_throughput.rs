//! Throughput of a bucket's wait queue, and from it the expected wait (Little's law: waiters ahead × interval between
//! grants).
//!
//! It is measured only while requests wait: the gate is full then, so grants per time are the upstream's throughput at
//! that width. An empty queue costs nothing. The measurement is reset after 10 s without a waiter.
//!
//! A sample has twice as many grants as the gate has permits, because permits granted together are released together
//! and half of such a wave gives a wrong rate. The last complete sample and the growing one are kept. A pause shorter
//! than the average time for which a permit is held is part of the waves' rhythm; a longer one counts.
//!
//! Before the first sample is complete the throughput is unknown, and no request is refused because of it. The time
//! that a permit is held is not measured: that would cost a clock read per request and is misleading for slow streams.

use std::time::{Duration, Instant};

/// Fewest grants of a sample, against chance.
const SAMPLE_MIN: u32 = 8;
/// The measurement is discarded after this time without a waiter.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// Expected wait behind `ahead` waiters.
pub(crate) fn expected_wait(pace: Duration, ahead: usize) -> Duration {
    pace.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1))
}

/// A number of grants and the time they took.
#[derive(Debug, Clone, Copy, Default)]
struct GrantSample {
    grants: u32,
    span: Duration,
}

/// Throughput of one queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueThroughput {
    /// Permits of the gate.
    width: usize,
    last: GrantSample,
    growing: GrantSample,
    state: QueueState,
}

#[derive(Debug, Clone, Copy)]
enum QueueState {
    /// Requests wait; time of the last grant, or of the first waiter's arrival.
    Waiting { since: Instant },
    /// No request waits; time of the last one's departure.
    Empty { since: Option<Instant> },
}

impl QueueThroughput {
    /// Throughput of a queue before a gate with `width` permits; unknown at first.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            last: GrantSample::default(),
            growing: GrantSample::default(),
            state: QueueState::Empty { since: None },
        }
    }

    /// The throughput of a queue that replaces this one, before a gate of another width. Nothing waits in it yet.
    pub(crate) fn successor(&self, width: usize, now: Instant) -> Self {
        let mut next = Self { width, ..self.clone() };
        next.record_empty(now);
        next
    }

    /// Discards the measurement.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.width);
    }

    /// A request began to wait.
    pub(crate) fn record_waiting(&mut self, now: Instant) {
        let QueueState::Empty { since } = self.state else { return };
        if since.is_some_and(|since| now.saturating_duration_since(since) > RESET_AFTER) {
            self.reset();
        }
        self.state = QueueState::Waiting { since: now };
    }

    /// A released permit was granted to a waiter.
    pub(crate) fn record_grant(&mut self, now: Instant) {
        self.advance(now);
        self.growing.grants += 1;
        if self.growing.grants >= self.sample_size() {
            self.last = std::mem::take(&mut self.growing);
        }
    }

    /// No request waits any more.
    pub(crate) fn record_empty(&mut self, now: Instant) {
        if let QueueState::Waiting { .. } = self.state {
            self.advance(now);
            self.state = QueueState::Empty { since: Some(now) };
        }
    }

    /// Time between two grants; none if unknown.
    pub(crate) fn grant_interval(&self, now: Instant) -> Option<Duration> {
        if self.last.grants == 0 {
            return None;
        }
        let grants = f64::from(self.last.grants + self.growing.grants);
        let span = self.last.span + self.growing.span;
        let pace = span.div_f64(grants);
        let pause = match self.state {
            QueueState::Waiting { since } => now.saturating_duration_since(since),
            QueueState::Empty { .. } => Duration::ZERO,
        };
        let held_time = pace.saturating_mul(u32::try_from(self.width).unwrap_or(u32::MAX));
        Some(if pause > held_time { (span + pause).div_f64(grants) } else { pace })
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
#[path = "queue_throughput_tests.rs"]
mod tests;
