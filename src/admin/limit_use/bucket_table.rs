//! The limits of one bucket.

use std::num::NonZeroU32;

use tidegate_actors::{EjectionRule, TripRule};
use tidegate_config::{ActionMode, BreakerMode, BucketConfig, Kind, Overload, UpstreamConfig};

use super::limit_entry::{Advice, HitSource, LimitEntry, PeakSource, entry, hits_only, millis, seconds};

/// The keys below `s3` or `http`.
fn of_upstream(upstream: &UpstreamConfig) -> Vec<LimitEntry> {
    let concurrency = &upstream.concurrency;
    let requests = |count: usize| (count as f64, "requests");
    let queue = HitSource::Reasons(&["queue_full", "queue_displaced"]);
    let max = concurrency.max_concurrent.get();
    let in_queue: &[_] = &["queue_timeout", "queue_too_long"];
    let mut entries = vec![
        entry(
            "concurrency.max_concurrent",
            requests(max),
            PeakSource::Calls,
            HitSource::Waits,
            Advice::Count,
        ),
        entry(
            "concurrency.max_queued",
            requests(concurrency.max_queued),
            PeakSource::Queue,
            queue,
            Advice::Count,
        ),
        hits_only("concurrency.queue_timeout_ms", millis(concurrency.queue_timeout), in_queue, Advice::Time),
        hits_only("timeout", seconds(upstream.timeout), &["timeout_first_byte"], Advice::Time),
        hits_only("connect_timeout", seconds(upstream.connect_timeout), &["timeout_connect"], Advice::Time),
        hits_only(
            "idle_timeout",
            seconds(upstream.idle_timeout),
            &["timeout_idle", "timeout_upload"],
            Advice::Time,
        ),
    ];
    if let Some(long) = upstream.long_operation_timeout {
        let reasons = &["timeout_long_operation"];
        entries.push(hits_only("long_operation_timeout", seconds(long), reasons, Advice::Time));
    }
    if concurrency.overload == Overload::Codel {
        let target = millis(concurrency.codel_target);
        entries.push(hits_only("concurrency.codel_target_ms", target, &["queue_overload"], Advice::Wait));
    }
    if let Some(target) = concurrency.shedding.target_wait
        && concurrency.shedding.mode != ActionMode::Off
    {
        let (key, hits) = ("concurrency.shedding.target_wait_ms", HitSource::Reasons(&["shed_bucket"]));
        entries.push(entry(key, millis(target), PeakSource::Wait, hits, Advice::Wait));
    }
    if upstream.retry.max_attempts.get() > 1 {
        let percent = (f64::from(upstream.retry.budget.percent), "%");
        let (peak, hits) = (PeakSource::Unknown, HitSource::Retries);
        entries.push(entry("retry.budget.percent", percent, peak, hits, Advice::Failures));
    }
    entries.extend(of_circuits(upstream));
    entries.extend(of_ejections(upstream));
    entries
}

/// The thresholds that open a circuit.
fn of_circuits(upstream: &UpstreamConfig) -> Vec<LimitEntry> {
    let breaker = &upstream.circuit_breaker;
    if matches!(breaker.mode, BreakerMode::Off | BreakerMode::ForcedOpen) {
        return Vec::new();
    }
    let percent = |threshold: NonZeroU32| (f64::from(threshold.get()), "%");
    let opens = |key, limit, peak, rule| entry(key, limit, peak, HitSource::Openings(rule), Advice::Failures);
    let failures = (f64::from(breaker.failure_threshold.get()), "failures in a row");
    let rate = percent(breaker.failure_rate_threshold);
    let (in_a_row, of_calls) = (TripRule::ConsecutiveFailures, TripRule::FailureRate);
    let mut entries = vec![
        opens("circuit_breaker.failure_threshold", failures, PeakSource::CircuitFailures, in_a_row),
        opens("circuit_breaker.failure_rate_threshold", rate, PeakSource::Unknown, of_calls),
    ];
    if breaker.slow_call_duration.is_some() {
        let (key, rate) =
            ("circuit_breaker.slow_call_rate_threshold", percent(breaker.slow_call_rate_threshold));
        entries.push(opens(key, rate, PeakSource::Unknown, TripRule::SlowCallRate));
    }
    entries
}

/// The thresholds that eject an endpoint; none if only one is configured or none is ejected.
fn of_ejections(upstream: &UpstreamConfig) -> Vec<LimitEntry> {
    let ejection = &upstream.load_balancing.outlier_ejection;
    if upstream.endpoints.len() < 2 || ejection.max_percent == 0 {
        return Vec::new();
    }
    let ejects =
        |key, limit, peak, rule| entry(key, limit, peak, HitSource::Ejections(rule), Advice::Failures);
    let failures = (f64::from(ejection.consecutive_failures.get()), "failures in a row");
    let in_a_row = EjectionRule::ConsecutiveFailures;
    let mut entries = vec![ejects(
        "outlier_ejection.consecutive_failures",
        failures,
        PeakSource::EndpointFailures,
        in_a_row,
    )];
    if ejection.failure_percent <= 100 {
        let rate = (f64::from(ejection.failure_percent), "%");
        let (key, rule) = ("outlier_ejection.failure_percent", EjectionRule::FailureRate);
        entries.push(ejects(key, rate, PeakSource::Unknown, rule));
    }
    entries
}

/// The limits of a bucket.
pub(super) fn of_bucket((index, name): (usize, &str), bucket: &BucketConfig) -> Vec<LimitEntry> {
    let kind = bucket.kind.as_str();
    let mut entries: Vec<LimitEntry> = of_upstream(&bucket.upstream)
        .into_iter()
        .map(|entry| LimitEntry { key: format!("{kind}.{}", entry.key), ..entry })
        .collect();
    if let Some(limit) = bucket.max_request_size {
        entries.push(hits_only(
            "max_request_size",
            (limit as f64, "bytes"),
            &["body_too_large"],
            Advice::Size,
        ));
    }
    if bucket.kind == Kind::S3 {
        let limit = (bucket.max_chunk_size as f64, "bytes");
        entries.push(hits_only("max_chunk_size", limit, &["chunk_too_large"], Advice::Size));
    }
    if let Some(limit) = bucket.rate_limit {
        let hits = HitSource::Reasons(&["rate_limit_bucket"]);
        let burst = (f64::from(limit.burst.get()), "tokens");
        entries.push(entry("rate_limit.burst", burst, PeakSource::BucketBurst, hits, Advice::Burst));
    }
    let in_bucket = |entry: LimitEntry| LimitEntry {
        key: format!("buckets.{name}.{}", entry.key),
        bucket: Some(index),
        ..entry
    };
    entries.into_iter().map(in_bucket).collect()
}
