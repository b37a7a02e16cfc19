//! Requests, connections and unsent bytes of the process, for its drain and for the reports to a successor (G4, G8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_actors::{BucketId, clock};

use super::Shared;
use crate::live_requests::LiveCounts;
use crate::telemetry::millis;

/// The buckets that a text names.
const BUCKETS_SHOWN: usize = 8;

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

    /// The requests of each bucket as a text: the buckets with the most first, at most eight of them.
    pub(crate) fn by_bucket(&self) -> String {
        let mut buckets: Vec<_> = self.buckets.iter().collect();
        buckets.sort_by_key(|(_, requests)| std::cmp::Reverse(**requests));
        let shown = buckets.iter().take(BUCKETS_SHOWN).map(|(name, requests)| format!("{name} {requests}"));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if buckets.len() > BUCKETS_SHOWN {
            text.push_str(&format!(", and {} more buckets", buckets.len() - BUCKETS_SHOWN));
        }
        text
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

    /// G4: the text has the buckets with the most requests, and counts the others
    #[test]
    fn the_text_of_buckets_is_bounded() {
        let of = |count: usize| DrainProgress {
            buckets: (0..count).map(|at| (format!("b{at:02}"), 1 + at % 3)).collect(),
            ..DrainProgress::default()
        };
        assert_eq!(of(0).by_bucket(), "");
        assert_eq!(of(3).by_bucket(), "b02 3, b01 2, b00 1");
        let many = of(300).by_bucket();
        assert!(many.starts_with("b02 3, b05 3, ") && many.ends_with(", and 292 more buckets"), "{many}");
        assert_eq!(many.split(", ").count(), BUCKETS_SHOWN + 1);
    }

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
