//! The request path's metrics (O3), resolved per bucket at the start so that counting is an atomic each.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::telemetry::hedges::{HedgeFamilies, HedgeMetrics};
use crate::upstream::RetryAfterAnomaly;

/// Every family that the request path counts in.
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
            size: gauge("connection_pool_size", "most upstream connections, all workers together")?,
            active: gauge("connection_pool_active", "upstream connections in use")?,
            idle: gauge("connection_pool_idle", "upstream connections kept for reuse")?,
        })
    }
}

/// What became of new certificates for the data listener.
#[derive(Clone)]
pub(crate) struct TlsMetrics {
    pub(crate) loaded: IntCounter,
    pub(crate) refused: IntCounter,
}

impl TlsMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("tls_reloads_total", "certificates read again, and whether they were taken");
        let family = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(family.clone()))?;
        let result = |result: &str| family.with_label_values(&[result]);
        Ok(Self { loaded: result("loaded"), refused: result("refused") })
    }
}

/// One bucket's.
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

/// The histogram of how long requests take, in seconds.
fn durations(registry: &Registry) -> Result<HistogramVec, prometheus::Error> {
    let buckets =
        vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let options = HistogramOpts::new(
        "request_duration_seconds",
        "time from a request's head to the last byte of its answer",
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
        let send_buffer =
            IntGauge::new("send_buffer_bytes", "bytes of finished answers that wait for their clients")?;
        registry.register(Box::new(send_buffer.clone()))?;
        Ok(Self {
            requests: counter(
                "requests_total",
                "requests by class of the answer's status",
                &["bucket", "class"],
            )?,
            duration,
            received: counter("received_bytes_total", "body bytes taken from clients", &["bucket"])?,
            sent: counter("sent_bytes_total", "body bytes sent to clients", &["bucket"])?,
            errors: counter(
                "errors_total",
                "answers the gateway gave itself, and transfers that broke",
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
                "failed attempts that were not made again because the client is itself retrying",
                &["bucket"],
            )?,
            odd_retry_after: counter(
                "upstream_retry_after_odd_total",
                "Retry-After headers of the upstream that were ignored, over, or longer than anybody waits",
                &["bucket", "oddity"],
            )?,
            probes: counter(
                "circuit_breaker_probes_total",
                "connections tried while a circuit was open because none could be made",
                &["bucket", "result"],
            )?,
            credential_checks: counter(
                "upstream_credential_checks_total",
                "checks of the gateway's own of credentials that answers raised doubts about",
                &["bucket", "result"],
            )?,
            clock_refusals: counter(
                "upstream_clock_refusals_total",
                "signatures of the gateway that the store refused for their time",
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
                .map(|oddity| self.odd_retry_after.with_label_values(&[name, oddity.as_str()])),
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

    /// Sets the gauge; called before a scrape is answered.
    pub(crate) fn observe_send_buffer(&self, bytes: u64) {
        self.send_buffer.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_unrouted(&self, reason: &str) {
        self.unrouted.with_label_values(&[reason]).inc();
    }
}

impl BucketMetrics {
    pub(crate) fn count_response(&self, status: u16) {
        // Who left unanswered has no class.
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(class) = class.and_then(|class| self.classes.get(class)) {
            class.inc();
        }
    }

    pub(crate) fn count_error(&self, reason: &str) {
        self.errors.with_label_values(&[&self.name, reason]).inc();
    }

    pub(crate) fn count_odd_retry_after(&self, oddity: RetryAfterAnomaly) {
        let place = RetryAfterAnomaly::ALL.iter().position(|each| *each == oddity);
        if let Some(counter) = place.and_then(|place| self.odd_retry_after.get(place)) {
            counter.inc();
        }
    }

    /// A connection was tried for its own sake.
    pub(crate) fn count_probe(&self, is_reached: bool) {
        let [failed, reached] = &self.probes;
        if is_reached { reached.inc() } else { failed.inc() }
    }

    /// Shows zeros in a bucket that can check credentials, so that a rate can be taken of the first check.
    pub(crate) fn init_credential_checks(&self, results: &[&str]) {
        for result in results {
            self.credential_checks.with_label_values(&[&self.name, *result]);
        }
    }

    /// A credential was checked by the gateway itself.
    pub(crate) fn count_credential_check(&self, result: &str) {
        self.credential_checks.with_label_values(&[&self.name, result]).inc();
    }

    /// Sets the connection gauges; called before a scrape is answered.
    pub(crate) fn observe_connections(&self, size: usize, open: usize, active: usize) {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let active = active.min(open);
        self.size.set(signed(size));
        self.active.set(signed(active));
        self.idle.set(signed(open - active));
    }
}
