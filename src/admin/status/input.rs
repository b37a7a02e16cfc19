//! Collects the published state from which causes are derived. It sends no message to an actor.

use std::time::{Instant, SystemTime};

use tidegate_actors::{
    ActionView, ActorStatus, BreakerView, Level, LimitScope, PoolView, Reading, Sensor, SheddingView,
};
use tidegate_config::{BreakerMode, OnFailure};

use crate::admin::status::drains::BucketDrains;
use crate::process::drain_report::DrainCause;
use crate::process::last_reload::LastReload;
use crate::process::{DrainPhase, Shared};
use crate::server::certificate_validity::Validity;
use crate::server::tls::ServerTls;
use crate::shortage::{PresentShortage, Shortage};
use crate::telemetry::log::CurrentFault;
use crate::upstream::bucket::Bucket;
use crate::upstream::connect::dns_cache::FailingLookup;
use crate::upstream::connect::tls::FailingTls;
use crate::upstream::credentials::RenewalView;
use crate::upstream::rules::late_calls::LateCallsSnapshot;
use crate::upstream::rules::refresh_health::FailingRefresh;
use crate::upstream::rules::store_clock::ClockSnapshot;
use crate::upstream::rules::unanswered_calls::UnansweredSnapshot;

/// Published state from which causes are derived.
pub(super) struct StatusInput<'a> {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    pub(super) draining: Option<DrainState>,
    /// Listeners that do not accept: the name, the cause, and the start of the pause.
    pub(super) waiting: Vec<(&'static str, &'static str, Instant)>,
    /// `admin.chaos`, since the start of the process.
    pub(super) chaos: Option<Instant>,
    pub(super) level: LevelInput,
    /// The actions of the levels.
    pub(super) actions: Vec<ActionView>,
    /// `concurrency.max_per_client`, and the requests that only its shadow mode admitted.
    pub(super) client_limit: (usize, u64),
    pub(super) in_flight: usize,
    pub(super) in_flight_max: usize,
    /// The cursor of the process.
    pub(super) shedding: SheddingView,
    pub(super) actors: Vec<ActorInput<'a>>,
    /// `rate_limit.on_failure` is `refuse`.
    pub(super) limiter_refuses: bool,
    /// Current shortages of the gateway itself.
    pub(super) shortages: Vec<PresentShortage>,
    pub(super) last_reload: Option<LastReload>,
    pub(super) certificates: Vec<CertificateInput>,
    pub(super) token_keys: Option<TokenKeysInput>,
    pub(super) buckets: Vec<BucketInput<'a>>,
    pub(super) log: Option<CurrentFault>,
    pub(super) log_lines_lost: u64,
}

/// A drain in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainState {
    pub(super) began: Instant,
    pub(super) cause: DrainCause,
    /// `server.drain_delay` is not over yet.
    pub(super) accepts: bool,
}

/// The monitor's level.
pub(super) struct LevelInput {
    pub(super) level: Level,
    pub(super) since: Instant,
    pub(super) reason: Option<String>,
    /// The pressure on the resource at the present and the threshold, in percent.
    pub(super) percent: Option<(f64, u8)>,
    /// The last sample, if it is too old.
    pub(super) stale_since: Option<Instant>,
    /// The sensors without a reading in the last sample.
    pub(super) unknown: Vec<Sensor>,
}

/// The statistics of one actor.
pub(super) struct ActorInput<'a> {
    pub(super) name: &'a str,
    pub(super) status: ActorStatus,
    pub(super) restarts: u64,
    /// Messages that a full mailbox refused.
    pub(super) busy: u64,
    pub(super) mailbox_capacity: usize,
}

/// The certificate of a listener.
pub(super) struct CertificateInput {
    pub(super) listener: &'static str,
    pub(super) validity: Option<Validity>,
    pub(super) failing: Option<FailingRefresh>,
}

/// The set of keys that verify tokens.
pub(super) struct TokenKeysInput {
    /// No fetch has succeeded yet.
    pub(super) is_missing: bool,
    pub(super) failing: Option<FailingRefresh>,
}

/// State of one bucket's upstream.
pub(super) struct BucketInput<'a> {
    pub(super) name: &'a str,
    pub(super) mode: BreakerMode,
    pub(super) circuits: Vec<BreakerView>,
    pub(super) pool: PoolView,
    pub(super) drains: BucketDrains,
    /// The cursor of its queue.
    pub(super) shedding: SheddingView,
    /// The authority of each endpoint, in the pool's order.
    pub(super) authorities: Vec<&'a str>,
    pub(super) late: Option<LateCallsSnapshot>,
    pub(super) late_total: u64,
    /// Calls of each endpoint that timed out in a row, in the pool's order; none where the last call was answered.
    pub(super) unanswered: Vec<Option<UnansweredSnapshot>>,
    /// Clock skew of each endpoint, in the pool's order; none where the clock agrees.
    pub(super) clocks: Vec<Option<ClockSnapshot>>,
    /// Endpoints with failing TLS, by host and port.
    pub(super) tls_failures: Vec<(String, FailingTls)>,
    pub(super) failing_lookups: Vec<(String, FailingLookup)>,
    pub(super) stale_uses: u64,
    pub(super) renewals: Vec<RenewalView>,
    /// Requests that only the shadow mode of a limit admitted.
    pub(super) shadowed: Vec<(LimitScope, u64)>,
}

