//! The facts that causes are collected from, read from what the gateway publishes: no actor is asked.

use std::time::Instant;

use tidegate_config::OnFailure;

use crate::gateway::DrainPhase;
use crate::router::Bucket;
use crate::shortage::Shortage;
use crate::status::causes::{BucketFacts, Draining, Facts, LevelFacts};
use crate::worker::Shared;

/// The facts now.
pub(super) fn facts(shared: &Shared, now: Instant) -> Facts<'_> {
    let view = shared.actors.monitor.view();
    Facts {
        now,
        draining: shared
            .drain_began
            .get()
            .map(|began| Draining { began: *began, accepts: *shared.drain.borrow() == DrainPhase::Draining }),
        waiting: shared.accepting.waiting(),
        chaos: shared.config.admin.chaos,
        level: LevelFacts {
            level: view.level,
            since: view.since,
            reason: view.reason.as_ref().map(ToString::to_string),
            // Before the first sample nothing is stale yet.
            is_stale: view.sampled.is_some() && view.is_stale(now),
        },
        actors: shared.actors.vitals().map(|vitals| (vitals.name(), vitals.status(now))).collect(),
        limiter_refuses_all: shared.actors.limiter.refuses_all(now),
        limiter_refuses: shared.config.rate_limit.on_failure == OnFailure::Refuse,
        shortages: Shortage::present().collect(),
        buckets: shared.router.buckets().iter().map(|each| bucket(each, now)).collect(),
        log: shared.log_stats.current(),
        log_lines_lost: shared.log_stats.lost(),
    }
}

fn bucket(bucket: &Bucket, now: Instant) -> BucketFacts<'_> {
    let endpoints = &bucket.config.upstream.endpoints;
    BucketFacts {
        name: &bucket.name,
        mode: bucket.breaker.mode(),
        circuits: bucket.breaker.views(now).collect(),
        pool: bucket.pool.view(now),
        authorities: endpoints.iter().map(|endpoint| endpoint.authority.as_str()).collect(),
        late: bucket.late.view(),
        clocks: bucket.clocks.iter().map(|clock| clock.view(now)).collect(),
        tls_failures: bucket.dialer.tls_failures(),
    }
}
