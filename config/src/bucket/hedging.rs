//! Hedged requests: a second request for a slow read. Off by default: they shorten the latency tail and add load.

use std::num::NonZeroU32;
use std::time::Duration;

use super::policy::{ConcurrencyConfig, ConnectionPoolConfig, RetryConfig};
use crate::schema::{Section, key};
use crate::section::section;
use crate::value_type::{Flag, millis, nonzero, percent, whole};

section! {
    /// Hedged requests for slow reads.
    pub struct HedgingConfig {
        /// sends a GET or HEAD again if it has no response after the bucket's 95th percentile
        ///
        /// The hedge goes to another endpoint if there is one, and the faster response is used. It needs a closed circuit and a free
        /// slot of the bucket, and counts as an attempt of `retry.max_attempts`.
        /// Watch `tidegate_hedges_sent_total`, `tidegate_hedges_won_total` and `tidegate_hedges_suppressed_total`.
        pub enabled: bool = key("enabled", Flag, false);
        /// maximum hedges in percent of the bucket's requests
        pub percent: NonZeroU32 = key("percent", percent(1..=100), nonzero(5));
        /// unused hedges that may accumulate
        pub burst: NonZeroU32 = key("burst", whole(1..=100_000), nonzero(10));
        /// recent reads that the percentile needs; the weight of a read halves every 20 s
        ///
        /// With fewer reads the percentile is unknown and no hedge is sent; `tidegate_hedge_first_byte_p95_seconds` is then 0.
        pub min_calls: NonZeroU32 = key("min_calls", whole(20..=1_000_000), nonzero(100));
        /// minimum wait before a hedge
        pub delay_min: Duration = key("delay_min_ms", millis(1..=3_600_000), Duration::from_millis(10));
        /// maximum wait before a hedge; with a percentile above it the upstream as a whole is slow, and no hedge is sent
        pub delay_max: Duration = key("delay_max_ms", millis(1..=3_600_000), Duration::from_secs(2))
            .default_text("2000, or `delay_min_ms` if that is longer");
    }
}

impl HedgingConfig {
    /// Raises the unset maximum to the minimum, then rejects a maximum below it.
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

    /// Rejects hedging without effect. `section` is the upstream's.
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
        let attempts = section.child("retry").full_key("max_attempts");
        let slots = section.child("concurrency").full_key("max_concurrent");
        let connections = section.child("connection_pool").full_key("size");
        let first_byte = section.full_key("timeout");
        let mut section = section.child("hedging");
        let mut refuse = |key: &str, why: String| section.refuse(key, why, None);
        if retry.max_attempts.get() < 2 {
            refuse("enabled", format!("needs {attempts} of at least 2: a hedge is an attempt"));
        }
        if concurrency.max_concurrent.get() < 2 {
            refuse("enabled", format!("needs {slots} of at least 2: a hedge needs its own slot"));
        }
        if pool.size.get() < 2 {
            refuse("enabled", format!("needs {connections} of at least 2: a hedge needs its own connection"));
        }
        if self.delay_min >= timeout {
            let (delay, timeout) = (self.delay_min.as_millis(), timeout.as_secs_f64());
            refuse(
                "delay_min_ms",
                format!("{delay} must be below {first_byte} ({timeout} s), at which a call fails"),
            );
        }
    }
}
