//! The drains of a bucket and of its endpoints, with the requests that are left.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tidegate_actors::{Drain, EndpointId};

use crate::degradation::cause::Moment;
use crate::degradation::codes::{CauseCode, ScopeKind};
use crate::degradation::finding::{Finding, Quantity, Scope};
use crate::live_requests::RequestsLeft;
use crate::process::Shared;
use crate::telemetry::{counted, millis, rfc3339};
use crate::upstream::bucket::Bucket;

/// A drain in effect, and the requests that are left.
#[derive(Debug, Clone)]
pub(in crate::admin) struct ActiveDrain {
    pub(in crate::admin) drain: Arc<Drain>,
    pub(in crate::admin) left: RequestsLeft,
}

/// The drains of one bucket.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct BucketDrains {
    pub(in crate::admin) bucket: Option<ActiveDrain>,
    /// By endpoint, in the order of the configuration.
    pub(in crate::admin) endpoints: Vec<Option<ActiveDrain>>,
}

impl BucketDrains {
    pub(in crate::admin) fn of(shared: &Shared, bucket: &Bucket, now: Instant) -> Self {
        let live = &shared.process.live_requests;
        let view = bucket.pool.drains(now);
        let of_endpoint = |(at, drain): (usize, Option<Arc<Drain>>)| {
            let (drain, endpoint) = (drain?, EndpointId(at));
            let oldest = live.of_endpoint(bucket.pool.drain_number(endpoint), now).oldest;
            let left = RequestsLeft { count: bucket.pool.calls_at(endpoint), oldest };
            Some(ActiveDrain { drain, left })
        };
        Self {
            bucket: view.bucket.map(|drain| ActiveDrain { drain, left: live.of_bucket(bucket.id, now) }),
            endpoints: view.endpoints.into_iter().enumerate().map(of_endpoint).collect(),
        }
    }

    /// The causes: one for the bucket, one for each endpoint, or one for all endpoints if all drain.
    pub(super) fn causes(&self, bucket: &str, authorities: &[&str]) -> Vec<Finding> {
        let mut causes: Vec<Finding> = Vec::new();
        causes.extend(self.bucket.as_ref().map(|progress| {
            let message = format!("bucket {bucket} drains: {}", progress.sentence());
            progress.finding(CauseCode::BucketDraining, Scope::bucket(bucket), message)
        }));
        let draining: Vec<(&str, &ActiveDrain)> = authorities
            .iter()
            .zip(&self.endpoints)
            .filter_map(|(name, progress)| Some((*name, progress.as_ref()?)))
            .collect();
        if !draining.is_empty() && draining.len() == authorities.len() {
            causes.push(all_endpoints(bucket, &draining));
            return causes;
        }
        causes.extend(draining.into_iter().map(|(name, progress)| {
            let message = format!("bucket {bucket}: endpoint {name} drains: {}", progress.sentence());
            let scope = Scope::in_bucket(ScopeKind::Endpoint, bucket, name);
            progress.finding(CauseCode::EndpointDraining, scope, message)
        }));
        causes
    }
}

/// The cause of drains that leave no endpoint. It ends with the first of them.
fn all_endpoints(bucket: &str, draining: &[(&str, &ActiveDrain)]) -> Finding {
    let sentences: Vec<_> =
        draining.iter().map(|(name, progress)| format!("{name}: {}", progress.sentence())).collect();
    let message = format!("bucket {bucket}: all endpoints drain: {}", sentences.join("; "));
    let drains = || draining.iter().map(|(_, progress)| progress);
    let left = drains().map(|progress| progress.left.count).sum::<usize>();
    let finding = Finding::new(CauseCode::EndpointsDraining, Scope::bucket(bucket), message);
    Finding {
        // The last one left no endpoint.
        since: drains().map(|progress| progress.drain.began).max(),
        until: drains().filter_map(|progress| progress.drain.until).min(),
        ..finding.measured(requests(left))
    }
}

