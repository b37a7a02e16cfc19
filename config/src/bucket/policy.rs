//! What a bucket does about a troubled upstream: try again, stop trying, and keep its load bounded.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::form::{Choice, Flag, decimal, millis, nonzero, nonzero_size, or_auto, percent, whole};
use crate::priority::PriorityConfig;
use crate::section::section;
use crate::walk::{Section, key, nested};

section! {
    /// Retries towards an upstream.
    pub struct RetryConfig {
        /// attempts in all; 1 never retries
        ///
        /// Watch `s3_retry_attempts_total` against `s3_retry_success_total`.
        pub max_attempts: NonZeroU32 = key("max_attempts", whole(1..=10), nonzero(3));
        /// longest pause before the second attempt; each further one doubles it, and jitter shortens it
        pub initial_backoff: Duration =
            key("initial_backoff_ms", millis(0..=60_000), Duration::from_millis(100));
        /// longest pause before any attempt
        pub max_backoff: Duration = key("max_backoff_ms", millis(0..=60_000), Duration::from_secs(1))
            .yielding("1000, or `initial_backoff_ms` if that is longer");
        /// how many retries the bucket may make beside its requests, so that they cannot feed an outage
        pub budget: RetryBudgetConfig = nested("budget");
    }
}

section! {
    /// How many retries a bucket may make beside its requests.
    #[derive(Copy)]
    pub struct RetryBudgetConfig {
        /// retries in ten seconds in percent of their requests, and retries under way in percent of the requests under way
        ///
        /// `retry_budget_exhausted_total` counts the retries that it did not allow.
        pub percent: u32 = key("percent", percent(0..=100), 20);
        /// as many retries a second are allowed to few requests, taken over ten seconds
        pub min_per_second: u32 = key("min_per_second", whole(0..=100_000), 5);
        /// as many retries under way are allowed to few requests
        pub min_concurrent: u32 = key("min_concurrent", whole(0..=100_000), 10);
    }
}

impl RetryConfig {
    /// Fits the unset cap to the first pause, then refuses a cap below it.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("max_backoff_ms") {
            self.max_backoff = self.max_backoff.max(self.initial_backoff);
        }
        if self.initial_backoff > self.max_backoff {
            let low = ("initial_backoff_ms", self.initial_backoff.as_millis().to_string());
            section.refuse_order(low, ("max_backoff_ms", self.max_backoff.as_millis().to_string()), false);
        }
        self
    }
}

section! {
    /// Connections to an upstream.
    pub struct ConnectionPoolConfig {
        /// connections to the upstream
        ///
        /// Watch `connection_pool_active` and `connection_pool_wait_time_ms`.
        pub size: NonZeroUsize = key("size", whole(1..=100_000), nonzero_size(50))
            .yielding("50, or `concurrency.max_concurrent` if that is larger");
        /// idle connections that are kept
        ///
        /// Watch `connection_pool_idle`.
        pub max_idle: usize = key("max_idle", whole(0..=100_000), 10).yielding("10, or `size` if that is smaller");
        /// what the kernel may hold of an answer on one connection; "auto" follows the pace of the client within `server.buffer_budget`
        ///
        /// A fixed size counts for every connection, however slowly its client reads, and not in `server.buffer_budget`. A size over
        /// `net.core.rmem_max` is treated as `auto`.
        pub receive_buffer: Option<u64> =
            key("receive_buffer", or_auto(4096..=1 << 30), None);
    }
}

impl ConnectionPoolConfig {
    /// Fits the unset idle count to the pool, then refuses to keep more than there can be.
    pub(super) fn check(&mut self, section: &mut Section<'_>) {
        if !section.is_set("max_idle") {
            self.max_idle = self.max_idle.min(self.size.get());
        }
        if self.max_idle > self.size.get() {
            section.refuse_order(
                ("max_idle", self.max_idle.to_string()),
                ("size", self.size.to_string()),
                false,
            );
        }
    }
}

