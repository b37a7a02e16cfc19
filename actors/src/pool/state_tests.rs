//! The pool's state machine in scripted and random interleavings (P3, P4).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::{RetryBudgetConfig, UpstreamConfig};

use super::*;
use crate::clock;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::operator_drain::Drain;
use crate::pool::test_waiter::TestWaiter;

const LONG_TIMEOUT: Duration = Duration::from_secs(1000);

fn full(queued: usize) -> AcquireRefusal {
    AcquireRefusal::QueueFull { queued, retry_after: Duration::ZERO }
}

struct Fixture {
    state: PoolState<TestWaiter>,
    shared: Arc<GateShared>,
    wakes: Arc<AtomicUsize>,
    now: Instant,
}

impl Fixture {
    /// A queue with a timeout longer than every test.
    fn new(concurrent_max: usize, queued_max: usize, endpoints: usize) -> Self {
        Self::with_queue_timeout(concurrent_max, queued_max, endpoints, LONG_TIMEOUT)
    }

    fn with_queue_timeout(
        concurrent_max: usize,
        queued_max: usize,
        endpoints: usize,
        queue_timeout: Duration,
    ) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let shared = Arc::new(GateShared::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let (stats, now) = (Arc::new(EndpointStatsTable::new(endpoints)), clock::now());
        let rules = LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing);
        let load_balancer = LoadBalancer::new(Arc::clone(&stats), rules, 7, now);
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now);
        let bounds = PoolBounds { concurrent_max, queued_max, queue_timeout, overload: None };
        let state = PoolState::new(Arc::clone(&shared), bounds, stats, load_balancer, budget);
        Self { state, shared, wakes, now }
    }

    /// Asks for a permit as the actor does.
    fn acquire(&mut self) -> Result<TestWaiter, AcquireRefusal> {
        self.acquire_as(Priority::Normal, LONG_TIMEOUT)
    }

    fn acquire_within(&mut self, left: Duration) -> Result<TestWaiter, AcquireRefusal> {
        self.acquire_as(Priority::Normal, left)
    }

    fn acquire_as(&mut self, priority: Priority, left: Duration) -> Result<TestWaiter, AcquireRefusal> {
        let slot = TestWaiter::default();
        match self.state.decide(priority, self.now + left, self.now) {
            AcquireDecision::Grant => {
                let permit = self.state.grant(self.now).unwrap();
                slot.clone().try_grant(permit).unwrap();
            }
            AcquireDecision::Queue => self.state.enqueue(slot.clone(), priority, self.now),
            AcquireDecision::Refuse(refusal) => return Err(refusal),
        }
        Ok(slot)
    }

    /// Delivers the pending wake-ups.
    fn deliver_wakes(&mut self) {
        while self.wakes.load(Ordering::SeqCst) > 0 {
            self.wakes.fetch_sub(1, Ordering::SeqCst);
            self.state.on_wake(self.now);
        }
    }
}

/// P4: A holds a permit, B waits, A releases, C arrives before the wake-up is handled; B gets the permit
#[test]
fn a_released_permit_belongs_to_the_waiter_not_to_a_newcomer() {
    let mut fixture = Fixture::new(1, 10, 1);
    let a = fixture.acquire().unwrap();
    let b = fixture.acquire().unwrap();
    assert!(a.has_permit() && !b.has_permit());
    a.cancel();
    let c = fixture.acquire().unwrap();
    assert!(b.has_permit(), "enqueueing C served the head of the queue");
    assert!(!c.has_permit());
    fixture.deliver_wakes();
    assert!(!c.has_permit());
    b.cancel();
    fixture.deliver_wakes();
    assert!(c.has_permit());
}

/// P4: waiters are served in order
#[test]
fn waiters_are_served_in_order() {
    let mut fixture = Fixture::new(1, 10, 1);
    let mut holder = fixture.acquire().unwrap();
    let waiters: Vec<TestWaiter> = (0..5).map(|_| fixture.acquire().unwrap()).collect();
    for (i, next) in waiters.iter().enumerate() {
        holder.cancel();
        fixture.deliver_wakes();
        assert!(next.has_permit(), "waiter {i}");
        assert!(waiters[i + 1..].iter().all(|later| !later.has_permit()));
        holder = next.clone();
    }
}

