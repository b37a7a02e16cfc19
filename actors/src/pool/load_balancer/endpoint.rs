//! Health of one endpoint: whether its calls and checks keep it in rotation.
//!
//! ```text
//!               failures in a row, or too large a share; or the first one after a return
//!   in rotation ───────────────────────────────────────────────▶ ejected: base × ejections, capped, jittered
//!        ▲  └── unreachable ──▶ backing off: 1 s, doubled each time up to base
//!        └──── time is up, or a check disproves the cause ────┘     bad checks in a row ──▶ unhealthy
//! ```
//!
//! The rules follow Envoy's outlier detection with four changes, see `docs/design/endpoint-health.md`. An endpoint that
//! returns from an ejection is ejected again on its first failure unless a success came first. A good check ends an
//! exclusion early only if it disproves the cause.
//!
//! Times are compared when a call or check is recorded; there are no timers. Latency never ejects: it only weighs in
//! the choice of endpoint (`load_balancer/`).

use std::time::{Duration, Instant};

use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::trip::{EjectionRule, EjectionTrip};

/// First back-off of an unreachable endpoint.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// Length of the failure-rate window, and fewest calls in it.
const FAILURE_RATE_WINDOW: Duration = Duration::from_secs(10);
const FAILURE_RATE_CALLS_MIN: u64 = 20;
/// Weight of an endpoint right after its return, in thousandths.
const WEIGHT_MIN: u32 = 100;
/// Full weight, in thousandths.
pub(crate) const WEIGHT_WHOLE: u32 = 1000;

/// Cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection failed, or TLS did not trust the endpoint.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the answer was malformed.
    Broken,
    /// The answer's status was a failure.
    Status,
}

impl FailureKind {
    /// Value in logs and in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "silent",
            Self::Broken => "broken",
            Self::Status => "status",
        }
    }
}

/// A failed call, as reported to the actor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointFailure {
    pub(crate) kind: FailureKind,
    pub(crate) began: Instant,
    /// The endpoint's successes at the time of the failure.
    pub(crate) successes: u64,
}

/// Kind of exclusion that a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EjectionAction {
    BackOff,
    Eject(EjectionTrip),
}

/// Whether an endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// The endpoint is called.
    InRotation,
    /// Not called until then, because connections failed.
    BackingOff(Instant),
    /// Not called until then, because calls failed with this cause.
    Ejected(Instant, FailureKind),
    /// Not called until checks succeed.
    Unhealthy,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Exclusion {
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) kind: FailureKind,
    pub(super) action: EjectionAction,
}

/// Recent calls, for the failure rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailureRate {
    pub(super) began: Instant,
    pub(super) successes_before: u64,
    pub(super) failures: u64,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(super) exclusion: Option<Exclusion>,
    pub(super) unhealthy: bool,
    /// Failures in a row, and the successes before them.
    pub(super) consecutive_failures: u32,
    pub(super) successes_before_failures: u64,
    pub(super) failure_rate: Option<FailureRate>,
    /// Ejections that are not forgiven yet.
    pub(super) ejections: u32,
    /// Time of the last return; at first, of the creation.
    pub(super) in_rotation_since: Instant,
    pub(super) was_out_of_rotation: bool,
    /// Successes at the return from an ejection. The next success ends the probation.
    pub(super) successes_at_return: Option<u64>,
    pub(super) good_checks: u32,
    pub(super) bad_checks: u32,
    /// Whether a check failed since the exclusion. Then checks detect what calls detect.
    pub(super) has_failed_check: bool,
}

