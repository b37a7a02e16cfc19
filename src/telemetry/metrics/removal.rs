//! Removes the series of buckets that a reload has removed (O3).
//!
//! The caller removes them when the last request of the last configuration with the bucket has ended. A counter that counts afterwards
//! would bring its series back, or count without a series.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::RequestMetrics;
use super::connections::UpstreamConnectionFamilies;
use super::hedges::HedgeFamilies;
use super::timings::TimingFamilies;

/// Removes the series with such a value of the label `bucket`.
fn remove_buckets<B: MetricVecBuilder>(family: &MetricVec<B>, is_gone: &dyn Fn(&str) -> bool) {
    let collected = family.collect();
    for metric in collected.iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<&str, &str> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        if labels.get("bucket").is_some_and(|bucket| is_gone(bucket)) {
            // An error means that the series is gone already.
            let _ = family.remove(&labels);
        }
    }
}

impl RequestMetrics {
    /// Removes the series of buckets with such a name from each family of the request path.
    pub(crate) fn remove_buckets(&self, is_gone: &dyn Fn(&str) -> bool) {
        let Self {
            requests,
            times,
            received,
            sent,
            errors,
            retry_attempts,
            retry_success,
            retry_exhausted,
            retry_left_to_client,
            odd_retry_after,
            probes,
            credential_checks,
            clock_refusals,
            hedges,
            connections,
            // They have no bucket.
            client_connections: _,
            unrouted_family: _,
            unrouted: _,
            exposition: _,
            send_buffer: _,
        } = self;
        let retries = [retry_attempts, retry_success, retry_exhausted, retry_left_to_client];
        let others = [requests, received, sent, odd_retry_after, probes, credential_checks, clock_refusals];
        let HedgeFamilies { sent, won, suppressed } = hedges;
        let all = retries.into_iter().chain(others).chain([sent, won, suppressed]);
        all.for_each(|family| remove_buckets(family, is_gone));
        let UpstreamConnectionFamilies { size, active, idle, reused_closed } = connections;
        remove_buckets(reused_closed, is_gone);
        [size, active, idle].into_iter().for_each(|family| remove_buckets(family, is_gone));
        let TimingFamilies { requests, first_byte, phases, upstream } = times;
        let is_of_gone = |values: &[String]| values.first().is_some_and(|bucket| is_gone(bucket));
        [requests, first_byte, phases, upstream].into_iter().for_each(|family| family.remove(is_of_gone));
        errors.remove_buckets(is_gone);
    }

