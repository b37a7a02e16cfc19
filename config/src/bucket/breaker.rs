//! Circuit breaker of an upstream: when it opens, for how long, and when it closes again.
//!
//! Three thresholds open it: consecutive failures, and the percentage of failed and of slow calls among the last calls. The open time
//! grows between two bounds. A contradiction is rejected with both keys; an unset bound follows the one that is set.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::schema::{Section, key, unset};
use crate::section::section;
use crate::value_type::{Choice, Flag, millis, nonzero, percent, seconds, whole};

/// Capacity of the window of calls.
const WINDOW_MAX: u64 = 128;

/// Whether the breaker refuses requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerMode {
    /// open circuits refuse
    On,
    /// circuits never open
    Off,
    /// circuits open and close, and no request is refused
    Shadow,
    /// every request is refused
    ForcedOpen,
}

impl BreakerMode {
    /// The word in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::ForcedOpen => "forced_open",
        }
    }
}

const MODES: Choice<BreakerMode> = Choice(&[
    ("on", BreakerMode::On),
    ("off", BreakerMode::Off),
    ("shadow", BreakerMode::Shadow),
    ("forced_open", BreakerMode::ForcedOpen),
]);

section! {
    /// The circuit breaker in front of an upstream.
    pub struct BreakerConfig {
        /// `on` refuses requests while a circuit is open
        ///
        /// `off` never opens a circuit. `shadow` opens circuits and refuses no request;
        /// `tidegate_circuit_breaker_shadow_refused_total` counts the requests that it would have refused. `forced_open` refuses every
        /// request.
        pub mode: BreakerMode = key("mode", MODES, BreakerMode::On);
        /// separate circuits for reads, writes and listings, so that a failure of one does not stop the others
        pub per_operation: bool = key("per_operation", Flag, true);
        /// consecutive failures that open a circuit
        ///
        /// Watch `tidegate_circuit_breaker_failures` and `tidegate_circuit_breaker_opened_total`.
        pub failure_threshold: NonZeroU32 = key("failure_threshold", whole(1..=1_000_000), nonzero(5));
        /// percentage of failures among the last calls that opens a circuit
        pub failure_rate_threshold: NonZeroU32 = key("failure_rate_threshold", percent(1..=100), nonzero(50));
        /// a call is slow if its first byte takes longer, from the end of the request body
        ///
        /// It must be below `timeout`: a call that takes `timeout` has failed.
        pub slow_call_duration: Option<Duration> =
            unset("slow_call_duration_ms", millis(1..=86_400_000), "no call is slow");
        /// percentage of slow calls among the last calls that opens a circuit
        pub slow_call_rate_threshold: NonZeroU32 =
            key("slow_call_rate_threshold", percent(1..=100), nonzero(50));
        /// number of last calls from which the percentages are computed
        pub window_calls: NonZeroU32 = key("window_calls", whole(1..=WINDOW_MAX), nonzero(100));
        /// minimum number of calls before the percentages apply
        pub minimum_calls: NonZeroU32 = key("minimum_calls", whole(1..=WINDOW_MAX), nonzero(20))
            .default_text("20, or `window_calls` if that is smaller");
        /// first open time; each failed trial doubles it
        pub timeout: Duration = key("timeout_seconds", seconds(0.001..=86_400.0), Duration::from_secs(60));
        /// maximum open time, even if the upstream's Retry-After is longer
        pub max_timeout: Duration = key("max_timeout_seconds", seconds(0.001..=86_400.0), Duration::from_secs(600))
            .default_text("600, or `timeout_seconds` if that is longer");
        /// interval of connection tests while a circuit is open because of failed connections
        ///
        /// The interval varies by ±10 %. A test is a TCP connection without TLS and without a request, to one endpoint after the other,
        /// one at a time. The first success ends the open time, and trial requests decide. An open time after a 5xx, or from
        /// Retry-After, is not shortened. Watch `tidegate_circuit_breaker_probes_total`.
        pub connect_probe_interval: Option<Duration> =
            unset("connect_probe_interval_ms", millis(10..=86_400_000), "no connection is tried");
        /// how long a replayable request waits for an open circuit before it is refused
        ///
        /// A request waits only if the circuit can leave the open state in that time: its open time ends by then, or
        /// `connect_probe_interval_ms` may end it. GET, HEAD, PUT and DELETE with a body of at most 64 KiB are replayable. They hold no
        /// slot of `concurrency` while they wait. It must be at most the total request timeout.
        pub hold: Option<Duration> = unset("hold_ms", millis(1..=86_400_000), "503 at once");
        /// requests that may wait for one circuit; more are refused at once
        ///
        /// All of them are sent when the upstream recovers: keep the number below its spare capacity.
        /// Watch `tidegate_circuit_breaker_waiting`.
        pub max_held: NonZeroU32 = key("max_held", whole(1..=100_000), nonzero(32));
        /// successful trial requests that close a circuit
        pub success_threshold: NonZeroU32 = key("success_threshold", whole(1..=1_000), nonzero(2));
        /// concurrent trial requests
        pub half_open_max_requests: NonZeroU32 =
            key("half_open_max_requests", whole(1..=1_000), nonzero(3));
    }
}

