//! Metrics of the request path (O3), and the answer to a scrape (`exposition.rs`).
//!
//! They are resolved per bucket when a configuration is loaded, so that counting is one atomic operation. Label values come from the
//! configuration and the code, never from a client, and a counter that can count is exposed at 0 from the start. A bucket that a reload
//! changes goes on with its series; `removal.rs` removes those of one that is gone.

pub(crate) mod connections;
mod errors;
pub(crate) mod exposition;
pub(crate) mod hedges;
mod histogram;
mod openmetrics;
mod process;
pub(crate) mod reasons;
mod removal;
pub(crate) mod timings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use slog::Logger;
use tidegate_actors::LazyCounter;
use tidegate_config::{BreakerMode, BucketConfig, Config, Kind};

use connections::{ClientConnectionMetrics, UpstreamConnectionFamilies, UpstreamConnectionMetrics};
use errors::ErrorCounters;
pub(crate) use errors::ErrorFamily;
use exposition::Exposition;
use hedges::{HedgeFamilies, HedgeMetrics};
use reasons::ReasonScope;
use timings::{RequestTimes, TimingFamilies};

/// Unusual values of `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryAfterAnomaly {
    /// Neither whole seconds nor a date. It is ignored.
    Malformed,
    /// A date in the past. It counts as zero.
    Past,
    /// Longer than the maximum. It is capped.
    Capped,
}

impl RetryAfterAnomaly {
    pub(crate) const ALL: [Self; 3] = [Self::Malformed, Self::Past, Self::Capped];

    /// The value of the metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Past => "past",
            Self::Capped => "capped",
        }
    }
}

/// Metric families of the request path.
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    times: TimingFamilies,
    received: IntCounterVec,
    sent: IntCounterVec,
    errors: ErrorFamily,
    retry_attempts: IntCounterVec,
    retry_success: IntCounterVec,
    retry_exhausted: IntCounterVec,
    retry_left_to_client: IntCounterVec,
    odd_retry_after: IntCounterVec,
    probes: IntCounterVec,
    credential_checks: IntCounterVec,
    clock_refusals: IntCounterVec,
    hedges: HedgeFamilies,
    connections: UpstreamConnectionFamilies,
    pub(crate) client_connections: ClientConnectionMetrics,
    unrouted_family: ErrorFamily,
    pub(crate) unrouted: UnroutedCounters,
    pub(crate) exposition: Exposition,
    send_buffer: IntGauge,
}

/// Reloads of the listeners' certificates.
#[derive(Clone)]
pub(crate) struct TlsMetrics {
    pub(crate) loaded: IntCounter,
    pub(crate) refused: IntCounter,
}

impl TlsMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("tls_reloads_total", "reloads of certificates, by result");
        let family = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(family.clone()))?;
        let result = |result: &str| family.with_label_values(&[result]);
        Ok(Self { loaded: result("loaded"), refused: result("refused") })
    }
}

/// The metrics of one bucket.
pub(crate) struct BucketMetrics {
    classes: [IntCounter; 5],
    pub(crate) times: RequestTimes,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) retry_attempts: LazyCounter,
    pub(crate) retry_success: LazyCounter,
    pub(crate) retry_exhausted: LazyCounter,
    pub(crate) retry_left_to_client: LazyCounter,
    odd_retry_after: [IntCounter; 3],
    probes: [LazyCounter; 2],
    pub(crate) clock_refused: LazyCounter,
    pub(crate) hedges: HedgeMetrics,
    errors: Arc<ErrorCounters>,
    credential_checks: IntCounterVec,
    name: String,
    pub(crate) connections: UpstreamConnectionMetrics,
}

/// The counters of requests that reach no bucket, by reason.
pub(crate) struct UnroutedCounters(ArcSwap<ErrorCounters>);

impl UnroutedCounters {
    pub(crate) fn count(&self, reason: &'static str) {
        self.0.load().count(reason);
    }
}

/// Registers a family of counters.
fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let family = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

