//! Which of a bucket's endpoints are called: who is left out, who is tried first, who stands by.
//!
//! With a single endpoint nothing here changes where requests go: there is nowhere else, and only the circuit breaker may refuse.

use std::num::NonZeroU32;
use std::time::Duration;

use super::endpoint::{BaseUrl, Endpoint};
use crate::form::{Fault, Faults, Form, list, nonzero, percent, seconds, shown, whole};
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Section, key, unset};

section! {
    /// Leaving out endpoints that fail while others do not.
    pub struct OutlierEjectionConfig {
        /// failures in a row after which an endpoint is left out: 5xx, no answer in time, broken connections
        ///
        /// One that cannot be connected to rests at once: 1 s, doubled each time up to `base_seconds`.
        /// Watch `upstream_endpoint_ejections_total`.
        pub consecutive_failures: NonZeroU32 =
            key("consecutive_failures", whole(1..=1_000_000), nonzero(5));
        /// share of failures that leaves an endpoint out, of at least 20 calls in 10 s; 101 never does
        pub failure_percent: u32 = key("failure_percent", percent(1..=101), 50);
        /// how long it is left out the first time; each further time so much longer
        pub base: Duration = key("base_seconds", seconds(0.001..=86_400.0), Duration::from_secs(30));
        /// the longest it is left out
        pub max: Duration = key("max_seconds", seconds(0.001..=86_400.0), Duration::from_secs(300))
            .yielding("300, or `base_seconds` if that is longer");
        /// share of a bucket's endpoints that may be left out at a time; the last never is, 0 leaves out none
        pub max_percent: u32 = key("max_percent", percent(0..=100), 100);
    }
}

impl OutlierEjectionConfig {
    /// Fits the unset cap to the base, then refuses a cap below it.
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
    /// Asking endpoints whether they are well.
    pub struct HealthCheckConfig {
        /// path that is asked for with GET; only an answer of 2xx is healthy
        ///
        /// It is asked for at each endpoint, with its own Host, on a connection of its own, signed as the bucket's requests are.
        pub path: Option<String> = unset("path", PathOnly, "endpoints are not asked");
        /// from the end of one check to the next, give or take a tenth
        pub interval: Duration = key("interval_seconds", seconds(0.01..=86_400.0), Duration::from_secs(5));
        /// how long a check may take
        pub timeout: Duration = key("timeout_seconds", seconds(0.001..=3_600.0), Duration::from_secs(10));
        /// good checks in a row that bring an unhealthy endpoint back
        pub healthy_threshold: NonZeroU32 = key("healthy_threshold", whole(1..=1_000), nonzero(2));
        /// bad checks in a row that make an endpoint unhealthy
        pub unhealthy_threshold: NonZeroU32 = key("unhealthy_threshold", whole(1..=1_000), nonzero(3));
    }
}

impl HealthCheckConfig {
    /// Settings of a check that is never made would be believed in.
    pub(super) fn checked(self, section: &mut Section<'_>) -> Self {
        for name in ["interval_seconds", "timeout_seconds", "healthy_threshold", "unhealthy_threshold"] {
            if section.is_set(name) && !section.is_set("path") {
                let hint = format!("set {} to what endpoints are to be asked for", section.spell("path"));
                section.refuse(name, "has no effect without a path", Some(hint));
            }
        }
        self
    }
}

section! {
    /// Endpoints that stand by.
    pub struct FailoverConfig {
        /// base URLs of endpoints that are called only while too few of `endpoints` are usable
        pub endpoints: Vec<Endpoint> = key("endpoints", list(BaseUrl), Vec::new());
        /// share of `endpoints` below which requests go to those that stand by; 1 waits until none is left
        pub min_usable_percent: u32 = key("min_usable_percent", percent(1..=100), 1);
        /// how long enough of `endpoints` must have been usable before requests return to them
        pub return_after: Duration =
            key("return_after_seconds", seconds(0.0..=86_400.0), Duration::from_secs(10));
    }
}

impl FailoverConfig {
    /// Settings of endpoints that are not there would be believed in.
    pub(super) fn checked(self, section: &mut Section<'_>) -> Self {
        for name in ["min_usable_percent", "return_after_seconds"] {
            if section.is_set(name) && !section.is_set("endpoints") {
                let hint = format!("name those that stand by in {}", section.spell("endpoints"));
                section.refuse(name, "has no effect without endpoints", Some(hint));
            }
        }
        self
    }
}

/// Everything about the choice among a bucket's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct RotationConfig {
    /// how many of the bucket's endpoints, the last ones, stand by
    pub standby: usize,
    /// share in percent of the others below which they are called
    pub min_usable_percent: u32,
    /// how long the others must have been usable before requests return
    pub return_after: Duration,
    /// leaving out those that fail
    pub outlier_ejection: OutlierEjectionConfig,
    /// asking them whether they are well
    pub health_check: HealthCheckConfig,
    /// over which time one that comes back gets its full share again
    pub slow_start: Duration,
}

impl RotationConfig {
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

/// A path with a query perhaps, as it stands in a request.
pub(super) struct PathOnly;

impl Form for PathOnly {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?;
        if !text.starts_with('/') || !text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
            let fault = Fault::new(format!("{} is no path", shown(text)));
            return Err(fault.hinting("such as /minio/health/live; it begins with a slash").into());
        }
        Ok(text.to_owned())
    }

    fn accepts(&self) -> String {
        "path, such as /minio/health/live".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}
