//! The choice among endpoints under scripted and random calls (P5).

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    load_balancer: LoadBalancer,
    stats: Arc<EndpointStatsTable>,
    now: Instant,
}

impl Fixture {
    fn new(endpoints: usize) -> Self {
        Self::with(endpoints, |_| {})
    }

    fn with(endpoints: usize, change: impl FnOnce(&mut LoadBalancerSettings)) -> Self {
        let mut rules =
            LoadBalancerSettings::from(&tidegate_config::UpstreamConfig::default().load_balancing);
        change(&mut rules);
        let (stats, now) = (Arc::new(EndpointStatsTable::new(endpoints)), crate::clock::now());
        let load_balancer = LoadBalancer::new(Arc::clone(&stats), rules, 7, now);
        Self { load_balancer, stats, now }
    }

    fn fail(&mut self, endpoint: usize, strike: FailureKind) {
        let successes = self.stats.endpoint(endpoint).successes();
        let failure = EndpointFailure { kind: strike, began: self.now, successes };
        self.load_balancer.record_failure(endpoint, &failure, self.now);
    }

    fn eject(&mut self, endpoint: usize) {
        (0..5).for_each(|_| self.fail(endpoint, FailureKind::Status));
    }

    /// As the handle does it.
    fn succeed(&mut self, endpoint: usize) {
        self.stats.endpoint(endpoint).count_success();
        if self.stats.is_panicking() {
            self.load_balancer.record_success(endpoint, self.now);
        }
    }

    fn check(&mut self, endpoint: usize, is_good: bool) {
        self.load_balancer.record_check(endpoint, &HealthCheckResult { is_good, began: self.now }, self.now);
    }

    /// How often each of so many choices falls on each endpoint.
    fn shares(&mut self, choices: usize) -> Vec<usize> {
        let mut shares = vec![0; self.stats.len()];
        (0..choices).for_each(|_| shares[self.load_balancer.pick(None, self.now)] += 1);
        shares
    }

    fn usable(&self) -> Vec<usize> {
        (0..self.stats.len()).filter(|i| self.load_balancer.endpoints[*i].is_usable()).collect()
    }

    fn events(&mut self) -> Vec<EndpointEvent> {
        self.load_balancer.drain_events()
    }
}

/// P5: endpoints that are alike get alike, and never is the one chosen that is busier than all others
#[test]
fn the_less_loaded_of_two_is_called() {
    let mut world = Fixture::new(3);
    for share in world.shares(3000) {
        assert!((800..1200).contains(&share), "{share}");
    }
    world.stats.endpoint(1).in_flight().store(5, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.shares(1000)[1], 0, "one that hangs collects requests");
}

/// P5: a slow endpoint gets little, but enough to be measured again
#[test]
fn a_slow_endpoint_gets_less_and_is_measured_again() {
    let mut world = Fixture::new(2);
    for _ in 0..50 {
        world.stats.endpoint(0).record_latency(Duration::from_millis(500));
        world.stats.endpoint(1).record_latency(Duration::from_millis(20));
    }
    let slow = world.shares(10_000)[0];
    assert!((300..1000).contains(&slow), "{slow} of 10000");
}

/// P5: a bad endpoint is left out, a retry goes to another, and stays where there is no other good one
#[test]
fn an_ejected_endpoint_is_not_called() {
    let mut world = Fixture::new(3);
    world.eject(1);
    assert_eq!(world.shares(100)[1], 0);
    assert!((0..50).all(|_| world.load_balancer.pick(Some(0), world.now) == 2));
    world.fail(0, FailureKind::Unreachable);
    assert_eq!(world.load_balancer.pick(Some(2), world.now), 2, "the others are known to be bad");
    assert!(!world.stats.has_other(2, world.now));
    assert!(world.stats.has_other(0, world.now));
    let turns = world.events();
    assert!(
        matches!(turns[0], EndpointEvent::Excluded { endpoint: 1, action: EjectionAction::Eject, .. }),
        "{turns:?}"
    );
    assert!(
        matches!(turns[1], EndpointEvent::Excluded { endpoint: 0, action: EjectionAction::BackOff, .. }),
        "{turns:?}"
    );
    assert_eq!(turns.len(), 2);
}

