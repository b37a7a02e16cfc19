//! Credentials behind a bucket's gate and queue, in scripted and random interleavings (C3, P3, P4).

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tidegate_config::{Priority, RetryBudgetConfig, UpstreamConfig};

use super::*;
use crate::pool::bounds::PoolBounds;
use crate::pool::decision::{AcquireDecision, AcquireRefusal};
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::state::{PoolState, Waiter};
use crate::pool::test_waiter::TestWaiter;

const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// A pool with credentials, driven as the actor drives it.
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
        let load_balancer = LoadBalancer::new(
            Arc::clone(&endpoints),
            LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing),
            7,
            now,
        );
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now);
        let stats = stats(limits);
        let rules = CredentialPoolConfig { refused: secs(3), ..CredentialPoolConfig::default() };
        let selector = CredentialSelector::new(&stats, &shared, rules);
        let bounds = PoolBounds {
            concurrent_max: gate,
            queued_max: queued,
            queue_timeout: QUEUE_TIMEOUT,
            overload: None,
        };
        let state = PoolState::new(Arc::clone(&shared), bounds, endpoints, load_balancer, budget)
            .with_credential_selector(Some(selector));
        Self { state, shared, stats, wakes, due: None, now }
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

    /// Delivers the pending wake-ups, and the timer's if it is due.
    fn deliver_wakes(&mut self) {
        loop {
            let is_due = self.due.is_some_and(|due| due <= self.now);
            if is_due {
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

    fn record_error(&mut self, credential: usize, error: CredentialError) {
        self.state.credential_selector().unwrap().record_error(CredentialId(credential), error, self.now);
        self.schedule_wake();
    }
}

/// C3: a waiter is served when the first credential returns, without a released permit
#[test]
fn a_waiter_is_served_when_a_credential_comes_back() {
    let mut fixture = Fixture::new(9, 9, &[(1, None)]);
    fixture.record_error(0, CredentialError::Throttled(Some(Duration::from_millis(400))));
    let waiter = fixture.acquire().unwrap();
    assert_eq!(waiter.credential(), None);
    fixture.now += Duration::from_millis(399);
    fixture.deliver_wakes();
    assert_eq!(waiter.credential(), None);
    fixture.now += Duration::from_millis(1);
    fixture.deliver_wakes();
    assert_eq!(waiter.credential(), Some(0));
}

/// C3: no request waits for a credential that does not return in time; earlier waiters are not overtaken
#[test]
fn a_request_is_refused_at_once_where_waiting_is_of_no_use() {
    let mut fixture = Fixture::new(9, 9, &[(1, None), (1, None)]);
    fixture.record_error(0, throttled(30));
    fixture.record_error(1, throttled(20));
    let until = fixture.now + secs(20);
    assert_eq!(
        fixture.state.decide(Priority::Normal, fixture.now + secs(30), fixture.now),
        AcquireDecision::Refuse(AcquireRefusal::NoCredential { until, is_refused: false })
    );
    fixture.now += secs(19);
    assert_eq!(
        fixture.state.decide(Priority::Normal, fixture.now + secs(30), fixture.now),
        AcquireDecision::Queue
    );
    let hurried = fixture.now + Duration::from_millis(999);
    assert!(
        matches!(
            fixture.state.decide(Priority::Normal, hurried, fixture.now),
            AcquireDecision::Refuse(AcquireRefusal::NoCredential { .. })
        ),
        "the request's own deadline"
    );
}

/// C3: a queue that stalls because no credential is usable does not count as slow
#[test]
fn a_stalled_queue_is_not_measured() {
    let mut fixture = Fixture::new(1, 50, &[(1, None)]);
    let mut holder = fixture.acquire().unwrap();
    for _ in 0..20 {
        let next = fixture.acquire().unwrap();
        fixture.now += Duration::from_millis(190);
        holder.cancel();
        fixture.deliver_wakes();
        holder = next;
    }
    let waiting: Vec<TestWaiter> = (0..4).filter_map(|_| fixture.acquire()).collect();
    assert_eq!(waiting.len(), 4, "four are served within the second");
    let others = (0..4).filter_map(|_| fixture.acquire()).count();
    assert!(others < 4, "no more than fit into the second");
    fixture.record_error(0, CredentialError::Throttled(Some(Duration::from_millis(100))));
    assert_eq!(
        fixture.state.decide(Priority::Normal, fixture.now + secs(30), fixture.now),
        AcquireDecision::Queue
    );
}

/// C3, P4: a retry that switches its credential releases the old one to a waiter
#[test]
fn a_switched_credential_wakes_the_queue() {
    let mut fixture = Fixture::new(9, 9, &[(1, None), (1, None)]);
    let (first, second) = (fixture.acquire().unwrap(), fixture.acquire().unwrap());
    let third = fixture.acquire().unwrap();
    assert_eq!((first.credential(), second.credential(), third.credential()), (Some(0), Some(1), None));
    assert!(fixture.state.switch_credential(FIRST, true, fixture.now).is_err(), "no other has capacity");
    assert!(
        matches!(fixture.state.switch_credential(FIRST, false, fixture.now), Ok(None)),
        "the retry may keep its credential"
    );
    second.cancel();
    let switched = fixture.state.switch_credential(FIRST, true, fixture.now).unwrap().unwrap();
    // The wake-up of the second is without effect: its credential is taken, and that of the first is not free yet.
    fixture.deliver_wakes();
    assert_eq!(third.credential(), None);
    first.set_credential(switched);
    fixture.deliver_wakes();
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
    /// C3, P3, P4, S5: over all interleavings no credential is used beyond its limit or while it is out, waiters are
    /// served in order, a crash shortens no exclusion, nothing leaks, and no waiter is forgotten
    #[test]
    fn any_interleaving_keeps_the_limits(
        ops in prop::collection::vec(op(), 1..150), gate in 1usize..5, queued in 0usize..5, max in prop::array::uniform3(1usize..3),
    ) {
        let limits = [(max[0], Some("g")), (max[1], Some("g")), (max[2], None)];
        let mut fixture = Fixture::new(gate, queued, &limits);
        // Model: until when each credential is out.
        let mut out = [fixture.now; 3];
        let mut slots: Vec<TestWaiter> = Vec::new();
        for op in ops {
            let had: Vec<bool> = slots.iter().map(|slot| slot.credential().is_some()).collect();
            match op {
                Op::Acquire => slots.extend(fixture.acquire()),
                Op::Release(i) => if !slots.is_empty() {
                    let i = i.index(slots.len());
                    slots.remove(i).cancel();
                },
                Op::SwitchCredential(i) => if !slots.is_empty() {
                    let slot = &slots[i.index(slots.len())];
                    if let Some(at) = slot.credential()
                        && let Ok(Some(ticket)) = fixture.state.switch_credential(CredentialId(at), true, fixture.now)
                    {
                        prop_assert!(ticket.id().0 != at && out[ticket.id().0] <= fixture.now);
                        slot.set_credential(ticket);
                    }
                },
                Op::RecordError(at, Some(ms)) => {
                    fixture.record_error(at, CredentialError::Throttled(Some(Duration::from_millis(ms))));
                    for (other, out) in out.iter_mut().enumerate() {
                        if other == at || (at < 2 && other < 2) {
                            *out = (*out).max(fixture.now + Duration::from_millis(ms));
                        }
                    }
                }
                Op::RecordError(at, None) => {
                    fixture.refuse(at);
                    out[at] = out[at].max(fixture.now + secs(3));
                }
                Op::Accept(at) => { fixture.stats[at].count_accepted(fixture.now); }
                Op::Pass(ms) => fixture.now += Duration::from_millis(ms),
                Op::DeliverWakes => fixture.deliver_wakes(),
                Op::Rebuild => {
                    fixture.state.rebuild(fixture.now);
                    slots.retain(|slot| slot.credential().is_some());
                }
            }
            let used = |at| slots.iter().filter(|slot| slot.credential() == Some(at)).count();
            for (at, max) in max.iter().enumerate() {
                prop_assert!(used(at) <= *max, "credential {at} above its limit");
                prop_assert_eq!(used(at), fixture.stats[at].load(), "leaked load");
            }
            if had.len() == slots.len() {
                for (slot, had) in slots.iter().zip(had) {
                    prop_assert!(had || slot.credential().is_none_or(|at| out[at] <= fixture.now), "granted while out");
                }
            }
            let first_waiting = slots.iter().position(|slot| slot.credential().is_none()).unwrap_or(slots.len());
            prop_assert!(slots[first_waiting..].iter().all(|slot| slot.credential().is_none()), "FIFO");
            prop_assert!(fixture.shared.gate.live() <= gate);
        }
        // Finally every waiter is served: time passes, and permits are released.
        while !slots.is_empty() {
            fixture.now += secs(5);
            fixture.stats.iter().for_each(|one| { one.count_accepted(fixture.now); });
            fixture.deliver_wakes();
            prop_assert!(slots[0].credential().is_some(), "a waiter was forgotten");
            slots.remove(0).cancel();
        }
        fixture.deliver_wakes();
        prop_assert_eq!(fixture.shared.gate.live(), 0);
        prop_assert!(fixture.stats.iter().all(|one| one.load() == 0));
    }
}
