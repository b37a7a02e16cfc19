//! One endpoint's health under scripted calls and checks (P5).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> LoadBalancerSettings {
    LoadBalancerSettings::from(&tidegate_config::UpstreamConfig::default().load_balancing)
}

/// An endpoint, its successes and the time.
struct Fixture {
    endpoint: Endpoint,
    settings: LoadBalancerSettings,
    successes: u64,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let now = crate::clock::now();
        Self { endpoint: Endpoint::new(now), settings: settings(), successes: 0, now }
    }

    /// Records a call that fails at once and applies the exclusion that it calls for; returns its duration.
    fn fail(&mut self, kind: FailureKind) -> Option<Duration> {
        self.fail_begun(kind, self.now)
    }

    fn fail_begun(&mut self, kind: FailureKind, began: Instant) -> Option<Duration> {
        let failure = EndpointFailure { kind, began, successes: self.successes };
        let action = self.endpoint.record_failure(&failure, &self.settings, self.now)?;
        Some(self.endpoint.exclude(action, kind, &self.settings, 0.5, self.now))
    }

    fn fail_times(&mut self, times: u32) -> Option<Duration> {
        (0..times).filter_map(|_| self.fail(FailureKind::Status)).last()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.endpoint.excluded_until().is_some_and(|due| due <= self.now) {
            self.endpoint.end_exclusion(self.successes, self.now);
        }
    }

    fn check(&mut self, is_good: bool) {
        let check = HealthCheckResult { is_good, began: self.now };
        self.endpoint.record_check(&check, &self.settings, self.successes, self.now);
    }
}

/// P5: failures in a row eject, and a success between them resets the count
#[test]
fn failures_in_a_row_eject() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.fail_times(4), None);
    fixture.successes += 1;
    assert_eq!(fixture.fail_times(4), None);
    assert_eq!(fixture.fail(FailureKind::Status), Some(30 * SECOND));
    assert!(!fixture.endpoint.is_usable());
    assert_eq!(
        fixture.endpoint.state(),
        EndpointState::Ejected(fixture.now + 30 * SECOND, FailureKind::Status)
    );
}

/// P5, O4: the rule that ejects is named, with what it measured and its threshold
#[test]
fn an_ejection_has_the_rule_that_was_broken() {
    let trip = |fixture: &mut Fixture| {
        let failure =
            EndpointFailure { kind: FailureKind::Status, began: fixture.now, successes: fixture.successes };
        let action = fixture.endpoint.record_failure(&failure, &fixture.settings, fixture.now);
        match action {
            Some(EjectionAction::Eject(trip)) => Some((trip.rule, trip.measured, trip.threshold)),
            Some(EjectionAction::BackOff) | None => None,
        }
    };
    let mut fixture = Fixture::new();
    assert_eq!(fixture.fail_times(4), None);
    assert_eq!(trip(&mut fixture), Some((EjectionRule::ConsecutiveFailures, 5, 5)));
    fixture.fail(FailureKind::Status);
    fixture.wait(60 * SECOND);
    assert_eq!(trip(&mut fixture), Some((EjectionRule::Probation, 1, 1)));
    let mut fixture = Fixture::new();
    let last = (0..200).find_map(|_| {
        fixture.successes += 1;
        trip(&mut fixture)
    });
    assert!(matches!(last, Some((EjectionRule::FailureRate, 50..=55, 50))), "{last:?}");
}

/// P5: each ejection resets the count of failures in a row (Envoy #40697); an endpoint that passed its probation has
/// the whole count again
#[test]
fn the_failure_count_is_reset_by_an_ejection() {
    let mut fixture = Fixture::new();
    fixture.fail_times(5);
    fixture.wait(30 * SECOND);
    fixture.successes += 1;
    assert_eq!(fixture.fail_times(4), None);
    assert!(fixture.fail(FailureKind::Status).is_some());
}

/// P5: an endpoint that returns and fails before it succeeds is ejected at once, for longer each time, up to the cap
#[test]
fn an_endpoint_on_probation_is_ejected_for_longer() {
    let mut fixture = Fixture::new();
    let mut times = vec![fixture.fail_times(5).unwrap()];
    for _ in 0..11 {
        fixture.wait(*times.last().unwrap());
        assert!(fixture.endpoint.is_usable());
        times.push(fixture.fail(FailureKind::Timeout).unwrap());
    }
    let expected: Vec<Duration> = (1..=12).map(|n| (n * 30 * SECOND).min(300 * SECOND)).collect();
    assert_eq!(times, expected);
}

/// P5: each base time in rotation forgives one ejection
#[test]
fn time_in_rotation_shortens_the_next_ejection() {
    let mut fixture = Fixture::new();
    fixture.fail_times(5);
    fixture.wait(30 * SECOND);
    assert_eq!(fixture.fail(FailureKind::Status), Some(60 * SECOND));
    fixture.wait(60 * SECOND);
    fixture.successes += 1;
    fixture.wait(30 * SECOND);
    assert_eq!(fixture.fail_times(5), Some(60 * SECOND), "two, minus one forgiven, plus this one");
    fixture.wait(60 * SECOND);
    fixture.successes += 1;
    fixture.wait(3_600 * SECOND);
    assert_eq!(fixture.fail_times(5), Some(30 * SECOND));
}