/// P5: no share of endpoints beyond the configured one is ejected, not even one (Envoy #3263), counted with the one about
/// to go (Envoy #27066)
#[test]
fn no_more_than_the_configured_percentage_is_ejected() {
    for (endpoints, max_percent, out) in
        [(3, 10, 0), (4, 50, 2), (5, 50, 2), (10, 10, 1), (3, 0, 0), (3, 100, 2)]
    {
        let mut world = Fixture::with(endpoints, |rules| rules.ejected_max_percent = max_percent);
        (0..endpoints).for_each(|endpoint| world.eject(endpoint));
        assert_eq!(world.usable().len(), endpoints - out, "{max_percent} % of {endpoints}");
    }
}

/// P5: where ejection is off or at its limit, an endpoint that cannot be connected to still rests
#[test]
fn an_unreachable_endpoint_rests_even_where_none_is_ejected() {
    let mut world = Fixture::with(3, |rules| rules.ejected_max_percent = 0);
    for _ in 0..20 {
        world.fail(0, FailureKind::Unreachable);
        assert_eq!(world.usable(), [1, 2]);
        world.now += 40 * SECOND;
        world.load_balancer.pick(None, world.now);
    }
}

/// P5: when the last one fails too, all are called until one succeeds; that one is back, those that stay bad are left out
#[test]
fn when_all_are_bad_all_are_called_until_one_succeeds() {
    let mut world = Fixture::new(3);
    (0..3).for_each(|endpoint| world.eject(endpoint));
    assert_eq!(world.usable(), [2], "the last one is never ejected");
    assert!(world.stats.is_panicking() && !world.stats.has_other(2, world.now));
    assert!(world.shares(300).iter().all(|share| *share > 50));
    (0..3).for_each(|endpoint| world.eject(endpoint));
    assert!(world.stats.is_panicking());
    world.succeed(1);
    assert!(!world.stats.is_panicking());
    assert_eq!(world.usable(), [1, 2]);
    world.fail(2, FailureKind::Status);
    assert_eq!(world.usable(), [1]);
    let turns = world.events();
    let expected =
        [EndpointEvent::PanicEntered, EndpointEvent::Returned { endpoint: 1 }, EndpointEvent::PanicEnded];
    assert_eq!(turns[2..5], expected, "{turns:?}");
}

/// P5: where checks find all unhealthy, the checks are not believed
#[test]
fn when_checks_find_all_unhealthy_all_are_called() {
    let mut world = Fixture::new(2);
    for _ in 0..3 {
        (0..2).for_each(|endpoint| world.check(endpoint, false));
    }
    assert!(world.usable().is_empty());
    assert!(world.shares(100).iter().all(|share| *share > 20));
    world.check(1, true);
    world.check(1, true);
    assert_eq!(world.shares(100), [0, 100]);
}

/// P5: one that comes back begins with a tenth of its share
#[test]
fn one_that_comes_back_starts_slowly() {
    let mut world = Fixture::new(2);
    world.eject(0);
    world.now += 40 * SECOND;
    let at_once = world.shares(2000)[0];
    assert!((60..160).contains(&at_once), "{at_once} of 2000");
    world.now += 10 * SECOND;
    let in_the_end = world.shares(2000)[0];
    assert!((850..1150).contains(&in_the_end), "{in_the_end} of 2000");
}

/// P5: those that stand by are called while none of the others is usable, and requests return only after a while
#[test]
fn standby_endpoints_take_over_and_give_back_with_hysteresis() {
    let mut world = Fixture::with(4, |rules| rules.standby = 2);
    assert_eq!(world.shares(100)[2..], [0, 0]);
    world.eject(0);
    assert_eq!(world.shares(100), [0, 100, 0, 0], "one of the others is enough");
    world.eject(1);
    let shares = world.shares(100);
    assert!(shares[..2] == [0, 0] && shares[2] > 20 && shares[3] > 20, "{shares:?}");
    world.now += 40 * SECOND;
    assert_eq!(world.shares(100)[..2], [0, 0], "usable only now");
    assert_eq!(world.usable(), [0, 1, 2, 3]);
    world.now += 9 * SECOND;
    assert_eq!(world.shares(100)[..2], [0, 0]);
    world.now += SECOND;
    assert_eq!(world.shares(100)[2..], [0, 0]);
    let turns: Vec<EndpointEvent> = world
        .events()
        .into_iter()
        .filter(|turn| matches!(turn, EndpointEvent::FailedOver | EndpointEvent::FailedBack))
        .collect();
    assert_eq!(turns, [EndpointEvent::FailedOver, EndpointEvent::FailedBack]);
}

