//! Requests, connections and unsent bytes of the process, for its drain and for the reports to a successor (G4, G8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_actors::{BucketId, clock};

use super::Shared;
use crate::live_requests::LiveCounts;
use crate::telemetry::{millis, requests_by_bucket};

/// What a drain still waits for. It is empty when nothing is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DrainProgress {
    /// Requests in flight on the data listener.
    pub(crate) requests: usize,
    /// Open connections of the data listener.
    pub(crate) connections: usize,
    /// Requests with a stream: an answer that has begun and has no declared length or is `text/event-stream`.
    pub(crate) streams: usize,
    /// Bytes of finished answers that clients have not received. Such an answer holds no slot, so it is not in `requests`.
    pub(crate) unsent_bytes: u64,
    /// The age of the oldest request.
    pub(crate) oldest_ms: Option<u64>,
    /// Its bucket; none before it is routed.
    pub(crate) oldest_bucket: Option<String>,
    /// Requests of each bucket. One that is not routed has none.
    pub(crate) buckets: BTreeMap<String, usize>,
}

impl DrainProgress {
    /// Requests and answers that an end now would cut off.
    pub(crate) fn unfinished(&self) -> usize {
        self.requests.max(usize::from(self.unsent_bytes > 0))
    }

    /// The requests of each bucket as a text.
    pub(crate) fn by_bucket(&self) -> String {
        requests_by_bucket(self.buckets.iter().map(|(name, requests)| (name.as_str(), *requests as u64)))
    }
}

/// Collects the progress. `connections`: the open connections of the data listener.
pub(crate) fn drain_progress(shared: &Shared, connections: usize) -> DrainProgress {
    let process = &shared.process;
    // A bucket that a reload has removed may still have requests.
    let names = process.decisions.names();
    let name = |id: BucketId| names.bucket(id).unwrap_or("(removed)").to_owned();
    let LiveCounts { requests, streams, oldest, buckets: counted } =
        process.live_requests.counts(clock::now());
    let mut buckets = BTreeMap::new();
    for (bucket, requests) in counted {
        *buckets.entry(name(bucket)).or_default() += requests;
    }
    DrainProgress {
        requests,
        connections,
        streams,
        unsent_bytes: process.send_buffer.get(),
        oldest_ms: oldest.map(|(age, _)| millis(age)),
        oldest_bucket: oldest.and_then(|(_, bucket)| bucket).map(name),
        buckets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: an answer that its client has not taken is cut off too, and counts once
    #[test]
    fn unsent_answers_are_unfinished() {
        let of =
            |requests, unsent_bytes| DrainProgress { requests, unsent_bytes, ..DrainProgress::default() };
        let unfinished =
            [of(0, 0), of(0, 7), of(1, 7), of(3, 0)].map(|progress: DrainProgress| progress.unfinished());
        assert_eq!(unfinished, [0, 1, 1, 3]);
    }

    /// G8: versions differ: a field that is unknown or missing is no error
    #[test]
    fn other_versions_are_read() {
        let read: DrainProgress = serde_json::from_str("{\"requests\":2,\"new\":1}").unwrap();
        assert_eq!(read, DrainProgress { requests: 2, ..DrainProgress::default() });
    }
}
