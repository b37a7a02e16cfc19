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

    /// A call that fails at once; the endpoint does what it calls for, and stays away for so long.
    fn fail(&mut self, strike: FailureKind) -> Option<Duration> {
        self.fail_begun(strike, self.now)
    }

    fn fail_begun(&mut self, strike: FailureKind, began: Instant) -> Option<Duration> {
        let failure = EndpointFailure { kind: strike, began, successes: self.successes };
        let sentence = self.endpoint.record_failure(&failure, &self.settings, self.now)?;
        Some(self.endpoint.exclude(sentence, strike, &self.settings, 0.5, self.now))
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

/// P5: failures in a row eject, and a success between them starts the row over
#[test]
fn failures_in_a_row_eject() {
    let mut world = Fixture::new();
    assert_eq!(world.fail_times(4), None);
    world.successes += 1;
    assert_eq!(world.fail_times(4), None);
    assert_eq!(world.fail(FailureKind::Status), Some(30 * SECOND));
    assert!(!world.endpoint.is_usable());
    assert_eq!(world.endpoint.state(), EndpointState::Ejected(world.now + 30 * SECOND, FailureKind::Status));
}

/// P5: the row starts over with each ejection (Envoy #40697); one that proved itself has its whole row again
#[test]
fn the_row_starts_over_after_an_ejection() {
    let mut world = Fixture::new();
    world.fail_times(5);
    world.wait(30 * SECOND);
    world.successes += 1;
    assert_eq!(world.fail_times(4), None);
    assert!(world.fail(FailureKind::Status).is_some());
}

/// P5: one that comes back and fails before it succeeds is ejected at once, for longer each time, up to the cap
#[test]
fn an_endpoint_that_does_not_prove_itself_is_ejected_for_longer() {
    let mut world = Fixture::new();
    let mut times = vec![world.fail_times(5).unwrap()];
    for _ in 0..11 {
        world.wait(*times.last().unwrap());
        assert!(world.endpoint.is_usable());
        times.push(world.fail(FailureKind::Timeout).unwrap());
    }
    let expected: Vec<Duration> = (1..=12).map(|n| (n * 30 * SECOND).min(300 * SECOND)).collect();
    assert_eq!(times, expected);
}

/// P5: what is forgiven is a base time of good conduct for each ejection
#[test]
fn good_conduct_shortens_the_next_ejection() {
    let mut world = Fixture::new();
    world.fail_times(5);
    world.wait(30 * SECOND);
    assert_eq!(world.fail(FailureKind::Status), Some(60 * SECOND));
    world.wait(60 * SECOND);
    world.successes += 1;
    world.wait(30 * SECOND);
    assert_eq!(world.fail_times(5), Some(60 * SECOND), "two, less one, and this one");
    world.wait(60 * SECOND);
    world.successes += 1;
    world.wait(3_600 * SECOND);
    assert_eq!(world.fail_times(5), Some(30 * SECOND));
}

/// P5: half of twenty calls in ten seconds eject, however they alternate
#[test]
fn a_high_failure_rate_ejects() {
    let mut world = Fixture::new();
    let mut calls = 0;
    while world.endpoint.is_usable() {
        world.fail(FailureKind::Status);
        world.successes += 1;
        calls += 2;
        assert!(calls < 100);
    }
    assert_eq!(calls, 22, "the twentieth call is a success, the next is told");
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

/// P5: an endpoint that cannot be connected to rests at once, each time twice as long, and is ejected in the end
#[test]
fn one_that_cannot_be_connected_to_rests_at_once() {
    let mut world = Fixture::new();
    for rest in [1, 2, 4, 8] {
        assert_eq!(world.fail(FailureKind::Unreachable), Some(rest * SECOND));
        assert_eq!(world.endpoint.state(), EndpointState::BackingOff(world.now + rest * SECOND));
        assert_eq!(
            world.fail(FailureKind::Unreachable),
            None,
            "others of the same moment do not count again"
        );
        world.wait(rest * SECOND);
    }
    assert_eq!(world.fail(FailureKind::Unreachable), Some(30 * SECOND));
    assert!(world.endpoint.is_ejected());
}

/// P5: a call that began before the endpoint came back says nothing about it
#[test]
fn old_news_do_not_count() {
    let mut world = Fixture::new();
    let before = world.now;
    world.fail_times(5);
    world.wait(30 * SECOND);
    for _ in 0..10 {
        assert_eq!(world.fail_begun(FailureKind::Timeout, before), None);
    }
    assert!(world.endpoint.is_usable());
}

/// P5: one that comes back gets its share bit by bit, and never none
#[test]
fn a_share_grows_over_the_slow_start() {
    let mut world = Fixture::new();
    let weight = |world: &Fixture| world.endpoint.weight(world.settings.slow_start, world.now);
    assert_eq!(weight(&world), WEIGHT_WHOLE, "at the start all are alike");
    world.fail_times(5);
    world.wait(30 * SECOND);
    let mut weights = Vec::new();
    for _ in 0..=10 {
        weights.push(weight(&world));
        world.wait(SECOND);
    }
    assert_eq!(weights, [100, 190, 280, 370, 460, 550, 640, 730, 820, 910, 1000]);
    world.settings.slow_start = Duration::ZERO;
    world.fail_times(5);
    world.wait(60 * SECOND);
    assert_eq!(weight(&world), WEIGHT_WHOLE);
}

/// P5: checks decide by thresholds, and bring an endpoint back by themselves
#[test]
fn checks_exclude_and_return_an_endpoint() {
    let mut world = Fixture::new();
    world.check(false);
    world.check(false);
    world.check(true);
    world.check(false);
    world.check(false);
    assert!(world.endpoint.is_usable(), "never three in a row");
    world.check(false);
    assert_eq!(world.endpoint.state(), EndpointState::Unhealthy);
    world.wait(3_600 * SECOND);
    assert!(!world.endpoint.is_usable(), "no time heals it");
    world.check(true);
    assert!(!world.endpoint.is_usable());
    world.check(true);
    assert_eq!(world.endpoint.state(), EndpointState::InRotation);
    assert_eq!(world.endpoint.weight(world.settings.slow_start, world.now), 100, "slowly");
}

/// P5: a good check ends the absence of an endpoint that could not be connected to
#[test]
fn a_good_check_ends_the_absence_of_one_that_was_unreachable() {
    let mut world = Fixture::new();
    world.fail(FailureKind::Unreachable);
    let before = HealthCheckResult { is_good: true, began: world.now - SECOND };
    world.endpoint.record_check(&before, &world.settings, 0, world.now);
    assert!(!world.endpoint.is_usable(), "a check from before it was left out proves nothing");
    world.wait(SECOND / 2);
    world.check(true);
    assert!(world.endpoint.is_usable());
}

/// P5: checks that never failed do not see what calls see, and cannot end an ejection for it
#[test]
fn a_check_that_never_failed_ends_no_ejection() {
    let mut world = Fixture::new();
    world.fail_times(5);
    for _ in 0..10 {
        world.check(true);
    }
    assert!(!world.endpoint.is_usable());
    world.check(false);
    world.check(true);
    assert!(world.endpoint.is_usable(), "this one saw it, and saw it end");
}
