//! Asking for slow reads a second time. Off unless somebody wants it: it buys a shorter tail with more load.

use std::num::NonZeroU32;
use std::time::Duration;

use super::policy::{ConcurrencyConfig, ConnectionPoolConfig, RetryConfig};
use crate::form::{Flag, millis, nonzero, percent, whole};
use crate::section::section;
use crate::walk::{Section, key};

section! {
    /// Asking for slow reads a second time.
    pub struct HedgingConfig {
        /// a GET or HEAD without an answer after the bucket's 95th percentile is sent once more, to another endpoint where there is one; the faster answer counts
        ///
        /// Only while its circuit is closed and a place of the bucket is free at once. Counts among `retry.max_attempts`.
        /// Watch `hedges_sent_total`, `hedges_won_total` and `hedges_suppressed_total`.
        pub enabled: bool = key("enabled", Flag, false);
        /// hedges in percent of the bucket's requests
        pub percent: NonZeroU32 = key("percent", percent(1..=100), nonzero(5));
        /// hedges that may be saved up while none are needed
        pub burst: NonZeroU32 = key("burst", whole(1..=100_000), nonzero(10));
        /// reads of late without which the percentile is not known; each loses half of its weight in 20 s
        ///
        /// `hedge_first_byte_p95_ms` is 0 while it is not known.
        pub min_calls: NonZeroU32 = key("min_calls", whole(20..=1_000_000), nonzero(100));
        /// the shortest wait before a hedge
        pub delay_min: Duration = key("delay_min_ms", millis(1..=3_600_000), Duration::from_millis(10));
        /// the longest: with a percentile above it the upstream is slow as a whole, and nothing is hedged
        pub delay_max: Duration = key("delay_max_ms", millis(1..=3_600_000), Duration::from_secs(2))
            .yielding("2000, or `delay_min_ms` if that is longer");
    }
}

impl HedgingConfig {
    /// Fits the unset cap to the floor, then refuses a cap below it.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("delay_max_ms") {
            self.delay_max = self.delay_max.max(self.delay_min);
        }
        if self.delay_min > self.delay_max {
            let low = ("delay_min_ms", self.delay_min.as_millis().to_string());
            section.refuse_order(low, ("delay_max_ms", self.delay_max.as_millis().to_string()), false);
        }
        self
    }

    /// Refuses to be on where it could never do anything. `section` is the upstream's.
    pub(super) fn check(
        &self,
        section: &mut Section<'_>,
        retry: &RetryConfig,
        (concurrency, pool): (&ConcurrencyConfig, &ConnectionPoolConfig),
        timeout: Duration,
    ) {
        if !self.enabled {
            return;
        }
        let attempts = section.child("retry").spell("max_attempts");
        let places = section.child("concurrency").spell("max_concurrent");
        let connections = section.child("connection_pool").spell("size");
        let first_byte = section.spell("timeout");
        let mut section = section.child("hedging");
        let mut refuse = |key: &str, why: String| section.refuse(key, why, None);
        if retry.max_attempts.get() < 2 {
            refuse("enabled", format!("true needs {attempts} to be at least 2: a hedge is an attempt"));
        }
        if concurrency.max_concurrent.get() < 2 {
            refuse(
                "enabled",
                format!("true needs {places} to be at least 2: a hedge has a place of its own"),
            );
        }
        if pool.size.get() < 2 {
            refuse(
                "enabled",
                format!("true needs {connections} to be at least 2: a hedge has a connection of its own"),
            );
        }
        if self.delay_min >= timeout {
            let (delay, timeout) = (self.delay_min.as_millis(), timeout.as_secs_f64());
            refuse(
                "delay_min_ms",
                format!("{delay} must be below {first_byte} ({timeout} s): what takes that long has failed"),
            );
        }
    }
}
