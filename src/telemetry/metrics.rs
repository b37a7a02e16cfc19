//! Metrics of the request path (O3). They are resolved per bucket at the start, so that counting is one atomic operation.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::telemetry::hedges::{HedgeFamilies, HedgeMetrics};

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
#[derive(Clone)]
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    errors: IntCounterVec,
    retry_attempts: IntCounterVec,
    retry_success: IntCounterVec,
    retry_exhausted: IntCounterVec,
    retry_left_to_client: IntCounterVec,
    odd_retry_after: IntCounterVec,
    probes: IntCounterVec,
    credential_checks: IntCounterVec,
    clock_refusals: IntCounterVec,
    hedges: HedgeFamilies,
    connections: ConnectionGauges,
    unrouted: IntCounterVec,
    send_buffer: IntGauge,
}

/// Upstream connections per bucket.
#[derive(Clone)]
struct ConnectionGauges {
    size: IntGaugeVec,
    active: IntGaugeVec,
    idle: IntGaugeVec,
}

impl ConnectionGauges {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), &["bucket"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        Ok(Self {
            size: gauge("connection_pool_size", "maximum of upstream connections, all workers together")?,
            active: gauge("connection_pool_active", "upstream connections in use")?,
            idle: gauge("connection_pool_idle", "upstream connections kept for reuse")?,
        })
    }
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
    pub(crate) duration: Histogram,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) retry_attempts: IntCounter,
    pub(crate) retry_success: IntCounter,
    pub(crate) retry_exhausted: IntCounter,
    pub(crate) retry_left_to_client: IntCounter,
    odd_retry_after: [IntCounter; 3],
    probes: [IntCounter; 2],
    pub(crate) clock_refused: IntCounter,
    pub(crate) hedges: HedgeMetrics,
    errors: IntCounterVec,
    credential_checks: IntCounterVec,
    name: String,
    size: IntGauge,
    active: IntGauge,
    idle: IntGauge,
}

/// The histogram of request durations, in seconds.
fn durations(registry: &Registry) -> Result<HistogramVec, prometheus::Error> {
    let buckets =
        vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let options = HistogramOpts::new(
        "request_duration_seconds",
        "time from the head of a request to the last byte of its answer, in seconds",
    );
    let durations = HistogramVec::new(options.buckets(buckets), &["bucket"])?;
    registry.register(Box::new(durations.clone()))?;
    Ok(durations)
}

impl RequestMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let duration = durations(registry)?;
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
            duration,
            received: counter("received_bytes_total", "body bytes received from clients", &["bucket"])?,
            sent: counter("sent_bytes_total", "body bytes sent to clients", &["bucket"])?,
            errors: counter(
                "errors_total",
                "local replies of the gateway and broken transfers, by reason",
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
            connections: ConnectionGauges::register(registry)?,
            unrouted: counter("unrouted_total", "requests refused before a bucket was known", &["reason"])?,
            send_buffer,
        })
    }

    pub(crate) fn bucket(&self, name: &str) -> BucketMetrics {
        let class = |class: &str| self.requests.with_label_values(&[name, class]);
        let one = [name];
        BucketMetrics {
            classes: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            duration: self.duration.with_label_values(&one),
            received: self.received.with_label_values(&one),
            sent: self.sent.with_label_values(&one),
            retry_attempts: self.retry_attempts.with_label_values(&one),
            retry_success: self.retry_success.with_label_values(&one),
            retry_exhausted: self.retry_exhausted.with_label_values(&one),
            retry_left_to_client: self.retry_left_to_client.with_label_values(&one),
            odd_retry_after: RetryAfterAnomaly::ALL
                .map(|anomaly| self.odd_retry_after.with_label_values(&[name, anomaly.as_str()])),
            probes: ["failed", "reached"].map(|result| self.probes.with_label_values(&[name, result])),
            clock_refused: self.clock_refusals.with_label_values(&one),
            hedges: self.hedges.bucket(name),
            errors: self.errors.clone(),
            credential_checks: self.credential_checks.clone(),
            name: name.to_owned(),
            size: self.connections.size.with_label_values(&one),
            active: self.connections.active.with_label_values(&one),
            idle: self.connections.idle.with_label_values(&one),
        }
    }

    /// The counters of refusals: by bucket, and before a bucket was known.
    pub(crate) fn refusals(&self) -> [IntCounterVec; 2] {
        [self.errors.clone(), self.unrouted.clone()]
    }

    /// Sets the gauge. Called for each scrape.
    pub(crate) fn observe_send_buffer(&self, bytes: u64) {
        self.send_buffer.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_unrouted(&self, reason: &str) {
        self.unrouted.with_label_values(&[reason]).inc();
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

    pub(crate) fn count_error(&self, reason: &str) {
        self.errors.with_label_values(&[&self.name, reason]).inc();
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

    /// Sets the connection gauges. Called for each scrape.
    pub(crate) fn observe_connections(&self, size: usize, open: usize, active: usize) {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let active = active.min(open);
        self.size.set(signed(size));
        self.active.set(signed(active));
        self.idle.set(signed(open - active));
    }
}
