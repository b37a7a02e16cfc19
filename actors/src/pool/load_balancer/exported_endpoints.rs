//! The endpoints of a bucket as they cross to a successor, by authority. Times are nanoseconds of `CLOCK_MONOTONIC`.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::clock::MonotonicClock;
use crate::pool::load_balancer::LoadBalancerHistory;
use crate::pool::load_balancer::endpoint::{EjectionAction, Endpoint, Exclusion, FailureKind, FailureRate};
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::tier::Tier;
use crate::pool::operator_drain::exported_drain::ExportedDrain;
use crate::trip::{EjectionRule, EjectionTrip};

/// The largest count that crosses, so that no sum of counts overflows.
const COUNT_MAX: u64 = 1 << 40;

/// A time out of rotation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedExclusion {
    since: u64,
    until: u64,
    cause: String,
    /// Whether it is a back-off, and no ejection.
    is_back_off: bool,
}

/// The recent calls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExportedFailureRate {
    began: u64,
    successes_before: u64,
    failures: u64,
}

/// One endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedEndpoint {
    authority: String,
    successes: u64,
    latency_us: u64,
    exclusion: Option<ExportedExclusion>,
    is_unhealthy: bool,
    consecutive_failures: u32,
    successes_before_failures: u64,
    failure_rate: Option<ExportedFailureRate>,
    ejections: u32,
    in_rotation_since: u64,
    was_out_of_rotation: bool,
    successes_at_return: Option<u64>,
    good_checks: u32,
    bad_checks: u32,
    has_failed_check: bool,
    drain: Option<ExportedDrain>,
}

/// All endpoints of a bucket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedEndpoints {
    endpoints: Vec<ExportedEndpoint>,
    is_panicking: bool,
    is_on_standby: bool,
    enough_since: Option<u64>,
}

fn failure_kind(cause: &str) -> FailureKind {
    let kinds = [FailureKind::Unreachable, FailureKind::Timeout, FailureKind::Broken, FailureKind::Status];
    kinds.into_iter().find(|kind| kind.as_str() == cause).unwrap_or(FailureKind::Broken)
}

impl ExportedEndpoint {
    fn new(endpoint: &Endpoint, authority: &str, clock: &MonotonicClock) -> Self {
        let exclusion = endpoint.exclusion.map(|exclusion| ExportedExclusion {
            since: clock.nanos(exclusion.since),
            until: clock.nanos(exclusion.until),
            cause: exclusion.kind.as_str().to_owned(),
            is_back_off: exclusion.action == EjectionAction::BackOff,
        });
        let failure_rate = endpoint.failure_rate.map(|rate| ExportedFailureRate {
            began: clock.nanos(rate.began),
            successes_before: rate.successes_before,
            failures: rate.failures,
        });
        Self {
            authority: authority.to_owned(),
            successes: 0,
            latency_us: 0,
            exclusion,
            is_unhealthy: endpoint.unhealthy,
            consecutive_failures: endpoint.consecutive_failures,
            successes_before_failures: endpoint.successes_before_failures,
            failure_rate,
            ejections: endpoint.ejections,
            in_rotation_since: clock.nanos(endpoint.in_rotation_since),
            was_out_of_rotation: endpoint.was_out_of_rotation,
            successes_at_return: endpoint.successes_at_return,
            good_checks: endpoint.good_checks,
            bad_checks: endpoint.bad_checks,
            has_failed_check: endpoint.has_failed_check,
            drain: None,
        }
    }

    fn endpoint(&self, clock: &MonotonicClock, now: Instant) -> Endpoint {
        let trip = EjectionTrip { rule: EjectionRule::ConsecutiveFailures, measured: 0, threshold: 0 };
        let past = |nanos: u64| clock.instant(nanos).min(now);
        let exclusion = self.exclusion.as_ref().map(|exclusion| Exclusion {
            since: past(exclusion.since),
            until: clock.instant(exclusion.until),
            kind: failure_kind(&exclusion.cause),
            action: if exclusion.is_back_off { EjectionAction::BackOff } else { EjectionAction::Eject(trip) },
        });
        let failure_rate = self.failure_rate.as_ref().map(|rate| FailureRate {
            began: past(rate.began),
            successes_before: rate.successes_before.min(COUNT_MAX),
            failures: rate.failures.min(COUNT_MAX),
        });
        Endpoint {
            exclusion,
            unhealthy: self.is_unhealthy,
            consecutive_failures: self.consecutive_failures,
            successes_before_failures: self.successes_before_failures.min(COUNT_MAX),
            failure_rate,
            ejections: self.ejections,
            in_rotation_since: past(self.in_rotation_since),
            was_out_of_rotation: self.was_out_of_rotation,
            successes_at_return: self.successes_at_return.map(|successes| successes.min(COUNT_MAX)),
            good_checks: self.good_checks,
            bad_checks: self.bad_checks,
            has_failed_check: self.has_failed_check,
        }
    }
}

impl ExportedEndpoints {
    pub(crate) fn new(
        history: &LoadBalancerHistory,
        (names, stats): (&[String], &EndpointStatsTable),
        clock: &MonotonicClock,
        now: Instant,
    ) -> Self {
        let with_published = |(at, (endpoint, name)): (usize, (&Endpoint, &String))| {
            let (successes, latency_us) = stats.endpoint(at).exported();
            let drain = ExportedDrain::of(stats.endpoint(at).drain(), clock, now);
            ExportedEndpoint { successes, latency_us, drain, ..ExportedEndpoint::new(endpoint, name, clock) }
        };
        let endpoints = history.endpoints.iter().zip(names).take(stats.len()).enumerate();
        let (is_on_standby, enough_since) = match history.tier {
            Tier::Primary => (false, None),
            Tier::Standby { enough_since } => (true, enough_since.map(|since| clock.nanos(since))),
        };
        let is_panicking = history.is_panicking;
        Self { endpoints: endpoints.map(with_published).collect(), is_panicking, is_on_standby, enough_since }
    }

    /// The authorities.
    pub(crate) fn names(&self) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| endpoint.authority.clone()).collect()
    }

    /// The state, by the indices of the predecessor.
    pub(crate) fn history(&self, clock: &MonotonicClock, now: Instant) -> LoadBalancerHistory {
        let enough_since = self.enough_since.map(|since| clock.instant(since).min(now));
        LoadBalancerHistory {
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.endpoint(clock, now)).collect(),
            is_panicking: self.is_panicking,
            tier: if self.is_on_standby { Tier::Standby { enough_since } } else { Tier::Primary },
        }
    }

    /// Goes on from the counts and the drains. `sources`: the index there of each endpoint here.
    pub(crate) fn import_published(
        &self,
        stats: &EndpointStatsTable,
        sources: &[Option<usize>],
        clock: &MonotonicClock,
        now: Instant,
    ) {
        for (at, source) in sources.iter().enumerate().take(stats.len()) {
            if let Some(known) = source.and_then(|source| self.endpoints.get(source)) {
                stats.endpoint(at).import(known.successes.min(COUNT_MAX), known.latency_us);
                if let Some(drain) = &known.drain {
                    drain.import(stats.endpoint(at).drain(), clock, now);
                }
            }
        }
    }
}
