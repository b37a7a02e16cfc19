//! Pools that follow one another at the same gate, in scripted and random interleavings (G3, P3, P4, S5).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::{Priority, RetryBudgetConfig};

use super::*;
use crate::actor_stats::ActorStats;
use crate::pool::bounds::PoolBounds;
use crate::pool::decision::AcquireDecision;
use crate::pool::gate::permit_cache;
use crate::pool::gate::ticket::GateShared;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::test_waiter::TestWaiter;

const LONG: Duration = Duration::from_secs(1000);

/// A pool, driven as its actor drives it.
struct Driven {
    state: PoolState<TestWaiter>,
    shared: Arc<GateShared>,
    wakes: Arc<AtomicUsize>,
    stats: Arc<ActorStats>,
    has_ended: bool,
}

/// The pools of one bucket, the newest last.
struct Bucket {
    pools: Vec<Driven>,
    queued_max: usize,
    now: Instant,
}

impl Bucket {
    fn new(limit: usize, queued_max: usize) -> Self {
        let mut bucket = Self { pools: Vec::new(), queued_max, now: clock::now() };
        let first = bucket.prepare(limit);
        bucket.pools.push(first);
        bucket
    }

    /// A pool that is not in force yet.
    fn prepare(&self, limit: usize) -> Driven {
        let (wakes, stats) = (Arc::new(AtomicUsize::new(0)), Arc::new(ActorStats::new("pool:a", 16)));
        let count = Arc::clone(&wakes);
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let actor = Some(Arc::clone(&stats));
        let shared = Arc::new(match self.pools.last() {
            Some(last) => last.shared.successor(wake, actor),
            None => GateShared::first(wake, actor),
        });
        let endpoints = Arc::new(EndpointStatsTable::new(1));
        let rules = LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing);
        let load_balancer = LoadBalancer::new(Arc::clone(&endpoints), rules, 7, self.now);
        let budget = RetryBudget::new(RetryBudgetConfig::default(), self.now);
        let bounds = PoolBounds {
            concurrent_max: limit,
            queued_max: self.queued_max,
            queue_timeout: LONG,
            overload: None,
        };
        let state = PoolState::new(Arc::clone(&shared), bounds, endpoints, load_balancer, budget);
        Driven { state, shared, wakes, stats, has_ended: false }
    }

    fn reload(&mut self, limit: usize) {
        let mut next = self.prepare(limit);
        next.state.enter(self.now);
        self.pools.push(next);
    }

    /// Asks a pool for a permit; none if it refuses.
    fn acquire(&mut self, pool: usize) -> Option<TestWaiter> {
        let (now, waiter) = (self.now, TestWaiter::default());
        let state = &mut self.pools[pool].state;
        match state.decide(Priority::Normal, now + LONG, now) {
            AcquireDecision::Grant => match state.grant(now) {
                Some(permit) => waiter.clone().try_grant(permit).unwrap(),
                None => state.enqueue(waiter.clone(), Priority::Normal, now),
            },
            AcquireDecision::Queue => state.enqueue(waiter.clone(), Priority::Normal, now),
            AcquireDecision::Refuse(_) => return None,
        }
        Some(waiter)
    }

    /// Delivers the wake-ups of one pool.
    fn wake(&mut self, pool: usize) {
        let Driven { state, wakes, has_ended, .. } = &mut self.pools[pool];
        while !*has_ended && wakes.load(Ordering::SeqCst) > 0 {
            wakes.fetch_sub(1, Ordering::SeqCst);
            state.on_wake(self.now);
        }
    }

    /// Delivers all wake-ups, and those of the timers as time passes.
    fn settle(&mut self) {
        for _ in 0..20 {
            (0..self.pools.len()).for_each(|pool| self.wake(pool));
            let due = self.pools.iter().filter(|pool| !pool.has_ended);
            let Some(due) = due.filter_map(|pool| pool.state.next_wake(self.now)).min() else { continue };
            self.now = self.now.max(due);
            for pool in self.pools.iter_mut().filter(|pool| !pool.has_ended) {
                pool.state.on_wake(self.now);
            }
        }
    }

    fn stop(&mut self, pool: usize) {
        self.pools[pool].state.leave();
        self.pools[pool].has_ended = true;
    }

    fn live(&self) -> usize {
        self.pools[0].shared.gate.live()
    }

    fn waiting(&self) -> usize {
        self.pools[0].shared.gate.waiting()
    }
}

/// G3, P3: a lowered limit holds for both pools at once: no permit is revoked, and none is granted until enough are released
#[test]
fn a_lowered_limit_holds_at_once() {
    let mut bucket = Bucket::new(3, 10);
    let mut held: Vec<TestWaiter> = (0..3).map(|_| bucket.acquire(0).unwrap()).collect();
    bucket.reload(1);
    let waiters = [bucket.acquire(0).unwrap(), bucket.acquire(1).unwrap()];
    for left in [2, 1] {
        held.pop().unwrap().cancel();
        bucket.settle();
        assert_eq!(bucket.live(), left);
        assert!(!waiters.iter().any(TestWaiter::has_permit), "{left} in use");
    }
    held.pop().unwrap().cancel();
    bucket.settle();
    assert_eq!((bucket.live(), bucket.waiting()), (1, 1));
    assert!(waiters[0].has_permit(), "the older pool's request came first");
}

