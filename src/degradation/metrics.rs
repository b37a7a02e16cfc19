//! The gauge `degradation_causes`: the number of present causes by code and scope.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::degradation::cause::Cause;
use crate::degradation::codes::CauseCode;
use crate::degradation::finding::Scope;

/// The gauges. Their labels come from the configuration.
pub(crate) struct CauseMetrics {
    family: IntGaugeVec,
    gauges: Mutex<HashMap<(CauseCode, String), IntGauge>>,
}

impl CauseMetrics {
    /// Each of `possible` exists at 0.
    pub(crate) fn register(
        registry: &Registry,
        possible: impl IntoIterator<Item = (CauseCode, Scope)>,
    ) -> Result<Self, prometheus::Error> {
        let help = "present causes of degradation, by code and scope: process, or the bucket";
        let family = IntGaugeVec::new(Opts::new("degradation_causes", help), &["code", "scope"])?;
        registry.register(Box::new(family.clone()))?;
        let gauge = |(code, scope): (CauseCode, Scope)| {
            let label = scope.label().to_owned();
            let gauge = family.with_label_values(&[code.as_str(), &label]);
            ((code, label), gauge)
        };
        let gauges = Mutex::new(possible.into_iter().map(gauge).collect());
        Ok(Self { family, gauges })
    }

    pub(crate) fn set(&self, causes: &[Cause]) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: HashMap<(CauseCode, String), i64> = HashMap::new();
        for cause in causes {
            *counts.entry((cause.code, cause.scope.label().to_owned())).or_default() += 1;
        }
        for (key, gauge) in gauges.iter() {
            gauge.set(counts.remove(key).unwrap_or_default());
        }
        for ((code, label), count) in counts {
            let gauge = self.family.with_label_values(&[code.as_str(), &label]);
            gauge.set(count);
            gauges.insert((code, label), gauge);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tidegate_actors::clock;

    use super::*;
    use crate::degradation::cause::Moment;
    use crate::degradation::codes::ScopeKind;
    use crate::degradation::counts::Touched;
    use crate::degradation::finding::Finding;

    /// O3, X10: a possible cause exists at 0, several of a code and a bucket are one gauge, and it returns to 0
    #[test]
    fn gauges_count_causes() {
        let registry = Registry::new();
        let possible = [(CauseCode::EndpointOut, Scope::bucket("b"))];
        let metrics = CauseMetrics::register(&registry, possible).unwrap();
        let read = || -> Vec<(String, f64)> {
            let families = registry.gather();
            let of = |metric: &prometheus::proto::Metric| {
                let labels: Vec<_> =
                    metric.get_label().iter().map(|label| label.value().to_owned()).collect();
                (labels.join(" "), metric.get_gauge().get_value())
            };
            families[0].get_metric().iter().map(of).collect()
        };
        assert_eq!(read(), [("endpoint_out b".to_owned(), 0.0)]);
        let at = Moment { now: clock::now(), wall: SystemTime::UNIX_EPOCH };
        let cause = |code, scope| {
            Cause::new(&Finding::new(code, scope, "x"), (at.now, at.wall), Touched::default(), at)
        };
        let endpoint = |name| cause(CauseCode::EndpointOut, Scope::in_bucket(ScopeKind::Endpoint, "b", name));
        metrics.set(&[endpoint("a:1"), endpoint("a:2"), cause(CauseCode::Chaos, Scope::process())]);
        assert_eq!(read(), [("chaos process".to_owned(), 1.0), ("endpoint_out b".to_owned(), 2.0)]);
        metrics.set(&[]);
        assert_eq!(read(), [("chaos process".to_owned(), 0.0), ("endpoint_out b".to_owned(), 0.0)]);
    }
}
