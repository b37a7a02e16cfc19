//! How long the slowest reads of a bucket take: the 95th percentile of the time to the first byte, of late.
//!
//! A histogram whose steps grow with the time, eight to each doubling, so that what it says is at most an eighth too long
//! (the idea is HdrHistogram's). Old counts lose half of their weight every twenty seconds. The estimate therefore rises quickly
//! and falls slowly: when everything becomes slow, one in twenty of what is counted is slow after a second and a half, and
//! when everything is well again, it takes a minute and a half for the slow ones to be fewer than that. That is the safe way round.
//!
//! Calls count outside the mailbox, in atomics that only rise (S1); the actor looks at what came since it looked last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Steps to each doubling, as a power of two.
const FINE_BITS: u32 = 3;
/// What takes longer counts as this long: two minutes.
const LONGEST_US: u64 = (1 << 27) - 1;
const STEPS: usize = step(LONGEST_US) + 1;
const HALF_LIFE: Duration = Duration::from_secs(20);
/// The share of calls that are faster than the estimate.
const SHARE: f64 = 0.95;

/// The step that a time belongs to.
const fn step(us: u64) -> usize {
    let us = if us > LONGEST_US { LONGEST_US } else { us };
    if us < 1 << FINE_BITS {
        return us as usize;
    }
    let shift = us.ilog2() - FINE_BITS;
    ((shift as usize + 1) << FINE_BITS) | ((us >> shift) & ((1 << FINE_BITS) - 1)) as usize
}

/// The end of a step.
fn end_us(step: usize) -> u64 {
    let fine = 1 << FINE_BITS;
    let (doubling, part) = ((step >> FINE_BITS).saturating_sub(1), step & (fine - 1));
    let begin = if step < fine { step as u64 } else { (fine + part) as u64 };
    (begin + 1) << doubling
}

/// Where calls count.
#[derive(Debug)]
pub(crate) struct LatencyCounts(Box<[AtomicU64]>);

