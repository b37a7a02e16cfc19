//! Warnings about limits, timeouts and buffers without effect, because another one applies earlier.

use super::setting_text::{self, described, warn};
use crate::Config;
use crate::bucket::BucketConfig;
use crate::schema::Section;

const MIB: u64 = 1 << 20;
/// Approximate resident memory of an idle process.
const IDLE_BYTES: u64 = 32 * MIB;
/// The smallest growth of a transfer's buffers.
const BUDGET_BYTES_MIN: u64 = MIB;

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    server(root, config);
    memory(root, config);
    for (name, bucket) in &config.buckets {
        pool(root, name, bucket);
        queue(root, config, name, bucket);
        upstream_timeouts(root, name, bucket);
    }
    gates(root, config);
    total_timeout(root, config);
}

fn server(root: &mut Section<'_>, config: &Config) {
    let server = &config.server;
    let mut section = root.child("server");
    let is_set = section.is_set("drain_timeout") && section.is_set("request_timeout");
    if is_set && server.drain_timeout < server.request_timeout {
        let message =
            format!("is below {}: a stop can abort requests", described(&section, "request_timeout"));
        warn(&mut section, "drain_timeout", &message, "raise it");
    }
    let (all, one) = (server.send_buffer, server.send_buffer_per_connection);
    if one > all && all > 0 {
        let message = format!("is above {}, which all connections share", described(&section, "send_buffer"));
        let hint = "lower it, or raise server.send_buffer";
        warn(&mut section, "send_buffer_per_connection", &message, hint);
    }
    let (per_client, cap) = (config.concurrency.max_per_client, server.max_concurrent_requests.get());
    if per_client >= cap {
        let slots = described(&section, "max_concurrent_requests");
        let message = format!("has no effect: it is not below {slots}");
        warn(&mut root.child("concurrency"), "max_per_client", &message, "lower it");
    }
}

/// A memory limit that is reached at the start, and a budget that is too small for any growth. A budget of 0 turns growth off.
fn memory(root: &mut Section<'_>, config: &Config) {
    if let Some(limit) = config.monitor.memory_limit_bytes.filter(|limit| *limit < IDLE_BYTES) {
        let message = format!(
            "{limit} bytes are fewer than an idle process uses, about {IDLE_BYTES}: the level is high from the start"
        );
        root.child("monitor").warn("memory_limit_bytes", message, "raise it, or remove it".to_owned());
    }
    if let Some(budget) = config.server.buffer_budget.filter(|budget| (1..BUDGET_BYTES_MIN).contains(budget))
    {
        let message = format!("{budget} bytes are too few for the growth of one transfer's buffers");
        let hint = format!("set at least {BUDGET_BYTES_MIN}, or 0 to turn growth off");
        root.child("server").warn("buffer_budget", message, hint);
    }
}

/// A pool size below the concurrency limit, if both are set. An unset pool size follows the limit.
fn pool(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let mut section = root.within(&["buckets", name, bucket.kind.as_str()]);
    let (gate, size) =
        (bucket.upstream.concurrency.max_concurrent.get(), bucket.upstream.connection_pool.size.get());
    let is_set = section.child("concurrency").is_set("max_concurrent")
        && section.child("connection_pool").is_set("size");
    if is_set && size < gate {
        let other = described(&section.child("concurrency"), "max_concurrent");
        let message = format!("is below {other}: only {size} requests run at a time");
        let hint = format!("raise it to {gate}, or remove it: the default follows max_concurrent");
        warn(&mut section.child("connection_pool"), "size", &message, hint);
    }
}

/// A queue that never fills up, because waiting requests also count as requests in flight.
fn queue(root: &mut Section<'_>, config: &Config, name: &str, bucket: &BucketConfig) {
    let path = ["buckets", name, bucket.kind.as_str(), "concurrency"];
    let (gate, queued) =
        (bucket.upstream.concurrency.max_concurrent.get(), bucket.upstream.concurrency.max_queued);
    let cap = config.server.max_concurrent_requests.get();
    if root.within(&path).is_set("max_queued") && gate <= cap && gate.saturating_add(queued) > cap {
        let slots = described(&root.child("server"), "max_concurrent_requests");
        let mut section = root.within(&path);
        let message = format!(
            "and {} are together above {slots}: requests are refused before the queue is full",
            described(&section, "max_concurrent")
        );
        warn(&mut section, "max_queued", &message, "lower it, or raise server.max_concurrent_requests");
    }
}

fn upstream_timeouts(root: &mut Section<'_>, name: &str, bucket: &BucketConfig) {
    let (timeout, total) = (bucket.upstream.timeout, bucket.upstream.request_timeout);
    let path = ["buckets", name, bucket.kind.as_str()];
    if root.within(&path).is_set("timeout") && timeout > total {
        let total_text = setting_text::total_timeout(root, total);
        let message = format!("is above {total_text}, which ends earlier");
        let hint = "lower it, or raise server.request_timeout";
        warn(&mut root.within(&path), "timeout", &message, hint);
    }
    let mut section = root.within(&path);
    if section.is_set("long_operation_timeout") && bucket.upstream.long_operation_timeout == Some(timeout) {
        let message = format!("has no effect: it is not above {}", described(&section, "timeout"));
        section.warn("long_operation_timeout", message, "raise it, or remove it".to_owned());
    }
}

/// A total timeout below the default timeout of a bucket: one warning for all buckets.
fn total_timeout(root: &mut Section<'_>, config: &Config) {
    let is_hidden = |root: &mut Section<'_>, name: &str, bucket: &BucketConfig| {
        let is_default = !root.within(&["buckets", name, bucket.kind.as_str()]).is_set("timeout");
        is_default && bucket.upstream.timeout > bucket.upstream.request_timeout
    };
    let hidden = config.buckets.iter().find(|(name, bucket)| is_hidden(root, name, bucket));
    if let Some((name, bucket)) = hidden {
        let timeout = described(&root.within(&["buckets", name, bucket.kind.as_str()]), "timeout");
        let message = format!("is below {timeout}: a slow first attempt leaves no time for a second");
        warn(&mut root.child("server"), "request_timeout", &message, "raise it, or lower the timeout");
    }
}

/// A process-wide limit below the limit of a bucket: one warning, for the highest limit.
fn gates(root: &mut Section<'_>, config: &Config) {
    let cap = config.server.max_concurrent_requests.get();
    let gate = |bucket: &BucketConfig| bucket.upstream.concurrency.max_concurrent.get();
    let widest = config.buckets.iter().max_by_key(|(_, bucket)| gate(bucket));
    let Some((name, bucket)) = widest.filter(|(_, bucket)| gate(bucket) > cap) else { return };
    let section = root.within(&["buckets", name, bucket.kind.as_str(), "concurrency"]);
    let gate = described(&section, "max_concurrent");
    let message = format!("is below {gate}: requests are refused before that limit is reached");
    let hint = "raise it, or lower the limit of the bucket";
    warn(&mut root.child("server"), "max_concurrent_requests", &message, hint);
}
