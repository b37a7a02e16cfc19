//! Credentials behind a bucket's gate and queue, scripted and over random interleavings (C3, P3, P4).

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tidegate_config::{Priority, RetryBudgetConfig, UpstreamConfig};

use super::*;
use crate::pool::endpoint_stats::EndpointStatsTable;
use crate::pool::handle::PoolBounds;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer_settings::LoadBalancerSettings;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::state::{AcquireDecision, AcquireRefusal, PoolState, Waiter};
use crate::pool::test_waiter::TestWaiter;

const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// A pool with credentials, as the shell drives it.
struct Fixture {
    state: PoolState<TestWaiter>,
    shared: Arc<GateShared>,
    stats: Arc<[CredentialStats]>,
    wakes: Arc<AtomicUsize>,
    due: Option<Instant>,
    now: Instant,
}

impl Fixture {
    fn new(gate: usize, queued: usize, limits: &[(usize, Option<&str>)]) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let shared = Arc::new(GateShared::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let (endpoints, now) = (Arc::new(EndpointStatsTable::new(1)), clock::now());
        let rotation = LoadBalancer::new(
            Arc::clone(&endpoints),
            LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing),
            7,
            now,
        );
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now);
        let signs = stats(limits);
        let rules = CredentialPoolConfig { refused: secs(3), ..CredentialPoolConfig::default() };
        let roster = CredentialSelector::new(&signs, &shared, rules);
        let bounds = PoolBounds {
            concurrent_max: gate,
            queued_max: queued,
            queue_timeout: QUEUE_TIMEOUT,
            overload: None,
        };
        let state = PoolState::new(Arc::clone(&shared), bounds, endpoints, rotation, budget)
            .with_credential_selector(Some(roster));
        Self { state, shared, stats: signs, wakes, due: None, now }
    }

    fn acquire(&mut self) -> Option<TestWaiter> {
        let slot = TestWaiter::default();
        match self.state.decide(Priority::Normal, self.now + secs(30), self.now) {
            AcquireDecision::Grant => slot.clone().try_grant(self.state.grant(self.now).unwrap()).unwrap(),
            AcquireDecision::Queue => self.state.enqueue(slot.clone(), Priority::Normal, self.now),
            AcquireDecision::Refuse(_) => return None,
        }
        self.schedule_wake();
        Some(slot)
    }

    fn schedule_wake(&mut self) {
        if let Some(due) = self.state.next_wake(self.now)
            && self.due.is_none_or(|set| due < set)
        {
            self.due = Some(due);
        }
    }

    /// Delivers the nudges that were sent, and the alarm if it is due.
    fn deliver_wakes(&mut self) {
        loop {
            let rings = self.due.is_some_and(|due| due <= self.now);
            if rings {
                self.due = None;
            } else if self.wakes.load(Ordering::SeqCst) == 0 {
                return;
            } else {
                self.wakes.fetch_sub(1, Ordering::SeqCst);
            }
            self.state.on_wake(self.now);
            self.schedule_wake();
        }
    }

    fn refuse(&mut self, credential: usize) {
        self.state.credential_selector().unwrap().record_failed_check(
            CredentialId(credential),
            true,
            self.now,
        );
        self.schedule_wake();
    }

    fn record_error(&mut self, credential: usize, setback: CredentialError) {
        self.state.credential_selector().unwrap().record_error(CredentialId(credential), setback, self.now);
        self.schedule_wake();
    }
}

/// C3: who waits is served when the first credential comes back, though nobody gave anything back
#[test]
fn a_waiter_is_served_when_a_credential_comes_back() {
    let mut world = Fixture::new(9, 9, &[(1, None)]);
    world.record_error(0, CredentialError::Throttled(Some(Duration::from_millis(400))));
    let waiter = world.acquire().unwrap();
    assert_eq!(waiter.credential(), None);
    world.now += Duration::from_millis(399);
    world.deliver_wakes();
    assert_eq!(waiter.credential(), None);
    world.now += Duration::from_millis(1);
    world.deliver_wakes();
    assert_eq!(waiter.credential(), Some(0));
}

/// C3: nobody waits for what does not come in time; who came before is not overtaken
#[test]
fn a_request_is_refused_at_once_where_waiting_is_of_no_use() {
    let mut world = Fixture::new(9, 9, &[(1, None), (1, None)]);
    world.record_error(0, throttled(30));
    world.record_error(1, throttled(20));
    let until = world.now + secs(20);
    assert_eq!(
        world.state.decide(Priority::Normal, world.now + secs(30), world.now),
        AcquireDecision::Refuse(AcquireRefusal::NoCredential { until, is_refused: false })
    );
    world.now += secs(19);
    assert_eq!(world.state.decide(Priority::Normal, world.now + secs(30), world.now), AcquireDecision::Queue);
    let hurried = world.now + Duration::from_millis(999);
    assert!(
        matches!(
            world.state.decide(Priority::Normal, hurried, world.now),
            AcquireDecision::Refuse(AcquireRefusal::NoCredential { .. })
        ),
        "its own deadline"
    );
}

/// C3: a queue that stood still while nobody could be served is not taken for a slow one
#[test]
fn a_stalled_queue_is_not_measured() {
    let mut world = Fixture::new(1, 50, &[(1, None)]);
    let mut held = world.acquire().unwrap();
    for _ in 0..20 {
        let next = world.acquire().unwrap();
        world.now += Duration::from_millis(190);
        held.cancel();
        world.deliver_wakes();
        held = next;
    }
    let waiting: Vec<TestWaiter> = (0..4).filter_map(|_| world.acquire()).collect();
    assert_eq!(waiting.len(), 4, "four are served within the second");
    let others = (0..4).filter_map(|_| world.acquire()).count();
    assert!(others < 4, "no more than the second holds");
    world.record_error(0, CredentialError::Throttled(Some(Duration::from_millis(100))));
    assert_eq!(world.state.decide(Priority::Normal, world.now + secs(30), world.now), AcquireDecision::Queue);
}