impl Endpoint {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            exclusion: None,
            unhealthy: false,
            consecutive_failures: 0,
            successes_before_failures: 0,
            failure_rate: None,
            ejections: 0,
            in_rotation_since: now,
            was_out_of_rotation: false,
            successes_at_return: None,
            good_checks: 0,
            bad_checks: 0,
            has_failed_check: false,
        }
    }

    /// The endpoint with the state that is published, for a pool that replaces one that does not answer.
    pub(crate) fn from_published(state: EndpointState, now: Instant) -> Self {
        let trip = EjectionTrip { rule: EjectionRule::ConsecutiveFailures, measured: 0, threshold: 0 };
        let (until, kind, action) = match state {
            EndpointState::InRotation => return Self::new(now),
            EndpointState::Unhealthy => return Self { unhealthy: true, ..Self::new(now) },
            EndpointState::BackingOff(until) => (until, FailureKind::Unreachable, EjectionAction::BackOff),
            EndpointState::Ejected(until, kind) => (until, kind, EjectionAction::Eject(trip)),
        };
        Self { exclusion: Some(Exclusion { since: now, until, kind, action }), ..Self::new(now) }
    }

    /// The same endpoint in a pool that replaces this one's. `is_alone`: it is the only one there, and is always called.
    /// Only checks end a time as unhealthy.
    pub(crate) fn successor(&self, rules: &LoadBalancerSettings, is_alone: bool, now: Instant) -> Self {
        let mut next = self.clone();
        if is_alone {
            next.exclusion = None;
        }
        if let Some(exclusion) = &mut next.exclusion {
            exclusion.until = exclusion.until.min(now + rules.ejection_max);
        }
        if !rules.has_checks {
            (next.unhealthy, next.good_checks, next.bad_checks) = (false, 0, 0);
        }
        next
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.exclusion.is_none() && !self.unhealthy
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.exclusion.is_some_and(|exclusion| matches!(exclusion.action, EjectionAction::Eject(_)))
    }

    /// Failures in a row.
    pub(crate) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// When the exclusion expires.
    pub(crate) fn excluded_until(&self) -> Option<Instant> {
        self.exclusion.map(|exclusion| exclusion.until)
    }

    pub(crate) fn state(&self) -> EndpointState {
        match self.exclusion {
            _ if self.unhealthy => EndpointState::Unhealthy,
            None => EndpointState::InRotation,
            Some(Exclusion { until, action: EjectionAction::BackOff, .. }) => {
                EndpointState::BackingOff(until)
            }
            Some(Exclusion { until, kind, .. }) => EndpointState::Ejected(until, kind),
        }
    }

    /// Weight in thousandths: reduced during slow start, never zero.
    pub(crate) fn weight(&self, slow_start: Duration, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.in_rotation_since);
        if !self.was_out_of_rotation || since >= slow_start {
            return WEIGHT_WHOLE;
        }
        let rise = since.as_secs_f64() / slow_start.as_secs_f64() * f64::from(WEIGHT_WHOLE - WEIGHT_MIN);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 900")]
        let rise = rise as u32;
        WEIGHT_MIN + rise
    }

    /// Counts a failed call; returns the exclusion that it calls for.
    pub(crate) fn record_failure(
        &mut self,
        failure: &EndpointFailure,
        rules: &LoadBalancerSettings,
        now: Instant,
    ) -> Option<EjectionAction> {
        if !self.is_usable() || failure.began < self.in_rotation_since {
            return None;
        }
        if failure.successes != self.successes_before_failures {
            self.consecutive_failures = 0;
            self.successes_before_failures = failure.successes;
        }
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let rate = self.exceeded_failure_rate(failure.successes, rules, now);
        let (failures, threshold) = (self.consecutive_failures, rules.consecutive_failures);
        let trip = if self.successes_at_return == Some(failure.successes) {
            Some(EjectionTrip { rule: EjectionRule::Probation, measured: 1, threshold: 1 })
        } else if failures >= threshold {
            let rule = EjectionRule::ConsecutiveFailures;
            Some(EjectionTrip { rule, measured: failures, threshold })
        } else {
            rate
        };
        let back_off = (failure.kind == FailureKind::Unreachable).then_some(EjectionAction::BackOff);
        trip.map(EjectionAction::Eject).or(back_off)
    }

    /// The percentage of failures among the recent calls, if it reaches its threshold.
    fn exceeded_failure_rate(
        &mut self,
        successes: u64,
        rules: &LoadBalancerSettings,
        now: Instant,
    ) -> Option<EjectionTrip> {
        let old = |rate: &FailureRate| now.saturating_duration_since(rate.began) >= FAILURE_RATE_WINDOW;
        if self.failure_rate.as_ref().is_none_or(old) {
            self.failure_rate = Some(FailureRate { began: now, successes_before: successes, failures: 0 });
        }
        let rate = self.failure_rate.as_mut()?;
        rate.failures += 1;
        let calls = rate.failures + successes.saturating_sub(rate.successes_before);
        let (failures, threshold) = (rate.failures * 100, rules.failure_percent);
        if calls < FAILURE_RATE_CALLS_MIN || failures < calls * u64::from(threshold) {
            return None;
        }
        let measured = u32::try_from(failures / calls).unwrap_or(u32::MAX);
        Some(EjectionTrip { rule: EjectionRule::FailureRate, measured, threshold })
    }

    /// Excludes the endpoint and returns for how long; `jitter` is from 0 to 1.
    pub(crate) fn exclude(
        &mut self,
        action: EjectionAction,
        kind: FailureKind,
        rules: &LoadBalancerSettings,
        jitter: f64,
        now: Instant,
    ) -> Duration {
        let jittered = |time: Duration| time.mul_f64(0.9 + 0.2 * jitter);
        let time = match action {
            EjectionAction::BackOff => {
                let doublings = self.consecutive_failures.saturating_sub(1).min(16);
                jittered(BACK_OFF_MIN.saturating_mul(1 << doublings)).min(rules.ejection_base)
            }
            EjectionAction::Eject(_) => {
                let periods = now.saturating_duration_since(self.in_rotation_since).as_millis()
                    / rules.ejection_base.as_millis().max(1);
                let forgiven = u32::try_from(periods).unwrap_or(u32::MAX);
                self.ejections = self.ejections.saturating_sub(forgiven).saturating_add(1);
                self.consecutive_failures = 0;
                self.failure_rate = None;
                jittered(rules.ejection_base.saturating_mul(self.ejections)).min(rules.ejection_max)
            }
        };
        self.has_failed_check = false;
        self.exclusion = Some(Exclusion { since: now, until: now + time, kind, action });
        time
    }

    /// Whether a connection that began at `began` disproves the cause of the exclusion.
    pub(crate) fn is_disproven_by_connect(&self, began: Instant) -> bool {
        self.exclusion
            .is_some_and(|exclusion| exclusion.kind == FailureKind::Unreachable && began >= exclusion.since)
    }

    /// Ends the exclusion. `successes`: the endpoint's successes so far.
    pub(crate) fn end_exclusion(&mut self, successes: u64, now: Instant) {
        if let Some(exclusion) = self.exclusion.take() {
            self.successes_at_return =
                matches!(exclusion.action, EjectionAction::Eject(_)).then_some(successes);
        }
        self.return_to_rotation(now);
    }

    /// Begins the slow start.
    pub(crate) fn return_to_rotation(&mut self, now: Instant) {
        self.in_rotation_since = now;
        self.was_out_of_rotation = true;
    }

    /// Counts a check. Returns whether it changed whether the endpoint is usable.
    pub(crate) fn record_check(
        &mut self,
        check: &HealthCheckResult,
        rules: &LoadBalancerSettings,
        successes: u64,
        now: Instant,
    ) -> bool {
        let was_usable = self.is_usable();
        if check.is_good {
            self.good_checks = self.good_checks.saturating_add(1);
            self.bad_checks = 0;
            if self.unhealthy && self.good_checks >= rules.healthy_threshold {
                self.unhealthy = false;
                self.return_to_rotation(now);
            }
            let is_conclusive = |exclusion: Exclusion| {
                let is_disproven = exclusion.kind == FailureKind::Unreachable || self.has_failed_check;
                check.began >= exclusion.since && is_disproven && !self.unhealthy
            };
            if self.exclusion.is_some_and(is_conclusive) {
                self.end_exclusion(successes, now);
            }
        } else {
            self.bad_checks = self.bad_checks.saturating_add(1);
            self.good_checks = 0;
            self.has_failed_check = true;
            self.unhealthy |= self.bad_checks >= rules.unhealthy_threshold;
        }
        was_usable != self.is_usable()
    }
}

/// Result of a health check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HealthCheckResult {
    pub(crate) is_good: bool,
    pub(crate) began: Instant,
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
