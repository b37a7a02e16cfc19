//! The choice among endpoints with scripted and random calls (P5).

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Fixture {
    pub(super) load_balancer: LoadBalancer,
    pub(super) stats: Arc<EndpointStatsTable>,
    pub(super) now: Instant,
}

impl Fixture {
    pub(super) fn new(endpoints: usize) -> Self {
        Self::with(endpoints, |_| {})
    }

    pub(super) fn with(endpoints: usize, change: impl FnOnce(&mut LoadBalancerSettings)) -> Self {
        let mut rules =
            LoadBalancerSettings::from(&tidegate_config::UpstreamConfig::default().load_balancing);
        change(&mut rules);
        let (stats, now) = (Arc::new(EndpointStatsTable::new(endpoints)), crate::clock::now());
        let load_balancer = LoadBalancer::new(Arc::clone(&stats), rules, 7, now);
        Self { load_balancer, stats, now }
    }

    pub(super) fn fail(&mut self, endpoint: usize, kind: FailureKind) {
        let successes = self.stats.endpoint(endpoint).successes();
        let failure = EndpointFailure { kind, began: self.now, successes };
        self.load_balancer.record_failure(endpoint, &failure, self.now);
    }

    pub(super) fn eject(&mut self, endpoint: usize) {
        (0..5).for_each(|_| self.fail(endpoint, FailureKind::Status));
    }

    /// Records a success as the handle does.
    pub(super) fn succeed(&mut self, endpoint: usize) {
        self.stats.endpoint(endpoint).count_success();
        if self.stats.is_panicking() {
            self.load_balancer.record_success(endpoint, self.now);
        }
    }

    pub(super) fn check(&mut self, endpoint: usize, is_good: bool) {
        self.load_balancer.record_check(endpoint, &HealthCheckResult { is_good, began: self.now }, self.now);
    }

    /// The choice; an endpoint is left.
    pub(super) fn pick(&mut self, avoid: Option<usize>) -> usize {
        self.load_balancer.pick(avoid, self.now).unwrap()
    }

    /// How many of the choices fall on each endpoint.
    pub(super) fn shares(&mut self, choices: usize) -> Vec<usize> {
        let mut shares = vec![0; self.stats.len()];
        (0..choices).for_each(|_| shares[self.pick(None)] += 1);
        shares
    }

    pub(super) fn usable(&self) -> Vec<usize> {
        (0..self.stats.len()).filter(|i| self.load_balancer.endpoints[*i].is_usable()).collect()
    }

    pub(super) fn events(&mut self) -> Vec<EndpointEvent> {
        self.load_balancer.drain_events()
    }
}

