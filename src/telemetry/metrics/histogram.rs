//! Histograms of durations with configured bounds, and their exemplars.
//!
//! An observation is two atomic additions without a loop of compare-and-swap, which those of the `prometheus` crate have. The
//! count of a histogram is the sum of its buckets, so a scrape under load is consistent. A family may keep the request ID
//! of the last observation of each bucket as an exemplar. Its slot is written under a lock that is only tried: a request
//! never waits for another one or for a scrape, and then leaves no exemplar.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrayvec::ArrayString;
use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

/// The label of an exemplar.
pub(crate) const EXEMPLAR_LABEL: &str = "request_id";
/// OpenMetrics allows 128 characters for the names and values of an exemplar's labels. A longer ID is no exemplar.
const ID_CHARS_MAX: usize = 128 - EXEMPLAR_LABEL.len();
/// The sum is counted in units of 100 ns: in nanoseconds, 10,000 concurrent requests would overflow it in three weeks.
const NANOS_PER_UNIT: u64 = 100;
const UNITS_PER_SECOND: f64 = 1e7;

/// A family of histograms. Each combination of label values is one histogram.
#[derive(Clone)]
pub(crate) struct DurationFamily(Arc<Family>);

struct Family {
    desc: Desc,
    bounds: Arc<Bounds>,
    has_exemplars: bool,
    /// By label values.
    histograms: Mutex<BTreeMap<Vec<String>, Arc<DurationHistogram>>>,
}

/// One histogram.
pub(crate) struct DurationHistogram {
    labels: Vec<proto::LabelPair>,
    bounds: Arc<Bounds>,
    /// One count for each bound, and one for longer durations.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// One slot for each count; empty without exemplars.
    exemplars: Box<[Mutex<Option<Exemplar>>]>,
}

/// The upper bounds of a family's buckets.
struct Bounds {
    /// In nanoseconds, ascending.
    nanos: Box<[u64]>,
    /// By the number of bits of a duration: the first bucket that such a duration can be in. So a search looks at the bounds within
    /// a factor of two only.
    first_bucket: [u8; u64::BITS as usize + 1],
}

/// The last observation of a histogram's bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) id: ArrayString<ID_CHARS_MAX>,
    pub(crate) duration: Duration,
    pub(crate) at: Instant,
}

/// The exemplars of one histogram, in the order of its buckets.
pub(crate) struct HistogramExemplars {
    pub(crate) labels: Vec<proto::LabelPair>,
    pub(crate) by_bucket: Vec<Option<Exemplar>>,
}

impl DurationFamily {
    /// Registers a family without exemplars.
    pub(crate) fn register(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: &[&str],
        bounds: &[Duration],
    ) -> Result<Self, prometheus::Error> {
        Self::register_as(registry, (name, help), labels, bounds, false)
    }

    /// Registers a family with exemplars.
    pub(crate) fn register_with_exemplars(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: &[&str],
        bounds: &[Duration],
    ) -> Result<Self, prometheus::Error> {
        Self::register_as(registry, (name, help), labels, bounds, true)
    }

