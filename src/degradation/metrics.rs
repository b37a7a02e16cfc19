//! The gauge `degradation_causes`: the number of present causes by code and scope.
//!
//! A bucket can have more than twenty codes. A gauge of the `prometheus` crate has its own copies of name, help and labels, about 1 KiB
//! each; here it is one number.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

use crate::degradation::cause::Cause;
use crate::degradation::codes::CauseCode;
use crate::degradation::finding::Scope;

/// The gauges. Their labels come from the configuration.
#[derive(Clone)]
pub(crate) struct CauseMetrics(Arc<Family>);

struct Family {
    desc: Desc,
    counts: Mutex<HashMap<(CauseCode, Arc<str>), u32>>,
}

impl CauseMetrics {
    /// Each of `possible` exists at 0.
    pub(crate) fn register(
        registry: &Registry,
        possible: impl IntoIterator<Item = (CauseCode, Scope)>,
    ) -> Result<Self, prometheus::Error> {
        let help = "present causes of degradation, by code and scope: process, or the bucket";
        let labels = ["code", "scope"].map(str::to_owned).to_vec();
        let desc = Desc::new("degradation_causes".to_owned(), help.to_owned(), labels, HashMap::new())?;
        let this = Self(Arc::new(Family { desc, counts: Mutex::default() }));
        this.set_possible(possible);
        registry.register(Box::new(this.clone()))?;
        Ok(this)
    }

    /// Each of `possible` exists, and no other one until it is present.
    pub(crate) fn set_possible(&self, possible: impl IntoIterator<Item = (CauseCode, Scope)>) {
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut key = |(code, scope): (CauseCode, Scope)| {
            let name = names.get(scope.label()).cloned().unwrap_or_else(|| Arc::from(scope.label()));
            names.insert(Arc::clone(&name));
            (code, name)
        };
        let keys: Vec<_> = possible.into_iter().map(&mut key).collect();
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *counts);
        counts.extend(keys.into_iter().map(|key| {
            let count = before.get(&key).copied().unwrap_or_default();
            (key, count)
        }));
    }

    pub(crate) fn set(&self, causes: &[Cause]) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values_mut().for_each(|count| *count = 0);
        for cause in causes {
            *counts.entry((cause.code, Arc::from(cause.scope.label()))).or_default() += 1;
        }
    }
}

impl Collector for CauseMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let label = |name: &str, value: &str| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = counts.iter().map(|((code, scope), count)| {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(f64::from(*count));
            let labels = vec![label("code", code.as_str()), label("scope", scope)];
            let mut metric = proto::Metric::from_label(labels);
            metric.set_gauge(gauge);
            metric
        });
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::GAUGE);
        family.set_metric(metrics.collect());
        vec![family]
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
            let of = |metric: &proto::Metric| {
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
        let endpoint_of =
            |bucket| cause(CauseCode::EndpointOut, Scope::in_bucket(ScopeKind::Endpoint, bucket, "a:1"));
        metrics.set(&[endpoint("a:1"), endpoint("a:2"), cause(CauseCode::Chaos, Scope::process())]);
        assert_eq!(read(), [("chaos process".to_owned(), 1.0), ("endpoint_out b".to_owned(), 2.0)]);
        metrics.set(&[]);
        assert_eq!(read(), [("chaos process".to_owned(), 0.0), ("endpoint_out b".to_owned(), 0.0)]);
        // A bucket may have the name of the process's scope.
        metrics.set(&[cause(CauseCode::Chaos, Scope::process()), endpoint_of("process")]);
        let named =
            read().into_iter().filter(|(_, count)| *count > 0.0).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(named, ["chaos process", "endpoint_out process (bucket)"]);
    }
}