/// G3, P3: a raised limit wakes the waiters of both pools, also those of the replaced one
#[test]
fn a_raised_limit_wakes_the_waiters_of_both() {
    let mut bucket = Bucket::new(1, 10);
    let _held = bucket.acquire(0).unwrap();
    let old: Vec<TestWaiter> = (0..2).map(|_| bucket.acquire(0).unwrap()).collect();
    bucket.reload(4);
    bucket.wake(0);
    assert!(old.iter().all(TestWaiter::has_permit), "without a released permit");
    let last = bucket.acquire(1).unwrap();
    let new = bucket.acquire(1).unwrap();
    assert!(last.has_permit() && !new.has_permit());
    bucket.reload(5);
    bucket.wake(1);
    assert!(new.has_permit());
}

/// G3: a pool that is prepared and never started changes nothing
#[test]
fn a_prepared_pool_has_no_effect() {
    let mut bucket = Bucket::new(2, 10);
    drop(bucket.prepare(1));
    let abandoned = bucket.prepare(9);
    let _held = [bucket.acquire(0).unwrap(), bucket.acquire(0).unwrap()];
    let waiter = bucket.acquire(0).unwrap();
    assert!(!waiter.has_permit());
    drop(abandoned);
    bucket.reload(3);
    bucket.settle();
    assert!(waiter.has_permit());
}

/// P4, G3: a released permit belongs to a waiter of the older pool before a newcomer of the newer one, while the older pool's
/// actor answers
#[test]
fn the_older_pools_waiters_come_first() {
    let mut bucket = Bucket::new(1, 10);
    let held = bucket.acquire(0).unwrap();
    let old = bucket.acquire(0).unwrap();
    bucket.reload(1);
    held.cancel();
    let new = bucket.acquire(1).unwrap();
    assert!(!new.has_permit() && !old.has_permit());
    bucket.wake(0);
    assert!(old.has_permit() && !new.has_permit());
    let last = bucket.acquire(0).unwrap();
    old.cancel();
    bucket.pools[0].stats.set_failed_until(Some(bucket.now + LONG));
    bucket.wake(1);
    assert!(new.has_permit() && !last.has_permit(), "a pool that does not answer holds nobody up");
}

/// P4, G3: the newer pool notices without a wake-up that the older one stopped answering, and is woken when an older waiter leaves
#[test]
fn nobody_waits_for_an_older_pool_that_does_not_need_its_permit() {
    let mut bucket = Bucket::new(1, 10);
    let held = bucket.acquire(0).unwrap();
    let old = bucket.acquire(0).unwrap();
    bucket.reload(1);
    let new = bucket.acquire(1).unwrap();
    held.cancel();
    bucket.wake(1);
    assert!(!new.has_permit());
    assert!(bucket.pools[1].state.next_wake(bucket.now).is_some(), "it looks again");
    old.cancel();
    bucket.pools[0].state.prune_queue(bucket.now);
    bucket.wake(1);
    assert!(new.has_permit());
}

/// P4, G3: a permit of a pool that has ended wakes the current pool when it is released
#[test]
fn a_permit_outlives_its_pool() {
    let mut bucket = Bucket::new(1, 10);
    let held = bucket.acquire(0).unwrap();
    bucket.reload(1);
    let waiter = bucket.acquire(1).unwrap();
    bucket.stop(0);
    held.cancel();
    bucket.wake(1);
    assert!(waiter.has_permit());
    assert_eq!((bucket.live(), bucket.waiting()), (1, 0));
}

/// G3: a permit that a thread has cached goes to no request of another pool: its endpoint is an index of its own pool
#[actix_rt::test]
async fn a_cached_permit_stays_in_its_pool() {
    let mut bucket = Bucket::new(64, 10);
    let permit = bucket.pools[0].state.grant(bucket.now).unwrap();
    permit_cache::store(permit, 64, bucket.now);
    bucket.reload(64);
    assert_eq!(bucket.live(), 1);
    assert!(permit_cache::pop(bucket.pools[1].shared.id()).is_none());
    assert!(permit_cache::pop(bucket.pools[0].shared.id()).is_some());
}

