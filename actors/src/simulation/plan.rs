//! Conditions of one scenario, drawn from its seed: a configuration and the rates of faults.
//!
//! Narrow and wide bounds are equally likely. Some faults are absent from some scenarios, because two faults may hide
//! each other's effects. The configuration is written and loaded as text, so that it is complete and validated.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use tidegate_config::{Config, Problems, Sources, load};

use crate::seeded_rng::SeededRng;

/// Size of clock steps, and how often the clock leaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockSteps {
    pub(super) step: Duration,
    pub(super) leap_one_in: usize,
}

/// Conditions of a scenario.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) clients_max: usize,
    pub(super) addresses: usize,
    /// Worker threads, each with its own leases and permits.
    pub(super) threads: usize,
    pub(super) clock: ClockSteps,
    /// Steps per crash; none means no crashes.
    pub(super) crash_one_in: Option<usize>,
    pub(super) disconnect_one_in: usize,
    /// Steps per change of an upstream's behavior.
    pub(super) behavior_one_in: usize,
    /// Steps per sample of the sensors.
    pub(super) sample_one_in: usize,
}

impl Plan {
    pub(super) fn generate(rng: &mut SeededRng) -> Result<Self, Problems> {
        Ok(Self {
            config: load(Sources::default().text("simulated.toml", generate_config(rng)))?,
            clients_max: rng.choose([4, 16, 48]),
            addresses: rng.choose([2, 6, 12]),
            threads: rng.choose([1, 2, 4]),
            clock: ClockSteps {
                step: Duration::from_micros(rng.choose([100, 2_000, 20_000])),
                leap_one_in: rng.choose([5, 30, 300]),
            },
            crash_one_in: rng.choose([None, Some(30), Some(300), Some(2_000)]),
            disconnect_one_in: rng.choose([5, 50, 500]),
            behavior_one_in: rng.choose([50, 200, 500, 3_000]),
            sample_one_in: rng.choose([50, 1_000]),
        })
    }
}

type Keys<'a> = &'a [(&'a str, &'a dyn Display)];

/// A configuration text under construction.
struct ConfigText {
    text: String,
    /// Every burst must cover this cost.
    cost_max: u32,
}

impl ConfigText {
    fn section(&mut self, name: &str, keys: Keys<'_>) {
        let _ = writeln!(self.text, "[{name}]");
        for (key, value) in keys {
            let _ = writeln!(self.text, "{key} = {value}");
        }
    }
}

fn generate_config(rng: &mut SeededRng) -> String {
    let mut text = ConfigText { text: String::new(), cost_max: 1 };
    text.section("server", &[("max_concurrent_requests", &rng.choose([3, 20, 100]))]);
    text.section(
        "supervision",
        &[
            ("max_restarts", &rng.choose([0, 2, 5, 100_000])),
            ("window_seconds", &rng.choose([1, 10])),
            ("mailbox_capacity", &rng.choose([1, 4, 64])),
            ("ask_timeout_ms", &rng.choose([5, 1_000])),
        ],
    );
    // The process's real usage is not measured.
    text.section(
        "monitor",
        &[
            ("dwell_ms", &rng.choose([0, 50])),
            ("memory_limit_bytes", &(1 << 30)),
            ("descriptor_limit", &(1 << 20)),
        ],
    );
    text.section("sessions", &[("capacity", &rng.choose([1, 3, 10])), ("ttl_seconds", &rng.choose([1, 60]))]);
    generate_limits(rng, &mut text);
    let endpoint = |port: u16| format!("\"http://127.0.0.1:{port}\"");
    generate_bucket(rng, &mut text, "one", &endpoint(1));
    generate_bucket(rng, &mut text, "several", &[1, 2, 3].map(endpoint).join(", "));
    text.section("policies.all", &[("buckets", &"[\"*\"]"), ("methods", &"[\"read\"]")]);
    for key in ["first", "second"] {
        text.section(&format!("keys.{key}"), &[("secret", &"\"of-no-use\""), ("policy", &"\"all\"")]);
    }
    if rng.one_in(2) {
        generate_limit(rng, &mut text, "keys.second.rate_limit");
    }
    text.text
}

/// Rate limits, and the costs of requests.
fn generate_limits(rng: &mut SeededRng, text: &mut ConfigText) {
    let headers = if rng.one_in(4) { "\"always\"" } else { "\"refused\"" };
    text.section("rate_limit", &[("table_capacity", &rng.choose([1, 3, 100])), ("headers", &headers)]);
    if rng.one_in(3) {
        // The second set uses up a burst that is wide enough for leases, to the last token, so that one lease too many
        // is detected.
        let [read, write, list] = rng.choose([[1, 2, 10], [1, 1_000, 30], [10, 1, 1]]);
        text.cost_max = read.max(write).max(list);
        text.section("rate_limit.cost", &[("read", &read), ("write", &write), ("list", &list)]);
    }
    for name in ["global", "per_ip", "per_key", "failed_auth"] {
        if !rng.one_in(3) {
            generate_limit(rng, text, &format!("rate_limit.{name}"));
        }
    }
}

