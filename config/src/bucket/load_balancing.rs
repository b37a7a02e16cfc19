//! Load balancing over a bucket's endpoints: outlier ejection, health checks, failover.
//!
//! With a single endpoint these keys do not change the target of requests. Only the circuit breaker refuses requests then.

use std::num::NonZeroU32;
use std::time::Duration;

use super::endpoint::{BaseUrl, Endpoint};
use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::schema::{Section, key, unset};
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{
    ValueError, ValueErrors, ValueType, list, nonzero, percent, quoted, seconds, toml_text, whole,
};

section! {
    /// Ejection of endpoints that fail while others do not.
    pub struct OutlierEjectionConfig {
        /// consecutive failures that eject an endpoint
        ///
        /// Failures are 5xx responses, timeouts and broken connections. An endpoint that refuses connections is ejected at once, for
        /// 1 s, doubled each time up to `base_seconds`.
        /// Watch `tidegate_upstream_endpoint_ejections_total`.
        pub consecutive_failures: NonZeroU32 =
            key("consecutive_failures", whole(1..=1_000_000), nonzero(5));
        /// percentage of failures, of at least 20 calls in 10 s, that ejects an endpoint; 101 turns it off
        pub failure_percent: u32 = key("failure_percent", percent(1..=101), 50);
        /// duration of the first ejection; each further one is longer by this time
        pub base: Duration = key("base_seconds", seconds(0.001..=86_400.0), Duration::from_secs(30));
        /// maximum duration of an ejection
        pub max: Duration = key("max_seconds", seconds(0.001..=86_400.0), Duration::from_secs(300))
            .default_text("300, or `base_seconds` if that is longer");
        /// maximum percentage of ejected endpoints; the last one is never ejected; 0 ejects none
        pub max_percent: u32 = key("max_percent", percent(0..=100), 100);
    }
}

impl OutlierEjectionConfig {
    /// Raises the unset maximum to the base, then rejects a maximum below it.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("max_seconds") {
            self.max = self.max.max(self.base);
        }
        if self.base > self.max {
            let low = ("base_seconds", self.base.as_secs_f64().to_string());
            section.refuse_order(low, ("max_seconds", self.max.as_secs_f64().to_string()), false);
        }
        self
    }
}

section! {
    /// Active health checks of endpoints.
    pub struct HealthCheckConfig {
        /// path of the health check, a GET; only a 2xx response is healthy
        ///
        /// Each endpoint is checked on a separate connection, with its own Host, signed like the bucket's requests.
        pub path: Option<String> = unset("path", RequestPath, "no health checks");
        /// interval from the end of a health check to the next, ±10 %
        pub interval: Duration = key("interval_seconds", seconds(0.01..=86_400.0), Duration::from_secs(5));
        /// timeout of a health check
        pub timeout: Duration = key("timeout_seconds", seconds(0.001..=3_600.0), Duration::from_secs(10));
        /// consecutive successful checks that make an unhealthy endpoint healthy
        pub healthy_threshold: NonZeroU32 = key("healthy_threshold", whole(1..=1_000), nonzero(2));
        /// consecutive failed checks that make an endpoint unhealthy
        pub unhealthy_threshold: NonZeroU32 = key("unhealthy_threshold", whole(1..=1_000), nonzero(3));
    }
}

impl HealthCheckConfig {
    /// Rejects keys of a health check that is off.
    pub(super) fn checked(self, section: &mut Section<'_>) -> Self {
        for name in ["interval_seconds", "timeout_seconds", "healthy_threshold", "unhealthy_threshold"] {
            if section.is_set(name) && !section.is_set("path") {
                let hint = format!("set {} to the path of the check", section.full_key("path"));
                section.refuse(name, "has no effect without a path", Some(hint));
            }
        }
        self
    }
}

section! {
    /// Standby endpoints.
    pub struct FailoverConfig {
        /// base URLs of standby endpoints, which are used while too few primary endpoints are usable
        pub endpoints: Vec<Endpoint> = key("endpoints", list(BaseUrl), Vec::new());
        /// percentage of usable primary endpoints below which requests go to the standby ones; 1: only if none is left
        pub min_usable_percent: u32 = key("min_usable_percent", percent(1..=100), 1);
        /// how long enough primary endpoints must be usable before requests return to them
        pub return_after: Duration =
            key("return_after_seconds", seconds(0.0..=86_400.0), Duration::from_secs(10));
    }
}

impl FailoverConfig {
    /// Rejects keys of a failover without endpoints.
    pub(super) fn checked(self, section: &mut Section<'_>) -> Self {
        for name in ["min_usable_percent", "return_after_seconds"] {
            if section.is_set(name) && !section.is_set("endpoints") {
                let hint = format!("list the standby endpoints in {}", section.full_key("endpoints"));
                section.refuse(name, "has no effect without endpoints", Some(hint));
            }
        }
        self
    }
}

/// Load balancing over a bucket's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadBalancingConfig {
    /// number of standby endpoints, which are the last of the bucket's endpoints
    pub standby: usize,
    /// percentage of usable primary endpoints below which they are used
    pub min_usable_percent: u32,
    /// how long the primary endpoints must be usable before requests return
    pub return_after: Duration,
    /// ejection of failing endpoints
    pub outlier_ejection: OutlierEjectionConfig,
    /// active health checks
    pub health_check: HealthCheckConfig,
    /// time until a returning endpoint gets its full share of requests
    pub slow_start: Duration,
}

impl LoadBalancingConfig {
    pub(super) fn new(
        failover: &FailoverConfig,
        outlier_ejection: OutlierEjectionConfig,
        health_check: HealthCheckConfig,
        slow_start: Duration,
    ) -> Self {
        Self {
            standby: failover.endpoints.len(),
            min_usable_percent: failover.min_usable_percent,
            return_after: failover.return_after,
            outlier_ejection,
            health_check,
            slow_start,
        }
    }
}

/// A path with an optional query.
pub(super) struct RequestPath;

impl ValueType for RequestPath {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?;
        if !text.starts_with('/') || !text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
            let error = ValueError::new(format!("{} is not a path", quoted(text)));
            return Err(error.with_hint("use a path such as /minio/health/live").into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "path, such as /minio/health/live".to_owned()
    }

    fn shown(&self, value: &String, _: Option<&Raw>) -> Shown {
        match value.split_once('?') {
            // a query may hold a token
            Some((path, _)) => Shown::Hidden(format!("{path}?(hidden)")),
            None => Shown::Toml(self.to_toml(value)),
        }
    }

    fn fingerprint(&self, value: &String) -> Option<Fingerprint> {
        value.contains('?').then(|| Fingerprint::of(value))
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}