section! {
    /// Requests towards an upstream, and those that wait.
    pub struct ConcurrencyConfig {
        /// requests that may be under way to the upstream
        ///
        /// Set it to what the upstream serves well at a time; watch `request_queue_depth`.
        pub max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(50));
        /// requests that may wait for their turn; 0 refuses at once
        pub max_queued: usize = key("max_queued", whole(0..=1_000_000), 100);
        /// how long a request may wait for its turn before it is refused with 503
        pub queue_timeout: Duration = key("queue_timeout_ms", millis(0..=600_000), Duration::from_secs(1))
            .yielding("1000, or the total request timeout if that is shorter");
        /// what becomes of a queue that does not drain: `fifo` has all wait their time out, `codel` serves the newest first and
        /// refuses those who waited longer than `codel_target_ms`
        ///
        /// A burst is served in its order under either. Watch `request_queue_rejections_total` with reason `overload`.
        pub overload: Overload = key("overload", OVERLOADS, Overload::Fifo);
        /// the longest wait that is no worry; while the oldest waits longer for a whole `codel_interval_ms`, more comes than is served
        pub codel_target: Duration = key("codel_target_ms", millis(1..=600_000), Duration::from_millis(20));
        /// how long a longer wait must last to be overload, which ends when the queue has been empty
        pub codel_interval: Duration =
            key("codel_interval_ms", millis(1..=600_000), Duration::from_millis(100));
        /// who waits before whom
        pub priority: PriorityConfig = nested("priority");
        /// learning how many requests the upstream serves well at a time
        pub adaptive: AdaptiveConfig = nested("adaptive");
    }
}

section! {
    /// Learning how many requests an upstream serves well at a time, up to `max_concurrent`.
    pub struct AdaptiveConfig {
        /// lowers the limit on timeouts, on throttling (429, 503) and as answers take longer, and raises it again while it is used
        ///
        /// Watch `bucket_concurrency_limit` and `bucket_concurrency_limit_reductions_total`.
        pub enabled: bool = key("enabled", Flag, false);
        /// the lowest limit, which it also begins with
        pub min: NonZeroUsize = key("min", whole(1..=100_000), nonzero_size(3))
            .yielding("3, or `max_concurrent` if that is smaller");
        /// how many times as long as without load answers may take, in the median, before the limit is lowered
        pub latency_tolerance: f64 = key("latency_tolerance", decimal(1.1..=100.0), 1.5);
        /// how often the limit may move at most; requests that began before its last step never move it
        pub interval: Duration = key("interval_ms", millis(10..=60_000), Duration::from_millis(100));
    }
}

/// What becomes of a queue that does not drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// first come, first served, however late
    Fifo,
    /// controlled delay: the newest first, the oldest refused
    Codel,
}

const OVERLOADS: Choice<Overload> = Choice(&[("fifo", Overload::Fifo), ("codel", Overload::Codel)]);

impl ConcurrencyConfig {
    /// Fits the unset floor to the limit, then refuses a floor above it, and what a queue cannot be.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        self.check_queue(section);
        let (most, key) = (self.max_concurrent, section.spell("max_concurrent"));
        let (adaptive, section) = (&mut self.adaptive, &mut section.child("adaptive"));
        if !section.is_set("min") {
            adaptive.min = adaptive.min.min(most);
        }
        if adaptive.min > most {
            section.refuse("min", format!("{} must be at most {key} ({most})", adaptive.min), None);
        }
        self
    }

    /// Classes and disciplines of a queue that is not there would be believed in, and times out of order mean nothing.
    fn check_queue(&self, section: &mut Section<'_>) {
        match self.overload {
            Overload::Fifo => {
                for name in ["codel_target_ms", "codel_interval_ms"] {
                    if section.is_set(name) {
                        let message = format!("has no effect: {} is not codel", section.spell("overload"));
                        section.refuse(name, message, None);
                    }
                }
            }
            Overload::Codel if self.max_queued == 0 => {
                let message = format!("has no effect: {} is 0, so nobody waits", section.spell("max_queued"));
                section.refuse("overload", message, None);
            }
            Overload::Codel => {
                let shown = |time: Duration| time.as_millis().to_string();
                let target = ("codel_target_ms", shown(self.codel_target));
                let interval = ("codel_interval_ms", shown(self.codel_interval));
                if self.codel_target > self.codel_interval {
                    section.refuse_order(target.clone(), interval, false);
                }
                if self.codel_target > self.queue_timeout {
                    section.refuse_order(target, ("queue_timeout_ms", shown(self.queue_timeout)), false);
                }
            }
        }
        if self.max_queued == 0 && section.origin_within("priority").is_some() {
            let message = format!("has no effect: {} is 0, so nobody waits", section.spell("max_queued"));
            section.refuse("priority", message, None);
        }
    }

    /// Refuses to let a request wait past its own deadline. `key` is the deadline's.
    pub(super) fn check_deadline(&self, section: &mut Section<'_>, key: &str, request_timeout: Duration) {
        if section.is_set("queue_timeout_ms") && self.queue_timeout > request_timeout {
            let (queue, total) = (self.queue_timeout.as_millis(), request_timeout.as_secs_f64());
            let message = format!("{queue} must be at most {key} ({total} s): nobody waits past that");
            section.refuse("queue_timeout_ms", message, None);
        }
    }
}
