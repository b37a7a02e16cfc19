//! The families `errors_total` and `unrouted_total`: counters by reason.
//!
//! A bucket has about a hundred reasons. A counter of the `prometheus` crate has its own copies of name, help and labels, about 1 KiB
//! for each reason; here it is one atomic number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// By bucket; none for requests without one.
    members: Mutex<BTreeMap<Option<String>, Member>>,
    log: Logger,
}

/// All counters of one bucket. A reload that changes the bucket adds counters, because other reasons become possible.
#[derive(Default)]
struct Member {
    live: Vec<Arc<ErrorCounters>>,
    /// What counters have counted that nothing uses any more.
    ended: BTreeMap<&'static str, u64>,
}

/// The counters of one bucket under one configuration, or those of requests without one.
pub(crate) struct ErrorCounters {
    bucket: Option<String>,
    /// Those that exist from the start, sorted by reason.
    listed: Box<[(&'static str, AtomicU64)]>,
    /// Those of reasons that the list lacks. The code has few reasons, so they are bounded.
    unlisted: Mutex<BTreeMap<&'static str, u64>>,
    log: Logger,
}

impl Member {
    /// Adds up counters that only this member refers to, so that reloads do not grow it.
    fn merge_ended(&mut self) {
        let (ended, live) =
            std::mem::take(&mut self.live).into_iter().partition(|one| Arc::strong_count(one) == 1);
        self.live = live;
        let ended: Vec<Arc<ErrorCounters>> = ended;
        let mut add = |reason, count| *self.ended.entry(reason).or_default() += count;
        ended.iter().for_each(|counters| {
            counters.for_each(|reason, count| {
                if count > 0 {
                    add(reason, count)
                }
            })
        });
    }

    /// Calls `each` once with each reason and its count.
    fn for_each(&self, mut each: impl FnMut(&'static str, u64)) {
        if let ([counters], true) = (&*self.live, self.ended.is_empty()) {
            return counters.for_each(each);
        }
        let mut sums = self.ended.clone();
        for counters in &self.live {
            counters.for_each(|reason, count| *sums.entry(reason).or_default() += count);
        }
        sums.into_iter().for_each(|(reason, count)| each(reason, count));
    }
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

    fn members(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Member>> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counters of a bucket, or those without one, with a counter at 0 for each of these reasons. Earlier ones of the same
    /// bucket go on to count.
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
        let mut members = self.members();
        let member = members.entry(counters.bucket.clone()).or_default();
        member.merge_ended();
        member.live.push(Arc::clone(&counters));
        counters
    }

    /// Removes the counters of buckets.
    pub(super) fn remove_buckets(&self, is_gone: impl Fn(&str) -> bool) {
        self.members().retain(|bucket, _| !bucket.as_deref().is_some_and(&is_gone));
    }

    /// Calls `each` with the bucket (empty without one), the reason and the count of each counter above 0.
    pub(crate) fn for_each_count(&self, mut each: impl FnMut(&str, &'static str, u64)) {
        for (bucket, member) in self.members().iter() {
            let bucket = bucket.as_deref().unwrap_or_default();
            member.for_each(|reason, count| {
                if count > 0 {
                    each(bucket, reason, count)
                }
            });
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
        let mut metrics = Vec::new();
        for (bucket, member) in self.members().iter() {
            member.for_each(|reason, count| metrics.push(metric(bucket.as_deref(), reason, count)));
        }
        family.set_metric(metrics);
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

    fn for_each(&self, mut each: impl FnMut(&'static str, u64)) {
        self.listed.iter().for_each(|(reason, count)| each(reason, count.load(Ordering::Relaxed)));
        let unlisted = self.unlisted.lock().unwrap_or_else(PoisonError::into_inner);
        unlisted.iter().for_each(|(reason, count)| each(reason, *count));
    }
}

fn metric(bucket: Option<&str>, reason: &str, count: u64) -> proto::Metric {
    let label = |name: &str, value: &str| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let bucket = bucket.map(|bucket| label(BUCKET, bucket));
    let mut counter = proto::Counter::default();
    #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
    counter.set_value(count as f64);
    let mut metric = proto::Metric::from_label(bucket.into_iter().chain([label(REASON, reason)]).collect());
    metric.set_counter(counter);
    metric
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
    /// G3, O3: a changed bucket has one series for each reason, nothing that was counted is lost, and reloads do not grow the family
    #[test]
    fn a_changed_bucket_keeps_its_counts() {
        let (registry, log) = (Registry::new(), Logger::root(Discard, o!()));
        let family = ErrorFamily::register(&registry, ("e", "errors"), &[BUCKET, REASON], &log).unwrap();
        let mut last = family.counters(Some("b"), BTreeSet::from(["host", "path"]));
        last.count("host");
        for _ in 0..100 {
            let next = family.counters(Some("b"), BTreeSet::from(["host", "queue_full"]));
            // A request of the replaced configuration ends.
            last.count("host");
            next.count("queue_full");
            last = next;
        }
        assert!(family.members()[&Some("b".to_owned())].live.len() <= 2);
        let counts = || {
            let mut counts = Vec::new();
            family.members()[&Some("b".to_owned())].for_each(|reason, count| counts.push((reason, count)));
            counts
        };
        assert_eq!(counts(), [("host", 101), ("queue_full", 100)]);
        last.count("path");
        assert_eq!(counts(), [("host", 101), ("path", 1), ("queue_full", 100)]);
        let mut all = Vec::new();
        family.for_each_count(|bucket, reason, count| all.push(format!("{bucket} {reason} {count}")));
        assert_eq!(all, ["b host 101", "b path 1", "b queue_full 100"]);
        family.remove_buckets(|bucket| bucket == "b");
        last.count("host");
        assert!(registry.gather().iter().all(|family| family.get_metric().is_empty()));
    }
}
