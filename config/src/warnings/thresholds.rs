//! Warnings about thresholds and times that are never reached, because another one acts earlier.

use super::setting_text::{described, total_timeout, warn, warn_set};
use crate::Config;
use crate::bucket::{BreakerConfig, BreakerMode, BucketConfig, Overload};
use crate::schema::Section;

/// The highest value of `failure_threshold`, which turns the threshold off.
const FAILURES_OFF: u32 = 1_000_000;

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    process(root, config);
    for (name, bucket) in &config.buckets {
        sizes(root, name, bucket);
        times(root, name, bucket);
        held(root, config, name, bucket);
        let section = &mut root.within(&["buckets", name, bucket.kind.as_str()]);
        let breaker = &bucket.upstream.circuit_breaker;
        if breaker.mode != BreakerMode::Off {
            breaker_thresholds(section, breaker);
        }
        queue(section, bucket);
        gate(section, bucket);
    }
}

fn process(root: &mut Section<'_>, config: &Config) {
    let server = root.child("server");
    let total = described(&server, "request_timeout");
    let slots = described(&server, "max_concurrent_requests");
    let mut section = root.child("supervision");
    if config.supervision.ask_timeout > config.server.request_timeout {
        let message = format!("is above {total}, which ends earlier");
        warn_set(&mut section, &["ask_timeout_ms"], &message, "lower it");
    }
    if config.supervision.mailbox_capacity.get() < config.server.max_concurrent_requests.get() {
        let message = format!("is below {slots}: a burst within that limit gets `busy` from a full mailbox");
        warn_set(
            &mut section,
            &["mailbox_capacity"],
            &message,
            "raise it, or lower server.max_concurrent_requests",
        );
    }
    let monitor = &config.monitor;
    if monitor.dwell < monitor.interval && !monitor.dwell.is_zero() {
        let mut section = root.child("monitor");
        let interval = described(&section, "interval_ms");
        let message = format!("has no effect: it is below {interval}, so one sample lowers the level");
        warn_set(&mut section, &["dwell_ms"], &message, "raise it, or set it to 0");
    }
    let longest = config.buckets.iter().max_by_key(|(_, bucket)| bucket.upstream.connect_timeout);
    if let Some((name, bucket)) =
        longest.filter(|(_, bucket)| bucket.upstream.connect_timeout < config.dns.timeout)
    {
        let other = described(&root.within(&["buckets", name, bucket.kind.as_str()]), "connect_timeout");
        let message = format!("is above {other}, which includes the lookup and ends earlier");
        warn_set(&mut root.child("dns"), &["timeout"], &message, "lower it, or raise connect_timeout");
    }
}

/// A chunk that is larger than any accepted body.
fn sizes(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    if bucket.max_request_size.is_some_and(|most| most < bucket.max_chunk_size) {
        let mut section = root.within(&["buckets", name]);
        let message =
            format!("is above {}, which refuses the request first", described(&section, "max_request_size"));
        warn_set(&mut section, &["max_chunk_size"], &message, "lower it, or raise max_request_size");
    }
}

/// Times of an attempt that are at least the total time of the request.
fn times(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let upstream = &bucket.upstream;
    let total = upstream.request_timeout;
    let total_text = total_timeout(root, total);
    let because = format!("is not below {total_text}");
    let mut section = root.within(&["buckets", name, bucket.kind.as_str()]);
    let hint = "lower it, or raise server.request_timeout";
    if upstream.connect_timeout >= total {
        let message = format!("{because}, which ends earlier");
        warn_set(&mut section, &["connect_timeout"], &message, hint);
    }
    if upstream.retry.max_attempts.get() > 1 && upstream.retry.initial_backoff >= total {
        let message = format!("{because}: the pause can leave no time for a second attempt");
        warn_set(&mut section.child("retry"), &["initial_backoff_ms"], &message, hint);
    }
    if upstream.concurrency.max_queued > 0 && upstream.concurrency.queue_timeout >= total {
        let message = format!("{because}: a request that waits that long has no time left for the upstream");
        warn_set(&mut section.child("concurrency"), &["queue_timeout_ms"], &message, hint);
    }
    let breaker = &upstream.circuit_breaker;
    if breaker.mode != BreakerMode::Off && breaker.hold.is_some_and(|hold| hold >= total) {
        let message = format!("{because}: a request that waits that long has no time left for the upstream");
        warn_set(&mut section.child("circuit_breaker"), &["hold_ms"], &message, hint);
    }
    if breaker.mode != BreakerMode::Off && breaker.slow_call_duration.is_some_and(|slow| slow >= total) {
        let message = format!("{because}: no call is slow before it fails");
        warn_set(&mut section.child("circuit_breaker"), &["slow_call_duration_ms"], &message, hint);
    }
    if !upstream.hedging.enabled {
        return;
    }
    if upstream.hedging.delay_min >= total {
        let message = format!("{because}: no hedge is sent");
        warn(&mut section.child("hedging"), "delay_min_ms", &message, hint);
    }
    if upstream.hedging.delay_max >= upstream.timeout {
        let message = format!("is not below {}, at which a call fails", described(&section, "timeout"));
        let hint = format!("lower it, or raise {}", section.full_key("timeout"));
        warn_set(&mut section.child("hedging"), &["delay_max_ms"], &message, &hint);
    }
}

