//! The clock of a table of limits: nanoseconds since its creation. After a hand-over to a successor it stands still.
//!
//! While it stands no token becomes free: the successor has all of the rate. What the predecessor keeps of the tokens that
//! were free is in the arrival times (`Gcra::frozen`).

use std::time::Instant;

use crate::clock::nanos_between;

/// The clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitClock {
    origin: Instant,
    stopped: Option<Stop>,
}

/// The stop of a clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// Tokens that each cell may have kept.
    pub(super) connections: u64,
    /// The time that stands.
    pub(super) at: u64,
}

impl LimitClock {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, stopped: None }
    }

    /// Nanoseconds since the creation.
    #[inline]
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        match self.stopped {
            None => nanos_between(self.origin, now),
            Some(stop) => stop.at,
        }
    }

    /// Stops the clock and returns the time; none if it stands already.
    pub(super) fn stop(&mut self, connections: u64, now: Instant) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let at = self.nanos(now);
        self.stopped = Some(Stop { connections, at });
        Some(at)
    }

    /// The stop, while the clock stands.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped
    }

    /// Lets the clock go on. Returns the stop and the present time; none if it does not stand.
    pub(super) fn resume(&mut self, now: Instant) -> Option<(Stop, u64)> {
        let stop = self.stopped.take()?;
        Some((stop, self.nanos(now)))
    }
}
