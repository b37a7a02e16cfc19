//! One limit: its key and value, what is counted, what is advised.

use std::time::Duration;

use tidegate_actors::{EjectionRule, Level, TripRule};

/// Where the peak use comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeakSource {
    /// Only hits are counted.
    Unknown,
    InFlight,
    /// Requests in flight of one client.
    OneClient,
    /// Upstream calls of a bucket.
    Calls,
    /// The queue of a bucket.
    Queue,
    GlobalBurst,
    IpBurst,
    BucketBurst,
    KeyBurst,
    SubjectBurst,
    FailedAuthBurst,
    /// Failures in a row of a circuit of a bucket.
    CircuitFailures,
    /// Failures in a row of an endpoint of a bucket.
    EndpointFailures,
    AdminConnections,
    AdminStreams,
    /// The measured wait that moves a cursor, of the bucket or of the process, in ms.
    Wait,
    /// The highest pressure among the sensors that can cause this level.
    Pressure(Level),
    SessionEntries,
}

/// Where the hits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HitSource {
    /// Refusals and cut transfers with these reasons.
    Reasons(&'static [&'static str]),
    /// Requests of the bucket that waited in its queue.
    Waits,
    /// How often a level began.
    LevelBegins(Level),
    /// Connections beyond the maximum.
    AdminConnections,
    /// Event streams beyond the maximum.
    AdminStreams,
    SessionEvictions,
    /// Retries that the budget of the bucket did not allow.
    Retries,
    /// Openings of circuits of the bucket by this rule.
    Openings(TripRule),
    /// Ejections of endpoints of the bucket by this rule.
    Ejections(EjectionRule),
}

/// What a limit that acts calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    Count,
    Burst,
    Cache,
    Time,
    /// A wait that refuses requests.
    Wait,
    /// A limit that failures of the upstream reach.
    Failures,
    Size,
    Level,
}

impl Advice {
    /// Whether a lower value is suggested if the limit is far above its peak.
    pub(super) fn is_lowered(self) -> bool {
        matches!(self, Self::Count | Self::Burst | Self::Cache)
    }
}

/// One limit.
#[derive(Debug, Clone)]
pub(super) struct LimitEntry {
    pub(super) key: String,
    /// The index of its bucket; none for a limit of the process.
    pub(super) bucket: Option<usize>,
    pub(super) limit: f64,
    /// The least value that is suggested.
    pub(super) min: f64,
    pub(super) unit: &'static str,
    pub(super) peak: PeakSource,
    pub(super) hits: HitSource,
    pub(super) advice: Advice,
}

impl LimitEntry {
    /// What one hit is, in the plural.
    pub(super) fn hit(&self) -> &'static str {
        match self.hits {
            HitSource::Reasons(_) => match self.advice {
                Advice::Time => "requests that ran into it",
                _ => "requests refused",
            },
            HitSource::Waits => "requests that waited",
            HitSource::LevelBegins(_) => "begins of the level",
            HitSource::AdminConnections => "connections beyond the maximum",
            HitSource::AdminStreams => "event streams beyond the maximum",
            HitSource::Retries => "retries not allowed",
            HitSource::Openings(_) => "openings of a circuit",
            HitSource::Ejections(_) => "ejections of an endpoint",
            HitSource::SessionEvictions => "evicted entries",
        }
    }
}

pub(super) fn entry(
    key: &str,
    (limit, unit): (f64, &'static str),
    peak: PeakSource,
    hits: HitSource,
    advice: Advice,
) -> LimitEntry {
    LimitEntry { key: key.to_owned(), bucket: None, limit, min: 1.0, unit, peak, hits, advice }
}

/// A limit without a known peak.
pub(super) fn hits_only(
    key: &str,
    limit: (f64, &'static str),
    reasons: &'static [&'static str],
    advice: Advice,
) -> LimitEntry {
    entry(key, limit, PeakSource::Unknown, HitSource::Reasons(reasons), advice)
}

pub(super) fn millis(time: Duration) -> (f64, &'static str) {
    (time.as_secs_f64() * 1e3, "ms")
}

pub(super) fn seconds(time: Duration) -> (f64, &'static str) {
    (time.as_secs_f64(), "s")
}
