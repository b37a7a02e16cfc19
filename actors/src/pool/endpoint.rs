//! One endpoint's health: what its calls and its checks say of it, and whether it is called.
//!
//! ```text
//!               failures in a row, or too large a share; or the first after it came back
//!   in rotation ───────────────────────────────────────────────▶ ejected: base × times, capped, jittered
//!        ▲  └── cannot be connected to ──▶ rests: 1 s, doubled each time up to base
//!        └──── time is up, or a check that can tell says so ────┘     bad checks in a row ──▶ unhealthy
//! ```
//!
//! After Envoy's outlier detection, with what its users ran into taken care of: the row starts over with each ejection; what a
//! call says that began before the endpoint came back is old news; the share of endpoints that may be out counts the one that
//! is about to go. One that comes back from an ejection proves itself: its first failure, unless a success came first, ejects
//! it again. A good check ends an absence early only if it can tell: one that connects disproves a refused connection,
//! but says nothing about requests that failed while checks went on succeeding.
//!
//! Time is looked at when somebody asks; there are no timers. Deliberately absent: latency as a reason to eject, which the
//! choice among endpoints weighs instead.

use std::time::{Duration, Instant};

use crate::pool::load_balancer_settings::LoadBalancerSettings;

/// The first rest of an endpoint that cannot be connected to.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// Over which time, and of how many calls at least, the share of failures is taken.
const FAILURE_RATE_WINDOW: Duration = Duration::from_secs(10);
const FAILURE_RATE_CALLS_MIN: u64 = 20;
/// Thousandths of its share that an endpoint has at once when it comes back.
const WEIGHT_MIN: u32 = 100;
/// Thousandths of a whole share.
pub(crate) const WEIGHT_WHOLE: u32 = 1000;

/// How an endpoint failed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It cannot be connected to, or is not trusted.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection broke, or what came was no answer.
    Broken,
    /// It answered that it failed.
    Status,
}

impl FailureKind {
    /// The word in logs and the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "silent",
            Self::Broken => "broken",
            Self::Status => "status",
        }
    }
}

/// A failed call as it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointFailure {
    pub(crate) kind: FailureKind,
    pub(crate) began: Instant,
    /// The endpoint's successes up to the failure.
    pub(crate) successes: u64,
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EjectionAction {
    BackOff,
    Eject,
}

/// Whether an endpoint is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It is.
    InRotation,
    /// Not until then, because it could not be connected to.
    BackingOff(Instant),
    /// Not until then, because it failed like this.
    Ejected(Instant, FailureKind),
    /// Not until checks find it well.
    Unhealthy,
}

#[derive(Debug, Clone, Copy)]
struct Exclusion {
    since: Instant,
    until: Instant,
    kind: FailureKind,
    action: EjectionAction,
}

/// Failures of late, for their share.
#[derive(Debug, Clone, Copy)]
struct FailureRate {
    began: Instant,
    successes_before: u64,
    failures: u64,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    exclusion: Option<Exclusion>,
    unhealthy: bool,
    /// Failures in a row, and the successes before them.
    consecutive_failures: u32,
    successes_before_failures: u64,
    failure_rate: Option<FailureRate>,
    /// Ejections that are not forgiven yet.
    ejections: u32,
    /// When it came back last; at first, its beginning.
    in_rotation_since: Instant,
    was_out_of_rotation: bool,
    /// The successes it had when it came back from an ejection; with a new one it has proven itself.
    successes_at_return: Option<u64>,
    good_checks: u32,
    bad_checks: u32,
    /// Whether checks have failed since it was left out: then they see what calls see.
    has_failed_check: bool,
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

    pub(crate) fn is_usable(&self) -> bool {
        self.exclusion.is_none() && !self.unhealthy
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.exclusion.is_some_and(|absence| absence.action == EjectionAction::Eject)
    }

    /// When it comes back by itself.
    pub(crate) fn excluded_until(&self) -> Option<Instant> {
        self.exclusion.map(|absence| absence.until)
    }