impl BreakerConfig {
    /// Adjusts unset bounds to those that are set, then rejects contradictions.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("max_timeout_seconds") {
            self.max_timeout = self.max_timeout.max(self.timeout);
        }
        if !section.is_set("minimum_calls") {
            self.minimum_calls = self.minimum_calls.min(self.window_calls);
        }
        if self.timeout > self.max_timeout {
            let seconds = |duration: Duration| duration.as_secs_f64().to_string();
            section.refuse_order(
                ("timeout_seconds", seconds(self.timeout)),
                ("max_timeout_seconds", seconds(self.max_timeout)),
                false,
            );
        }
        if self.minimum_calls > self.window_calls {
            section.refuse_order(
                ("minimum_calls", self.minimum_calls.to_string()),
                ("window_calls", self.window_calls.to_string()),
                false,
            );
        }
        if section.is_set("max_held") && !section.is_set("hold_ms") {
            let hold = section.full_key("hold_ms");
            let hint = format!("set {hold}, or remove this key");
            section.refuse("max_held", format!("has no effect without {hold}"), Some(hint));
        }
        if section.is_set("slow_call_rate_threshold") && !section.is_set("slow_call_duration_ms") {
            let duration = section.full_key("slow_call_duration_ms");
            let hint = format!("set {duration}, or remove this key");
            section.refuse(
                "slow_call_rate_threshold",
                format!("has no effect without {duration}"),
                Some(hint),
            );
        }
        self
    }

    /// Requests that may wait for a circuit.
    pub fn held_max(&self) -> usize {
        self.max_held.get() as usize
    }

    /// Rejects a wait that is longer than the total timeout. `section` is the breaker's, `key` is the key of the timeout.
    pub(super) fn check_hold(&self, section: &mut Section<'_>, key: &str, request_timeout: Duration) {
        if let Some(hold) = self.hold.filter(|hold| *hold > request_timeout) {
            let (hold, total) = (hold.as_millis(), request_timeout.as_secs_f64());
            let message = format!("{hold} must be at most {key} ({total} s), which ends every wait");
            section.refuse("hold_ms", message, None);
        }
    }

    /// Rejects a slow call duration at which calls fail. `section` is the breaker's, `key` and `timeout` are the upstream's.
    pub(super) fn check_slow(&self, section: &mut Section<'_>, key: &str, timeout: Duration) {
        if let Some(slow) = self.slow_call_duration.filter(|slow| *slow >= timeout) {
            let (slow, timeout) = (slow.as_millis(), timeout.as_secs_f64());
            section.refuse(
                "slow_call_duration_ms",
                format!("{slow} must be below {key} ({timeout} s), at which a call fails"),
                None,
            );
        }
    }
}