/// P4: a waiter that was cancelled while it was granted a permit passes the permit on
#[test]
fn a_cancelled_waiter_passes_the_permit_on() {
    let mut fixture = Fixture::new(1, 10, 1);
    let a = fixture.acquire().unwrap();
    let b = fixture.acquire().unwrap();
    let c = fixture.acquire().unwrap();
    b.cancel();
    a.cancel();
    fixture.deliver_wakes();
    assert!(c.has_permit());
    c.cancel();
    assert_eq!(fixture.shared.gate.live(), 0);
}

/// P3: the queue is bounded, and a bound of zero refuses at once
#[test]
fn the_queue_is_bounded_and_zero_means_fail_fast() {
    let mut fixture = Fixture::new(1, 2, 1);
    let held: Vec<TestWaiter> = (0..3).map(|_| fixture.acquire().unwrap()).collect();
    assert_eq!(fixture.acquire().unwrap_err(), full(2));
    held[1].cancel();
    let late = fixture.acquire().unwrap();
    assert!(!late.has_permit(), "a cancelled waiter leaves its place in the queue");
    assert_eq!(Fixture::new(0, 0, 1).acquire().unwrap_err(), full(0));
}

/// One request holds the only permit, `waiting` wait, and the measured interval between grants is 100 ms.
fn paced(waiting: usize, queued_max: usize, queue_timeout: Duration) -> (Fixture, Vec<TestWaiter>) {
    let mut fixture = Fixture::with_queue_timeout(1, queued_max, 1, queue_timeout);
    let mut slots: Vec<TestWaiter> = (0..10).map(|_| fixture.acquire().unwrap()).collect();
    for _ in 0..9 {
        fixture.now += Duration::from_millis(100);
        slots.remove(0).cancel();
        fixture.deliver_wakes();
        assert!(slots[0].has_permit());
    }
    slots.extend((0..waiting).map(|_| fixture.acquire().unwrap()));
    (fixture, slots)
}

/// P3: a request that cannot be served in time is refused at once, with the expected wait
#[test]
fn a_wait_beyond_the_deadline_is_refused_at_once() {
    let (mut fixture, slots) = paced(4, 50, Duration::from_secs(1));
    let ms = Duration::from_millis;
    let refused = fixture.acquire_within(ms(499)).unwrap_err();
    let too_long = |expected, left, is_deadline| AcquireRefusal::QueueTooLong {
        expected: ms(expected),
        left: ms(left),
        is_deadline,
    };
    assert_eq!(refused, too_long(500, 499, true));
    let fits = fixture.acquire_within(ms(500)).unwrap();
    let _others: Vec<TestWaiter> = (0..5).map(|_| fixture.acquire().unwrap()).collect();
    let refused = fixture.acquire().unwrap_err();
    assert_eq!(refused, too_long(1_100, 1_000, false), "the queue's timeout");
    slots[1].cancel();
    assert!(fixture.acquire().is_ok(), "a cancelled waiter does not count");
    assert!(!fits.has_permit());
}

/// P3: the first in the queue is never refused because of the interval. Otherwise an old interval would refuse all
/// requests and never be corrected
#[test]
fn the_first_in_the_queue_may_always_wait() {
    let (mut fixture, _slots) = paced(0, 50, Duration::from_secs(1));
    assert!(fixture.acquire_within(Duration::from_millis(1)).is_ok());
    assert!(fixture.acquire_within(Duration::from_millis(1)).is_err());
}

/// P3: no request is refused because of an unknown interval, neither at the start nor after a crash
#[test]
fn without_an_interval_no_wait_is_refused() {
    let mut fixture = Fixture::with_queue_timeout(1, 50, 1, Duration::from_millis(1));
    let _slots: Vec<TestWaiter> = (0..51).map(|_| fixture.acquire().unwrap()).collect();
    assert_eq!(fixture.acquire().unwrap_err(), full(50));
    let (mut fixture, _slots) = paced(2, 50, Duration::from_millis(200));
    assert!(fixture.acquire().is_err());
    fixture.state.rebuild(fixture.now);
    let _again: Vec<TestWaiter> = (0..50).map(|_| fixture.acquire().unwrap()).collect();
}

