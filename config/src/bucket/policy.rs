//! Retries, connections and concurrency towards an upstream.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::priority::PriorityConfig;
use crate::schema::{Section, key, nested};
use crate::section::section;
use crate::shedding::QueueSheddingConfig;
use crate::value_type::{
    Choice, Flag, decimal, millis, nonzero, nonzero_size, or_auto, percent, seconds, whole,
};

section! {
    /// Retries towards an upstream.
    pub struct RetryConfig {
        /// attempts of a request in total; 1 turns retries off
        ///
        /// Watch `tidegate_s3_retry_attempts_total` against `tidegate_s3_retry_success_total`.
        pub max_attempts: NonZeroU32 = key("max_attempts", whole(1..=10), nonzero(3));
        /// maximum pause before the second attempt; it doubles with each further attempt, and jitter shortens it
        pub initial_backoff: Duration =
            key("initial_backoff_ms", millis(0..=60_000), Duration::from_millis(100));
        /// maximum pause before any attempt
        pub max_backoff: Duration = key("max_backoff_ms", millis(0..=60_000), Duration::from_secs(1))
            .default_text("1000, or `initial_backoff_ms` if that is longer");
        /// retry budget: limits retries relative to requests, so that retries cannot amplify an outage
        pub budget: RetryBudgetConfig = nested("budget");
    }
}

section! {
    /// Retry budget of a bucket.
    #[derive(Copy)]
    pub struct RetryBudgetConfig {
        /// maximum retries in percent of requests: in ten seconds, and of those in flight
        ///
        /// `tidegate_retry_budget_exhausted_total` counts the retries that the budget did not allow.
        pub percent: u32 = key("percent", percent(0..=100), 20);
        /// retries per second that are always allowed, as an average over ten seconds
        pub min_per_second: u32 = key("min_per_second", whole(0..=100_000), 5);
        /// retries in flight that are always allowed
        pub min_concurrent: u32 = key("min_concurrent", whole(0..=100_000), 10);
    }
}

impl RetryConfig {
    /// Raises the unset maximum to the first pause, then rejects a maximum below it.
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
        /// maximum connections to the upstream
        ///
        /// Watch `tidegate_connection_pool_active` and `tidegate_connection_pool_wait_time_seconds`.
        pub size: NonZeroUsize = key("size", whole(1..=100_000), nonzero_size(50))
            .default_text("50, or `concurrency.max_concurrent` if that is larger");
        /// maximum idle connections
        ///
        /// Watch `tidegate_connection_pool_idle`.
        pub max_idle: usize = key("max_idle", whole(0..=100_000), 10).default_text("10, or `size` if that is smaller");
        /// how long an idle connection is kept
        ///
        /// Shorter than the keep-alive of the upstream. If the upstream sends `Keep-Alive: timeout=`, its time applies where it is shorter.
        pub idle_timeout: Duration =
            key("idle_timeout", seconds(0.1..=3_600.0), Duration::from_secs(15));
        /// receive buffer of the kernel for one connection
        ///
        /// `auto` follows the speed of the client, within `server.buffer_budget`. A fixed size applies to every connection, even if its
        /// client reads slowly, and does not count in `server.buffer_budget`. A size above `net.core.rmem_max` is treated as `auto`.
        pub receive_buffer: Option<u64> =
            key("receive_buffer", or_auto(4096..=1 << 30), None);
    }
}

impl ConnectionPoolConfig {
    /// Lowers the unset idle maximum to the pool size, then rejects an idle maximum above it.
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
    /// Concurrent and waiting requests of an upstream.
    pub struct ConcurrencyConfig {
        /// maximum concurrent requests to the upstream
        ///
        /// Set it to the number that the upstream serves well. Watch `tidegate_request_queue_depth`.
        pub max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(50))
            .default_text("50, or `connection_pool.size` if that is smaller");
        /// maximum requests in the wait queue; 0 refuses at once
        pub max_queued: usize = key("max_queued", whole(0..=1_000_000), 100);
        /// maximum time in the wait queue; beyond it 503
        pub queue_timeout: Duration = key("queue_timeout_ms", millis(0..=600_000), Duration::from_secs(1))
            .default_text("1000, or the total request timeout if that is shorter");
        /// discipline of the wait queue under overload
        ///
        /// With `fifo` each request waits until it is served or its time is over. With `codel` (controlled delay) an overloaded queue
        /// serves the newest request first and refuses requests that waited longer than `codel_target_ms`. A short burst is served in its
        /// order with either. Watch `tidegate_request_queue_rejections_total` with reason `overload`.
        pub overload: Overload = key("overload", OVERLOADS, Overload::Fifo);
        /// acceptable wait; a longer wait of the oldest request for a whole `codel_interval_ms` is overload
        pub codel_target: Duration = key("codel_target_ms", millis(1..=600_000), Duration::from_millis(20));
        /// how long waits must exceed `codel_target_ms` to be overload; overload ends when the queue is empty
        pub codel_interval: Duration =
            key("codel_interval_ms", millis(1..=600_000), Duration::from_millis(100));
        /// priority classes of the wait queue
        pub priority: PriorityConfig = nested("priority");
        /// shedding: refuses requests before the queue while it is slow
        pub shedding: QueueSheddingConfig = nested("shedding");
        /// adaptive concurrency: finds the number of concurrent requests that the upstream serves well
        pub adaptive: AdaptiveConfig = nested("adaptive");
    }
}

