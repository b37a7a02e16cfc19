//! Collects the published state from which causes are derived. It sends no message to an actor.

use std::time::Instant;

use tidegate_config::OnFailure;

use crate::admin::status::causes::{BucketInput, DrainState, LevelInput, StatusInput};
use crate::shortage::Shortage;
use crate::upstream::bucket::Bucket;
use crate::worker::DrainPhase;
use crate::worker::Shared;

/// The state at `now`.
pub(super) fn collect(shared: &Shared, now: Instant) -> StatusInput<'_> {
    let view = shared.actors.monitor.view();
    StatusInput {
        now,
        draining: shared.drain_began.get().map(|began| DrainState {
            began: *began,
            accepts: *shared.drain.borrow() == DrainPhase::Draining,
        }),
        waiting: shared.accepting.paused_listeners(),
        chaos: shared.config.admin.chaos,
        level: LevelInput {
            level: view.level,
            since: view.since,
            reason: view.reason.as_ref().map(ToString::to_string),
            // Before the first sample the view is stale, but that is no fault.
            is_stale: view.sampled.is_some() && view.is_stale(now),
        },
        actors: shared.actors.actor_stats().map(|stats| (stats.name(), stats.status(now))).collect(),
        limiter_refuses_all: shared.actors.limiter.refuses_all(now),
        limiter_refuses: shared.config.rate_limit.on_failure == OnFailure::Refuse,
        shortages: Shortage::present().collect(),
        buckets: shared.router.buckets().iter().map(|bucket| collect_bucket(bucket, now)).collect(),
        log: shared.log_stats.current(),
        log_lines_lost: shared.log_stats.lost(),
    }
}

fn collect_bucket(bucket: &Bucket, now: Instant) -> BucketInput<'_> {
    let endpoints = &bucket.config.upstream.endpoints;
    BucketInput {
        name: &bucket.name,
        mode: bucket.breaker.mode(),
        circuits: bucket.breaker.views(now).collect(),
        pool: bucket.pool.view(now),
        authorities: endpoints.iter().map(|endpoint| endpoint.authority.as_str()).collect(),
        late: bucket.late_calls.snapshot(),
        clocks: bucket.clocks.iter().map(|clock| clock.snapshot(now)).collect(),
        tls_failures: bucket.dialer.tls_failures(),
    }
}
