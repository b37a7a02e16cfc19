//! Warnings about keys without effect, because another key switches off the feature to which they belong.
//!
//! Keys that are not set cause no warning: whether a key is set is asked only after the feature is known to be off.

use super::setting_text::{described, warn, warn_set};
use crate::action_mode::ActionMode;
use crate::bucket::{BreakerMode, BucketConfig};
use crate::schema::Section;
use crate::{Config, RateLimit};

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    admin(root, config);
    server(root, config);
    rate_limits(root, config);
    if config.shedding.mode == ActionMode::Off {
        target_wait(&mut root.child("shedding"));
    }
    if config.concurrency.max_per_client == 0 {
        let mut section = root.child("concurrency");
        let why = format!("has no effect: {} is off", described(&section, "max_per_client"));
        warn_set(&mut section, &["max_per_client_mode"], &why, "remove it, or set the limit");
    }
    for (name, bucket) in &config.buckets {
        let section = &mut root.within(&["buckets", name, bucket.kind.as_str()]);
        retries(section, bucket);
        hedging(section, bucket);
        breaker(section, bucket);
        queue(section, bucket);
        endpoints(section, bucket);
        if bucket.upstream.credentials_by_name.is_empty() {
            let why = format!("has no effect: {} is not set", section.full_key("credentials"));
            let names = ["cool_down_seconds", "max_cool_down_seconds", "refused_seconds"];
            let hint = "remove it, or define named credentials";
            warn_set(&mut section.child("credential_pool"), &names, &why, hint);
        }
    }
}

fn admin(root: &mut Section<'_>, config: &Config) {
    let mut section = root.child("admin");
    let mut tls = section.child("tls");
    if config.admin.tls.files().is_none() {
        let why = format!("has no effect: {} is not set", tls.full_key("certificate_file"));
        warn_set(&mut tls, &["reload_interval"], &why, "remove it, or set the certificate and its key");
    }
}

fn server(root: &mut Section<'_>, config: &Config) {
    let server = &config.server;
    let mut section = root.child("server");
    if server.tls.files().is_none() {
        let why = format!("has no effect: {} is not set", section.child("tls").full_key("certificate_file"));
        let hint = "remove it, or set the certificate and its key";
        warn_set(&mut section.child("tls"), &["http2", "reload_interval"], &why, hint);
    }
    if server.trusted_proxies.is_empty() {
        let why = format!("has no effect: {} lists no proxy", described(&section, "trusted_proxies"));
        let hint = "list the networks of your proxies, or remove it";
        warn_set(&mut section, &["client_address_header"], &why, hint);
    }
    if server.min_body_rate == 0 {
        let why = format!("has no effect: {} is off", described(&section, "min_body_rate"));
        warn_set(&mut section, &["min_body_rate_grace"], &why, "remove it, or set the rate");
    }
    if server.send_buffer == 0 {
        let why = format!("has no effect: {} holds no response", described(&section, "send_buffer"));
        warn_set(
            &mut section,
            &["send_buffer_per_connection"],
            &why,
            "remove it, or raise server.send_buffer",
        );
    }
}

fn rate_limits(root: &mut Section<'_>, config: &Config) {
    let limits = &config.rate_limit;
    let general = [limits.global, limits.per_ip, limits.per_key, limits.per_subject, limits.failed_auth];
    let buckets = config.buckets.values().map(|bucket| bucket.rate_limit);
    let keys = config.keys.values().map(|key| key.rate_limit);
    let api_keys = config.api_keys.values().map(|key| key.rate_limit);
    let all: Vec<Option<RateLimit>> =
        general.into_iter().chain(buckets).chain(keys).chain(api_keys).collect();
    let mut section = root.child("rate_limit");
    if all.iter().all(Option::is_none) {
        let why = "has no effect: no rate limit is set";
        let hint = "remove it, or set a limit such as rate_limit.global.requests_per_second";
        warn_set(&mut section, &["table_capacity", "on_failure", "headers"], why, hint);
        warn_set(&mut section.child("cost"), &["read", "write", "list"], why, hint);
    } else if limits.per_ip.is_none() && limits.per_subject.is_none() && limits.failed_auth.is_none() {
        let why =
            "has no effect: rate_limit.per_ip, rate_limit.per_subject and rate_limit.failed_auth are not set";
        warn_set(&mut section, &["table_capacity"], why, "remove it, or set one of these limits");
    }
}

fn retries(section: &mut Section<'_>, bucket: &BucketConfig) {
    let retry = &bucket.upstream.retry;
    let mut section = section.child("retry");
    if retry.max_attempts.get() < 2 {
        let why = format!("has no effect: {} turns retries off", described(&section, "max_attempts"));
        let hint = format!("remove it, or set {} to at least 2", section.full_key("max_attempts"));
        warn_set(&mut section, &["initial_backoff_ms", "max_backoff_ms"], &why, &hint);
        let names = ["percent", "min_per_second", "min_concurrent"];
        warn_set(&mut section.child("budget"), &names, &why, &hint);
        return;
    }
    let budget = &retry.budget;
    let zero = match (budget.percent, budget.min_per_second, budget.min_concurrent) {
        (0, 0, _) => "min_per_second",
        (0, _, 0) => "min_concurrent",
        _ => return,
    };
    let attempts = described(&section, "max_attempts");
    let mut section = section.child("budget");
    let other = described(&section, zero);
    let message = format!("and {other} allow no retry: {attempts} has no effect");
    warn(&mut section, "percent", &message, "raise one of them, or set max_attempts to 1");
}