    fn register_as(
        registry: &Registry,
        (name, help): (&str, &str),
        labels: &[&str],
        bounds: &[Duration],
        has_exemplars: bool,
    ) -> Result<Self, prometheus::Error> {
        let names = labels.iter().map(|&label| label.to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), names, HashMap::new())?;
        let bounds = Arc::new(Bounds::new(bounds));
        let this = Self(Arc::new(Family { desc, bounds, has_exemplars, histograms: Mutex::default() }));
        registry.register(Box::new(this.clone()))?;
        Ok(this)
    }

    /// The histogram with these label values, in the order of the family's labels. Resolve it once for each configuration.
    pub(crate) fn histogram(&self, values: &[&str]) -> Arc<DurationHistogram> {
        let Family { desc, bounds, has_exemplars, histograms } = &*self.0;
        let key: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        let mut known = histograms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = known.get(&key) {
            return Arc::clone(histogram);
        }
        let pairs = desc.variable_labels.iter().zip(values).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value((*value).to_owned());
            pair
        });
        let slots = if *has_exemplars { bounds.nanos.len() + 1 } else { 0 };
        let labels: Vec<proto::LabelPair> = pairs.collect();
        let histogram = Arc::new(DurationHistogram {
            labels,
            bounds: Arc::clone(bounds),
            counts: (0..=bounds.nanos.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            exemplars: (0..slots).map(|_| Mutex::new(None)).collect(),
        });
        known.insert(key, Arc::clone(&histogram));
        histogram
    }

    /// Removes the histograms with such label values, in the order of the family's labels.
    pub(crate) fn remove(&self, is_gone: impl Fn(&[String]) -> bool) {
        let mut known = self.0.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|values, _| !is_gone(values));
    }

    /// The name without the namespace.
    pub(crate) fn name(&self) -> &str {
        &self.0.desc.fq_name
    }

    /// The exemplars of each histogram.
    pub(crate) fn exemplars(&self) -> Vec<HistogramExemplars> {
        self.histograms().iter().map(|histogram| histogram.exemplars()).collect()
    }

    fn histograms(&self) -> Vec<Arc<DurationHistogram>> {
        self.0.histograms.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Collector for DurationFamily {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(self.histograms().iter().map(|histogram| histogram.collect()).collect());
        vec![family]
    }
}

impl Bounds {
    fn new(bounds: &[Duration]) -> Self {
        let nanos: Box<[u64]> = bounds.iter().map(|bound| nanos(*bound)).collect();
        let mut first_bucket = [0; u64::BITS as usize + 1];
        for (bits, first) in first_bucket.iter_mut().enumerate() {
            // The shortest duration of this many bits.
            let shortest = if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
            let at = nanos.iter().position(|bound| shortest <= *bound).unwrap_or(nanos.len());
            *first = u8::try_from(at).unwrap_or(u8::MAX);
        }
        Self { nanos, first_bucket }
    }

    /// The bucket of a duration.
    fn bucket(&self, nanos: u64) -> usize {
        let bits = (u64::BITS - nanos.leading_zeros()) as usize;
        let first = usize::from(self.first_bucket[bits]);
        let longer = self.nanos[first..].iter().position(|bound| nanos <= *bound);
        longer.map_or(self.nanos.len(), |further| first + further)
    }
}

impl DurationHistogram {
    pub(crate) fn observe(&self, duration: Duration) {
        self.count(duration);
    }

    /// Observes the duration of a request, and keeps its ID as the exemplar of its bucket.
    pub(crate) fn observe_request(&self, duration: Duration, id: &str, at: Instant) {
        let bucket = self.count(duration);
        let Some(Ok(mut slot)) = self.exemplars.get(bucket).map(Mutex::try_lock) else { return };
        if let Ok(id) = ArrayString::from(id) {
            *slot = Some(Exemplar { id, duration, at });
        }
    }

    /// Counts a duration; returns its bucket.
    fn count(&self, duration: Duration) -> usize {
        let nanos = nanos(duration);
        let bucket = self.bounds.bucket(nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos / NANOS_PER_UNIT, Ordering::Relaxed);
        bucket
    }

    /// The upper bounds of its buckets in nanoseconds, ascending. The last bucket has none.
    pub(crate) fn bounds(&self) -> &[u64] {
        &self.bounds.nanos
    }