/// P3: a full queue gives the time until its waiters are served
#[test]
fn a_full_queue_gives_a_retry_time() {
    let (mut fixture, _slots) = paced(12, 12, LONG_TIMEOUT);
    let retry_after = Duration::from_millis(1_300);
    assert_eq!(fixture.acquire().unwrap_err(), AcquireRefusal::QueueFull { queued: 12, retry_after });
    assert_eq!(fixture.shared.grant_interval(), Some(Duration::from_millis(100)));
}

/// P3: in a full queue a newcomer of a higher class displaces the last waiter of the lowest class, which is notified at
/// once
#[test]
fn a_newcomer_of_a_higher_class_displaces_the_last_of_the_lowest() {
    let mut fixture = Fixture::new(1, 3, 1);
    let holder = fixture.acquire().unwrap();
    let as_class = |fixture: &mut Fixture, priority| fixture.acquire_as(priority, LONG_TIMEOUT);
    let low = as_class(&mut fixture, Priority::Low).unwrap();
    let late = as_class(&mut fixture, Priority::Low).unwrap();
    let normal = as_class(&mut fixture, Priority::Normal).unwrap();
    assert_eq!(
        as_class(&mut fixture, Priority::Low).unwrap_err(),
        full(3),
        "the newcomer is the last in the queue"
    );
    let high = as_class(&mut fixture, Priority::High).unwrap();
    assert_eq!(
        late.rejection(),
        Some(WaitRejection { cause: WaitRejectionCause::Displaced, retry_after: Duration::ZERO })
    );
    let again = as_class(&mut fixture, Priority::High).unwrap();
    assert!(low.rejection().is_some() && normal.rejection().is_none());
    let third = as_class(&mut fixture, Priority::High).unwrap();
    assert!(normal.rejection().is_some());
    assert_eq!(as_class(&mut fixture, Priority::High).unwrap_err(), full(3));
    holder.cancel();
    fixture.deliver_wakes();
    assert!(high.has_permit() && !again.has_permit() && !third.has_permit());
}

/// P3: only waiters ahead count for the expected wait
#[test]
fn a_higher_class_does_not_wait_for_a_lower_one() {
    let (mut fixture, _slots) = paced(9, 50, Duration::from_secs(1));
    let left = Duration::from_millis(500);
    assert!(fixture.acquire_as(Priority::Low, left).is_err());
    let _first = fixture.acquire_as(Priority::High, left).unwrap();
    assert!(fixture.acquire_as(Priority::High, left).is_ok());
    assert!(fixture.acquire_as(Priority::Normal, left).is_err());
}

/// S5: a crash in mid-write leaks no permit and grants none
#[test]
fn a_rebuild_drops_the_waiters_and_keeps_the_live_count() {
    let mut fixture = Fixture::new(1, 10, 1);
    let a = fixture.acquire().unwrap();
    let b = fixture.acquire().unwrap();
    fixture.state.rebuild(clock::now());
    assert_eq!(fixture.shared.gate.live(), 1);
    let c = fixture.acquire().unwrap();
    assert!(!c.has_permit(), "A still holds the only permit");
    a.cancel();
    fixture.deliver_wakes();
    assert!(c.has_permit() && !b.has_permit());
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(Priority),
    Release(prop::sample::Index),
    Wake,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => prop::sample::select(&Priority::ALL[..]).prop_map(Op::Acquire),
        4 => any::<prop::sample::Index>().prop_map(Op::Release),
        2 => Just(Op::Wake),
        1 => Just(Op::Rebuild),
    ]
}