impl RequestMetrics {
    pub(crate) fn register(
        registry: &Registry,
        config: &Config,
        log: &Logger,
    ) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| counters(registry, name, help, labels);
        let times = TimingFamilies::register(registry, &config.metrics.buckets)?;
        let errors = |named, labels: &[&str]| ErrorFamily::register(registry, named, labels, log);
        let unrouted = errors(("unrouted_total", "requests refused before a bucket was known"), &["reason"])?;
        let send_buffer = IntGauge::new(
            "send_buffer_bytes",
            "bytes of finished answers that clients have not received yet",
        )?;
        registry.register(Box::new(send_buffer.clone()))?;
        Ok(Self {
            requests: counter(
                "requests_total",
                "requests by status class of the answer",
                &["bucket", "class"],
            )?,
            exposition: Exposition::new(registry, &config.metrics.namespace, &times.requests)?,
            times,
            received: counter("received_bytes_total", "body bytes received from clients", &["bucket"])?,
            sent: counter("sent_bytes_total", "body bytes sent to clients", &["bucket"])?,
            errors: errors(
                ("errors_total", "local replies of the gateway and broken transfers, by reason"),
                &["bucket", "reason"],
            )?,
            retry_attempts: counter(
                "s3_retry_attempts_total",
                "upstream attempts after the first",
                &["bucket"],
            )?,
            retry_success: counter(
                "s3_retry_success_total",
                "requests that succeeded after a retry",
                &["bucket"],
            )?,
            retry_exhausted: counter(
                "s3_retry_exhausted_total",
                "requests that failed in every attempt",
                &["bucket"],
            )?,
            retry_left_to_client: counter(
                "retry_left_to_client_total",
                "failed attempts without a retry because the request is a retry of the client",
                &["bucket"],
            )?,
            odd_retry_after: counter(
                "upstream_retry_after_odd_total",
                "Retry-After headers of the upstream that were ignored, already over, or too long to wait for",
                &["bucket", "oddity"],
            )?,
            probes: counter(
                "circuit_breaker_probes_total",
                "test connections while a circuit was open because of failed connections",
                &["bucket", "result"],
            )?,
            credential_checks: counter(
                "upstream_credential_checks_total",
                "checks of suspect upstream credentials by the gateway, by result",
                &["bucket", "result"],
            )?,
            clock_refusals: counter(
                "upstream_clock_refusals_total",
                "signatures of the gateway that the store refused because of their time",
                &["bucket"],
            )?,
            hedges: HedgeFamilies::register(registry)?,
            connections: UpstreamConnectionFamilies::register(registry)?,
            client_connections: ClientConnectionMetrics::register(registry, config)?,
            unrouted: UnroutedCounters(ArcSwap::new(unrouted.counters(None, reasons::unrouted(config)))),
            unrouted_family: unrouted,
            send_buffer,
        })
    }

    /// The metrics of one bucket of the configuration.
    pub(crate) fn bucket(
        &self,
        name: &str,
        (scope, bucket): (ReasonScope<'_>, &BucketConfig),
    ) -> BucketMetrics {
        let retries = bucket.upstream.retry.max_attempts.get() > 1;
        let may_open = matches!(bucket.upstream.circuit_breaker.mode, BreakerMode::On | BreakerMode::Shadow);
        let class = |class: &str| self.requests.with_label_values(&[name, class]);
        let one = [name];
        BucketMetrics {
            classes: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            times: self.times.bucket(name, bucket),
            received: self.received.with_label_values(&one),
            sent: self.sent.with_label_values(&one),
            retry_attempts: LazyCounter::new(&self.retry_attempts, &one, retries),
            retry_success: LazyCounter::new(&self.retry_success, &one, retries),
            retry_exhausted: LazyCounter::new(&self.retry_exhausted, &one, retries),
            retry_left_to_client: LazyCounter::new(&self.retry_left_to_client, &one, retries),
            odd_retry_after: RetryAfterAnomaly::ALL
                .map(|anomaly| self.odd_retry_after.with_label_values(&[name, anomaly.as_str()])),
            probes: ["failed", "reached"]
                .map(|result| LazyCounter::new(&self.probes, &[name, result], may_open)),
            clock_refused: LazyCounter::new(&self.clock_refusals, &one, bucket.kind == Kind::S3),
            hedges: self.hedges.bucket(name, bucket.upstream.hedging.enabled),
            errors: self.errors.counters(Some(name), reasons::of_bucket(scope, bucket)),
            credential_checks: self.credential_checks.clone(),
            name: name.to_owned(),
            connections: self.connections.bucket(name),
        }
    }

    /// Exposes the reasons that become possible for requests without a bucket.
    pub(crate) fn reconfigure_unrouted(&self, config: &Config) {
        self.unrouted.0.store(self.unrouted_family.counters(None, reasons::unrouted(config)));
    }

    /// The counters of refusals: by bucket, and before a bucket was known.
    pub(crate) fn refusals(&self) -> [ErrorFamily; 2] {
        [self.errors.clone(), self.unrouted_family.clone()]
    }

    /// Sets the gauge. Called for each scrape.
    pub(crate) fn observe_send_buffer(&self, bytes: u64) {
        self.send_buffer.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl BucketMetrics {
    pub(crate) fn count_response(&self, status: u16) {
        // 0 means no answer, which has no class.
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(class) = class.and_then(|class| self.classes.get(class)) {
            class.inc();
        }
    }

    /// Responses of the class 5xx since the start.
    pub(crate) fn server_errors(&self) -> u64 {
        self.classes[4].get()
    }

    pub(crate) fn count_error(&self, reason: &'static str) {
        self.errors.count(reason);
    }

    pub(crate) fn count_odd_retry_after(&self, anomaly: RetryAfterAnomaly) {
        let index = RetryAfterAnomaly::ALL.iter().position(|each| *each == anomaly);
        if let Some(counter) = index.and_then(|index| self.odd_retry_after.get(index)) {
            counter.inc();
        }
    }

    /// Counts a test connection.
    pub(crate) fn count_probe(&self, is_reached: bool) {
        let [failed, reached] = &self.probes;
        if is_reached { reached.inc() } else { failed.inc() }
    }

    /// Initialises the counters with zero in a bucket that can check credentials, so that a rate contains the first check.
    pub(crate) fn init_credential_checks(&self, results: &[&str]) {
        for result in results {
            self.credential_checks.with_label_values(&[&self.name, *result]);
        }
    }

    /// Counts a check of a credential by the gateway.
    pub(crate) fn count_credential_check(&self, result: &str) {
        self.credential_checks.with_label_values(&[&self.name, result]).inc();
    }
}
