//! Counts over time, in at most 240 intervals of equal width. The width doubles when the time does not fit, so any log fits.

use serde::Serialize;
use tidegate_actors::replay::Refusal;

use crate::replay::request::RefusalReason;

/// Most intervals.
const INTERVALS_MAX: usize = 240;
const FIRST_WIDTH_US: u64 = 1_000_000;

/// What refuses, in the figures over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalGroup {
    /// Rate limits.
    Limit,
    /// Requests in flight, of all clients or of one.
    Concurrency,
    /// Circuits.
    Circuit,
    /// The queue of a bucket.
    Queue,
    /// The cursor of a bucket.
    Shed,
    /// What a replay does not decide.
    Other,
}

impl RefusalGroup {
    pub(crate) fn of(reason: RefusalReason) -> Self {
        let RefusalReason::Decided(refusal) = reason else { return Self::Other };
        match refusal {
            Refusal::Limit(_) => Self::Limit,
            Refusal::InFlight | Refusal::ClientConcurrency => Self::Concurrency,
            Refusal::Circuit(_) => Self::Circuit,
            Refusal::QueueFull
            | Refusal::QueueTooLong
            | Refusal::QueueDisplaced
            | Refusal::QueueOverload
            | Refusal::QueueTimeout => Self::Queue,
            Refusal::ShedBucket => Self::Shed,
        }
    }
}

/// The counts of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Interval {
    /// Requests that began in it.
    pub requests: u64,
    /// Those that a rate limit refused.
    pub limited: u64,
    /// Those that were refused because of requests in flight.
    pub concurrency: u64,
    /// Those that a circuit refused.
    pub circuit: u64,
    /// Those that the queue refused.
    pub queue: u64,
    /// Those that the cursor of a bucket refused.
    pub shed: u64,
    /// Those that were refused for a reason that a replay does not decide.
    pub other: u64,
    /// Those that waited for more than 10 ms.
    pub queued: u64,
}

impl Interval {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.limited += other.limited;
        self.concurrency += other.concurrency;
        self.circuit += other.circuit;
        self.queue += other.queue;
        self.shed += other.shed;
        self.other += other.other;
        self.queued += other.queued;
    }

    /// All refusals.
    pub fn refused(&self) -> u64 {
        self.limited + self.concurrency + self.circuit + self.queue + self.shed + self.other
    }

    pub(crate) fn count_refusal(&mut self, reason: RefusalReason) {
        let count = match RefusalGroup::of(reason) {
            RefusalGroup::Limit => &mut self.limited,
            RefusalGroup::Concurrency => &mut self.concurrency,
            RefusalGroup::Circuit => &mut self.circuit,
            RefusalGroup::Queue => &mut self.queue,
            RefusalGroup::Shed => &mut self.shed,
            RefusalGroup::Other => &mut self.other,
        };
        *count += 1;
    }
}

/// Counts over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// The begin of the first interval, in microseconds since 1970.
    pub(crate) begin_us: u64,
    /// The width of an interval.
    pub(crate) width_us: u64,
    /// The intervals in their order.
    pub(crate) intervals: Vec<Interval>,
}

impl Timeline {
    pub(crate) fn new(begin_us: u64) -> Self {
        let begin_us = begin_us - begin_us % FIRST_WIDTH_US;
        Self { begin_us, width_us: FIRST_WIDTH_US, intervals: Vec::new() }
    }

    /// The interval of a time. A time before the first one belongs to the first one.
    pub(crate) fn at(&mut self, at_us: u64) -> &mut Interval {
        let index = |this: &Self| {
            usize::try_from(at_us.saturating_sub(this.begin_us) / this.width_us).unwrap_or(usize::MAX)
        };
        while index(self) >= INTERVALS_MAX {
            self.widen();
        }
        let index = index(self);
        if self.intervals.len() <= index {
            self.intervals.resize(index + 1, Interval::default());
        }
        &mut self.intervals[index]
    }

    fn widen(&mut self) {
        self.width_us = self.width_us.saturating_mul(2);
        let pairs = self.intervals.chunks(2).map(|pair| {
            let mut sum = pair[0];
            pair.iter().skip(1).for_each(|other| sum.add(other));
            sum
        });
        self.intervals = pairs.collect();
    }

    /// Widens the intervals to the widest, and appends empty ones until each timeline has as many as the longest.
    pub(crate) fn align(timelines: &mut [&mut Self]) {
        let width = timelines.iter().map(|timeline| timeline.width_us).max().unwrap_or(FIRST_WIDTH_US);
        for timeline in &mut *timelines {
            while timeline.width_us < width {
                timeline.widen();
            }
        }
        let count = timelines.iter().map(|timeline| timeline.intervals.len()).max().unwrap_or(0);
        for timeline in timelines {
            timeline.intervals.resize(count, Interval::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of any length has a bounded number of intervals, and no count is lost.
    #[test]
    fn the_width_grows_with_the_time() {
        let mut timeline = Timeline::new(5_500_000);
        for hour in 0..1_000_u64 {
            timeline.at(5_500_000 + hour * 3_600_000_000).requests += 1;
        }
        assert!(timeline.intervals.len() <= INTERVALS_MAX && timeline.begin_us == 5_000_000);
        assert_eq!(timeline.intervals.iter().map(|interval| interval.requests).sum::<u64>(), 1_000);
        timeline.at(0).requests += 1;
        let mut short = Timeline::new(5_500_000);
        short.at(6_000_000).requests += 1;
        Timeline::align(&mut [&mut timeline, &mut short]);
        assert_eq!((short.width_us, short.intervals.len()), (timeline.width_us, timeline.intervals.len()));
        assert_eq!(short.intervals[0].requests, 1);
    }

    /// The end of time needs no memory.
    #[test]
    fn far_times_fit() {
        let mut timeline = Timeline::new(0);
        timeline.at(u64::MAX).requests += 1;
        assert!(timeline.intervals.len() <= INTERVALS_MAX);
    }
}