section! {
    /// Adaptive concurrency limit of an upstream, up to `max_concurrent`.
    pub struct AdaptiveConfig {
        /// adapts the concurrency limit to the latency of the upstream, up to `max_concurrent`
        ///
        /// The limit falls on timeouts, on throttling (429, 503) and on rising latency. It rises again while requests use it up.
        /// Watch `tidegate_bucket_concurrency_limit` and `tidegate_bucket_concurrency_limit_reductions_total`.
        pub enabled: bool = key("enabled", Flag, false);
        /// minimum of the adaptive limit, and its initial value
        pub min: NonZeroUsize = key("min", whole(1..=100_000), nonzero_size(3))
            .default_text("3, or `max_concurrent` if that is smaller");
        /// median latency, as a multiple of the latency without load, at which the limit falls
        pub latency_tolerance: f64 = key("latency_tolerance", decimal(1.1..=100.0), 1.5);
        /// minimum time between two changes of the limit
        ///
        /// Requests that began before the last change do not change the limit again.
        pub interval: Duration = key("interval_ms", millis(10..=60_000), Duration::from_millis(100));
    }
}

/// Discipline of the wait queue under overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// first come, first served
    Fifo,
    /// controlled delay: the newest first, the oldest refused
    Codel,
}

const OVERLOADS: Choice<Overload> = Choice(&[("fifo", Overload::Fifo), ("codel", Overload::Codel)]);

impl ConcurrencyConfig {
    /// Lowers the unset minimum to the limit, then rejects a minimum above it and contradictions of the queue's keys.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        self.check_queue(section);
        let (most, key) = (self.max_concurrent, section.full_key("max_concurrent"));
        let (adaptive, section) = (&mut self.adaptive, &mut section.child("adaptive"));
        if !section.is_set("min") {
            adaptive.min = adaptive.min.min(most);
        }
        if adaptive.min > most {
            section.refuse("min", format!("{} must be at most {key} ({most})", adaptive.min), None);
        }
        self
    }

    /// Rejects keys of a queue that is off, and times that contradict each other.
    fn check_queue(&self, section: &mut Section<'_>) {
        match self.overload {
            Overload::Fifo => {
                for name in ["codel_target_ms", "codel_interval_ms"] {
                    if section.is_set(name) {
                        let message = format!("has no effect: {} is not codel", section.full_key("overload"));
                        section.refuse(name, message, None);
                    }
                }
            }
            Overload::Codel if self.max_queued == 0 => {
                let message =
                    format!("has no effect: {} is 0, so no request waits", section.full_key("max_queued"));
                section.refuse("overload", message, None);
            }
            Overload::Codel => {
                let millis_text = |time: Duration| time.as_millis().to_string();
                let target = ("codel_target_ms", millis_text(self.codel_target));
                let interval = ("codel_interval_ms", millis_text(self.codel_interval));
                if self.codel_target > self.codel_interval {
                    section.refuse_order(target.clone(), interval, false);
                }
                if self.codel_target > self.queue_timeout {
                    section.refuse_order(
                        target,
                        ("queue_timeout_ms", millis_text(self.queue_timeout)),
                        false,
                    );
                }
            }
        }
        for name in ["priority", "shedding"] {
            if self.max_queued == 0 && section.is_set_within(name) {
                let message =
                    format!("has no effect: {} is 0, so no request waits", section.full_key("max_queued"));
                section.refuse(name, message, None);
            }
        }
    }

    /// Rejects a wait that is longer than the total timeout. `key` is the key of the timeout.
    pub(super) fn check_deadline(&self, section: &mut Section<'_>, key: &str, request_timeout: Duration) {
        let target = self.shedding.target_wait.filter(|target| *target > self.queue_timeout);
        if let Some(target) = target {
            let timeout = section.full_key("queue_timeout_ms");
            let (target, most) = (target.as_millis(), self.queue_timeout.as_millis());
            let message = format!("{target} must be at most {timeout} ({most}), which ends every wait");
            section.child("shedding").refuse("target_wait_ms", message, None);
        }
        if section.is_set("queue_timeout_ms") && self.queue_timeout > request_timeout {
            let (queue, total) = (self.queue_timeout.as_millis(), request_timeout.as_secs_f64());
            let message = format!("{queue} must be at most {key} ({total} s), which ends every wait");
            section.refuse("queue_timeout_ms", message, None);
        }
    }
}
