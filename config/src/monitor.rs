//! The resource monitor: at which share of a limit the gateway starts to give way.

use std::time::Duration;

use crate::form::{bytes, millis, percent, whole};
use crate::section::section;
use crate::walk::{Section, key, unset};

section! {
    /// The resource monitor.
    pub struct MonitorConfig {
        /// percent of a limit at which the level becomes warning
        pub warning: u8 = key("warning", percent(1..=100), 80);
        /// percent at which the level becomes critical and what is not needed is switched off
        pub critical: u8 = key("critical", percent(1..=100), 90);
        /// percent at which new requests are refused with 503
        pub exhausted: u8 = key("exhausted", percent(1..=100), 95);
        /// percent below which the level falls back to normal
        ///
        /// Lower it if the log shows the level going up and down.
        pub recover: u8 = key("recover", percent(1..=100), 80).yielding("80, or `warning` if that is lower");
        /// memory the process may use: its resident set and its socket buffers; takes the place of the cgroup's limit
        ///
        /// Set it where neither a cgroup nor the host has the limit; watch `memory_own_bytes`. A kernel limit below it still kills.
        pub memory_limit_bytes: Option<u64> =
            unset("memory_limit_bytes", bytes(1..=1 << 50), "the cgroup's limit, else the host's memory");
        /// most descriptors the process may have open; a lower limit of the system holds in its place
        ///
        /// Watch `file_descriptors_used`. Below the minimum for one request, about 60, the gateway does not start and names the minimum.
        pub descriptor_limit: Option<u64> =
            unset("descriptor_limit", whole(1..=1 << 30), "the limit of the system");
        /// time between two samples
        pub interval: Duration = key("interval_ms", millis(10..=60_000), Duration::from_millis(250));
        /// the level falls when no sample of this time needed it
        pub dwell: Duration = key("dwell_ms", millis(0..=600_000), Duration::from_secs(2));
    }
}

impl MonitorConfig {
    /// Fits the unset `recover` to the thresholds, then refuses thresholds out of order.
    pub(crate) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("recover") {
            self.recover = self.recover.min(self.warning);
        }
        let ladder = [
            ("recover", self.recover),
            ("warning", self.warning),
            ("critical", self.critical),
            ("exhausted", self.exhausted),
        ];
        for (step, pair) in ladder.windows(2).enumerate() {
            let [(low, low_percent), (high, high_percent)] = *pair else {
                continue;
            };
            let strict = step > 0;
            if low_percent > high_percent || (strict && low_percent == high_percent) {
                section.refuse_order(
                    (low, low_percent.to_string()),
                    (high, high_percent.to_string()),
                    strict,
                );
            }
        }
        self
    }
}
