//! The families `errors_total` and `unrouted_total`: counters by reason.
//!
//! A bucket has about a hundred reasons. A counter of the `prometheus` crate has its own copies of name, help and labels, about 1 KiB
//! for each reason; here it is one atomic number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};
use slog::{Logger, warn};

const REASON: &str = "reason";
const BUCKET: &str = "bucket";

/// A family of counters by reason, and by bucket if its members have one.
#[derive(Clone)]
pub(crate) struct ErrorFamily(Arc<Family>);

struct Family {
    desc: Desc,
    members: Mutex<Vec<Arc<ErrorCounters>>>,
    log: Logger,
}

/// The counters of one bucket, or those of requests without one.
pub(crate) struct ErrorCounters {
    bucket: Option<String>,
    /// Those that exist from the start, sorted by reason.
    listed: Box<[(&'static str, AtomicU64)]>,
    /// Those of reasons that the list lacks. The code has few reasons, so they are bounded.
    unlisted: Mutex<BTreeMap<&'static str, u64>>,
    log: Logger,
}

impl ErrorFamily {
    pub(crate) fn register(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: &[&str],
        log: &Logger,
    ) -> Result<Self, prometheus::Error> {
        let names = labels.iter().map(|&label| label.to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), names, HashMap::new())?;
        let this = Self(Arc::new(Family { desc, members: Mutex::default(), log: log.clone() }));
        registry.register(Box::new(this.clone()))?;
        Ok(this)
    }

    /// Adds the counters of a bucket, or those without one, with a counter at 0 for each of these reasons.
    pub(crate) fn counters(
        &self,
        bucket: Option<&str>,
        reasons: BTreeSet<&'static str>,
    ) -> Arc<ErrorCounters> {
        let counters = Arc::new(ErrorCounters {
            bucket: bucket.map(str::to_owned),
            listed: reasons.into_iter().map(|reason| (reason, AtomicU64::new(0))).collect(),
            unlisted: Mutex::default(),
            log: self.0.log.clone(),
        });
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }
}

impl ErrorFamily {
    /// Calls `each` with the bucket (empty without one), the reason and the count of each counter above 0.
    pub(crate) fn for_each_count(&self, mut each: impl FnMut(&str, &'static str, u64)) {
        let members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner);
        for counters in members.iter() {
            let bucket = counters.bucket.as_deref().unwrap_or_default();
            let unlisted = counters.unlisted.lock().unwrap_or_else(PoisonError::into_inner);
            let listed =
                counters.listed.iter().map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)));
            let all = listed.chain(unlisted.iter().map(|(reason, count)| (*reason, *count)));
            all.filter(|(_, count)| *count > 0).for_each(|(reason, count)| each(bucket, reason, count));
        }
    }
}

impl Collector for ErrorFamily {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::COUNTER);
        let members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner);
        family.set_metric(members.iter().flat_map(|counters| counters.collect()).collect());
        vec![family]
    }
}

impl ErrorCounters {
    pub(crate) fn count(&self, reason: &'static str) {
        if let Ok(at) = self.listed.binary_search_by_key(&reason, |(listed, _)| listed) {
            self.listed[at].1.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The list of reasons has a defect.
        let mut unlisted = self.unlisted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = unlisted.entry(reason).or_default();
        *count += 1;
        if *count == 1 {
            warn!(self.log, "the first count of a metric was lost to rates: its series was not at 0 before; report this defect";
                "bucket" => self.bucket.as_deref(), "reason" => reason);
        }
    }

    fn collect(&self) -> Vec<proto::Metric> {
        let unlisted = self.unlisted.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = self.listed.iter().map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)));
        let all = listed.chain(unlisted.iter().map(|(reason, count)| (*reason, *count)));
        all.map(|(reason, count)| self.metric(reason, count)).collect()
    }

    fn metric(&self, reason: &str, count: u64) -> proto::Metric {
        let label = |name: &str, value: &str| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let bucket = self.bucket.as_deref().map(|bucket| label(BUCKET, bucket));
        let mut counter = proto::Counter::default();
        #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
        counter.set_value(count as f64);
        let mut metric =
            proto::Metric::from_label(bucket.into_iter().chain([label(REASON, reason)]).collect());
        metric.set_counter(counter);
        metric
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};
    use slog::{Discard, o};

    use super::*;

    /// O3: listed reasons are at 0 from the start, and a reason that the list lacks is counted too
    #[test]
    fn reasons_are_at_zero_and_none_is_lost() {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let named = ("errors_total", "errors");
        let family = ErrorFamily::register(&registry, named, &[BUCKET, REASON], &log).unwrap();
        let one = family.counters(Some("one"), BTreeSet::from(["queue_full", "host"]));
        let other = family.counters(Some("other"), BTreeSet::from(["host"]));
        one.count("queue_full");
        one.count("queue_full");
        other.count("target");
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "# HELP errors_total errors\n# TYPE errors_total counter\n\
             errors_total{bucket=\"one\",reason=\"host\"} 0\nerrors_total{bucket=\"one\",reason=\"queue_full\"} 2\n\
             errors_total{bucket=\"other\",reason=\"host\"} 0\nerrors_total{bucket=\"other\",reason=\"target\"} 1\n"
        );
    }
}
