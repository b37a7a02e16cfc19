//! Load balancer settings of a bucket, as the state machines need them.

use std::time::Duration;

use tidegate_config::LoadBalancingConfig;

/// Thresholds and times of exclusion, slow start and standby.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadBalancerSettings {
    pub(crate) consecutive_failures: u32,
    pub(crate) failure_percent: u32,
    pub(crate) ejection_base: Duration,
    pub(crate) ejection_max: Duration,
    pub(crate) ejected_max_percent: usize,
    /// Whether the endpoints are checked.
    pub(crate) has_checks: bool,
    pub(crate) healthy_threshold: u32,
    pub(crate) unhealthy_threshold: u32,
    pub(crate) slow_start: Duration,
    /// Number of standby endpoints, the last ones of the list.
    pub(crate) standby: usize,
    pub(crate) min_usable_percent: usize,
    pub(crate) return_after: Duration,
}

impl From<&LoadBalancingConfig> for LoadBalancerSettings {
    fn from(config: &LoadBalancingConfig) -> Self {
        let LoadBalancingConfig {
            standby,
            min_usable_percent,
            return_after,
            outlier_ejection,
            health_check,
            slow_start,
        } = config;
        Self {
            consecutive_failures: outlier_ejection.consecutive_failures.get(),
            failure_percent: outlier_ejection.failure_percent,
            ejection_base: outlier_ejection.base,
            ejection_max: outlier_ejection.max,
            ejected_max_percent: outlier_ejection.max_percent as usize,
            has_checks: health_check.path.is_some(),
            healthy_threshold: health_check.healthy_threshold.get(),
            unhealthy_threshold: health_check.unhealthy_threshold.get(),
            slow_start: *slow_start,
            standby: *standby,
            min_usable_percent: *min_usable_percent as usize,
            return_after: *return_after,
        }
    }
}
