//! Reads one point of each series: snapshots as they are, counters as rates since the last point.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_actors::{BucketId, CircuitState, Sensor, WaitReading};

use super::quantile::quantile;
use super::series::SeriesInfo;
use super::{BUCKETS_MAX, SENSORS_MAX};
use crate::admin::error_tally::ErrorTally;
use crate::process::Shared;
use crate::upstream::bucket::Bucket;

/// The quantiles of the duration of requests.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
const NANOS_PER_MILLI: f64 = 1e6;

/// Buckets with common series.
struct BucketGroup {
    /// Indexes in the configuration.
    members: Range<usize>,
    last: GroupCounters,
}

/// Counters of one group since the start.
#[derive(Debug, Default, PartialEq)]
struct GroupCounters {
    server_errors: u64,
    /// Requests by the bucket of their duration's histogram.
    times: Vec<u64>,
}

/// Reads points.
pub(in crate::admin) struct Sampler {
    /// The buckets, in the order of the configuration.
    buckets: Vec<BucketId>,
    groups: Vec<BucketGroup>,
    sensors: Vec<Sensor>,
    /// Series that the history does not have yet.
    new_series: Vec<SeriesInfo>,
    refusals: u64,
    unrouted: u64,
    sampled: Instant,
}

/// The state of one bucket at the time of a point.
pub(in crate::admin) struct BucketSample<'a> {
    pub(in crate::admin) name: &'a str,
    pub(in crate::admin) in_flight: usize,
    pub(in crate::admin) queued: usize,
    /// The worst state of its circuits.
    pub(in crate::admin) circuit: CircuitState,
}

impl Sampler {
    pub(in crate::admin) fn new(shared: &Shared, errors: &ErrorTally, now: Instant) -> Self {
        let buckets = shared.router.buckets();
        let own = buckets.len().min(BUCKETS_MAX);
        let mut members: Vec<Range<usize>> = (0..own).map(|at| at..at + 1).collect();
        if own < buckets.len() {
            members.push(own..buckets.len());
        }
        let mut new_series: Vec<SeriesInfo> = SeriesInfo::of_process().into();
        for group in &members {
            let name = (group.end <= own).then(|| buckets[group.start].name.as_str());
            new_series.extend(SeriesInfo::of_bucket(name));
        }
        let groups = members.into_iter().map(|members| {
            let last = GroupCounters::read(&buckets[members.clone()]);
            BucketGroup { members, last }
        });
        let (refusals, unrouted) = (errors.all(), errors.unrouted());
        let (groups, sensors) = (groups.collect(), Vec::new());
        let buckets = buckets.iter().map(|bucket| bucket.id).collect();
        let mut this = Self { buckets, groups, sensors, new_series, refusals, unrouted, sampled: now };
        // Adds the series of the sensors.
        this.sensor_values(shared, now);
        this
    }

    /// Whether its buckets are those of this configuration.
    pub(in crate::admin) fn has_buckets_of(&self, shared: &Shared) -> bool {
        let buckets = shared.router.buckets().iter().map(|bucket| bucket.id);
        self.buckets.iter().copied().eq(buckets)
    }

    /// The series that were found since the last call. Their values follow those of the earlier ones.
    pub(in crate::admin) fn new_series(&mut self) -> impl Iterator<Item = SeriesInfo> {
        std::mem::take(&mut self.new_series).into_iter()
    }

    /// One value for each series; NaN for a value that is unknown.
    pub(in crate::admin) fn sample(
        &mut self,
        shared: &Shared,
        errors: &ErrorTally,
        now: Instant,
    ) -> Vec<f32> {
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut self.sampled, now));
        let (refusals, unrouted) = (errors.all(), errors.unrouted());
        let new_refusals = refusals.saturating_sub(std::mem::replace(&mut self.refusals, refusals));
        let mut requests = unrouted.saturating_sub(std::mem::replace(&mut self.unrouted, unrouted));
        let mut of_buckets = Vec::new();
        for group in &mut self.groups {
            let members = &shared.router.buckets()[group.members.clone()];
            let counters = GroupCounters::read(members);
            let new = counters.since(&group.last);
            group.last = counters;
            requests += new.times.iter().sum::<u64>();
            of_buckets.extend(group_values(members, &new, (elapsed, now)));
        }
        let monitor = &shared.actors.monitor;
        let mut values = vec![
            per_second(requests, elapsed),
            per_second(new_refusals, elapsed),
            monitor.in_flight() as f32,
            monitor.level().number().into(),
        ];
        values.extend(wait_values(shared, now));
        values.extend(of_buckets);
        values.extend(self.sensor_values(shared, now));
        values
    }

    /// The use of each sensor's resource in percent. A sensor without a current reading is unknown.
    fn sensor_values(&mut self, shared: &Shared, now: Instant) -> Vec<f32> {
        let view = shared.actors.monitor.view();
        for (sensor, _) in view.readings() {
            if !self.sensors.contains(&sensor) && self.sensors.len() < SENSORS_MAX {
                self.sensors.push(sensor);
                self.new_series.push(SeriesInfo::sensor(sensor, &view, &shared.config.monitor));
            }
        }
        let is_stale = view.is_stale(now);
        let value = |sensor: &Sensor| {
            let percent = view.pressure_percent(*sensor).filter(|_| !is_stale);
            percent.map_or(f32::NAN, |percent| percent as f32)
        };
        self.sensors.iter().map(value).collect()
    }

    /// The present state of the buckets that have series of their own.
    pub(in crate::admin) fn buckets(shared: &Shared, now: Instant) -> impl Iterator<Item = BucketSample<'_>> {
        shared.router.buckets().iter().take(BUCKETS_MAX).map(move |bucket| {
            let circuits = bucket.breaker.views(now).map(|view| match (view.state, view.open_for) {
                // The actor changes the state to half-open only with the next request.
                (CircuitState::Open, Some(Duration::ZERO)) => CircuitState::HalfOpen,
                (state, _) => state,
            });
            let weight = |state: &CircuitState| match state {
                CircuitState::Closed => 0,
                CircuitState::HalfOpen => 1,
                CircuitState::Open => 2,
            };
            BucketSample {
                name: &bucket.name,
                in_flight: bucket.pool.in_flight(),
                queued: bucket.pool.waiting(),
                circuit: circuits.max_by_key(weight).unwrap_or(CircuitState::Closed),
            }
        })
    }
}