proptest! {
    /// P3, P4: over all interleavings the gate stays within its limit, waiters of a class are served in order, the
    /// queue is bounded, nothing leaks, and no waiter is forgotten or displaced by one of its own class
    #[test]
    fn any_interleaving_keeps_the_gate(ops in prop::collection::vec(op(), 1..200), max in 1usize..4, queued in 0usize..5) {
        let mut fixture = Fixture::new(max, queued, 2);
        let mut slots: Vec<(TestWaiter, Priority)> = Vec::new();
        let mut lost: Vec<TestWaiter> = Vec::new();
        for op in ops {
            match op {
                Op::Acquire(priority) => {
                    let acquired = fixture.acquire_as(priority, LONG_TIMEOUT);
                    if let Ok(slot) = acquired { slots.push((slot, priority)) }
                    else {
                        let lower = slots.iter().any(|(slot, other)| !slot.has_permit() && rank(*other) < rank(priority));
                        prop_assert!(!lower, "refused, though a lower class waits");
                    }
                    let displaced = |(slot, other): &(TestWaiter, Priority)| slot.rejection().map(|_| *other);
                    prop_assert!(slots.iter().filter_map(displaced).all(|other| rank(other) < rank(priority)));
                    slots.retain(|(slot, _)| slot.rejection().is_none());
                }
                Op::Release(i) => if !slots.is_empty() {
                    let i = i.index(slots.len());
                    slots.remove(i).0.cancel();
                },
                Op::Wake => fixture.deliver_wakes(),
                Op::Rebuild => {
                    fixture.state.rebuild(clock::now());
                    let (granted, dropped) = slots.drain(..).partition(|(slot, _)| slot.has_permit());
                    slots = granted;
                    let dropped: Vec<(TestWaiter, Priority)> = dropped;
                    lost.extend(dropped.into_iter().map(|(slot, _)| slot));
                }
            }
            let live = slots.iter().filter(|(slot, _)| slot.has_permit()).count();
            prop_assert_eq!(live, fixture.shared.gate.live());
            prop_assert!(live <= max && slots.len() - live <= queued);
            for priority in Priority::ALL {
                let of_class: Vec<&TestWaiter> =
                    slots.iter().filter(|(_, other)| *other == priority).map(|(slot, _)| slot).collect();
                let first_waiting = of_class.iter().position(|slot| !slot.has_permit()).unwrap_or(of_class.len());
                prop_assert!(of_class[first_waiting..].iter().all(|slot| !slot.has_permit()), "FIFO");
            }
            prop_assert!(lost.iter().all(|slot| !slot.has_permit()));
        }
        fixture.deliver_wakes();
        let live = slots.iter().filter(|(slot, _)| slot.has_permit()).count();
        prop_assert!(live == max || live == slots.len(), "a request waits at a free gate");
        for (slot, _) in slots { slot.cancel(); }
        prop_assert_eq!(fixture.shared.gate.live(), 0);
    }
}

/// The order of classes, implemented independently.
fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

impl Fixture {
    fn drain(&mut self, endpoint: usize, until: Option<Instant>) {
        let drain = Drain { began: self.now, until, ordered_by: "test".to_owned(), reason: None };
        self.state.endpoint_stats().endpoint(endpoint).drain().set(drain);
        self.state.follow_drains(self.now);
    }
}

/// P4, P5: while all endpoints drain nothing is granted and no request waits, and the first that returns serves
#[test]
fn nobody_waits_while_all_endpoints_drain() {
    let mut fixture = Fixture::new(1, 10, 2);
    let holder = fixture.acquire().unwrap();
    let waiter = fixture.acquire().unwrap();
    let until = fixture.now + Duration::from_secs(5);
    fixture.drain(0, Some(until));
    assert_eq!(waiter.rejection(), None, "the other endpoint serves");
    fixture.drain(1, None);
    assert_eq!(waiter.rejection().unwrap().cause, WaitRejectionCause::Draining);
    let refusal = fixture.acquire().unwrap_err();
    assert_eq!(refusal, AcquireRefusal::Draining { until: Some(until) });
    holder.cancel();
    fixture.deliver_wakes();
    assert_eq!(fixture.acquire().unwrap_err(), refusal);
    assert!(fixture.state.pick_other_endpoint(EndpointId(0), fixture.now).is_none());
    assert!(fixture.state.grant(fixture.now).is_none());
    assert_eq!(fixture.shared.gate.live(), 0);
    fixture.now = until;
    assert!(fixture.acquire().unwrap().has_permit());
    let other = fixture.state.pick_other_endpoint(EndpointId(0), fixture.now).unwrap();
    assert_eq!(other.id(), EndpointId(0), "the other one drains");
}
