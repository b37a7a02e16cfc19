//! 95th percentile of a bucket's time to first byte, over recent reads.
//!
//! A histogram with eight steps per doubling, so the estimate is at most 1/8 too long (the idea is HdrHistogram's).
//! Counts lose half of their weight every 20 s. The estimate therefore rises quickly and falls slowly: if everything
//! becomes slow, one in twenty samples is slow after 1.5 s; if everything is fast again, it takes 1.5 min until the
//! slow ones are fewer. That errs on the safe side.
//!
//! Calls count outside the mailbox, in atomics that only rise (S1); the actor reads the increments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Steps per doubling, as a power of two.
const FINE_BITS: u32 = 3;
/// Longer latencies count as this one: two minutes.
const LONGEST_US: u64 = (1 << 27) - 1;
const STEPS: usize = step(LONGEST_US) + 1;
const HALF_LIFE: Duration = Duration::from_secs(20);
/// The share of calls that is faster than the estimate.
const SHARE: f64 = 0.95;

/// The step of a latency.
const fn step(us: u64) -> usize {
    let us = if us > LONGEST_US { LONGEST_US } else { us };
    if us < 1 << FINE_BITS {
        return us as usize;
    }
    let shift = us.ilog2() - FINE_BITS;
    ((shift as usize + 1) << FINE_BITS) | ((us >> shift) & ((1 << FINE_BITS) - 1)) as usize
}

/// The upper bound of a step.
fn end_us(step: usize) -> u64 {
    let fine = 1 << FINE_BITS;
    let (doubling, part) = ((step >> FINE_BITS).saturating_sub(1), step & (fine - 1));
    let begin = if step < fine { step as u64 } else { (fine + part) as u64 };
    (begin + 1) << doubling
}

/// Counters of calls by step.
#[derive(Debug)]
pub(crate) struct LatencyCounts(Box<[AtomicU64]>);

impl LatencyCounts {
    pub(crate) fn new() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(STEPS).collect())
    }

    /// Counts a call with this time to first byte.
    pub(crate) fn count(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0[step(us)].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Decayed histogram of recent calls.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LatencyTail {
    steps: Box<[Step]>,
    sampled: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Step {
    weight: f64,
    /// The counter's value at the last update.
    counted: u64,
}

impl LatencyTail {
    /// An empty histogram; calls counted before are ignored.
    pub(crate) fn new(counts: &LatencyCounts, now: Instant) -> Self {
        let steps = counts.read().map(|counted| Step { weight: 0.0, counted }).collect();
        Self { steps, sampled: now }
    }

    /// The histogram with the calls since the last update.
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

    /// The latency that 95 % of the calls stayed below; none before `calls_min` calls.
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

    /// Counts `calls` calls per second for so many seconds; `latency` gives the latency of the nth call.
    fn serve(
        (tail, counts): (&mut LatencyTail, &LatencyCounts),
        now: &mut Instant,
        seconds: f64,
        calls: u64,
        latency: impl Fn(u64) -> Duration,
    ) {
        let updates = (seconds * 4.0) as u64;
        for update in 0..updates {
            for call in 0..calls / 4 {
                counts.count(latency(update * (calls / 4) + call));
            }
            *now += millis(250);
            *tail = tail.updated(counts, *now);
        }
    }

    /// R5: every latency lies in its step, and no step is wider than an eighth of its lower bound
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

    /// R5: few calls and old calls give no estimate
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

    /// R5: one slow call in twenty-one leaves the estimate among the fast ones, one in nineteen does not
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

    /// R5: an upstream that becomes slow as a whole has a long tail within two seconds, and counts as fast again only
    /// after a while
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

    /// R5: hedges do not lower the estimate by hiding slow calls: a hedged call counts with its client's wait, which is
    /// longer than the estimate
    #[test]
    fn hedging_leaves_the_estimate_where_it_is() {
        let (counts, mut now) = (LatencyCounts::new(), clock::now());
        let mut tail = LatencyTail::new(&counts, now);
        // Evenly from 10 to 110 ms.
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