impl LatencyCounts {
    pub(crate) fn new() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(STEPS).collect())
    }

    /// A call took this long to its first byte.
    pub(crate) fn count(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0[step(us)].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

/// What calls took of late.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LatencyTail {
    steps: Box<[Step]>,
    sampled: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Step {
    weight: f64,
    /// Calls that were counted when it was looked at last.
    counted: u64,
}

impl LatencyTail {
    /// Knows nothing but what came before.
    pub(crate) fn new(counts: &LatencyCounts, now: Instant) -> Self {
        let steps = counts.read().map(|counted| Step { weight: 0.0, counted }).collect();
        Self { steps, sampled: now }
    }

    /// With what came since it was looked at last.
    #[expect(clippy::cast_precision_loss, reason = "a weight need not be exact")]
    pub(crate) fn updated(&self, counts: &LatencyCounts, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.sampled);
        let left = (-age.div_duration_f64(HALF_LIFE)).exp2();
        let since = |(step, counted): (&Step, u64)| Step {
            weight: step.weight * left + counted.wrapping_sub(step.counted) as f64,
            counted,
        };
        Self {
            steps: self.steps.iter().zip(counts.read()).map(since).collect(),
            sampled: now.max(self.sampled),
        }
    }

    /// The time that 95 % of the calls took less than; none before there are so many.
    pub(crate) fn p95(&self, calls_min: u32) -> Option<Duration> {
        let all: f64 = self.steps.iter().map(|step| step.weight).sum();
        if all < f64::from(calls_min) {
            return None;
        }
        let mut faster = 0.0;
        let at = self.steps.iter().position(|step| {
            faster += step.weight;
            faster >= all * SHARE
        })?;
        Some(Duration::from_micros(end_us(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Counts `calls` a second for so many seconds, of which `latency` says how long the nth took.
    fn serve(
        (tail, counts): (&mut LatencyTail, &LatencyCounts),
        now: &mut Instant,
        seconds: f64,
        calls: u64,
        latency: impl Fn(u64) -> Duration,
    ) {
        let looks = (seconds * 4.0) as u64;
        for look in 0..looks {
            for call in 0..calls / 4 {
                counts.count(latency(look * (calls / 4) + call));
            }
            *now += millis(250);
            *tail = tail.updated(counts, *now);
        }
    }

    /// R5: no time lies outside of its step, and no step is wider than an eighth of where it begins
    #[test]
    fn steps_contain_their_times() {
        let mut last = 0;
        for us in (0..5_000).chain((5_000..LONGEST_US).step_by(9_973)) {
            let step = step(us);
            let (begin, end) = (step.checked_sub(1).map_or(0, end_us), end_us(step));
            assert!((begin..end).contains(&us), "{us} in {begin}..{end}");
            assert!((end - begin).saturating_sub(1) * 8 <= begin, "{begin}..{end}");
            assert!(step >= last);
            last = step;
        }
        assert_eq!(step(u64::MAX), STEPS - 1);
    }

    /// R5: nothing is said of few calls, nor of calls that are long over
    #[test]
    fn few_calls_give_no_estimate() {
        let (counts, mut now) = (LatencyCounts::new(), clock::now());
        let mut tail = LatencyTail::new(&counts, now);
        assert_eq!(tail.p95(1), None);
        (0..99).for_each(|_| counts.count(millis(5)));
        tail = tail.updated(&counts, now);
        assert_eq!(tail.p95(100), None);
        counts.count(millis(5));
        tail = tail.updated(&counts, now);
        let p95 = tail.p95(100).unwrap();
        assert!(p95 > millis(5) && p95 <= millis(6), "{p95:?}");
        now += HALF_LIFE;
        assert_eq!(tail.updated(&counts, now).p95(51), None, "half of their weight is gone");
        assert!(tail.updated(&counts, now).p95(50).is_some());
    }

    /// R5: one slow call in twenty-one leaves the estimate among the fast, one in nineteen does not
    #[test]
    fn the_estimate_lies_where_the_slow_begin() {
        for (every, is_fast) in [(21, true), (19, false)] {
            let (counts, mut now) = (LatencyCounts::new(), clock::now());
            let mut tail = LatencyTail::new(&counts, now);
            let latency = |call| if call % every == 0 { millis(1000) } else { millis(10) };
            serve((&mut tail, &counts), &mut now, 30.0, 400, latency);
            let p95 = tail.p95(100).unwrap();
            assert_eq!(p95 < millis(20), is_fast, "one in {every}: {p95:?}");
        }
    }

    /// R5: an upstream that becomes slow as a whole has a long tail within two seconds, and is believed to be fast again only after a while
    #[test]
    fn the_estimate_rises_quickly_and_falls_slowly() {
        let (counts, mut now) = (LatencyCounts::new(), clock::now());
        let mut tail = LatencyTail::new(&counts, now);
        serve((&mut tail, &counts), &mut now, 120.0, 100, |_| millis(10));
        assert!(tail.p95(100).unwrap() < millis(12));
        serve((&mut tail, &counts), &mut now, 2.0, 100, |_| millis(1000));
        assert!(tail.p95(100).unwrap() > millis(1000));
        serve((&mut tail, &counts), &mut now, 120.0, 100, |_| millis(1000));
        serve((&mut tail, &counts), &mut now, 60.0, 100, |_| millis(10));
        assert!(tail.p95(100).unwrap() > millis(1000), "a minute is too short");
        serve((&mut tail, &counts), &mut now, 60.0, 100, |_| millis(10));
        assert!(tail.p95(100).unwrap() < millis(12), "two are enough");
    }

    /// R5: hedges do not pull the estimate down by hiding what they saved: a hedged call counts for as long as its client
    /// waited, which is longer than the estimate
    #[test]
    fn hedging_leaves_the_estimate_where_it_is() {
        let (counts, mut now) = (LatencyCounts::new(), clock::now());
        let mut tail = LatencyTail::new(&counts, now);
        // From 10 to 110 ms, evenly.
        let latency = |call: u64| Duration::from_micros(10_000 + call * 7_919 % 100_000);
        serve((&mut tail, &counts), &mut now, 60.0, 400, latency);
        let unhedged = tail.p95(100).unwrap();
        let mut hedged = 0;
        for _ in 0..600 {
            let delay = tail.p95(100).unwrap();
            serve((&mut tail, &counts), &mut now, 0.25, 400, |call| latency(call).min(delay + millis(10)));
            hedged += (0..100).filter(|call| latency(*call) > delay).count();
        }
        let p95 = tail.p95(100).unwrap();
        assert!(p95 >= unhedged.mul_f64(0.8), "{p95:?} after {unhedged:?}");
        assert!(hedged <= 600 * 10, "{hedged} of 60000");
    }
}