/// More waiting requests than requests in the process.
fn held(root: &mut Section<'_>, config: &Config, name: &str, bucket: &BucketConfig) {
    let breaker = &bucket.upstream.circuit_breaker;
    if breaker.hold.is_some() && breaker.held_max() > config.server.max_concurrent_requests.get() {
        let slots = described(&root.child("server"), "max_concurrent_requests");
        let mut section = root.within(&["buckets", name, bucket.kind.as_str(), "circuit_breaker"]);
        let message = format!("is above {slots}, which refuses further requests first");
        warn_set(&mut section, &["max_held"], &message, "lower it, or raise server.max_concurrent_requests");
    }
}

fn breaker_thresholds(section: &mut Section<'_>, breaker: &BreakerConfig) {
    let mut section = section.child("circuit_breaker");
    let (window, rate) = (breaker.window_calls.get(), breaker.failure_rate_threshold.get());
    let most = breaker.minimum_calls.get().max(window.saturating_mul(rate).div_ceil(100));
    let threshold = breaker.failure_threshold.get();
    if threshold > most && threshold < FAILURES_OFF {
        let [rate, window] = ["failure_rate_threshold", "window_calls"].map(|name| described(&section, name));
        let message = format!(
            "is never reached: {rate} of {window} opens the circuit after at most {most} consecutive failures"
        );
        let hint = format!("lower it to at most {most}, or set it to {FAILURES_OFF}, which turns it off");
        warn_set(&mut section, &["failure_threshold"], &message, &hint);
    }
    if breaker.connect_probe_interval.is_some_and(|interval| interval >= breaker.max_timeout) {
        let longest = described(&section, "max_timeout_seconds");
        let message = format!("is not below {longest}: every open time ends before the first test");
        warn_set(&mut section, &["connect_probe_interval_ms"], &message, "lower it");
    }
}

fn queue(section: &mut Section<'_>, bucket: &BucketConfig) {
    let concurrency = &bucket.upstream.concurrency;
    let is_late =
        concurrency.overload == Overload::Codel && concurrency.codel_interval > concurrency.queue_timeout;
    if is_late && concurrency.max_queued > 0 {
        let mut section = section.child("concurrency");
        let timeout = described(&section, "queue_timeout_ms");
        let message = format!("is above {timeout}: requests leave the queue before an overload is detected");
        let hint = format!("lower it, or raise {}", section.full_key("queue_timeout_ms"));
        warn(&mut section, "codel_interval_ms", &message, hint);
    }
}

/// Limits on concurrent requests, of which another one is lower.
fn gate(section: &mut Section<'_>, bucket: &BucketConfig) {
    let upstream = &bucket.upstream;
    let gate = upstream.concurrency.max_concurrent.get();
    let gate_text = described(&section.child("concurrency"), "max_concurrent");
    let in_effect = gate.min(upstream.connection_pool.size.get());
    if upstream.concurrency.adaptive.enabled && upstream.concurrency.adaptive.min.get() >= in_effect {
        let size = described(&section.child("connection_pool"), "size");
        let message = format!("is not below the lower of {gate_text} and {size}: the limit cannot change");
        let mut section = section.child("concurrency");
        warn_set(&mut section.child("adaptive"), &["min"], &message, "lower it");
    }
    let half_open = upstream.circuit_breaker.half_open_max_requests.get() as usize;
    if half_open > in_effect && upstream.circuit_breaker.mode != BreakerMode::Off {
        let message = format!("is above {gate_text}, which limits trial requests too");
        warn_set(&mut section.child("circuit_breaker"), &["half_open_max_requests"], &message, "lower it");
    }
    let pool = &upstream.credentials_by_name;
    let slots = pool.iter().map(|one| one.max_concurrent.get()).fold(0, usize::saturating_add);
    if !pool.is_empty() && slots < gate {
        let all = section.full_key("credentials");
        let message =
            format!("is above the sum of the limits of {all} ({slots}): only {slots} requests run at a time");
        let hint = format!("lower it to {slots}, or raise max_concurrent of the credentials");
        warn_set(&mut section.child("concurrency"), &["max_concurrent"], &message, &hint);
    }
    for one in pool.iter().filter(|one| one.max_concurrent.get() > in_effect) {
        let message = format!("is above {gate_text}, which is the limit of all credentials together");
        let mut credentials = section.child("credentials");
        warn_set(&mut credentials.child(&one.name), &["max_concurrent"], &message, "lower it");
    }
}
