//! The resource monitor: the usage thresholds at which the gateway sheds load.

use std::time::Duration;

use crate::schema::{Section, key, unset};
use crate::section::section;
use crate::value_type::{bytes, millis, percent, whole};

section! {
    /// The resource monitor.
    pub struct MonitorConfig {
        /// usage in percent of a limit at which the level becomes warning
        pub warning: u8 = key("warning", percent(1..=100), 80);
        /// usage in percent at which the level becomes critical and optional features are switched off
        pub critical: u8 = key("critical", percent(1..=100), 90);
        /// usage in percent at which new requests get 503
        pub exhausted: u8 = key("exhausted", percent(1..=100), 95);
        /// usage in percent below which the level returns to normal
        ///
        /// Lower it if the log shows the level going up and down.
        pub recover: u8 = key("recover", percent(1..=100), 80).default_text("80, or `warning` if that is lower");
        /// memory limit of the process: resident set and socket buffers; it replaces the cgroup's limit
        ///
        /// Set it if neither a cgroup nor the host has the right limit. If the limit of the kernel is lower, the kernel still kills
        /// the process. Watch `tidegate_memory_own_bytes`.
        pub memory_limit_bytes: Option<u64> =
            unset("memory_limit_bytes", bytes(1..=1 << 50), "the cgroup's limit, else the host's memory");
        /// open file descriptors of the process; a lower limit of the system applies instead
        ///
        /// Below the minimum for one request, about 60, the gateway does not start and names the minimum.
        /// Watch `tidegate_file_descriptors_used`.
        pub descriptor_limit: Option<u64> =
            unset("descriptor_limit", whole(1..=1 << 30), "the limit of the system");
        /// pressure stall information ("some avg10") of the processors that counts as full use; by default it causes no level
        ///
        /// Set it where the process has processors of its own. The thresholds above are then percentages of it, and the level is
        /// `warning` at most. Watch `tidegate_resource_used{resource="cpu"}`.
        pub cpu_pressure_limit: Option<u8> =
            unset("cpu_pressure_limit", percent(1..=100), "none: CPU pressure causes no level");
        /// interval between two samples of the resources
        pub interval: Duration = key("interval_ms", millis(10..=60_000), Duration::from_millis(100));
        /// how long all samples must be below a level before the level falls
        pub dwell: Duration = key("dwell_ms", millis(0..=600_000), Duration::from_secs(2));
    }
}

impl MonitorConfig {
    /// Lowers the unset `recover` to `warning`, then rejects thresholds that are out of order.
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