impl GroupCounters {
    fn read(buckets: &[Arc<Bucket>]) -> Self {
        let mut this = Self::default();
        for bucket in buckets {
            this.server_errors += bucket.metrics.server_errors();
            let counts = bucket.metrics.times.requests().counts();
            for (at, count) in counts.enumerate() {
                match this.times.get_mut(at) {
                    Some(sum) => *sum += count,
                    None => this.times.push(count),
                }
            }
        }
        this
    }

    fn since(&self, last: &Self) -> Self {
        let times = self.times.iter().zip(&last.times).map(|(now, last)| now.saturating_sub(*last));
        Self { server_errors: self.server_errors.saturating_sub(last.server_errors), times: times.collect() }
    }
}

/// The values of a group, in the order of [`SeriesInfo::of_bucket`].
fn group_values(
    members: &[Arc<Bucket>],
    new: &GroupCounters,
    (elapsed, now): (Duration, Instant),
) -> Vec<f32> {
    let sum = |count: fn(&Bucket) -> usize| members.iter().map(|bucket| count(bucket)).sum::<usize>() as f32;
    let bounds = members.first().map_or(&[][..], |bucket| bucket.metrics.times.requests().bounds());
    let mut values = vec![
        per_second(new.times.iter().sum(), elapsed),
        per_second(new.server_errors, elapsed),
        sum(|bucket| bucket.pool.in_flight()),
        sum(|bucket| bucket.pool.waiting()),
        longest(members.iter().map(|bucket| bucket.pool.shedder().view(now).wait)),
    ];
    values.extend(QUANTILES.map(|share| {
        let nanos = quantile(share, &new.times, bounds);
        nanos.map_or(f32::NAN, |nanos| (nanos / NANOS_PER_MILLI) as f32)
    }));
    values
}

fn per_second(count: u64, elapsed: Duration) -> f32 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds) as f32 } else { f32::NAN }
}

/// The cursor of the process, and the waits that move it: the worst lag of an event loop, and the wait in mailboxes.
fn wait_values(shared: &Shared, now: Instant) -> [f32; 3] {
    let shedding = &shared.actors.shedding;
    let lags = shedding.waits.lags(now).into_iter().map(|worker| worker.lag);
    let cursor = shedding.process.view(now).cursor as f32;
    [cursor, longest(lags), longest([shedding.waits.mailboxes(now)].into_iter())]
}

/// The longest wait in ms. A stale one is unknown.
fn longest(waits: impl Iterator<Item = Option<WaitReading>>) -> f32 {
    let known = waits.flatten().filter(|wait| !wait.is_stale());
    known.map(|wait| (wait.wait.as_secs_f64() * 1e3) as f32).fold(f32::NAN, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7, X1: the longest wait counts, and a wait that is not current is unknown
    #[test]
    fn stale_waits_are_unknown() {
        let wait =
            |ms, age| Some(WaitReading { wait: Duration::from_millis(ms), age: Duration::from_millis(age) });
        assert_eq!(longest([wait(3, 0), None, wait(7, 900), wait(90, 1_001)].into_iter()), 7.0);
        assert!(longest([None, wait(90, 1_001)].into_iter()).is_nan());
    }

    /// O3: counters become rates over the real time since the last point
    #[test]
    fn counters_become_rates() {
        assert_eq!(per_second(30, Duration::from_secs(2)), 15.0);
        assert!(per_second(30, Duration::ZERO).is_nan());
        let last = GroupCounters { server_errors: 2, times: vec![1, 5] };
        let now = GroupCounters { server_errors: 5, times: vec![4, 5] };
        assert_eq!(now.since(&last), GroupCounters { server_errors: 3, times: vec![3, 0] });
    }
}