/// C3, P4: a retry that goes on as somebody else gives its old place to whoever waits for it
#[test]
fn a_switched_credential_wakes_the_queue() {
    let mut world = Fixture::new(9, 9, &[(1, None), (1, None)]);
    let (first, second) = (world.acquire().unwrap(), world.acquire().unwrap());
    let third = world.acquire().unwrap();
    assert_eq!((first.credential(), second.credential(), third.credential()), (Some(0), Some(1), None));
    assert!(world.state.switch_credential(FIRST, true, world.now).is_err(), "there is no other");
    assert!(matches!(world.state.switch_credential(FIRST, false, world.now), Ok(None)), "it may stay");
    second.cancel();
    let traded = world.state.switch_credential(FIRST, true, world.now).unwrap().unwrap();
    // The nudge of the second comes to nothing: its place is taken, and that of the first is not free yet.
    world.deliver_wakes();
    assert_eq!(third.credential(), None);
    first.set_credential(traded);
    world.deliver_wakes();
    assert_eq!((first.credential(), third.credential()), (Some(1), Some(0)));
}

#[derive(Debug, Clone)]
enum Op {
    Acquire,
    Release(prop::sample::Index),
    SwitchCredential(prop::sample::Index),
    RecordError(usize, Option<u64>),
    Accept(usize),
    Pass(u64),
    DeliverWakes,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Acquire),
        4 => any::<prop::sample::Index>().prop_map(Op::Release),
        1 => any::<prop::sample::Index>().prop_map(Op::SwitchCredential),
        2 => (0usize..3, prop::option::of(0u64..4000)).prop_map(|(at, ms)| Op::RecordError(at, ms)),
        1 => (0usize..3).prop_map(Op::Accept),
        3 => (0u64..2000).prop_map(Op::Pass),
        3 => Just(Op::DeliverWakes),
        1 => Just(Op::Rebuild),
    ]
}

proptest! {
    /// C3, P3, P4, S5: over all interleavings no credential is used beyond its limit or while it is out, waiters are served in
    /// order, crashes forgive nothing, nothing is leaked, and nobody is forgotten
    #[test]
    fn any_interleaving_keeps_the_limits(
        ops in prop::collection::vec(op(), 1..150), gate in 1usize..5, queued in 0usize..5, max in prop::array::uniform3(1usize..3),
    ) {
        let limits = [(max[0], Some("g")), (max[1], Some("g")), (max[2], None)];
        let mut world = Fixture::new(gate, queued, &limits);
        // What the model knows: until when each is out.
        let mut out = [world.now; 3];
        let mut slots: Vec<TestWaiter> = Vec::new();
        for op in ops {
            let had: Vec<bool> = slots.iter().map(|slot| slot.credential().is_some()).collect();
            match op {
                Op::Acquire => slots.extend(world.acquire()),
                Op::Release(i) => if !slots.is_empty() {
                    let i = i.index(slots.len());
                    slots.remove(i).cancel();
                },
                Op::SwitchCredential(i) => if !slots.is_empty() {
                    let slot = &slots[i.index(slots.len())];
                    if let Some(at) = slot.credential()
                        && let Ok(Some(ticket)) = world.state.switch_credential(CredentialId(at), true, world.now)
                    {
                        prop_assert!(ticket.id().0 != at && out[ticket.id().0] <= world.now);
                        slot.set_credential(ticket);
                    }
                },
                Op::RecordError(at, Some(ms)) => {
                    world.record_error(at, CredentialError::Throttled(Some(Duration::from_millis(ms))));
                    for (other, out) in out.iter_mut().enumerate() {
                        if other == at || (at < 2 && other < 2) {
                            *out = (*out).max(world.now + Duration::from_millis(ms));
                        }
                    }
                }
                Op::RecordError(at, None) => {
                    world.refuse(at);
                    out[at] = out[at].max(world.now + secs(3));
                }
                Op::Accept(at) => { world.stats[at].count_accepted(world.now); }
                Op::Pass(ms) => world.now += Duration::from_millis(ms),
                Op::DeliverWakes => world.deliver_wakes(),
                Op::Rebuild => {
                    world.state.rebuild(world.now);
                    slots.retain(|slot| slot.credential().is_some());
                }
            }
            let used = |at| slots.iter().filter(|slot| slot.credential() == Some(at)).count();
            for (at, max) in max.iter().enumerate() {
                prop_assert!(used(at) <= *max, "credential {at} over its limit");
                prop_assert_eq!(used(at), world.stats[at].load(), "a leak");
            }
            if had.len() == slots.len() {
                for (slot, had) in slots.iter().zip(had) {
                    prop_assert!(had || slot.credential().is_none_or(|at| out[at] <= world.now), "granted while out");
                }
            }
            let first_waiting = slots.iter().position(|slot| slot.credential().is_none()).unwrap_or(slots.len());
            prop_assert!(slots[first_waiting..].iter().all(|slot| slot.credential().is_none()), "FIFO");
            prop_assert!(world.shared.gate.live() <= gate);
        }
        // In the end everybody gets a turn: time passes, and those who have a permit leave.
        while !slots.is_empty() {
            world.now += secs(5);
            world.stats.iter().for_each(|one| { one.count_accepted(world.now); });
            world.deliver_wakes();
            prop_assert!(slots[0].credential().is_some(), "forgotten");
            slots.remove(0).cancel();
        }
        world.deliver_wakes();
        prop_assert_eq!(world.shared.gate.live(), 0);
        prop_assert!(world.stats.iter().all(|one| one.load() == 0));
    }
}