/// The state at `now`.
pub(super) fn collect(shared: &Shared, now: Instant, wall: SystemTime) -> StatusInput<'_> {
    let monitor = &shared.actors.monitor;
    let slots = shared.config.server.max_concurrent_requests.get();
    StatusInput {
        now,
        wall,
        draining: shared.process.drain_report.last().map(|report| DrainState {
            began: report.began.now,
            cause: report.cause,
            accepts: report.phase == DrainPhase::Draining,
        }),
        waiting: shared.process.accepting.paused_listeners(),
        chaos: shared.config.admin.chaos.then_some(shared.process.degradation.started.now),
        level: level(shared, now),
        actions: monitor.actions().views().to_vec(),
        client_limit: (shared.config.concurrency.max_per_client, monitor.shadowed_clients()),
        in_flight: monitor.in_flight(),
        in_flight_max: monitor.view().in_flight_max.map_or(slots, |max| max.min(slots)),
        shedding: shared.actors.shedding.process.view(now),
        actors: shared.actors.actor_stats().map(|stats| actor(stats, now)).collect(),
        limiter_refuses: shared.config.rate_limit.on_failure == OnFailure::Refuse,
        shortages: Shortage::present().collect(),
        last_reload: shared.process.reloads.last(),
        certificates: [("data", &shared.process.tls), ("admin", &shared.process.admin_tls)]
            .into_iter()
            .filter_map(|(listener, tls)| tls.as_ref().map(|tls| certificate(listener, tls)))
            .collect(),
        token_keys: shared.tokens.as_ref().and_then(|tokens| {
            let failing = tokens.key_health.as_ref()?.current();
            Some(TokenKeysInput { is_missing: tokens.verifier.keys().is_unavailable(), failing })
        }),
        buckets: shared.router.buckets().iter().map(|each| bucket(shared, each, now, wall)).collect(),
        log: shared.process.log_stats.current(),
        log_lines_lost: shared.process.log_stats.lost(),
    }
}

fn certificate(listener: &'static str, tls: &ServerTls) -> CertificateInput {
    CertificateInput { listener, validity: tls.validity(), failing: tls.reload_health.current() }
}

fn level(shared: &Shared, now: Instant) -> LevelInput {
    let view = shared.actors.monitor.view();
    LevelInput {
        level: view.level,
        since: view.since,
        reason: view.reason.as_ref().map(ToString::to_string),
        percent: view.reason.and_then(|reason| {
            Some((view.pressure_percent(reason.sensor).or(reason.percent)?, reason.threshold))
        }),
        // Before the first sample the view is stale, but that is no fault.
        stale_since: view.sampled.filter(|_| view.is_stale(now)),
        unknown: match view.sampled {
            Some(_) => view
                .readings()
                .filter(|(_, reading)| *reading == Reading::Unknown)
                .map(|(sensor, _)| sensor)
                .collect(),
            None => Vec::new(),
        },
    }
}

fn actor(stats: &tidegate_actors::ActorStats, now: Instant) -> ActorInput<'_> {
    ActorInput {
        name: stats.name(),
        status: stats.status(now),
        restarts: stats.restarts(),
        busy: stats.busy(),
        mailbox_capacity: stats.capacity(),
    }
}

fn bucket<'a>(shared: &Shared, bucket: &'a Bucket, now: Instant, wall: SystemTime) -> BucketInput<'a> {
    let upstream = &bucket.config.upstream;
    BucketInput {
        name: &bucket.name,
        mode: bucket.breaker.mode(),
        circuits: bucket.breaker.views(now).collect(),
        pool: bucket.pool.view(now),
        drains: BucketDrains::of(shared, bucket, now),
        shedding: bucket.pool.shedder().view(now),
        authorities: upstream.endpoints.iter().map(|endpoint| endpoint.authority.as_str()).collect(),
        late: bucket.late_calls.snapshot(),
        late_total: bucket.late_calls.total(),
        unanswered: bucket.unanswered_calls.snapshots(now),
        clocks: bucket.clocks.iter().map(|clock| clock.snapshot(now)).collect(),
        tls_failures: bucket.dialer.tls_failures(),
        failing_lookups: bucket.dialer.failing_lookups(),
        stale_uses: bucket.dialer.stale_uses(),
        renewals: bucket.credentials.failing_renewals(wall),
        shadowed: shared.actors.limiter.shadowed_counts(bucket.id).collect(),
    }
}
