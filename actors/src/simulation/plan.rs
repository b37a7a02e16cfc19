//! One episode's conditions, drawn from its seed: a configuration, and how often what goes wrong.
//!
//! Narrow and wide bounds are drawn alike, and some kinds of trouble are absent from some episodes, for two troubles may hide
//! each other's effects. The configuration is written and read as an operator's is, so that it is complete and checked.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use tidegate_config::{Config, Problems, Sources, load};

use crate::simulation::dice::Dice;

/// How much time passes in one leap of the clock, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) step: Duration,
    pub(super) leap_once_in: usize,
}

/// The conditions of an episode.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) clients_max: usize,
    pub(super) addresses: usize,
    /// Worker threads, each with leases and permits of its own.
    pub(super) threads: usize,
    pub(super) clock: Clock,
    /// Steps per crash; none without.
    pub(super) crash_once_in: Option<usize>,
    pub(super) hang_up_once_in: usize,
    /// Steps per change of an upstream's mood.
    pub(super) mood_once_in: usize,
    /// Steps per sample of the sensors.
    pub(super) sample_once_in: usize,
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice) -> Result<Self, Problems> {
        Ok(Self {
            config: load(Sources::default().text("simulated.toml", draw_config(dice)))?,
            clients_max: dice.one_of([4, 16, 48]),
            addresses: dice.one_of([2, 6, 12]),
            threads: dice.one_of([1, 2, 4]),
            clock: Clock {
                step: Duration::from_micros(dice.one_of([100, 2_000, 20_000])),
                leap_once_in: dice.one_of([5, 30, 300]),
            },
            crash_once_in: dice.one_of([None, Some(30), Some(300), Some(2_000)]),
            hang_up_once_in: dice.one_of([5, 50, 500]),
            mood_once_in: dice.one_of([50, 200, 500, 3_000]),
            sample_once_in: dice.one_of([50, 1_000]),
        })
    }
}

type Keys<'a> = &'a [(&'a str, &'a dyn Display)];

/// A configuration being written.
struct Writing {
    text: String,
    /// What every burst must be able to pay.
    cost_max: u32,
}

impl Writing {
    fn section(&mut self, name: &str, keys: Keys<'_>) {
        let _ = writeln!(self.text, "[{name}]");
        for (key, value) in keys {
            let _ = writeln!(self.text, "{key} = {value}");
        }
    }
}

fn draw_config(dice: &mut Dice) -> String {
    let mut text = Writing { text: String::new(), cost_max: 1 };
    text.section("server", &[("max_concurrent_requests", &dice.one_of([3, 20, 100]))]);
    text.section(
        "supervision",
        &[
            ("max_restarts", &dice.one_of([0, 2, 5, 100_000])),
            ("window_seconds", &dice.one_of([1, 10])),
            ("mailbox_capacity", &dice.one_of([1, 4, 64])),
            ("ask_timeout_ms", &dice.one_of([5, 1_000])),
        ],
    );
    // what the process really uses is not looked at
    text.section(
        "monitor",
        &[
            ("dwell_ms", &dice.one_of([0, 50])),
            ("memory_limit_bytes", &(1 << 30)),
            ("descriptor_limit", &(1 << 20)),
        ],
    );
    text.section(
        "sessions",
        &[("capacity", &dice.one_of([1, 3, 10])), ("ttl_seconds", &dice.one_of([1, 60]))],
    );
    draw_limits(dice, &mut text);
    let endpoint = |port: u16| format!("\"http://127.0.0.1:{port}\"");
    draw_bucket(dice, &mut text, "one", &endpoint(1));
    draw_bucket(dice, &mut text, "several", &[1, 2, 3].map(endpoint).join(", "));
    text.section("policies.all", &[("buckets", &"[\"*\"]"), ("methods", &"[\"read\"]")]);
    for key in ["first", "second"] {
        text.section(&format!("keys.{key}"), &[("secret", &"\"of-no-use\""), ("policy", &"\"all\"")]);
    }
    if dice.once_in(2) {
        draw_limit(dice, &mut text, "keys.second.rate_limit");
    }
    text.text
}

/// Limits, and what requests cost of them.
fn draw_limits(dice: &mut Dice, text: &mut Writing) {
    let headers = if dice.once_in(4) { "\"always\"" } else { "\"refused\"" };
    text.section("rate_limit", &[("table_capacity", &dice.one_of([1, 3, 100])), ("headers", &headers)]);
    if dice.once_in(3) {
        // The second uses up a burst that is wide enough to be leased from, to the last token, so that a lease too many shows.
        let [read, write, list] = dice.one_of([[1, 2, 10], [1, 1_000, 30], [10, 1, 1]]);
        text.cost_max = read.max(write).max(list);
        text.section("rate_limit.cost", &[("read", &read), ("write", &write), ("list", &list)]);
    }
    for name in ["global", "per_ip", "per_key", "failed_auth"] {
        if !dice.once_in(3) {
            draw_limit(dice, text, &format!("rate_limit.{name}"));
        }
    }
}

