//! The pool's metrics (O3): waiting time, queue depth, rejections, retries refused by the budget, amplification,
//! endpoint health.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use tidegate_config::{Overload, UpstreamConfig};

use crate::lazy_counter::LazyCounter;
use crate::metrics::remove_series;
use crate::pool::actor::PoolNames;
use crate::pool::adaptive::adaptive_limit::LimitCause;
use crate::pool::credentials::metrics::{CredentialFamilies, CredentialMetrics};
use crate::pool::handle::PoolHandle;
use crate::pool::hedge::ReadKind;
use crate::pool::load_balancer::endpoint::EndpointState;
use crate::pool::load_balancer::endpoint_stats::EndpointView;

/// Why a queue refuses a request.
const REJECTIONS: [&str; 6] = ["full", "timeout", "too_long", "no_credential", "displaced", "overload"];

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
    pub(crate) queue_timeout: LazyCounter,
    pub(crate) queue_too_long: LazyCounter,
    pub(crate) no_credential: LazyCounter,
    pub(crate) displaced: LazyCounter,
    pub(crate) overload: LazyCounter,
    pub(crate) budget_exhausted: LazyCounter,
    pub(crate) amplification: Gauge,
    /// One per kind of read; empty without hedging.
    pub(crate) hedge_p95: Vec<Gauge>,
    pub(crate) depth: IntGauge,
    pub(crate) endpoints: Vec<EndpointMetrics>,
    pub(crate) credentials: Vec<CredentialMetrics>,
    limit: IntGauge,
    /// In the order of `LimitCause::REDUCTIONS`; empty without an adaptive limit.
    reductions: Vec<IntCounter>,
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
    pub(crate) fn register(registry: &Registry, bounds: &[Duration]) -> Result<Self, prometheus::Error> {
        let this = Self {
            wait: HistogramVec::new(
                HistogramOpts::new(
                    "connection_pool_wait_time_seconds",
                    "time a request waited for a permit of its bucket",
                )
                .buckets(bounds.iter().map(Duration::as_secs_f64).collect()),
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
                    "hedge_first_byte_p95_seconds",
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

    pub(crate) fn bucket(
        &self,
        PoolNames { bucket, endpoints, credentials }: &PoolNames,
        upstream: &UpstreamConfig,
    ) -> PoolMetrics {
        let name = bucket.as_str();
        let endpoint = |endpoint: &String| EndpointMetrics {
            healthy: self.healthy.with_label_values(&[name, endpoint]),
            ejections: self.ejections.with_label_values(&[name, endpoint]),
        };
        let (concurrency, may_queue) = (&upstream.concurrency, upstream.concurrency.max_queued > 0);
        let rejected = |reason, is_possible| LazyCounter::new(&self.rejected, &[name, reason], is_possible);
        let retries = upstream.retry.max_attempts.get() > 1;
        let reads = upstream.hedging.enabled.then_some(ReadKind::ALL).into_iter().flatten();
        let reductions = concurrency.adaptive.enabled.then_some(LimitCause::REDUCTIONS).into_iter().flatten();
        PoolMetrics {
            wait: self.wait.with_label_values(&[name]),
            queue_full: self.rejected.with_label_values(&[name, "full"]),
            queue_timeout: rejected("timeout", may_queue),
            queue_too_long: rejected("too_long", may_queue),
            no_credential: rejected("no_credential", !credentials.is_empty()),
            displaced: rejected("displaced", may_queue),
            overload: rejected("overload", concurrency.overload == Overload::Codel),
            budget_exhausted: LazyCounter::new(&self.budget_exhausted, &[name], retries),
            amplification: self.amplification.with_label_values(&[name]),
            hedge_p95: reads.map(|kind| self.hedge_p95.with_label_values(&[name, kind.as_str()])).collect(),
            depth: self.depth.with_label_values(&[name]),
            endpoints: endpoints.iter().map(endpoint).collect(),
            credentials: credentials.iter().map(|one| self.credentials.credential(name, one)).collect(),
            limit: self.limits.limit.with_label_values(&[name]),
            reductions: reductions
                .map(|cause| self.limits.reductions.with_label_values(&[name, cause.as_str()]))
                .collect(),
        }
    }

    /// Removes the series of a pool that has ended, but those that the current pool of the bucket has too.
    pub(crate) fn remove(&self, ended: &PoolHandle, current: Option<&PoolHandle>) {
        let PoolNames { bucket, endpoints, credentials } = &*ended.names;
        let name = bucket.as_str();
        let stays = |list: fn(&PoolNames) -> &[String], one: &String| {
            current.is_some_and(|current| list(&current.names).contains(one))
        };
        for endpoint in endpoints.iter().filter(|one| !stays(|names| &names.endpoints, one)) {
            remove_series(&self.healthy, &[name, endpoint]);
            remove_series(&self.ejections, &[name, endpoint]);
        }
        for credential in credentials.iter().filter(|one| !stays(|names| &names.credentials, one)) {
            self.credentials.remove(name, credential);
        }
        if current.is_none_or(|current| current.metrics.hedge_p95.is_empty()) {
            ReadKind::ALL.into_iter().for_each(|kind| remove_series(&self.hedge_p95, &[name, kind.as_str()]));
        }
        if current.is_none_or(|current| current.metrics.reductions.is_empty()) {
            let causes = LimitCause::REDUCTIONS.into_iter();
            causes.for_each(|cause| remove_series(&self.limits.reductions, &[name, cause.as_str()]));
        }
        if current.is_none() {
            remove_series(&self.wait, &[name]);
            REJECTIONS.into_iter().for_each(|reason| remove_series(&self.rejected, &[name, reason]));
            remove_series(&self.budget_exhausted, &[name]);
            remove_series(&self.amplification, &[name]);
            remove_series(&self.depth, &[name]);
            remove_series(&self.limits.limit, &[name]);
        }
    }

    /// Sets the sum over all buckets on a scrape.
    pub(crate) fn observe_total(&self, waiting: usize) {
        self.total_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