/// S5, G3: a restart of the replaced pool, clean or dirty, does not bring back its limit
#[test]
fn a_restart_of_the_replaced_pool_keeps_the_new_limit() {
    let mut bucket = Bucket::new(5, 10);
    bucket.reload(2);
    let now = bucket.now;
    bucket.pools[0].state.enter(now);
    assert_eq!(bucket.pools[0].state.limit(), 2);
    bucket.pools[0].state.rebuild(now);
    bucket.pools[0].state.enter(now);
    assert_eq!((bucket.pools[0].state.limit(), bucket.pools[1].state.limit()), (2, 2));
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(prop::sample::Index),
    End(prop::sample::Index),
    Wake(prop::sample::Index),
    Crash(prop::sample::Index, bool),
    Reload(usize),
    Stop(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    use prop::sample::Index;
    prop_oneof![
        8 => any::<Index>().prop_map(Op::Acquire),
        6 => any::<Index>().prop_map(Op::End),
        4 => any::<Index>().prop_map(Op::Wake),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(pool, dirty)| Op::Crash(pool, dirty)),
        1 => (1usize..5).prop_map(Op::Reload),
        1 => any::<Index>().prop_map(Op::Stop),
    ]
}

/// The requests of a run, each with its pool.
#[derive(Default)]
struct Requests(Vec<(TestWaiter, usize)>);

impl Requests {
    fn permits(&self) -> usize {
        self.0.iter().filter(|(request, _)| request.has_permit()).count()
    }

    /// Forgets the waiters of a pool: it has dropped them.
    fn drop_waiters(&mut self, pool: usize) {
        self.0.retain(|(request, of)| *of != pool || request.has_permit());
    }
}

fn step(bucket: &mut Bucket, requests: &mut Requests, op: &Op) {
    let now = bucket.now;
    let running: Vec<usize> = (0..bucket.pools.len()).filter(|at| !bucket.pools[*at].has_ended).collect();
    let any_running = |index: &prop::sample::Index| running[index.index(running.len())];
    match op {
        Op::Acquire(pool) => {
            let pool = any_running(pool);
            requests.0.extend(bucket.acquire(pool).map(|request| (request, pool)));
        }
        Op::End(request) if !requests.0.is_empty() => {
            let (request, pool) = requests.0.remove(request.index(requests.0.len()));
            let is_waiting = !request.has_permit();
            request.cancel();
            if is_waiting {
                bucket.pools[pool].state.prune_queue(now);
            }
        }
        Op::End(_) => {}
        Op::Wake(pool) => bucket.wake(any_running(pool)),
        Op::Crash(pool, is_dirty) => {
            let pool = any_running(pool);
            if *is_dirty {
                bucket.pools[pool].state.rebuild(now);
                requests.drop_waiters(pool);
            }
            bucket.pools[pool].state.on_wake(now);
            bucket.pools[pool].state.enter(now);
        }
        Op::Reload(limit) => bucket.reload(*limit),
        Op::Stop(pool) => {
            let pool = any_running(pool);
            if pool + 1 < bucket.pools.len() {
                bucket.stop(pool);
                requests.drop_waiters(pool);
            }
        }
    }
}

proptest! {
    /// G3, P3, P4, S5: over all interleavings of requests, crashes, reloads and stops, the permits of all pools together stay
    /// within the limit in force when they rise, no permit is lost, and no request waits at a free gate
    #[test]
    fn pools_together_keep_the_limit(
        ops in prop::collection::vec(op(), 1..200), limit in 1usize..5, queued in 0usize..6,
    ) {
        let (mut bucket, mut requests) = (Bucket::new(limit, queued), Requests::default());
        let mut limit = limit;
        for op in ops {
            let before = bucket.live();
            step(&mut bucket, &mut requests, &op);
            if let Op::Reload(new) = op {
                limit = new;
            }
            let live = bucket.live();
            prop_assert_eq!(live, requests.permits());
            prop_assert!(bucket.pools.iter().all(|pool| pool.state.limit() == limit));
            prop_assert!(live <= before || live <= limit, "{live} permits of {limit} after {op:?}");
        }
        bucket.settle();
        let live = bucket.live();
        prop_assert!(live >= limit || live == requests.0.len(), "a request waits at a free gate");
        requests.0.drain(..).for_each(|(request, _)| request.cancel());
        bucket.settle();
        prop_assert_eq!((bucket.live(), bucket.waiting()), (0, 0));
    }
}

/// G3, P3: two threads that grant at the same gate never exceed its limit together, while the limit changes
#[test]
fn threads_together_keep_the_limit() {
    const ROUNDS: usize = 20_000;
    let shared = Arc::new(GateShared::new(|| {}));
    let held = AtomicUsize::new(0);
    let peak = AtomicUsize::new(0);
    shared.set_limit(7);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    if shared.gate.try_acquire_below(usize::MAX) {
                        peak.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        held.fetch_sub(1, Ordering::SeqCst);
                        assert!(!shared.gate.release());
                    }
                }
            });
        }
        threads.spawn(|| (0..ROUNDS).for_each(|round| shared.set_limit(1 + round % 2)));
    });
    assert!(peak.load(Ordering::SeqCst) <= 7);
    assert_eq!(shared.gate.live(), 0);
}