/// P5: equal endpoints get equal shares, and the endpoint that is busier than all others is never chosen
#[test]
fn the_less_loaded_of_two_is_called() {
    let mut fixture = Fixture::new(3);
    for share in fixture.shares(3000) {
        assert!((800..1200).contains(&share), "{share}");
    }
    fixture.stats.endpoint(1).in_flight().store(5, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(fixture.shares(1000)[1], 0, "a hanging endpoint is not chosen");
}

/// P5: a slow endpoint gets few calls, but enough to be measured again
#[test]
fn a_slow_endpoint_gets_less_and_is_measured_again() {
    let mut fixture = Fixture::new(2);
    for _ in 0..50 {
        fixture.stats.endpoint(0).record_latency(Duration::from_millis(500));
        fixture.stats.endpoint(1).record_latency(Duration::from_millis(20));
    }
    let slow = fixture.shares(10_000)[0];
    assert!((300..1000).contains(&slow), "{slow} of 10000");
}

/// P5: a bad endpoint is excluded; a retry goes to another endpoint, or stays if no other is good
#[test]
fn an_ejected_endpoint_is_not_called() {
    let mut fixture = Fixture::new(3);
    fixture.eject(1);
    assert_eq!(fixture.shares(100)[1], 0);
    assert!((0..50).all(|_| fixture.pick(Some(0)) == 2));
    fixture.fail(0, FailureKind::Unreachable);
    assert_eq!(fixture.pick(Some(2)), 2, "the others are excluded");
    assert!(!fixture.stats.has_other(2, fixture.now));
    assert!(fixture.stats.has_other(0, fixture.now));
    let events = fixture.events();
    assert!(
        matches!(events[0], EndpointEvent::Excluded { endpoint: 1, action: EjectionAction::Eject(_), .. }),
        "{events:?}"
    );
    assert!(
        matches!(events[1], EndpointEvent::Excluded { endpoint: 0, action: EjectionAction::BackOff, .. }),
        "{events:?}"
    );
    assert_eq!(events.len(), 2);
}

/// P5: no more than the configured share is ejected, not even one endpoint (Envoy #3263), including the one about to be
/// ejected (Envoy #27066)
#[test]
fn no_more_than_the_configured_percentage_is_ejected() {
    for (endpoints, max_percent, out) in
        [(3, 10, 0), (4, 50, 2), (5, 50, 2), (10, 10, 1), (3, 0, 0), (3, 100, 2)]
    {
        let mut fixture = Fixture::with(endpoints, |rules| rules.ejected_max_percent = max_percent);
        (0..endpoints).for_each(|endpoint| fixture.eject(endpoint));
        assert_eq!(fixture.usable().len(), endpoints - out, "{max_percent} % of {endpoints}");
    }
}

/// P5: if ejection is off or at its limit, an unreachable endpoint still backs off
#[test]
fn an_unreachable_endpoint_backs_off_even_without_ejection() {
    let mut fixture = Fixture::with(3, |rules| rules.ejected_max_percent = 0);
    for _ in 0..20 {
        fixture.fail(0, FailureKind::Unreachable);
        assert_eq!(fixture.usable(), [1, 2]);
        fixture.now += 40 * SECOND;
        fixture.pick(None);
    }
}

/// P5: if the last endpoint fails too, all are called until one succeeds; that one returns, the others stay excluded
#[test]
fn when_all_are_bad_all_are_called_until_one_succeeds() {
    let mut fixture = Fixture::new(3);
    (0..3).for_each(|endpoint| fixture.eject(endpoint));
    assert_eq!(fixture.usable(), [2], "the last endpoint is never ejected");
    assert!(fixture.stats.is_panicking() && !fixture.stats.has_other(2, fixture.now));
    assert!(fixture.shares(300).iter().all(|share| *share > 50));
    (0..3).for_each(|endpoint| fixture.eject(endpoint));
    assert!(fixture.stats.is_panicking());
    fixture.succeed(1);
    assert!(!fixture.stats.is_panicking());
    assert_eq!(fixture.usable(), [1, 2]);
    fixture.fail(2, FailureKind::Status);
    assert_eq!(fixture.usable(), [1]);
    let events = fixture.events();
    let expected =
        [EndpointEvent::PanicEntered, EndpointEvent::Returned { endpoint: 1 }, EndpointEvent::PanicEnded];
    assert_eq!(events[2..5], expected, "{events:?}");
}

/// P5, B2: in a panic endpoints without requests are called in turn, so a few trials reach the one that works; a hanging one is not chosen
#[test]
fn in_a_panic_each_endpoint_has_its_turn() {
    let mut fixture = Fixture::new(3);
    (0..3).for_each(|endpoint| fixture.eject(endpoint));
    assert!(fixture.stats.is_panicking());
    for _ in 0..20 {
        let mut picked: Vec<_> = (0..3).map(|_| fixture.pick(None)).collect();
        picked.sort_unstable();
        assert_eq!(picked, [0, 1, 2]);
        let first = fixture.pick(None);
        assert_ne!(fixture.pick(Some(first)), first);
    }
    fixture.stats.endpoint(1).in_flight().store(5, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(fixture.shares(100), [50, 0, 50]);
}

/// P5: if checks find all endpoints unhealthy, all are called
#[test]
fn when_checks_find_all_unhealthy_all_are_called() {
    let mut fixture = Fixture::new(2);
    for _ in 0..3 {
        (0..2).for_each(|endpoint| fixture.check(endpoint, false));
    }
    assert!(fixture.usable().is_empty());
    assert!(fixture.shares(100).iter().all(|share| *share > 20));
    fixture.check(1, true);
    fixture.check(1, true);
    assert_eq!(fixture.shares(100), [0, 100]);
}

/// P5: an endpoint that returns begins with a tenth of its share
#[test]
fn an_endpoint_that_returns_starts_slowly() {
    let mut fixture = Fixture::new(2);
    fixture.eject(0);
    fixture.now += 40 * SECOND;
    let at_first = fixture.shares(2000)[0];
    assert!((60..160).contains(&at_first), "{at_first} of 2000");
    fixture.now += 10 * SECOND;
    let at_last = fixture.shares(2000)[0];
    assert!((850..1150).contains(&at_last), "{at_last} of 2000");
}

/// P5: standby endpoints are called while no other is usable, and requests return only after a while
#[test]
fn standby_endpoints_take_over_and_give_back_with_hysteresis() {
    let mut fixture = Fixture::with(4, |rules| rules.standby = 2);
    assert_eq!(fixture.shares(100)[2..], [0, 0]);
    fixture.eject(0);
    assert_eq!(fixture.shares(100), [0, 100, 0, 0], "one primary endpoint is enough");
    fixture.eject(1);
    let shares = fixture.shares(100);
    assert!(shares[..2] == [0, 0] && shares[2] > 20 && shares[3] > 20, "{shares:?}");
    fixture.now += 40 * SECOND;
    assert_eq!(fixture.shares(100)[..2], [0, 0], "usable only just now");
    assert_eq!(fixture.usable(), [0, 1, 2, 3]);
    fixture.now += 9 * SECOND;
    assert_eq!(fixture.shares(100)[..2], [0, 0]);
    fixture.now += SECOND;
    assert_eq!(fixture.shares(100)[2..], [0, 0]);
    let events: Vec<EndpointEvent> =
        fixture.events().into_iter().filter(|event| matches!(event, EndpointEvent::TierChanged(_))).collect();
    let failed_over = TierChange::FailedOver { usable_percent: 0, min_usable_percent: 1 };
    let returned = TierChange::Returned { usable_for: 10 * SECOND, return_after: 10 * SECOND };
    assert_eq!(events, [failed_over, returned].map(EndpointEvent::TierChanged));
}

/// P5: a minimum share of primary endpoints can be set, and standby endpoints that fail give back at once
#[test]
fn standby_endpoints_may_take_over_earlier_and_give_back_when_they_fail() {
    let mut fixture = Fixture::with(4, |rules| (rules.standby, rules.min_usable_percent) = (1, 60));
    fixture.eject(0);
    assert_eq!(fixture.shares(100)[3], 0, "two of three are 66 %");
    fixture.eject(1);
    assert_eq!(fixture.shares(100), [0, 0, 0, 100]);
    fixture.eject(3);
    assert_eq!(fixture.shares(100), [0, 0, 100, 0]);
    let change =
        fixture.events().into_iter().rev().find(|event| matches!(event, EndpointEvent::TierChanged(_)));
    assert_eq!(change, Some(EndpointEvent::TierChanged(TierChange::StandbyFailed)));
}

/// P5, X10: the view has the tier of the next request, before that request too, and the end of a failover once it is known
#[test]
fn a_view_has_the_tier_of_the_next_request() {
    let mut fixture = Fixture::with(3, |rules| rules.standby = 1);
    let serving = |fixture: &Fixture| fixture.stats.serving(fixture.now);
    assert_eq!((serving(&fixture).endpoints, serving(&fixture).failover), (0..2, None));
    fixture.eject(0);
    assert_eq!(serving(&fixture).failover, None, "half of the primary endpoints suffices");
    fixture.fail(1, FailureKind::Unreachable);
    let failover = serving(&fixture).failover.unwrap();
    assert_eq!((serving(&fixture).endpoints, failover.usable_percent, failover.returns_at), (2..3, 0, None));
    fixture.pick(None);
    assert_eq!(serving(&fixture).failover, Some(failover), "the request is served as predicted");
    fixture.now += 2 * SECOND;
    let usable = serving(&fixture).failover.unwrap();
    assert_eq!((usable.usable_percent, usable.returns_at), (50, None), "the next request begins the time");
    fixture.pick(None);
    let end = fixture.now + 10 * SECOND;
    assert_eq!(serving(&fixture).failover.unwrap().returns_at, Some(end));
    fixture.now = end;
    assert_eq!((serving(&fixture).endpoints, serving(&fixture).failover), (0..2, None));
    assert!(fixture.pick(None) < 2);
}

#[derive(Debug, Clone)]
enum Op {
    Fail(usize, FailureKind),
    Succeed(usize),
    Check(usize, bool),
    Pick(Option<usize>),
    Wait(u64),
}

fn op(endpoints: usize) -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        Just(FailureKind::Unreachable),
        Just(FailureKind::Timeout),
        Just(FailureKind::Broken),
        Just(FailureKind::Status)
    ];
    prop_oneof![
        10 => (0..endpoints, kind).prop_map(|(endpoint, kind)| Op::Fail(endpoint, kind)),
        2 => (0..endpoints).prop_map(Op::Succeed),
        2 => (0..endpoints, any::<bool>()).prop_map(|(endpoint, is_good)| Op::Check(endpoint, is_good)),
        5 => prop::option::of(0..endpoints).prop_map(Op::Pick),
        3 => (0u64..40_000).prop_map(Op::Wait),
    ]
}

