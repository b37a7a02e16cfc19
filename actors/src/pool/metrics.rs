//! The pool's metrics (O3): waiting time, queue depth, rejections, retries refused by the budget, amplification,
//! endpoint health.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::pool::adaptive::adaptive_limit::LimitCause;
use crate::pool::credentials::metrics::{CredentialFamilies, CredentialMetrics};
use crate::pool::hedge::ReadKind;
use crate::pool::load_balancer::endpoint::EndpointState;
use crate::pool::load_balancer::endpoint_stats::EndpointView;

/// Metric families; one label value per bucket.
#[derive(Debug, Clone)]
pub(crate) struct PoolFamilies {
    wait: HistogramVec,
    rejected: IntCounterVec,
    budget_exhausted: IntCounterVec,
    amplification: GaugeVec,
    hedge_p95: GaugeVec,
    depth: IntGaugeVec,
    total_depth: IntGauge,
    healthy: IntGaugeVec,
    ejections: IntCounterVec,
    credentials: CredentialFamilies,
    limits: LimitFamilies,
}

/// Families of the concurrency limit.
#[derive(Debug, Clone)]
struct LimitFamilies {
    limit: IntGaugeVec,
    reductions: IntCounterVec,
}

/// Metrics of one bucket.
#[derive(Debug, Clone)]
pub(crate) struct PoolMetrics {
    pub(crate) wait: Histogram,
    pub(crate) queue_full: IntCounter,
    pub(crate) queue_timeout: IntCounter,
    pub(crate) queue_too_long: IntCounter,
    pub(crate) no_credential: IntCounter,
    pub(crate) displaced: IntCounter,
    pub(crate) overload: IntCounter,
    pub(crate) budget_exhausted: IntCounter,
    pub(crate) amplification: Gauge,
    /// One per kind of read.
    pub(crate) hedge_p95: [Gauge; ReadKind::ALL.len()],
    pub(crate) depth: IntGauge,
    pub(crate) endpoints: Vec<EndpointMetrics>,
    pub(crate) credentials: Vec<CredentialMetrics>,
    limit: IntGauge,
    reductions: [IntCounter; 3],
}

/// Metrics of one endpoint, updated on each scrape.
#[derive(Debug, Clone)]
pub(crate) struct EndpointMetrics {
    healthy: IntGauge,
    ejections: IntCounter,
}