/// P5: a share of the others can be asked for, and standbys that fail give back at once
#[test]
fn standby_endpoints_may_take_over_earlier_and_never_keep_what_they_cannot_serve() {
    let mut world = Fixture::with(4, |rules| (rules.standby, rules.min_usable_percent) = (1, 60));
    world.eject(0);
    assert_eq!(world.shares(100)[3], 0, "two of three are 66 %");
    world.eject(1);
    assert_eq!(world.shares(100), [0, 0, 0, 100]);
    world.eject(3);
    assert_eq!(world.shares(100), [0, 0, 100, 0]);
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
    let strike = prop_oneof![
        Just(FailureKind::Unreachable),
        Just(FailureKind::Timeout),
        Just(FailureKind::Broken),
        Just(FailureKind::Status)
    ];
    prop_oneof![
        10 => (0..endpoints, strike).prop_map(|(endpoint, strike)| Op::Fail(endpoint, strike)),
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
    /// P5: calls never put the last endpoint out; every absence ends, within its cap; no share is ever none; what is chosen is
    /// usable unless none is or all are called; what is published is what holds
    #[test]
    fn an_endpoint_is_always_picked((endpoints, standby, percent, ops) in ops()) {
        let mut world = Fixture::with(endpoints, |rules| (rules.standby, rules.ejected_max_percent) = (standby, percent));
        for op in ops {
            match op {
                Op::Fail(endpoint, strike) => {
                    let before = world.usable().len();
                    world.fail(endpoint, strike);
                    prop_assert!(before == 0 || !world.usable().is_empty(), "a failed call put the last one out");
                }
                Op::Succeed(endpoint) => world.succeed(endpoint),
                Op::Check(endpoint, is_good) => world.check(endpoint, is_good),
                Op::Pick(avoid) => {
                    let picked = world.load_balancer.pick(avoid, world.now);
                    let usable = world.usable();
                    prop_assert!(world.load_balancer.is_panicking || usable.is_empty() || usable.contains(&picked));
                    let has_choice = world.load_balancer.is_panicking || usable.is_empty();
                    prop_assert!(!has_choice || avoid != Some(picked));
                }
                Op::Wait(millis) => world.now += Duration::from_millis(millis),
            }
            prop_assert_eq!(world.load_balancer.is_panicking, world.stats.is_panicking());
            for (i, endpoint) in world.load_balancer.endpoints.iter().enumerate() {
                let weight = endpoint.weight(world.load_balancer.rules.slow_start, world.now);
                prop_assert!((1..=WEIGHT_WHOLE).contains(&weight));
                if let Some(due) = endpoint.excluded_until() {
                    prop_assert!(due.saturating_duration_since(world.now) <= world.load_balancer.rules.ejection_max);
                } else {
                    prop_assert_eq!(world.stats.endpoint(i).state(world.now), endpoint.state());
                }
            }
            let ejected = world.load_balancer.endpoints.iter().filter(|endpoint| endpoint.is_ejected()).count();
            prop_assert!(ejected * 100 <= percent * endpoints);
        }
        world.now += world.load_balancer.rules.ejection_max;
        world.load_balancer.pick(None, world.now);
        let out = world.load_balancer.endpoints.iter().filter(|endpoint| endpoint.excluded_until().is_some()).count();
        prop_assert_eq!(out, 0, "every absence ends");
    }
}

/// P5, B1: a connection brings back who could not be connected to, not who failed in any other way, and ends a panic
#[test]
fn a_connection_disproves_only_that_none_can_be_made() {
    let mut world = Fixture::new(3);
    world.eject(0);
    world.fail(1, FailureKind::Unreachable);
    (0..5).for_each(|_| world.fail(2, FailureKind::Unreachable));
    assert_eq!(world.usable(), [2]);
    assert!(world.stats.is_panicking());
    let before = world.now - SECOND;
    world.load_balancer.record_connected(1, before, world.now);
    assert_eq!(world.usable(), [2], "a connection from before it was left out");
    world.load_balancer.record_connected(0, world.now, world.now);
    assert_eq!(world.usable(), [2]);
    assert!(world.stats.is_panicking());
    world.load_balancer.record_connected(1, world.now, world.now);
    assert_eq!(world.usable(), [1, 2]);
    assert!(!world.stats.is_panicking(), "somebody is there");
}