fn ops() -> impl Strategy<Value = (usize, usize, usize, Vec<Op>)> {
    (2usize..6, 0usize..3, 0usize..=100).prop_flat_map(|(endpoints, standby, percent)| {
        let ops = prop::collection::vec(op(endpoints), 1..300);
        (Just(endpoints), Just(standby), Just(percent), ops)
    })
}

proptest! {
    /// P5: calls never exclude the last endpoint; every exclusion ends, within its cap; no weight is zero; the chosen
    /// endpoint is usable unless none is or all are called; the published state is the actual one
    #[test]
    fn an_endpoint_is_always_picked((endpoints, standby, percent, ops) in ops()) {
        let mut fixture = Fixture::with(endpoints, |rules| (rules.standby, rules.ejected_max_percent) = (standby, percent));
        for op in ops {
            match op {
                Op::Fail(endpoint, kind) => {
                    let before = fixture.usable().len();
                    fixture.fail(endpoint, kind);
                    prop_assert!(before == 0 || !fixture.usable().is_empty(), "a failed call excluded the last endpoint");
                }
                Op::Succeed(endpoint) => fixture.succeed(endpoint),
                Op::Check(endpoint, is_good) => fixture.check(endpoint, is_good),
                Op::Pick(avoid) => {
                    let serving = fixture.stats.serving(fixture.now).endpoints;
                    let picked = fixture.pick(avoid);
                    let usable = fixture.usable();
                    prop_assert!(fixture.load_balancer.is_panicking || usable.is_empty() || usable.contains(&picked));
                    prop_assert!(fixture.load_balancer.is_panicking || usable.is_empty() || serving.contains(&picked));
                    let has_choice = fixture.load_balancer.is_panicking || usable.is_empty();
                    prop_assert!(!has_choice || avoid != Some(picked));
                }
                Op::Wait(millis) => fixture.now += Duration::from_millis(millis),
            }
            prop_assert_eq!(fixture.load_balancer.is_panicking, fixture.stats.is_panicking());
            for (i, endpoint) in fixture.load_balancer.endpoints.iter().enumerate() {
                let weight = endpoint.weight(fixture.load_balancer.rules.slow_start, fixture.now);
                prop_assert!((1..=WEIGHT_WHOLE).contains(&weight));
                if let Some(due) = endpoint.excluded_until() {
                    prop_assert!(due.saturating_duration_since(fixture.now) <= fixture.load_balancer.rules.ejection_max);
                } else {
                    prop_assert_eq!(fixture.stats.endpoint(i).state(fixture.now), endpoint.state());
                }
            }
            let ejected = fixture.load_balancer.endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count();
            prop_assert!(ejected * 100 <= percent * endpoints);
        }
        fixture.now += fixture.load_balancer.rules.ejection_max;
        fixture.pick(None);
        let out = fixture.load_balancer.endpoints.iter().filter(|endpoint| endpoint.excluded_until().is_some()).count();
        prop_assert_eq!(out, 0, "every exclusion ends");
    }
}

/// P5, B1: a connection returns an unreachable endpoint, but none that failed in another way, and ends a panic
#[test]
fn a_connection_returns_only_an_unreachable_endpoint() {
    let mut fixture = Fixture::new(3);
    fixture.eject(0);
    fixture.fail(1, FailureKind::Unreachable);
    (0..5).for_each(|_| fixture.fail(2, FailureKind::Unreachable));
    assert_eq!(fixture.usable(), [2]);
    assert!(fixture.stats.is_panicking());
    let before = fixture.now - SECOND;
    fixture.load_balancer.record_connected(1, before, fixture.now);
    assert_eq!(fixture.usable(), [2], "a connection from before the exclusion is ignored");
    fixture.load_balancer.record_connected(0, fixture.now, fixture.now);
    assert_eq!(fixture.usable(), [2]);
    assert!(fixture.stats.is_panicking());
    fixture.load_balancer.record_connected(1, fixture.now, fixture.now);
    assert_eq!(fixture.usable(), [1, 2]);
    assert!(!fixture.stats.is_panicking(), "one endpoint is reachable");
}