fn requests(count: usize) -> Quantity {
    Quantity::count(count as u64, "requests left")
}

impl ActiveDrain {
    /// The requests that are left, and who ordered the drain.
    fn sentence(&self) -> String {
        let Drain { ordered_by, reason, .. } = &*self.drain;
        let left = counted(self.left.count as u64, "requests");
        let oldest = self.left.oldest.map(|age| format!(", the oldest for {} ms", millis(age)));
        let reason = reason.as_ref().map(|reason| format!(" ({reason})"));
        format!(
            "{left} left{}; ordered by {ordered_by}{}",
            oldest.unwrap_or_default(),
            reason.unwrap_or_default()
        )
    }

    fn finding(&self, code: CauseCode, scope: Scope, message: String) -> Finding {
        let finding = Finding::new(code, scope, message).since(self.drain.began);
        Finding { until: self.drain.until, ..finding.measured(requests(self.left.count)) }
    }

    /// The drain in documents.
    pub(in crate::admin) fn to_json(&self, at: Moment) -> Value {
        let Drain { began, until, ordered_by, reason } = &*self.drain;
        json!({
            "since": rfc3339(at.wall_of(*began)),
            "since_ms": millis(at.now.saturating_duration_since(*began)),
            "expires_in_ms": until.map(|until| millis(until.saturating_duration_since(at.now))),
            "ordered_by": ordered_by,
            "reason": reason,
            "requests_left": self.left.count,
            "oldest_ms": self.left.oldest.map(millis),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_actors::clock;

    use super::*;

    fn progress(began: Instant, until: Option<Instant>, count: usize) -> Option<ActiveDrain> {
        let (ordered_by, reason) = ("10.0.0.1".to_owned(), Some("disk".to_owned()));
        let oldest = (count > 0).then(|| Duration::from_millis(1500));
        let drain = Arc::new(Drain { began, until, ordered_by, reason });
        Some(ActiveDrain { drain, left: RequestsLeft { count, oldest } })
    }

    /// X10: a drain of the bucket and of one of several endpoints are causes with the requests left, the reason and the end
    #[test]
    fn drains_are_causes() {
        let now = clock::now();
        let until = Some(now + Duration::from_secs(60));
        let drains =
            BucketDrains { bucket: progress(now, until, 2), endpoints: vec![None, progress(now, None, 0)] };
        let causes = drains.causes("photos", &["a:80", "b:80"]);
        let codes: Vec<_> = causes.iter().map(|cause| cause.code).collect();
        assert_eq!(codes, [CauseCode::BucketDraining, CauseCode::EndpointDraining]);
        let message =
            "bucket photos drains: 2 requests left, the oldest for 1500 ms; ordered by 10.0.0.1 (disk)";
        assert_eq!((causes[0].message.as_str(), causes[0].until), (message, until));
        assert_eq!((causes[0].since, causes[0].measured), (Some(now), Some(requests(2))));
        assert_eq!(
            (causes[1].message.as_str(), causes[1].scope.name.as_deref()),
            (
                "bucket photos: endpoint b:80 drains: 0 requests left; ordered by 10.0.0.1 (disk)",
                Some("b:80")
            )
        );
    }

    /// X10: drains of all endpoints are one cause of the bucket, which ends with the first drain
    #[test]
    fn drains_of_all_endpoints_are_one_cause() {
        let now = clock::now();
        let until = Some(now + Duration::from_secs(60));
        let later = now + Duration::from_secs(5);
        let endpoints = vec![progress(now, until, 1), progress(later, None, 2)];
        let causes = BucketDrains { bucket: None, endpoints }.causes("photos", &["a:80", "b:80"]);
        assert_eq!(causes.len(), 1);
        assert_eq!((causes[0].code, causes[0].until), (CauseCode::EndpointsDraining, until));
        assert_eq!((causes[0].since, causes[0].measured), (Some(later), Some(requests(3))));
        assert!(BucketDrains::default().causes("photos", &["a:80"]).is_empty());
    }
}