    /// The observations of each bucket since the start.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed))
    }

    fn collect(&self) -> proto::Metric {
        let (mut buckets, mut count) = (Vec::with_capacity(self.bounds.nanos.len()), 0);
        for (at, counted) in self.counts.iter().enumerate() {
            count += counted.load(Ordering::Relaxed);
            // The encoders add the last bucket, which has no bound.
            if let Some(bound) = self.bounds.nanos.get(at) {
                let mut bucket = proto::Bucket::default();
                bucket.set_cumulative_count(count);
                bucket.set_upper_bound(Duration::from_nanos(*bound).as_secs_f64());
                buckets.push(bucket);
            }
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(count);
        #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
        histogram.set_sample_sum(self.sum.load(Ordering::Relaxed) as f64 / UNITS_PER_SECOND);
        histogram.set_bucket(buckets);
        let mut metric = proto::Metric::from_label(self.labels.clone());
        metric.set_histogram(histogram);
        metric
    }

    fn exemplars(&self) -> HistogramExemplars {
        let read = |slot: &Mutex<Option<Exemplar>>| *slot.lock().unwrap_or_else(PoisonError::into_inner);
        HistogramExemplars {
            labels: self.labels.clone(),
            by_bucket: self.exemplars.iter().map(read).collect(),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn family(registry: &Registry) -> DurationFamily {
        let bounds = [millis(1), millis(10)];
        DurationFamily::register_with_exemplars(registry, ("d_seconds", "durations"), &["bucket"], &bounds)
            .unwrap()
    }

    /// O3: a bound is inclusive, and buckets are cumulative
    #[test]
    fn durations_are_counted_in_cumulative_buckets() {
        let registry = Registry::new();
        let histogram = family(&registry).histogram(&["b"]);
        for duration in
            [Duration::ZERO, millis(1), millis(1) + Duration::from_nanos(1), millis(10), millis(11)]
        {
            histogram.observe(duration);
        }
        let families = registry.gather();
        let metric = &families[0].get_metric()[0];
        let counted = metric.get_histogram();
        let buckets: Vec<_> =
            counted.get_bucket().iter().map(|one| (one.upper_bound(), one.cumulative_count())).collect();
        assert_eq!(buckets, [(0.001, 2), (0.01, 4)]);
        assert_eq!((counted.get_sample_count(), counted.get_sample_sum()), (5, 0.023));
        assert_eq!((metric.get_label()[0].name(), metric.get_label()[0].value()), ("bucket", "b"));
    }

    /// O3: each duration is in the bucket of the first bound that is not below it, for any bounds
    #[test]
    fn a_duration_is_in_the_bucket_of_its_bound() {
        let many: Vec<u64> = (1..=300).map(|step| step * 7_000).collect();
        for limits in [vec![], vec![1], vec![1, 2, 3, 4, 1 << 40], vec![1_000_000, 1_500_000, u64::MAX], many]
        {
            let bounds =
                Bounds::new(&limits.iter().map(|&limit| Duration::from_nanos(limit)).collect::<Vec<_>>());
            let near = limits.iter().flat_map(|limit| [limit - 1, *limit, limit.saturating_add(1)]);
            for nanos in near.chain([0, 5, 999, 1 << 33, u64::MAX]) {
                let expected = limits.iter().position(|limit| nanos <= *limit).unwrap_or(limits.len());
                assert_eq!(bounds.bucket(nanos), expected, "{nanos} in {limits:?}");
            }
        }
    }

    /// O3: the exemplar is the last request of each bucket, and an ID that is too long for OpenMetrics is none
    #[test]
    fn each_bucket_keeps_the_id_of_its_last_request() {
        let registry = Registry::new();
        let family = family(&registry);
        let (histogram, now) = (family.histogram(&["b"]), clock::now());
        histogram.observe_request(millis(1), "first", now);
        histogram.observe_request(millis(1), "second", now);
        histogram.observe_request(millis(20), &"x".repeat(118), now);
        histogram.observe_request(millis(20), &"y".repeat(119), now);
        histogram.observe(millis(5));
        let exemplars = family.exemplars();
        let ids: Vec<_> =
            exemplars[0].by_bucket.iter().map(|one| one.map(|one| one.id.as_str().to_owned())).collect();
        assert_eq!(ids, [Some("second".to_owned()), None, Some("x".repeat(118))]);
    }

    /// A scrape that reads a slot delays no request.
    #[test]
    fn a_locked_slot_is_skipped() {
        let registry = Registry::new();
        let family = family(&registry);
        let histogram = family.histogram(&["b"]);
        let reading = histogram.exemplars[0].lock().unwrap();
        histogram.observe_request(millis(1), "late", clock::now());
        drop(reading);
        assert_eq!(family.exemplars()[0].by_bucket, [None, None, None]);
        assert_eq!(registry.gather()[0].get_metric()[0].get_histogram().get_sample_count(), 1);
    }
}