fn draw_limit(dice: &mut Dice, text: &mut Writing, section: &str) {
    text.section(
        section,
        &[
            ("requests_per_second", &dice.one_of([1, 50, 500, 500, 20_000, 20_000])),
            ("burst", &dice.one_of([1, 3, 10, 100, 4_000, 4_000]).max(text.cost_max)),
            ("mode", &dice.one_of(["\"enforce\"", "\"enforce\"", "\"enforce\"", "\"shadow\""])),
        ],
    );
}

fn draw_bucket(dice: &mut Dice, text: &mut Writing, name: &str, endpoints: &str) {
    if dice.once_in(3) {
        draw_limit(dice, text, &format!("buckets.{name}.rate_limit"));
    }
    let upstream = format!("buckets.{name}.s3");
    text.section(&upstream, &[("endpoints", &format!("[{endpoints}]"))]);
    text.section(&format!("{upstream}.connection_pool"), &[("size", &1_000)]);
    let places = dice.one_of([1, 2, 5, 80]);
    let (queued_max, queue_timeout) = (dice.one_of([0, 1, 3, 20]), dice.one_of([0, 20, 1_000]));
    text.section(
        &format!("{upstream}.concurrency"),
        &[("max_concurrent", &places), ("max_queued", &queued_max), ("queue_timeout_ms", &queue_timeout)],
    );
    if queued_max > 0 && queue_timeout > 0 && dice.once_in(4) {
        text.text.push_str("overload = \"codel\"\ncodel_target_ms = 5\ncodel_interval_ms = 20\n");
    }
    text.section(
        &format!("{upstream}.concurrency.adaptive"),
        &[
            ("enabled", &dice.once_in(2)),
            ("min", &1),
            ("interval_ms", &dice.one_of([10, 100])),
            ("latency_tolerance", &dice.one_of([1.2, 3.0])),
        ],
    );
    text.section(
        &format!("{upstream}.outlier_ejection"),
        &[
            ("consecutive_failures", &dice.one_of([1, 3])),
            ("base_seconds", &dice.one_of([1, 30])),
            ("max_percent", &dice.one_of([0, 50, 100])),
        ],
    );
    if dice.once_in(2) {
        draw_credentials(dice, text, &upstream);
    }
    text.section(&format!("{upstream}.health_check"), &[("path", &"\"/health\"")]);
    if dice.once_in(2) {
        text.section(&format!("{upstream}.failover"), &[("endpoints", &"[\"http://127.0.0.1:9\"]")]);
    }
    text.section(
        &format!("{upstream}.hedging"),
        &[
            ("enabled", &(places > 1 && !dice.once_in(3))),
            ("percent", &dice.one_of([1, 5, 50, 100])),
            ("burst", &dice.one_of([1, 10])),
            ("min_calls", &20),
            ("delay_min_ms", &1),
        ],
    );
    text.section(
        &format!("{upstream}.retry.budget"),
        &[
            ("percent", &dice.one_of([0, 20, 100])),
            ("min_per_second", &dice.one_of([0, 5, 100])),
            ("min_concurrent", &dice.one_of([0, 1, 10])),
        ],
    );
    draw_circuits(dice, text, &upstream);
}

/// Open times are short enough for some that wait for their ends to see them.
fn draw_circuits(dice: &mut Dice, text: &mut Writing, upstream: &str) {
    let open = dice.one_of([0.2, 0.5, 1.0, 5.0]);
    text.section(
        &format!("{upstream}.circuit_breaker"),
        &[
            ("mode", &dice.one_of(["\"on\"", "\"on\"", "\"on\"", "\"on\"", "\"shadow\"", "\"off\""])),
            ("per_operation", &dice.once_in(2)),
            ("failure_threshold", &dice.one_of([1, 1, 2, 5])),
            ("success_threshold", &dice.one_of([1, 2, 4])),
            ("window_calls", &dice.one_of([5, 100])),
            ("slow_call_duration_ms", &dice.one_of([15, 10_000])),
            ("timeout_seconds", &open),
            ("max_timeout_seconds", &(open * dice.one_of([1.0, 10.0]))),
            ("half_open_max_requests", &dice.one_of([1, 2, 5])),
        ],
    );
    if dice.once_in(2) {
        let _ = writeln!(text.text, "connect_probe_interval_ms = 50");
    }
    if !dice.once_in(6) {
        let (hold, held_max) = (dice.one_of([100, 5_000, 30_000]), dice.one_of([1, 5, 20]));
        let _ = writeln!(text.text, "hold_ms = {hold}\nmax_held = {held_max}");
    }
}

fn draw_credentials(dice: &mut Dice, text: &mut Writing, upstream: &str) {
    for name in ["a", "b", "c"] {
        text.section(
            &format!("{upstream}.credentials.{name}"),
            &[
                ("access_key_id", &format!("\"{name}\"")),
                ("secret_access_key", &"\"of-no-use\""),
                ("max_concurrent", &dice.one_of([1, 2, 5])),
                ("quota_group", &dice.one_of(["\"account\"", "\"account\"", "\"another\""])),
            ],
        );
    }
    text.section(
        &format!("{upstream}.credential_pool"),
        &[("cool_down_seconds", &dice.one_of([0.01, 1.0])), ("refused_seconds", &dice.one_of([1, 60]))],
    );
}
