//! When an upstream is left alone, for how long, and how it is trusted again.
//!
//! Three ways to fail, each with a threshold of its own: failures in a row, the share of failures and the share of slow
//! calls among the last calls. Times grow between two bounds. What contradicts itself is refused with both keys named;
//! a bound that nobody set gives way to the one that somebody did.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::form::{Choice, Flag, millis, nonzero, percent, seconds, whole};
use crate::section::section;
use crate::walk::{Section, key, unset};

/// Calls that a circuit can remember at most.
const WINDOW_MAX: u64 = 128;

/// What becomes of the breaker's verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerMode {
    /// open circuits refuse
    On,
    /// circuits never open
    Off,
    /// circuits open and close, and nobody is refused
    Shadow,
    /// everything is refused
    ForcedOpen,
}

impl BreakerMode {
    /// The word for it.
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
        /// what becomes of its verdicts: `on` refuses while it is open, `off` never opens, `shadow` only counts, `forced_open` refuses everything
        ///
        /// `circuit_breaker_shadow_refused_total` counts what `shadow` would have refused.
        pub mode: BreakerMode = key("mode", MODES, BreakerMode::On);
        /// one circuit each for reads, writes and listings, so that a broken one leaves the others alone
        pub per_operation: bool = key("per_operation", Flag, true);
        /// failures in a row that open it
        ///
        /// Watch `circuit_breaker_failures` and `circuit_breaker_opened_total`.
        pub failure_threshold: NonZeroU32 = key("failure_threshold", whole(1..=1_000_000), nonzero(5));
        /// percentage of the last calls that failed, from which on it opens
        pub failure_rate_threshold: NonZeroU32 = key("failure_rate_threshold", percent(1..=100), nonzero(50));
        /// a call whose first byte takes longer is slow; counted from the end of the request's body
        ///
        /// Must be below `timeout`: a call that takes that long has failed.
        pub slow_call_duration: Option<Duration> =
            unset("slow_call_duration_ms", millis(1..=86_400_000), "no call is slow");
        /// percentage of the last calls that were slow, from which on it opens
        pub slow_call_rate_threshold: NonZeroU32 =
            key("slow_call_rate_threshold", percent(1..=100), nonzero(50));
        /// calls that percentages are taken of
        pub window_calls: NonZeroU32 = key("window_calls", whole(1..=WINDOW_MAX), nonzero(100));
        /// calls without which there is no percentage
        pub minimum_calls: NonZeroU32 = key("minimum_calls", whole(1..=WINDOW_MAX), nonzero(20))
            .yielding("20, or `window_calls` if that is smaller");
        /// how long it stays open the first time; each failed trial doubles that
        pub timeout: Duration = key("timeout_seconds", seconds(0.001..=86_400.0), Duration::from_secs(60));
        /// how long it stays open at most, whatever the upstream's Retry-After asks for
        pub max_timeout: Duration = key("max_timeout_seconds", seconds(0.001..=86_400.0), Duration::from_secs(600))
            .yielding("600, or `timeout_seconds` if that is longer");
        /// how often a connection is tried, give or take a tenth, while it is open because none could be made; the first that succeeds ends the open time, and trials decide
        ///
        /// A bare TCP connection, to one endpoint after the other, one at a time; no TLS, no request. What a 5xx or its
        /// Retry-After asked for runs to its end. Watch `circuit_breaker_probes_total`.
        pub connect_probe_interval: Option<Duration> =
            unset("connect_probe_interval_ms", millis(10..=86_400_000), "no connection is tried");
        /// how long a request that can be repeated waits for an open circuit before it is refused, if the circuit can open in that time
        ///
        /// It can if its open time ends by then, or if `connect_probe_interval_ms` may end it. GET, HEAD, PUT and DELETE
        /// with a body of at most 64 KiB wait, holding no place of `concurrency`. At most the total request timeout.
        pub hold: Option<Duration> = unset("hold_ms", millis(1..=86_400_000), "503 at once");
        /// requests that may wait for one circuit; one more is refused at once
        ///
        /// All of them are sent when the upstream comes back: keep it below what it can take on top of its ordinary
        /// load. Watch `circuit_breaker_held`.
        pub max_held: NonZeroU32 = key("max_held", whole(1..=100_000), nonzero(32));
        /// successes of trial requests that close it
        pub success_threshold: NonZeroU32 = key("success_threshold", whole(1..=1_000), nonzero(2));
        /// trial requests that may be under way at a time
        pub half_open_max_requests: NonZeroU32 =
            key("half_open_max_requests", whole(1..=1_000), nonzero(3));
    }
}

impl BreakerConfig {
    /// Fits unset bounds to those that are set, then refuses what contradicts itself.
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
            let hold = section.spell("hold_ms");
            let hint = format!("say with {hold} how long, or take this away");
            section.refuse("max_held", format!("has no effect without {hold}"), Some(hint));
        }
        if section.is_set("slow_call_rate_threshold") && !section.is_set("slow_call_duration_ms") {
            let duration = section.spell("slow_call_duration_ms");
            let hint = format!("say with {duration} what is slow, or take this away");
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

    /// Refuses to have a request wait past its own deadline. `section` is the breaker's, `key` the deadline's.
    pub(super) fn check_hold(&self, section: &mut Section<'_>, key: &str, request_timeout: Duration) {
        if let Some(hold) = self.hold.filter(|hold| *hold > request_timeout) {
            let (hold, total) = (hold.as_millis(), request_timeout.as_secs_f64());
            let message = format!("{hold} must be at most {key} ({total} s): nobody waits past that");
            section.refuse("hold_ms", message, None);
        }
    }

    /// Refuses to call slow what has failed already. `section` is the breaker's, `key` and `timeout` the upstream's.
    pub(super) fn check_slow(&self, section: &mut Section<'_>, key: &str, timeout: Duration) {
        if let Some(slow) = self.slow_call_duration.filter(|slow| *slow >= timeout) {
            let (slow, timeout) = (slow.as_millis(), timeout.as_secs_f64());
            section.refuse(
                "slow_call_duration_ms",
                format!("{slow} must be below {key} ({timeout} s): what takes that long has failed"),
                None,
            );
        }
    }
}
