//! A gateway without faults, and single changes to it, for the tests of causes.

use std::time::{Duration, Instant, SystemTime};

use tidegate_actors::{
    ActorStatus, BreakerView, CircuitState, ClassCountsView, ClassCutView, CredentialState, CredentialView,
    CursorCause, EndpointState, EndpointView, Level, LimitScope, PoolView, ServingView, SheddingView, clock,
};
use tidegate_config::{ActionMode, BreakerMode, Priority};

use crate::admin::status::causes::sample;
use crate::admin::status::drains::BucketDrains;
use crate::admin::status::input::{ActorInput, BucketInput, LevelInput, StatusInput};
use crate::degradation::codes::ScopeKind;
use crate::degradation::counts::EffectCounts;
use crate::degradation::finding::{Finding, Scope};

pub(super) fn endpoint(state: EndpointState) -> EndpointView {
    EndpointView { in_flight: 0, state, is_draining: false, latency: None, ejections: 0 }
}

pub(super) fn pool(endpoints: Vec<EndpointView>, credentials: Vec<CredentialView>) -> PoolView {
    let serving = ServingView { endpoints: 0..endpoints.len(), is_panicking: false, failover: None };
    PoolView {
        in_flight: 0,
        concurrent_max: 1,
        limit: None,
        queued: 0,
        queued_max: 1,
        waited_total: 0,
        amplification: 1.0,
        endpoints,
        serving,
        credentials,
    }
}

pub(super) fn circuit(state: CircuitState) -> BreakerView {
    BreakerView {
        class: "all",
        state,
        generation: 1,
        consecutive_failures: 0,
        opened_total: 0,
        open_for: (state == CircuitState::Open).then(|| Duration::from_secs(2)),
        probed: false,
        cause: None,
        trip: None,
        waiting: 0,
        waiting_max: 0,
        waited_total: 0,
    }
}

pub(super) fn credential(state: CredentialState) -> CredentialView {
    CredentialView {
        name: "main".to_owned(),
        in_flight: 0,
        concurrent_max: 1,
        quota_group: None,
        state,
        throttled: 0,
        refused: 0,
    }
}

/// A cursor that cuts no request.
pub(super) fn shedding() -> SheddingView {
    let classes = [Priority::Low, Priority::Normal, Priority::High];
    SheddingView {
        mode: ActionMode::Enforce,
        cursor: 0.0,
        cause: CursorCause::Wait(Duration::ZERO),
        wait: None,
        target: Duration::from_millis(20),
        wait_threshold: Duration::from_millis(20),
        pressure_threshold: 92.5,
        cuts: classes.map(|class| ClassCutView { class, fraction: 0.0 }),
        counts: classes.map(|class| ClassCountsView { class, refused: 0, shadowed: 0 }),
    }
}

/// A gateway without faults.
pub(super) fn healthy(now: Instant) -> StatusInput<'static> {
    let actor =
        |name| ActorInput { name, status: ActorStatus::Running, restarts: 0, busy: 0, mailbox_capacity: 8 };
    StatusInput {
        now,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30),
        draining: None,
        waiting: Vec::new(),
        chaos: None,
        level: LevelInput {
            level: Level::Normal,
            since: now,
            reason: None,
            percent: None,
            stale_since: None,
            unknown: Vec::new(),
        },
        actions: Vec::new(),
        client_limit: (0, 0),
        in_flight: 0,
        in_flight_max: 10,
        shedding: shedding(),
        actors: vec![actor("limiter"), actor("monitor"), actor("pool:photos")],
        limiter_refuses: true,
        shortages: Vec::new(),
        last_reload: None,
        certificates: Vec::new(),
        token_keys: None,
        buckets: vec![BucketInput {
            name: "photos",
            mode: BreakerMode::On,
            circuits: vec![circuit(CircuitState::Closed)],
            pool: pool(
                vec![endpoint(EndpointState::InRotation), endpoint(EndpointState::InRotation)],
                Vec::new(),
            ),
            drains: BucketDrains::default(),
            shedding: shedding(),
            authorities: vec!["a:80", "b:80"],
            late: None,
            late_total: 0,
            unanswered: vec![None, None],
            clocks: vec![None, None],
            tls_failures: Vec::new(),
            failing_lookups: Vec::new(),
            stale_uses: 0,
            renewals: Vec::new(),
            shadowed: vec![(LimitScope::Ip, 0)],
        }],
        log: None,
        log_lines_lost: 0,
    }
}

/// The causes after one change to a healthy gateway.
pub(super) fn after(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> Vec<Finding> {
    let now = clock::now() + Duration::from_secs(10);
    let mut input = healthy(now);
    change(&mut input, now);
    sample(&input, EffectCounts::default()).findings
}

pub(super) fn only(change: impl FnOnce(&mut StatusInput<'static>, Instant)) -> Finding {
    let mut causes = after(change);
    assert_eq!(causes.len(), 1, "{causes:?}");
    causes.remove(0)
}

pub(super) fn scope(kind: ScopeKind, name: &str) -> Scope {
    Scope::in_bucket(kind, "photos", name)
}
