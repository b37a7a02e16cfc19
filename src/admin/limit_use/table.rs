//! The limits of a configuration: key, value, what is counted, what is advised.

use tidegate_actors::Level;
use tidegate_config::{ActionMode, Config, MonitorConfig, RateLimit};

use super::bucket_table::of_bucket;
use super::limit_entry::{Advice, HitSource, LimitEntry, PeakSource, entry, hits_only, millis, seconds};

/// Buckets with tracked limits.
pub(super) const BUCKETS_MAX: usize = 64;

/// The limits of the process, and those of the first buckets.
pub(super) fn entries(config: &Config) -> Vec<LimitEntry> {
    let mut entries = of_process(config);
    entries.extend(of_clients(config));
    entries.extend(of_levels(&config.monitor));
    entries.extend(of_rate_limits(config));
    for (at, (name, bucket)) in config.buckets.iter().enumerate().take(BUCKETS_MAX) {
        entries.extend(of_bucket((at, name), bucket));
    }
    entries
}

fn of_process(config: &Config) -> Vec<LimitEntry> {
    use HitSource::Reasons;
    let (server, clients) = (&config.server, &config.concurrency);
    let limits = &server.limits;
    let requests = |count: usize| (count as f64, "requests");
    vec![
        entry(
            "server.max_concurrent_requests",
            requests(server.max_concurrent_requests.get()),
            PeakSource::InFlight,
            Reasons(&["too_many_requests_in_flight"]),
            Advice::Count,
        ),
        hits_only(
            "concurrency.max_pending_forms",
            requests(clients.max_pending_forms.get()),
            &["too_many_pending_forms"],
            Advice::Count,
        ),
        hits_only("server.header_timeout", seconds(server.header_timeout), &["header_timeout"], Advice::Time),
        hits_only(
            "server.request_timeout",
            seconds(config.server.request_timeout),
            &["timeout_total"],
            Advice::Time,
        ),
        hits_only(
            "server.write_stall_timeout",
            seconds(server.write_stall_timeout),
            &["write_stall"],
            Advice::Time,
        ),
        hits_only(
            "server.limits.max_header_size",
            (limits.max_header_size as f64, "bytes"),
            &["headers_too_large", "head_too_large"],
            Advice::Size,
        ),
        hits_only(
            "server.limits.max_headers",
            (limits.max_headers as f64, "headers"),
            &["too_many_headers"],
            Advice::Size,
        ),
    ]
}

/// The limits of the admin listener, of clients, of sessions and of shedding.
fn of_clients(config: &Config) -> Vec<LimitEntry> {
    let mut entries = vec![
        entry(
            "admin.max_connections",
            (config.admin.max_connections.get() as f64, "connections"),
            PeakSource::AdminConnections,
            HitSource::AdminConnections,
            Advice::Count,
        ),
        entry(
            "sessions.capacity",
            (config.sessions.capacity.get() as f64, "entries"),
            PeakSource::SessionEntries,
            HitSource::SessionEvictions,
            Advice::Cache,
        ),
    ];
    entries.extend(optional_of_clients(config));
    entries
}

/// Those that a configuration can switch off.
fn optional_of_clients(config: &Config) -> Vec<LimitEntry> {
    use HitSource::Reasons;
    let mut entries = Vec::new();
    if config.admin.max_stream_clients > 0 {
        entries.push(entry(
            "admin.max_stream_clients",
            (config.admin.max_stream_clients as f64, "streams"),
            PeakSource::AdminStreams,
            HitSource::AdminStreams,
            Advice::Count,
        ));
    }
    if config.shedding.mode != ActionMode::Off {
        let target = millis(config.shedding.target_wait);
        entries.push(entry(
            "shedding.target_wait_ms",
            target,
            PeakSource::Wait,
            Reasons(&["shed"]),
            Advice::Wait,
        ));
    }
    let per_client = config.concurrency.max_per_client;
    if per_client > 0 {
        entries.push(entry(
            "concurrency.max_per_client",
            (per_client as f64, "requests"),
            PeakSource::OneClient,
            Reasons(&["client_concurrency"]),
            Advice::Count,
        ));
    }
    entries
}