    /// Removes the series of endpoints of one bucket with such an authority.
    pub(crate) fn remove_endpoints(&self, bucket: &str, is_gone: impl Fn(&str) -> bool) {
        self.times
            .upstream
            .remove(|values| matches!(values, [of, endpoint] if of == bucket && is_gone(endpoint)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use prometheus::Registry;
    use slog::{Discard, Logger, o};
    use tidegate_actors::{LazyCounter, clock};
    use tidegate_config::{Config, Sources};

    use super::*;
    use crate::telemetry::metrics::hedges::HedgeSuppression;
    use crate::telemetry::metrics::reasons::ReasonScope;
    use crate::telemetry::metrics::timings::RequestDurations;
    use crate::telemetry::metrics::{BucketMetrics, RetryAfterAnomaly};

    fn config() -> Config {
        let bucket = |name: &str| {
            format!(
                "[buckets.{name}]\nauth = [\"anonymous\"]\n[buckets.{name}.s3]\nendpoints = [\"http://h1:1\", \"http://h2:2\"]\n\
                 retry.max_attempts = 3\nhedging.enabled = true\n"
            )
        };
        let text = [bucket("gone"), bucket("kept")].concat();
        tidegate_config::load(Sources::default().text("test.toml", text)).unwrap()
    }

    /// Counts in every family.
    fn count_all(metrics: &BucketMetrics) {
        [200, 404, 503].into_iter().for_each(|status| metrics.count_response(status));
        let ms = Some(Duration::from_millis(1));
        let durations = RequestDurations {
            total: Duration::from_millis(1),
            to_first_byte: ms,
            admission: ms,
            queue: ms,
            first_byte: ms,
            response: ms,
        };
        metrics.times.observe("id", &durations, clock::now(), true);
        metrics.times.observe_call(0, Duration::from_millis(1));
        [&metrics.retry_attempts, &metrics.retry_success, &metrics.retry_exhausted]
            .into_iter()
            .for_each(LazyCounter::inc);
        [&metrics.retry_left_to_client, &metrics.clock_refused, &metrics.hedges.sent]
            .into_iter()
            .for_each(LazyCounter::inc);
        metrics.hedges.won.inc();
        HedgeSuppression::ALL.into_iter().for_each(|cause| metrics.hedges.count_suppressed(cause));
        RetryAfterAnomaly::ALL.into_iter().for_each(|anomaly| metrics.count_odd_retry_after(anomaly));
        [true, false].into_iter().for_each(|is_reached| metrics.count_probe(is_reached));
        metrics.count_credential_check("valid");
        metrics.count_error("queue_full");
        metrics.connections.observe(3, 2, 1);
        metrics.received.inc_by(1);
        metrics.sent.inc_by(1);
    }

    /// The families in which a bucket has series.
    fn families(registry: &Registry, bucket: &str) -> BTreeSet<String> {
        let has = |metric: &prometheus::proto::Metric| {
            metric.get_label().iter().any(|label| label.name() == "bucket" && label.value() == bucket)
        };
        let gathered = registry.gather();
        let with_bucket = gathered.iter().filter(|family| family.get_metric().iter().any(has));
        with_bucket.map(|family| family.name().to_owned()).collect()
    }

    /// G3, O3: a removed bucket has a series in no family; other buckets keep theirs, and one that comes back begins at zero
    #[test]
    fn a_removed_bucket_has_no_series() {
        let (registry, config) = (Registry::new(), config());
        let log = Logger::root(Discard, o!());
        let metrics = RequestMetrics::register(&registry, &config, &log).unwrap();
        let bucket = |name: &str| metrics.bucket(name, (ReasonScope::of(&config), &config.buckets[name]));
        let [gone, kept] = ["gone", "kept"].map(bucket);
        [&gone, &kept].into_iter().for_each(count_all);
        let all = families(&registry, "kept");
        assert_eq!(families(&registry, "gone"), all);
        let without: Vec<_> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .filter(|name| !all.contains(name))
            .collect();
        let of_process = [
            "client_connections_idle",
            "client_connections_open",
            "client_connections_total",
            "send_buffer_bytes",
            "unrouted_total",
        ];
        assert_eq!(without, of_process, "every family with a bucket has one of this test");
        metrics.remove_buckets(&|name| name == "gone");
        assert_eq!(
            (families(&registry, "gone"), families(&registry, "kept")),
            (BTreeSet::new(), all.clone())
        );
        assert_eq!(kept.server_errors(), 1);
        let again = bucket("gone");
        assert_eq!(again.server_errors(), 0);
        assert!(families(&registry, "gone").is_subset(&all));
        assert_eq!(metrics.times.requests.exemplars().len(), 2);
    }

    /// G3, O3: a reason that becomes possible without a bucket is at zero, and the counts of the others go on
    #[test]
    fn a_reload_adds_reasons_without_a_bucket() {
        let (registry, mut config) = (Registry::new(), config());
        let metrics = RequestMetrics::register(&registry, &config, &Logger::root(Discard, o!())).unwrap();
        let exposed = |reason: &str| {
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            let name = format!("unrouted_total{{reason=\"{reason}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
        };
        metrics.unrouted.count("host");
        assert_eq!((exposed("host"), exposed("proxy_header")), (Some(1), None));
        config.server.proxy_protocol = true;
        metrics.reconfigure_unrouted(&config);
        metrics.unrouted.count("host");
        assert_eq!((exposed("host"), exposed("proxy_header")), (Some(2), Some(0)));
    }

    /// G3, O3: a removed endpoint has no series, and the others of the bucket keep theirs
    #[test]
    fn a_removed_endpoint_has_no_series() {
        let (registry, config) = (Registry::new(), config());
        let metrics = RequestMetrics::register(&registry, &config, &Logger::root(Discard, o!())).unwrap();
        let _buckets = ["gone", "kept"]
            .map(|name| metrics.bucket(name, (ReasonScope::of(&config), &config.buckets[name])));
        metrics.remove_endpoints("kept", |endpoint| endpoint == "h1:1");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let has = |bucket, endpoint| {
            text.contains(&format!(
                "upstream_duration_seconds_count{{bucket=\"{bucket}\",endpoint=\"{endpoint}\"}}"
            ))
        };
        assert_eq!([has("kept", "h1:1"), has("kept", "h2:2"), has("gone", "h1:1")], [false, true, true]);
    }
}
