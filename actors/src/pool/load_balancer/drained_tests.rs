//! Draining endpoints in the choice (P5).

use std::time::{Duration, Instant};

use crate::pool::load_balancer::endpoint::{EndpointState, FailureKind};
use crate::pool::load_balancer::tests::Fixture;
use crate::pool::load_balancer::{EndpointEvent, LoadBalancer};
use crate::pool::operator_drain::Drain;

const SECOND: Duration = Duration::from_secs(1);

impl Fixture {
    fn drain(&mut self, endpoint: usize, until: Option<Instant>) {
        let drain = Drain { began: self.now, until, ordered_by: "test".to_owned(), reason: None };
        self.stats.endpoint(endpoint).drain().set(drain);
        self.load_balancer.follow_drains(self.now);
    }

    fn end_drain(&mut self, endpoint: usize) {
        self.stats.endpoint(endpoint).drain().end();
        self.load_balancer.follow_drains(self.now);
    }

    fn choices(&mut self) -> Vec<Option<usize>> {
        let mut choices: Vec<_> =
            (0..200).map(|i| self.load_balancer.pick((i % 2 == 0).then_some(0), self.now)).collect();
        choices.sort_unstable();
        choices.dedup();
        choices
    }
}

/// P5: a draining endpoint is not chosen, not even for a retry after the only other one failed
#[test]
fn a_draining_endpoint_is_not_chosen() {
    let mut fixture = Fixture::new(2);
    fixture.drain(1, None);
    assert_eq!(fixture.choices(), [Some(0)]);
    fixture.drain(0, None);
    assert_eq!(fixture.choices(), [None], "all drain");
    fixture.end_drain(1);
    assert_eq!(fixture.choices(), [Some(1)]);
    let mut only = Fixture::new(1);
    only.drain(0, None);
    assert_eq!(only.choices(), [None]);
    only.end_drain(0);
    assert_eq!(only.choices(), [Some(0)]);
}

/// P5: the failures of the last endpoint without a drain call for a panic, in which a draining endpoint gets no call either
#[test]
fn a_draining_endpoint_gets_no_call_in_a_panic() {
    let mut fixture = Fixture::new(3);
    fixture.drain(2, None);
    fixture.eject(0);
    fixture.eject(1);
    assert!(fixture.stats.is_panicking() && fixture.events().contains(&EndpointEvent::PanicEntered));
    assert_eq!(fixture.choices(), [Some(0), Some(1)]);
    // A call that was under way at the draining endpoint is no evidence about the others.
    fixture.succeed(2);
    fixture.check(2, true);
    assert!(fixture.stats.is_panicking());
    fixture.succeed(1);
    assert!(!fixture.stats.is_panicking());
}

/// P5: a drain that leaves only excluded endpoints is a panic, and its end ends that
#[test]
fn a_drain_can_leave_excluded_endpoints_only() {
    let mut fixture = Fixture::new(2);
    fixture.eject(0);
    fixture.drain(1, None);
    assert!(fixture.stats.is_panicking());
    assert_eq!(fixture.choices(), [Some(0)]);
    assert!(!fixture.stats.has_other(0, fixture.now), "its failures count for the bucket");
    fixture.end_drain(1);
    assert!(!fixture.stats.is_panicking());
    assert_eq!(fixture.choices(), [Some(1)]);
}

/// P5: health is observed during a drain, and holds after it
#[test]
fn the_health_of_a_draining_endpoint_is_observed() {
    let mut fixture = Fixture::with(2, |rules| (rules.has_checks, rules.unhealthy_threshold) = (true, 2));
    fixture.drain(1, None);
    (0..2).for_each(|_| fixture.check(1, false));
    assert_eq!(fixture.stats.endpoint(1).state(fixture.now), EndpointState::Unhealthy);
    fixture.end_drain(1);
    assert_eq!(fixture.choices(), [Some(0)], "it stays out until its checks succeed");
}

/// P5: a drain ends at its time without another message, and the endpoint begins with a reduced share
#[test]
fn an_expired_drain_has_no_effect() {
    let mut fixture = Fixture::new(2);
    fixture.drain(1, Some(fixture.now + SECOND));
    assert_eq!(fixture.choices(), [Some(0)]);
    fixture.now += SECOND;
    let shares = fixture.shares(1000);
    assert!(shares[1] > 0 && shares[1] < 300, "{shares:?}");
    fixture.now += Duration::from_secs(600);
    assert!(fixture.shares(1000)[1] > 400);
}

/// P5: too many draining primary endpoints make the standby endpoints serve
#[test]
fn standby_endpoints_serve_for_draining_ones() {
    let mut fixture = Fixture::with(3, |rules| (rules.standby, rules.min_usable_percent) = (1, 100));
    assert_eq!(fixture.choices(), [Some(0), Some(1)]);
    fixture.drain(0, None);
    assert_eq!(fixture.choices(), [Some(2)]);
    assert_eq!(fixture.stats.serving(fixture.now).endpoints, 2..3);
}

/// G3, P5: the table of a successor has the drains of the endpoints that stay, and those of the bucket
#[test]
fn a_successor_has_the_drains() {
    let mut fixture = Fixture::new(2);
    fixture.drain(1, None);
    let drain = Drain { began: fixture.now, until: None, ordered_by: "test".to_owned(), reason: None };
    fixture.stats.bucket_drain().set(drain);
    let stats = std::sync::Arc::new(fixture.stats.successor(&[Some(1), None]));
    let is_draining = |at: usize| stats.endpoint(at).drain().is_draining(fixture.now);
    assert_eq!((is_draining(0), is_draining(1)), (true, false));
    assert!(stats.bucket_drain().is_draining(fixture.now));
    let rules = crate::pool::load_balancer::settings::LoadBalancerSettings::from(
        &tidegate_config::UpstreamConfig::default().load_balancing,
    );
    let mut next = LoadBalancer::new(std::sync::Arc::clone(&stats), rules, 7, fixture.now);
    assert!((0..100).all(|_| next.pick(None, fixture.now) == Some(1)));
    stats.endpoint(0).drain().end();
    fixture.load_balancer.follow_drains(fixture.now);
    fixture.fail(0, FailureKind::Status);
    assert_eq!(
        fixture.choices(),
        [Some(0), Some(1)],
        "an order to the successor holds for the pool before it"
    );
}