fn of_levels(monitor: &MonitorConfig) -> [LimitEntry; 3] {
    let levels = [
        ("monitor.warning", monitor.warning, Level::Warning),
        ("monitor.critical", monitor.critical, Level::Critical),
        ("monitor.exhausted", monitor.exhausted, Level::Exhausted),
    ];
    levels.map(|(key, percent, level)| {
        let limit = (f64::from(percent), "%");
        entry(key, limit, PeakSource::Pressure(level), HitSource::LevelBegins(level), Advice::Level)
    })
}

fn of_rate_limits(config: &Config) -> Vec<LimitEntry> {
    let limits = &config.rate_limit;
    let all: [(&str, Option<RateLimit>, PeakSource, &'static [&'static str]); 5] = [
        ("rate_limit.global.burst", limits.global, PeakSource::GlobalBurst, &["rate_limit_global"]),
        ("rate_limit.per_ip.burst", limits.per_ip, PeakSource::IpBurst, &["rate_limit_ip"]),
        ("rate_limit.per_key.burst", limits.per_key, PeakSource::KeyBurst, &["rate_limit_key"]),
        (
            "rate_limit.per_subject.burst",
            limits.per_subject,
            PeakSource::SubjectBurst,
            &["rate_limit_subject"],
        ),
        (
            "rate_limit.failed_auth.burst",
            limits.failed_auth,
            PeakSource::FailedAuthBurst,
            &["rate_limit_failed_auth"],
        ),
    ];
    let burst = |(key, limit, peak, reasons): (&str, Option<RateLimit>, PeakSource, _)| {
        let limit = (f64::from(limit?.burst.get()), "tokens");
        Some(entry(key, limit, peak, HitSource::Reasons(reasons), Advice::Burst))
    };
    all.into_iter().filter_map(burst).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_config::{Loaded, Sources};

    use super::*;

    const CONFIG: &str = r#"
[concurrency]
max_per_client = 5
[rate_limit.global]
requests_per_second = 1
[rate_limit.per_ip]
requests_per_second = 2
[rate_limit.per_key]
requests_per_second = 3
[rate_limit.per_subject]
requests_per_second = 4
[rate_limit.failed_auth]
requests_per_second = 5
[buckets.photos]
auth = ["anonymous"]
rate_limit.requests_per_second = 6
s3.endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
s3.concurrency.overload = "codel"
[buckets.api]
kind = "http"
auth = ["anonymous"]
http.endpoints = ["http://127.0.0.1:1"]
"#;

    /// G2: every limit has the key of the effective configuration, with the value that it shows
    #[test]
    fn the_keys_exist() {
        let Loaded { config, effective, .. } =
            tidegate_config::load_with_warnings(Sources::default().text("t.toml", CONFIG)).unwrap();
        let keys: BTreeSet<String> = effective.keys().map(|key| key.key).collect();
        let entries = entries(&config);
        let unknown: Vec<_> = entries.iter().filter(|entry| !keys.contains(&entry.key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let distinct: BTreeSet<&String> = entries.iter().map(|entry| &entry.key).collect();
        assert_eq!((distinct.len(), entries.len()), (entries.len(), 48));
    }

    /// G2: a refusal counts for the limit that decided, and for no other
    #[test]
    fn a_reason_counts_for_one_limit() {
        let config = tidegate_config::load(Sources::default().text("t.toml", CONFIG)).unwrap();
        let entries = entries(&config);
        for (reason, key) in [
            ("queue_timeout", "buckets.photos.s3.concurrency.queue_timeout_ms"),
            ("queue_too_long", "buckets.photos.s3.concurrency.queue_timeout_ms"),
            ("queue_overload", "buckets.photos.s3.concurrency.codel_target_ms"),
            ("timeout_first_byte", "buckets.photos.s3.timeout"),
            ("timeout_long_operation", "buckets.photos.s3.long_operation_timeout"),
            ("shed_bucket", "buckets.photos.s3.concurrency.shedding.target_wait_ms"),
            ("shed", "shedding.target_wait_ms"),
        ] {
            let has_reason =
                |entry: &&LimitEntry| matches!(entry.hits, HitSource::Reasons(all) if all.contains(&reason));
            let keys = entries.iter().filter(has_reason).map(|entry| entry.key.as_str());
            let keys: Vec<&str> = keys.filter(|key| !key.starts_with("buckets.api.")).collect();
            assert_eq!(keys, [key], "{reason}");
        }
    }
}
