//! The number of requests for which the memory is enough until the next sample, as a pure state machine.
//!
//! A burst of requests between two samples would raise memory beyond the limit before any level could rise, and a request that has just
//! begun does not hold its memory yet. So free memory is given out in advance: each request in flight that began within
//! [`GROWTH_TIME`] has [`REQUEST_BYTES`] reserved, and an older one counts with what it really holds.
//! The number of older requests is taken as the lowest number in flight during that time.

use std::time::{Duration, Instant};

use crate::monitor::reading::{Reading, Readings};

/// Bytes reserved for a request that begins. A slow download holds 130 KiB of the process and two small socket buffers of 64 KiB; the
/// rest is for connections that come at the same time, at 10 KiB each.
const REQUEST_BYTES: u64 = 256 << 10;
/// Time in which a request comes to hold its memory.
const GROWTH_TIME: Duration = Duration::from_secs(2);
/// Parts of `GROWTH_TIME`.
const PARTS: usize = 8;
/// Requests that are admitted whatever the memory: others end and free some, and refusing all would end nothing (X8).
const IN_FLIGHT_MIN: u64 = 16;

/// The lowest number of requests in flight of each part of `GROWTH_TIME`, and the bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Headroom {
    lowest: [Option<LowestInFlight>; PARTS],
    in_flight_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct LowestInFlight {
    began: Instant,
    in_flight: u64,
}

impl Headroom {
    /// The most requests in flight until the next sample; none if the memory is unknown.
    pub(crate) fn in_flight_max(&self) -> Option<usize> {
        self.in_flight_max
    }

    /// After a sample. `exhausted` is the share of the limit that may be used, in percent.
    pub(crate) fn with_sample(mut self, readings: &Readings, exhausted: u8, now: Instant) -> Self {
        let (Some(memory), Reading::Known { used: in_flight, .. }) = (&readings.memory, readings.in_flight)
        else {
            return Self::default();
        };
        self.record(in_flight, now);
        let usable = u128::from(memory.own_limit_bytes) * u128::from(exhausted) / 100;
        let free = usable.saturating_sub(u128::from(memory.own_bytes)) / u128::from(REQUEST_BYTES);
        let older = self.lowest.iter().flatten().map(|lowest| lowest.in_flight).min().unwrap_or(0);
        let max = older.saturating_add(u64::try_from(free).unwrap_or(u64::MAX)).max(IN_FLIGHT_MIN);
        self.in_flight_max = Some(usize::try_from(max).unwrap_or(usize::MAX));
        self
    }

    /// Keeps the lowest number of each part and drops parts older than `GROWTH_TIME`. Nothing was in flight before
    /// the first sample.
    fn record(&mut self, in_flight: u64, now: Instant) {
        let part = GROWTH_TIME / u32::try_from(PARTS).unwrap_or(1);
        match &mut self.lowest[0] {
            Some(newest) if now.saturating_duration_since(newest.began) < part => {
                newest.in_flight = newest.in_flight.min(in_flight);
            }
            first => {
                let is_first = first.is_none();
                self.lowest.rotate_right(1);
                let in_flight = if is_first { 0 } else { in_flight };
                self.lowest[0] = Some(LowestInFlight { began: now, in_flight });
            }
        }
        for lowest in &mut self.lowest[1..] {
            *lowest = lowest.filter(|lowest| now.saturating_duration_since(lowest.began) <= GROWTH_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::monitor::reading::{MemorySource, MemoryUse};

    const SAMPLE: Duration = Duration::from_millis(250);
    const LIMIT: u64 = 64 << 20;
    const USABLE: u64 = LIMIT * 95 / 100;

    fn readings(own_bytes: u64, in_flight: u64) -> Readings {
        let memory = MemoryUse {
            used_bytes: own_bytes,
            limit_bytes: LIMIT,
            own_bytes,
            own_limit_bytes: LIMIT,
            sockets_bytes: 0,
            rss_bytes: own_bytes,
            source: MemorySource::CgroupV2,
        };
        let in_flight = Reading::Known { used: in_flight, limit: 10_000 };
        Readings { memory: Some(memory), in_flight, ..Readings::NONE }
    }

    /// X6: free memory is divided among requests that begin; those that are older have their memory already
    #[test]
    fn free_memory_bounds_the_requests_that_begin() {
        let t0 = clock::now();
        let headroom = Headroom::default().with_sample(&readings(4 << 20, 0), 95, t0);
        let at_start = (USABLE - (4 << 20)) / REQUEST_BYTES;
        assert_eq!(headroom.in_flight_max(), usize::try_from(at_start).ok());
        let mut headroom = headroom;
        for n in 1..=12 {
            headroom = headroom.with_sample(&readings(20 << 20, 100), 95, t0 + SAMPLE * n);
        }
        let later = 100 + (USABLE - (20 << 20)) / REQUEST_BYTES;
        assert_eq!(headroom.in_flight_max(), usize::try_from(later).ok());
    }

    /// X4, X8: an unknown reading bounds nothing, and full memory admits some requests
    #[test]
    fn some_requests_are_always_admitted() {
        let t0 = clock::now();
        let full = Headroom::default().with_sample(&readings(LIMIT * 2, 0), 95, t0);
        assert_eq!(full.in_flight_max(), Some(16));
        assert_eq!(full.with_sample(&Readings::NONE, 95, t0 + SAMPLE).in_flight_max(), None);
    }

    proptest! {
        /// X6: requests that grow to the reserved size within the growth time never take memory beyond the threshold,
        /// for any bursts
        #[test]
        fn a_burst_never_passes_the_threshold(bursts in prop::collection::vec(0u64..3000, 1..60), growth_samples in 1u64..8) {
            const BASE: u64 = 16 << 20;
            let t0 = clock::now();
            let mut headroom = Headroom::default();
            // Requests by the sample in which they began; they stay for ever and grow linearly.
            let mut begun: Vec<(u64, u64)> = Vec::new();
            for (n, burst) in (0u64..).zip(bursts) {
                let held = |(began, count): &(u64, u64)| {
                    count * REQUEST_BYTES * (n - began).min(growth_samples) / growth_samples
                };
                let own = BASE + begun.iter().map(held).sum::<u64>();
                prop_assert!(own <= USABLE.max(BASE + IN_FLIGHT_MIN * REQUEST_BYTES), "{} of {}", own, USABLE);
                let in_flight: u64 = begun.iter().map(|(_, count)| count).sum();
                let at = t0 + SAMPLE * u32::try_from(n).unwrap();
                headroom = headroom.with_sample(&readings(own, in_flight), 95, at);
                let max = u64::try_from(headroom.in_flight_max().unwrap()).unwrap();
                begun.push((n, burst.min(max.saturating_sub(in_flight))));
            }
        }
    }
}