impl PoolMetrics {
    /// `reductions` are in the order of `LimitCause::REDUCTIONS`.
    pub(crate) fn observe_limit(&self, limit: usize, reductions: Option<[u64; 3]>) {
        self.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        for (counter, count) in self.reductions.iter().zip(reductions.into_iter().flatten()) {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}

impl EndpointMetrics {
    pub(crate) fn observe(&self, view: &EndpointView) {
        self.healthy.set((view.state == EndpointState::InRotation).into());
        self.ejections.inc_by(view.ejections.saturating_sub(self.ejections.get()));
    }
}

impl LimitFamilies {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let limit = IntGaugeVec::new(
            Opts::new(
                "bucket_concurrency_limit",
                "most requests in flight to a bucket's upstream at present",
            ),
            &["bucket"],
        )?;
        let reductions = IntCounterVec::new(
            Opts::new(
                "bucket_concurrency_limit_reductions_total",
                "times a bucket's adaptive limit was lowered: timeouts, throttling, latency",
            ),
            &["bucket", "cause"],
        )?;
        registry.register(Box::new(limit.clone()))?;
        registry.register(Box::new(reductions.clone()))?;
        Ok(Self { limit, reductions })
    }
}

impl PoolFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self {
            wait: HistogramVec::new(
                HistogramOpts::new(
                    "connection_pool_wait_time_ms",
                    "time a request waited for a permit of its bucket",
                )
                .buckets(vec![0.1, 1.0, 5.0, 25.0, 100.0, 250.0, 500.0, 1000.0, 5000.0]),
                &["bucket"],
            )?,
            rejected: IntCounterVec::new(
                Opts::new(
                    "request_queue_rejections_total",
                    "requests refused by a bucket's queue: full, displaced, overload, too_long, timeout, no_credential",
                ),
                &["bucket", "reason"],
            )?,
            budget_exhausted: IntCounterVec::new(
                Opts::new(
                    "retry_budget_exhausted_total",
                    "retries refused because the bucket's retry budget was spent",
                ),
                &["bucket"],
            )?,
            amplification: GaugeVec::new(
                Opts::new(
                    "upstream_amplification",
                    "upstream attempts per request over the last ten seconds",
                ),
                &["bucket"],
            )?,
            hedge_p95: GaugeVec::new(
                Opts::new(
                    "hedge_first_byte_p95_ms",
                    "delay after which a slow read is hedged; 0 while unknown",
                ),
                &["bucket", "class"],
            )?,
            depth: IntGaugeVec::new(
                Opts::new("bucket_queue_depth", "requests waiting for a permit of their bucket"),
                &["bucket"],
            )?,
            total_depth: IntGauge::new("request_queue_depth", "requests waiting for a permit, all buckets")?,
            healthy: IntGaugeVec::new(
                Opts::new(
                    "upstream_endpoint_healthy",
                    "1 while an endpoint is in rotation, 0 while it is not",
                ),
                &["bucket", "endpoint"],
            )?,
            ejections: IntCounterVec::new(
                Opts::new(
                    "upstream_endpoint_ejections_total",
                    "times an endpoint was ejected because of failures",
                ),
                &["bucket", "endpoint"],
            )?,
            credentials: CredentialFamilies::register(registry)?,
            limits: LimitFamilies::register(registry)?,
        };
        registry.register(Box::new(this.wait.clone()))?;
        registry.register(Box::new(this.rejected.clone()))?;
        registry.register(Box::new(this.budget_exhausted.clone()))?;
        registry.register(Box::new(this.amplification.clone()))?;
        registry.register(Box::new(this.hedge_p95.clone()))?;
        registry.register(Box::new(this.depth.clone()))?;
        registry.register(Box::new(this.total_depth.clone()))?;
        registry.register(Box::new(this.healthy.clone()))?;
        registry.register(Box::new(this.ejections.clone()))?;
        Ok(this)
    }

    pub(crate) fn bucket(&self, name: &str, endpoints: &[String], credentials: &[String]) -> PoolMetrics {
        let endpoint = |endpoint: &String| EndpointMetrics {
            healthy: self.healthy.with_label_values(&[name, endpoint]),
            ejections: self.ejections.with_label_values(&[name, endpoint]),
        };
        PoolMetrics {
            wait: self.wait.with_label_values(&[name]),
            queue_full: self.rejected.with_label_values(&[name, "full"]),
            queue_timeout: self.rejected.with_label_values(&[name, "timeout"]),
            queue_too_long: self.rejected.with_label_values(&[name, "too_long"]),
            no_credential: self.rejected.with_label_values(&[name, "no_credential"]),
            displaced: self.rejected.with_label_values(&[name, "displaced"]),
            overload: self.rejected.with_label_values(&[name, "overload"]),
            budget_exhausted: self.budget_exhausted.with_label_values(&[name]),
            amplification: self.amplification.with_label_values(&[name]),
            hedge_p95: ReadKind::ALL.map(|kind| self.hedge_p95.with_label_values(&[name, kind.as_str()])),
            depth: self.depth.with_label_values(&[name]),
            endpoints: endpoints.iter().map(endpoint).collect(),
            credentials: credentials.iter().map(|one| self.credentials.credential(name, one)).collect(),
            limit: self.limits.limit.with_label_values(&[name]),
            reductions: LimitCause::REDUCTIONS
                .map(|cause| self.limits.reductions.with_label_values(&[name, cause.as_str()])),
        }
    }

    /// Sets the sum over all buckets on a scrape.
    pub(crate) fn observe_total(&self, waiting: usize) {
        self.total_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
