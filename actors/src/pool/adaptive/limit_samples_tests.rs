//! A gate with a limit that changes while permits are in use (P7, P3, P4).

use tidegate_config::{Priority, RetryBudgetConfig, UpstreamConfig};
use tokio::sync::oneshot;

use super::*;
use crate::clock;
use crate::pool::actor::GrantResult;
use crate::pool::bounds::PoolBounds;
use crate::pool::decision::AcquireDecision;
use crate::pool::gate::ticket::GateShared;
use crate::pool::load_balancer::LoadBalancer;
use crate::pool::load_balancer::endpoint_stats::EndpointStatsTable;
use crate::pool::load_balancer::settings::LoadBalancerSettings;
use crate::pool::retry_budget::RetryBudget;
use crate::pool::state::PoolState;

const MAX: usize = 20;
const STEP: Duration = Duration::from_millis(200);

struct Fixture {
    state: PoolState<oneshot::Sender<GrantResult>>,
    shared: Arc<GateShared>,
    samples: Arc<LimitSamples>,
    now: Instant,
}

impl Fixture {
    /// A pool with a limit that has risen to its maximum.
    fn grown() -> Self {
        let (now, shared) = (clock::now(), Arc::new(GateShared::new(|| {})));
        let stats = Arc::new(EndpointStatsTable::new(1));
        let load_balancer = LoadBalancer::new(
            Arc::clone(&stats),
            LoadBalancerSettings::from(&UpstreamConfig::default().load_balancing),
            7,
            now,
        );
        let budget = RetryBudget::new(RetryBudgetConfig::default(), now);
        let learner = LimitLearner::new(&AdaptiveConfig::default(), MAX, now);
        let samples = Arc::clone(learner.samples());
        let bounds =
            PoolBounds { concurrent_max: MAX, queued_max: 100, queue_timeout: STEP * 100, overload: None };
        let state = PoolState::new(Arc::clone(&shared), bounds, stats, load_balancer, budget)
            .with_limit_learner(Some(learner));
        let mut fixture = Self { state, shared, samples, now };
        while fixture.samples.view().limit < MAX {
            fixture.serve_well();
        }
        fixture
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

/// P7: no permit is revoked, none is granted until enough are released, and a rising limit serves waiters
#[test]
fn a_limit_below_the_permits_in_use_waits_for_releases() {
    let mut fixture = Fixture::grown();
    let mut out: Vec<GrantResult> = (0..MAX).map(|_| fixture.acquire().try_recv().unwrap()).collect();
    for _ in 0..40 {
        fixture.samples.record_drop(fixture.now, fixture.now + STEP, OverloadSignal::Timeout);
    }
    fixture.now += STEP;
    assert_eq!(fixture.state.update_limit(fixture.now).map(|moved| (moved.from, moved.to)), Some((20, 10)));
    assert_eq!(fixture.shared.gate.live(), MAX);
    let mut waiting: Vec<_> = (0..8).map(|_| fixture.acquire()).collect();
    for left in (10..MAX).rev() {
        drop(out.pop());
        fixture.state.on_wake(fixture.now);
        assert_eq!(fixture.shared.gate.live(), left, "waiters keep waiting");
    }
    drop(out.pop());
    fixture.state.on_wake(fixture.now);
    let first = waiting.remove(0).try_recv().unwrap();
    assert_eq!((fixture.shared.gate.live(), fixture.shared.gate.waiting()), (10, 7));
    fixture.now += STEP * 10;
    fixture.serve_well();
    let served = waiting.iter_mut().map(|permit| permit.try_recv()).filter(Result::is_ok).count();
    assert!(served >= 1, "without a wake-up");
    assert_eq!(fixture.shared.gate.waiting(), 7 - served);
    drop(first);
}

/// P7: after a dirty restart the limit begins at the floor, and no permit is lost
#[test]
fn a_rebuild_begins_at_the_floor() {
    let mut fixture = Fixture::grown();
    let out = fixture.acquire().try_recv().unwrap();
    fixture.state.rebuild(fixture.now);
    assert_eq!((fixture.shared.gate.limit(), fixture.shared.gate.live()), (3, 1));
    assert_eq!(fixture.samples.view().cause, LimitCause::Start);
    let out = [Some(out), fixture.acquire().try_recv().ok(), fixture.acquire().try_recv().ok()];
    assert!(out.iter().all(Option::is_some) && fixture.acquire().try_recv().is_err());
}

/// P7, O4: the view has the limit, the cause of its last change, and the number of reductions
#[test]
fn the_view_has_the_cause() {
    let mut fixture = Fixture::grown();
    assert_eq!((fixture.samples.view().limit, fixture.samples.view().cause), (MAX, LimitCause::Use));
    fixture.samples.record_drop(fixture.now, fixture.now + STEP, OverloadSignal::Throttling);
    fixture.now += STEP;
    fixture.state.update_limit(fixture.now);
    let view = fixture.samples.view();
    assert_eq!((view.cause, view.moved, view.reductions), (LimitCause::Throttling, fixture.now, [0, 1, 0]));
    assert_eq!(view.limit, 18, "one drop counts as one of at least ten samples");
}