/// P5: failures of at least half of twenty calls in ten seconds eject, however they alternate
#[test]
fn a_high_failure_rate_ejects() {
    let mut fixture = Fixture::new();
    let mut calls = 0;
    while fixture.endpoint.is_usable() {
        fixture.fail(FailureKind::Status);
        fixture.successes += 1;
        calls += 2;
        assert!(calls < 100);
    }
    assert_eq!(calls, 22, "the twentieth call is a success, the next is a failure");
    let mut rare = Fixture::new();
    for _ in 0..100 {
        assert_eq!(rare.fail(FailureKind::Status), None);
        rare.successes += 2;
    }
    let mut slow = Fixture::new();
    for _ in 0..100 {
        assert_eq!(slow.fail(FailureKind::Status), None, "less than twenty calls in ten seconds");
        slow.successes += 1;
        slow.wait(2 * SECOND);
    }
    let mut never =
        Fixture { settings: LoadBalancerSettings { failure_percent: 101, ..settings() }, ..Fixture::new() };
    for _ in 0..100 {
        assert_eq!(never.fail_times(4), None);
        never.successes += 1;
    }
}

/// P5: an unreachable endpoint backs off at once, twice as long each time, and is ejected in the end
#[test]
fn an_unreachable_endpoint_backs_off_at_once() {
    let mut fixture = Fixture::new();
    for back_off in [1, 2, 4, 8] {
        assert_eq!(fixture.fail(FailureKind::Unreachable), Some(back_off * SECOND));
        assert_eq!(fixture.endpoint.state(), EndpointState::BackingOff(fixture.now + back_off * SECOND));
        assert_eq!(fixture.fail(FailureKind::Unreachable), None, "concurrent failures count once");
        fixture.wait(back_off * SECOND);
    }
    assert_eq!(fixture.fail(FailureKind::Unreachable), Some(30 * SECOND));
    assert!(fixture.endpoint.is_ejected());
}

/// P5: a call that began before the endpoint returned is ignored
#[test]
fn calls_from_before_a_return_are_ignored() {
    let mut fixture = Fixture::new();
    let before = fixture.now;
    fixture.fail_times(5);
    fixture.wait(30 * SECOND);
    for _ in 0..10 {
        assert_eq!(fixture.fail_begun(FailureKind::Timeout, before), None);
    }
    assert!(fixture.endpoint.is_usable());
}

/// P5: the share of an endpoint that returns grows gradually and is never zero
#[test]
fn a_share_grows_over_the_slow_start() {
    let mut fixture = Fixture::new();
    let weight = |fixture: &Fixture| fixture.endpoint.weight(fixture.settings.slow_start, fixture.now);
    assert_eq!(weight(&fixture), WEIGHT_WHOLE, "all are equal at the start");
    fixture.fail_times(5);
    fixture.wait(30 * SECOND);
    let mut weights = Vec::new();
    for _ in 0..=10 {
        weights.push(weight(&fixture));
        fixture.wait(SECOND);
    }
    assert_eq!(weights, [100, 190, 280, 370, 460, 550, 640, 730, 820, 910, 1000]);
    fixture.settings.slow_start = Duration::ZERO;
    fixture.fail_times(5);
    fixture.wait(60 * SECOND);
    assert_eq!(weight(&fixture), WEIGHT_WHOLE);
}

/// P5: checks decide by thresholds, and return an endpoint by themselves
#[test]
fn checks_exclude_and_return_an_endpoint() {
    let mut fixture = Fixture::new();
    fixture.check(false);
    fixture.check(false);
    fixture.check(true);
    fixture.check(false);
    fixture.check(false);
    assert!(fixture.endpoint.is_usable(), "never three in a row");
    fixture.check(false);
    assert_eq!(fixture.endpoint.state(), EndpointState::Unhealthy);
    fixture.wait(3_600 * SECOND);
    assert!(!fixture.endpoint.is_usable(), "time alone does not return it");
    fixture.check(true);
    assert!(!fixture.endpoint.is_usable());
    fixture.check(true);
    assert_eq!(fixture.endpoint.state(), EndpointState::InRotation);
    assert_eq!(fixture.endpoint.weight(fixture.settings.slow_start, fixture.now), 100, "with slow start");
}

/// P5: a good check ends the exclusion of an unreachable endpoint
#[test]
fn a_good_check_returns_an_unreachable_endpoint() {
    let mut fixture = Fixture::new();
    fixture.fail(FailureKind::Unreachable);
    let before = HealthCheckResult { is_good: true, began: fixture.now - SECOND };
    fixture.endpoint.record_check(&before, &fixture.settings, 0, fixture.now);
    assert!(!fixture.endpoint.is_usable(), "a check from before the exclusion is ignored");
    fixture.wait(SECOND / 2);
    fixture.check(true);
    assert!(fixture.endpoint.is_usable());
}

/// P5: checks that never failed do not detect what calls detect, and cannot end an ejection
#[test]
fn a_check_that_never_failed_ends_no_ejection() {
    let mut fixture = Fixture::new();
    fixture.fail_times(5);
    for _ in 0..10 {
        fixture.check(true);
    }
    assert!(!fixture.endpoint.is_usable());
    fixture.check(false);
    fixture.check(true);
    assert!(fixture.endpoint.is_usable(), "checks detected the failure and its end");
}