fn generate_limit(rng: &mut SeededRng, text: &mut ConfigText, section: &str) {
    text.section(
        section,
        &[
            ("requests_per_second", &rng.choose([1, 50, 500, 500, 20_000, 20_000])),
            ("burst", &rng.choose([1, 3, 10, 100, 4_000, 4_000]).max(text.cost_max)),
            ("mode", &rng.choose(["\"enforce\"", "\"enforce\"", "\"enforce\"", "\"shadow\""])),
        ],
    );
}

fn generate_bucket(rng: &mut SeededRng, text: &mut ConfigText, name: &str, endpoints: &str) {
    if rng.one_in(3) {
        generate_limit(rng, text, &format!("buckets.{name}.rate_limit"));
    }
    let upstream = format!("buckets.{name}.s3");
    text.section(&upstream, &[("endpoints", &format!("[{endpoints}]"))]);
    text.section(&format!("{upstream}.connection_pool"), &[("size", &1_000)]);
    let permits = rng.choose([1, 2, 5, 80]);
    let (queued_max, queue_timeout) = (rng.choose([0, 1, 3, 20]), rng.choose([0, 20, 1_000]));
    text.section(
        &format!("{upstream}.concurrency"),
        &[("max_concurrent", &permits), ("max_queued", &queued_max), ("queue_timeout_ms", &queue_timeout)],
    );
    if queued_max > 0 && queue_timeout > 0 && rng.one_in(4) {
        text.text.push_str("overload = \"codel\"\ncodel_target_ms = 5\ncodel_interval_ms = 20\n");
    }
    text.section(
        &format!("{upstream}.concurrency.adaptive"),
        &[
            ("enabled", &rng.one_in(2)),
            ("min", &1),
            ("interval_ms", &rng.choose([10, 100])),
            ("latency_tolerance", &rng.choose([1.2, 3.0])),
        ],
    );
    text.section(
        &format!("{upstream}.outlier_ejection"),
        &[
            ("consecutive_failures", &rng.choose([1, 3])),
            ("base_seconds", &rng.choose([1, 30])),
            ("max_percent", &rng.choose([0, 50, 100])),
        ],
    );
    if rng.one_in(2) {
        generate_credentials(rng, text, &upstream);
    }
    text.section(&format!("{upstream}.health_check"), &[("path", &"\"/health\"")]);
    if rng.one_in(2) {
        text.section(&format!("{upstream}.failover"), &[("endpoints", &"[\"http://127.0.0.1:9\"]")]);
    }
    text.section(
        &format!("{upstream}.hedging"),
        &[
            ("enabled", &(permits > 1 && !rng.one_in(3))),
            ("percent", &rng.choose([1, 5, 50, 100])),
            ("burst", &rng.choose([1, 10])),
            ("min_calls", &20),
            ("delay_min_ms", &1),
        ],
    );
    text.section(
        &format!("{upstream}.retry.budget"),
        &[
            ("percent", &rng.choose([0, 20, 100])),
            ("min_per_second", &rng.choose([0, 5, 100])),
            ("min_concurrent", &rng.choose([0, 1, 10])),
        ],
    );
    generate_circuits(rng, text, &upstream);
}

/// Open times are short enough for some waiters to see their end.
fn generate_circuits(rng: &mut SeededRng, text: &mut ConfigText, upstream: &str) {
    let open = rng.choose([0.2, 0.5, 1.0, 5.0]);
    text.section(
        &format!("{upstream}.circuit_breaker"),
        &[
            ("mode", &rng.choose(["\"on\"", "\"on\"", "\"on\"", "\"on\"", "\"shadow\"", "\"off\""])),
            ("per_operation", &rng.one_in(2)),
            ("failure_threshold", &rng.choose([1, 1, 2, 5])),
            ("success_threshold", &rng.choose([1, 2, 4])),
            ("window_calls", &rng.choose([5, 100])),
            ("slow_call_duration_ms", &rng.choose([15, 10_000])),
            ("timeout_seconds", &open),
            ("max_timeout_seconds", &(open * rng.choose([1.0, 10.0]))),
            ("half_open_max_requests", &rng.choose([1, 2, 5])),
        ],
    );
    if rng.one_in(2) {
        let _ = writeln!(text.text, "connect_probe_interval_ms = 50");
    }
    if !rng.one_in(6) {
        let (hold, held_max) = (rng.choose([100, 5_000, 30_000]), rng.choose([1, 5, 20]));
        let _ = writeln!(text.text, "hold_ms = {hold}\nmax_held = {held_max}");
    }
}

fn generate_credentials(rng: &mut SeededRng, text: &mut ConfigText, upstream: &str) {
    for name in ["a", "b", "c"] {
        text.section(
            &format!("{upstream}.credentials.{name}"),
            &[
                ("access_key_id", &format!("\"{name}\"")),
                ("secret_access_key", &"\"of-no-use\""),
                ("max_concurrent", &rng.choose([1, 2, 5])),
                ("quota_group", &rng.choose(["\"account\"", "\"account\"", "\"another\""])),
            ],
        );
    }
    text.section(
        &format!("{upstream}.credential_pool"),
        &[("cool_down_seconds", &rng.choose([0.01, 1.0])), ("refused_seconds", &rng.choose([1, 60]))],
    );
}