fn hedging(section: &mut Section<'_>, bucket: &BucketConfig) {
    if !bucket.upstream.hedging.enabled {
        let mut section = section.child("hedging");
        let why = format!("has no effect: {} is off", described(&section, "enabled"));
        let hint = format!("remove it, or set {} to true", section.full_key("enabled"));
        let names = ["percent", "burst", "min_calls", "delay_min_ms", "delay_max_ms"];
        warn_set(&mut section, &names, &why, &hint);
    }
}

/// The keys of the breaker besides its mode.
const BREAKER: [&str; 14] = [
    "per_operation",
    "failure_threshold",
    "failure_rate_threshold",
    "slow_call_duration_ms",
    "slow_call_rate_threshold",
    "window_calls",
    "minimum_calls",
    "timeout_seconds",
    "max_timeout_seconds",
    "connect_probe_interval_ms",
    "hold_ms",
    "max_held",
    "success_threshold",
    "half_open_max_requests",
];

fn breaker(section: &mut Section<'_>, bucket: &BucketConfig) {
    let breaker = &bucket.upstream.circuit_breaker;
    let mut section = section.child("circuit_breaker");
    let mode = described(&section, "mode");
    let hint = format!("remove it, or set {} to on", section.full_key("mode"));
    match breaker.mode {
        BreakerMode::Off => {
            let why = format!("has no effect: {mode} never opens a circuit");
            warn_set(&mut section, &BREAKER, &why, &hint);
        }
        BreakerMode::ForcedOpen | BreakerMode::Shadow => {
            let state = if breaker.mode == BreakerMode::Shadow {
                "refuses no request"
            } else {
                "never closes a circuit"
            };
            let why = format!("has no effect: {mode} {state}, so no request waits for a circuit");
            warn_set(&mut section, &["hold_ms", "max_held"], &why, &hint);
        }
        BreakerMode::On => {}
    }
}

fn queue(section: &mut Section<'_>, bucket: &BucketConfig) {
    let concurrency = &bucket.upstream.concurrency;
    let mut section = section.child("concurrency");
    if concurrency.max_queued == 0 {
        let why = format!("has no effect: {}, so no request waits", described(&section, "max_queued"));
        let hint = format!("remove it, or raise {}", section.full_key("max_queued"));
        warn_set(&mut section, &["queue_timeout_ms"], &why, &hint);
    } else if concurrency.queue_timeout.is_zero() {
        let why = format!("has no effect: {}, so no request waits", described(&section, "queue_timeout_ms"));
        let hint = format!("remove it, or raise {}", section.full_key("queue_timeout_ms"));
        warn_set(&mut section, &["max_queued", "overload"], &why, &hint);
    }
    if concurrency.shedding.mode == ActionMode::Off {
        target_wait(&mut section.child("shedding"));
    }
    let mut section = section.child("adaptive");
    if !concurrency.adaptive.enabled {
        let why = format!("has no effect: {}", described(&section, "enabled"));
        let hint = format!("remove it, or set {} to true", section.full_key("enabled"));
        warn_set(&mut section, &["min", "latency_tolerance", "interval_ms"], &why, &hint);
    }
}

/// The target of a cursor that is off.
fn target_wait(section: &mut Section<'_>) {
    let why = format!("has no effect: {} never sheds", described(section, "mode"));
    let hint = format!("remove it, or set {} to enforce", section.full_key("mode"));
    warn_set(section, &["target_wait_ms"], &why, &hint);
}

/// Keys of the choice among endpoints, with one endpoint, and ejections that a percentage rules out.
fn endpoints(section: &mut Section<'_>, bucket: &BucketConfig) {
    let ejection = ["consecutive_failures", "failure_percent", "base_seconds", "max_seconds", "max_percent"];
    let count = bucket.upstream.endpoints.len();
    if count == 1 {
        let why = format!("has no effect with one endpoint: {}", described(section, "endpoints"));
        let hint = "remove it, or list more endpoints";
        warn_set(&mut section.child("outlier_ejection"), &ejection, &why, hint);
        warn_set(section, &["slow_start_seconds"], &why, hint);
        return;
    }
    let max_percent = bucket.upstream.load_balancing.outlier_ejection.max_percent as usize;
    if max_percent.saturating_mul(count) >= 100 {
        return;
    }
    let endpoints = described(section, "endpoints");
    let mut section = section.child("outlier_ejection");
    if max_percent == 0 {
        let why = format!("has no effect: {} ejects no endpoint", described(&section, "max_percent"));
        let hint = format!("remove it, or raise {}", section.full_key("max_percent"));
        warn_set(&mut section, &ejection[..4], &why, &hint);
    } else {
        let message = format!("of {count} endpoints is less than one, so none is ejected: {endpoints}");
        let least = 100_usize.div_ceil(count);
        let hint = format!("raise it to at least {least}, or set it to 0 to turn ejections off");
        warn(&mut section, "max_percent", &message, hint);
    }
}
