//! A gate whose limit moves while permits are out (P7, P3, P4).

use tidegate_config::{Priority, RetryBudgetConfig, UpstreamConfig};
use tokio::sync::oneshot;

use super::*;
use crate::clock;
use crate::pool::actor::GrantResult;
use crate::pool::endpoint_stats::EndpointStatsTable;
use crate::pool::handle::PoolBounds;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer_settings::LoadBalancerSettings;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::state::{AcquireDecision, PoolState};
use crate::pool::ticket::GateShared;

const MAX: usize = 20;
const STEP: Duration = Duration::from_millis(200);

struct Fixture {
    state: PoolState<oneshot::Sender<GrantResult>>,
    shared: Arc<GateShared>,
    samples: Arc<LimitSamples>,
    now: Instant,
}

impl Fixture {
    /// With a limit that has risen to its maximum.
    fn grown() -> Self {
        let (now, shared) = (clock::now(), Arc::new(GateShared::new(|| {})));
        let signs = Arc::new(EndpointStatsTable::new(1));
        let rotation = LoadBalancer::new(
            Arc::clone(&signs),
            LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing),
            7,
            now,
        );
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now);
        let learner = LimitLearner::new(&AdaptiveConfig::default(), MAX, now);
        let samples = Arc::clone(learner.samples());
        let bounds =
            PoolBounds { concurrent_max: MAX, queued_max: 100, queue_timeout: STEP * 100, overload: None };
        let state = PoolState::new(Arc::clone(&shared), bounds, signs, rotation, budget)
            .with_limit_learner(Some(learner));
        let mut world = Self { state, shared, samples, now };
        while world.samples.limit() < MAX {
            world.serve_well();
        }
        world
    }

    fn serve_well(&mut self) {
        (0..20).for_each(|_| self.samples.record_latency(self.now, Duration::from_millis(20), MAX));
        self.now += STEP;
        assert!(self.state.update_limit(self.now).is_some_and(|moved| moved.to > moved.from));
    }

    fn acquire(&mut self) -> oneshot::Receiver<GrantResult> {
        let (waiter, permit) = oneshot::channel();
        match self.state.decide(Priority::Normal, self.now + STEP * 100, self.now) {
            AcquireDecision::Grant => waiter.send(Ok(self.state.grant(self.now).unwrap())).unwrap(),
            _ => self.state.enqueue(waiter, Priority::Normal, self.now),
        }
        permit
    }
}

/// P7: no permit is revoked, nobody gets one until enough have come back, and a limit that rises serves those who wait
#[test]
fn a_limit_below_what_is_out_waits_for_returns() {
    let mut world = Fixture::grown();
    let mut out: Vec<GrantResult> = (0..MAX).map(|_| world.acquire().try_recv().unwrap()).collect();
    for _ in 0..40 {
        world.samples.record_drop(world.now, world.now + STEP, OverloadSignal::Timeout);
    }
    world.now += STEP;
    assert_eq!(world.state.update_limit(world.now).map(|moved| (moved.from, moved.to)), Some((20, 10)));
    assert_eq!(world.shared.gate.live(), MAX);
    let mut waiting: Vec<_> = (0..8).map(|_| world.acquire()).collect();
    for left in (10..MAX).rev() {
        drop(out.pop());
        world.state.on_wake(world.now);
        assert_eq!(world.shared.gate.live(), left, "whoever waits, waits on");
    }
    drop(out.pop());
    world.state.on_wake(world.now);
    let first = waiting.remove(0).try_recv().unwrap();
    assert_eq!((world.shared.gate.live(), world.shared.gate.waiting()), (10, 7));
    world.now += STEP * 10;
    world.serve_well();
    let served = waiting.iter_mut().map(|permit| permit.try_recv()).filter(Result::is_ok).count();
    assert!(served >= 1, "without a nudge");
    assert_eq!(world.shared.gate.waiting(), 7 - served);
    drop(first);
}

/// P7: a state that was found dirty begins at the floor, and loses no permit
#[test]
fn a_rebuild_begins_at_the_floor() {
    let mut world = Fixture::grown();
    let out = world.acquire().try_recv().unwrap();
    world.state.rebuild(world.now);
    assert_eq!((world.samples.limit(), world.shared.gate.live()), (3, 1));
    assert_eq!(world.samples.view().cause, LimitCause::Start);
    let out = [Some(out), world.acquire().try_recv().ok(), world.acquire().try_recv().ok()];
    assert!(out.iter().all(Option::is_some) && world.acquire().try_recv().is_err());
}

/// P7, O4: the view says what the limit is, why it last moved, and how often it was lowered
#[test]
fn the_view_has_the_cause() {
    let mut world = Fixture::grown();
    assert_eq!((world.samples.view().limit, world.samples.view().cause), (MAX, LimitCause::Use));
    world.samples.record_drop(world.now, world.now + STEP, OverloadSignal::Throttling);
    world.now += STEP;
    world.state.update_limit(world.now);
    let view = world.samples.view();
    assert_eq!((view.cause, view.moved, view.reductions), (LimitCause::Throttling, world.now, [0, 1, 0]));
    assert_eq!(view.limit, 18, "one of at least ten");
}