    pub(crate) fn state(&self) -> EndpointState {
        match self.exclusion {
            _ if self.unhealthy => EndpointState::Unhealthy,
            None => EndpointState::InRotation,
            Some(Exclusion { until, action: EjectionAction::BackOff, .. }) => {
                EndpointState::BackingOff(until)
            }
            Some(Exclusion { until, kind: strike, .. }) => EndpointState::Ejected(until, strike),
        }
    }

    /// Thousandths of a whole share: less while it has only just come back, never none.
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

    /// Counts a failed call and says what it calls for.
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
        let has_share = self.is_failure_rate_exceeded(failure.successes, rules, now);
        let is_unproven = self.successes_at_return == Some(failure.successes);
        if is_unproven || has_share || self.consecutive_failures >= rules.consecutive_failures {
            Some(EjectionAction::Eject)
        } else {
            (failure.kind == FailureKind::Unreachable).then_some(EjectionAction::BackOff)
        }
    }

    fn is_failure_rate_exceeded(
        &mut self,
        successes: u64,
        rules: &LoadBalancerSettings,
        now: Instant,
    ) -> bool {
        let old = |share: &FailureRate| now.saturating_duration_since(share.began) >= FAILURE_RATE_WINDOW;
        if self.failure_rate.as_ref().is_none_or(old) {
            self.failure_rate = Some(FailureRate { began: now, successes_before: successes, failures: 0 });
        }
        let Some(share) = &mut self.failure_rate else { return false };
        share.failures += 1;
        let calls = share.failures + successes.saturating_sub(share.successes_before);
        calls >= FAILURE_RATE_CALLS_MIN && share.failures * 100 >= calls * u64::from(rules.failure_percent)
    }

    /// Leaves the rotation; `jitter` is from 0 to 1. Returns for how long.
    pub(crate) fn exclude(
        &mut self,
        sentence: EjectionAction,
        strike: FailureKind,
        rules: &LoadBalancerSettings,
        jitter: f64,
        now: Instant,
    ) -> Duration {
        let jittered = |time: Duration| time.mul_f64(0.9 + 0.2 * jitter);
        let time = match sentence {
            EjectionAction::BackOff => {
                let doublings = self.consecutive_failures.saturating_sub(1).min(16);
                jittered(BACK_OFF_MIN.saturating_mul(1 << doublings)).min(rules.ejection_base)
            }
            EjectionAction::Eject => {
                let kept = now.saturating_duration_since(self.in_rotation_since).as_millis()
                    / rules.ejection_base.as_millis().max(1);
                let forgiven = u32::try_from(kept).unwrap_or(u32::MAX);
                self.ejections = self.ejections.saturating_sub(forgiven).saturating_add(1);
                self.consecutive_failures = 0;
                self.failure_rate = None;
                jittered(rules.ejection_base.saturating_mul(self.ejections)).min(rules.ejection_max)
            }
        };
        self.has_failed_check = false;
        self.exclusion = Some(Exclusion { since: now, until: now + time, kind: strike, action: sentence });
        time
    }

    /// Whether it is left out for what a connection disproves that began then.
    pub(crate) fn is_disproven_by_connect(&self, began: Instant) -> bool {
        self.exclusion
            .is_some_and(|absence| absence.kind == FailureKind::Unreachable && began >= absence.since)
    }

    /// Ends an absence: its time is up, or somebody knows better. `successes` are those so far.
    pub(crate) fn end_exclusion(&mut self, successes: u64, now: Instant) {
        if let Some(absence) = self.exclusion.take() {
            self.successes_at_return = (absence.action == EjectionAction::Eject).then_some(successes);
        }
        self.return_to_rotation(now);
    }

    fn return_to_rotation(&mut self, now: Instant) {
        self.in_rotation_since = now;
        self.was_out_of_rotation = true;
    }

    /// Counts a check that began then. Says whether the endpoint came into the rotation or left it.
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
            let can_tell = |absence: Exclusion| {
                let is_disproven = absence.kind == FailureKind::Unreachable || self.has_failed_check;
                check.began >= absence.since && is_disproven && !self.unhealthy
            };
            if self.exclusion.is_some_and(can_tell) {
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

/// What a check found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HealthCheckResult {
    pub(crate) is_good: bool,
    pub(crate) began: Instant,
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
