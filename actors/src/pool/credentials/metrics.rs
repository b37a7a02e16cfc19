//! Metrics of a bucket's credentials, by their configured names (O3, C4), updated on each scrape.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::metrics::remove_series;
use crate::pool::credentials::credential::{CredentialState, CredentialView};

/// Metric families; one label value per credential.
#[derive(Debug, Clone)]
pub(crate) struct CredentialFamilies {
    in_use: IntGaugeVec,
    in_flight: IntGaugeVec,
    errors: IntCounterVec,
}

/// Metrics of one credential.
#[derive(Debug, Clone)]
pub(crate) struct CredentialMetrics {
    in_use: IntGauge,
    in_flight: IntGauge,
    throttled: IntCounter,
    refused: IntCounter,
}

impl CredentialMetrics {
    pub(crate) fn observe(&self, view: &CredentialView) {
        let is_in = matches!(view.state, CredentialState::InUse | CredentialState::OnTrial);
        self.in_use.set(is_in.into());
        self.in_flight.set(i64::try_from(view.in_flight).unwrap_or(i64::MAX));
        self.throttled.inc_by(view.throttled.saturating_sub(self.throttled.get()));
        self.refused.inc_by(view.refused.saturating_sub(self.refused.get()));
    }
}

impl CredentialFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["bucket", "credential"];
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let this = Self {
            in_use: IntGaugeVec::new(
                opts("upstream_credential_in_use", "1 while a credential is in rotation, 0 while it is not"),
                &labels,
            )?,
            in_flight: IntGaugeVec::new(
                opts("upstream_credential_in_flight", "requests in flight with a credential"),
                &labels,
            )?,
            errors: IntCounterVec::new(
                opts(
                    "upstream_credential_setbacks_total",
                    "times a credential was taken out of rotation: throttled, refused",
                ),
                &["bucket", "credential", "cause"],
            )?,
        };
        registry.register(Box::new(this.in_use.clone()))?;
        registry.register(Box::new(this.in_flight.clone()))?;
        registry.register(Box::new(this.errors.clone()))?;
        Ok(this)
    }

    /// Removes the series of a credential.
    pub(crate) fn remove(&self, bucket: &str, name: &str) {
        remove_series(&self.in_use, &[bucket, name]);
        remove_series(&self.in_flight, &[bucket, name]);
        for cause in ["throttled", "refused"] {
            remove_series(&self.errors, &[bucket, name, cause]);
        }
    }

    pub(crate) fn credential(&self, bucket: &str, name: &str) -> CredentialMetrics {
        CredentialMetrics {
            in_use: self.in_use.with_label_values(&[bucket, name]),
            in_flight: self.in_flight.with_label_values(&[bucket, name]),
            throttled: self.errors.with_label_values(&[bucket, name, "throttled"]),
            refused: self.errors.with_label_values(&[bucket, name, "refused"]),
        }
    }
}
