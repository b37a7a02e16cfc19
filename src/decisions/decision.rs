//! One decision of the gateway, and what decided it (O4).
//!
//! The figures come from the value that decided (a rejection, an outcome, a transition), never from a state that was read later.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tidegate_actors::{BucketId, EjectionRule, EjectionTrip, KeyId, Trip, TripRule};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DecisionKind {
    /// A request got a local error reply, or a connection was refused before its first request.
    Refusal,
    /// A request waited for a permit for more than 10 ms.
    Queued,
    /// A failed attempt was repeated.
    Retry,
    /// A slow read was sent a second time.
    Hedge,
    /// A request passed only because a limit or an action is in shadow mode.
    Shadow,
    /// A transfer was ended after the head of its response.
    Cut,
    /// An endpoint or a credential was taken out of use, or was returned.
    Ejection,
    /// A level, a circuit or the mode of a load balancer changed.
    Transition,
}

impl DecisionKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Queued => "queued",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Shadow => "shadow",
            Self::Cut => "cut",
            Self::Ejection => "ejection",
            Self::Transition => "transition",
        }
    }
}

/// What the decision was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DecisionScope {
    /// The whole gateway.
    Process,
    /// One bucket.
    Bucket,
    /// One endpoint of a bucket.
    Endpoint,
    /// The credentials of a bucket.
    Credential,
    /// The client. Its kind follows from the request: key, else subject, else address.
    Client,
    /// One client key or API key.
    ClientKey,
    /// One token subject.
    ClientSubject,
    /// One client address.
    ClientAddress,
    /// This request alone.
    Request,
}

impl DecisionScope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Bucket => "bucket",
            Self::Endpoint => "endpoint",
            Self::Credential => "credential",
            Self::Client => "client",
            Self::ClientKey => "client_key",
            Self::ClientSubject => "client_subject",
            Self::ClientAddress => "client_address",
            Self::Request => "request",
        }
    }
}

/// The unit of measured value and threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Requests,
    Forms,
    Tokens,
    Headers,
    Bytes,
    BytesPerSecond,
    Milliseconds,
    Percent,
    Attempts,
    Failures,
    Messages,
    Restarts,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Forms => "forms",
            Self::Tokens => "tokens",
            Self::Headers => "headers",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes/s",
            Self::Milliseconds => "ms",
            Self::Percent => "%",
            Self::Attempts => "attempts",
            Self::Failures => "failures",
            Self::Messages => "messages",
            Self::Restarts => "restarts",
        }
    }
}

/// The kind of actor that decided. Pool and breaker are those of the decision's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecidingActor {
    Monitor,
    Limiter,
    Pool,
    Breaker,
}

/// The name of a configuration key below the section that the decision's bucket or client key selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyName {
    /// A key of the whole gateway.
    Process(&'static str),
    /// A key of `buckets.NAME`.
    Bucket(&'static str),
    /// A key of the bucket's upstream section: `buckets.NAME.s3` or `buckets.NAME.http`.
    Upstream(&'static str),
    /// A key of `keys.NAME` or `api_keys.NAME`.
    ClientKey(&'static str),
    /// No key: the client set the threshold in this header.
    Header(&'static str),
}

/// The keys that can hold a threshold, the one with precedence first. A decision names the first that is set, else the first.
pub(crate) type ThresholdKeys = &'static [KeyName];

/// What decided: scope, measured value, threshold, and when the answer would change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) scope: DecisionScope,
    pub(crate) measured: Option<f64>,
    pub(crate) threshold: Option<f64>,
    pub(crate) unit: Option<Unit>,
    /// Time from the decision until the same request could be answered otherwise.
    pub(crate) until: Option<Duration>,
    pub(crate) actor: Option<DecidingActor>,
    pub(crate) keys: ThresholdKeys,
}

impl Figures {
    pub(crate) const fn of(scope: DecisionScope) -> Self {
        Self { scope, measured: None, threshold: None, unit: None, until: None, actor: None, keys: &[] }
    }

    pub(crate) fn measured(self, measured: f64, unit: Unit) -> Self {
        Self { measured: Some(measured), unit: Some(unit), ..self }
    }

    pub(crate) fn threshold(self, threshold: f64, unit: Unit) -> Self {
        Self { threshold: Some(threshold), unit: Some(unit), ..self }
    }

    pub(crate) fn until(self, until: Duration) -> Self {
        Self { until: Some(until), ..self }
    }

    pub(crate) fn decided_by(self, actor: DecidingActor) -> Self {
        Self { actor: Some(actor), ..self }
    }

    pub(crate) fn set_by(self, keys: ThresholdKeys) -> Self {
        Self { keys, ..self }
    }

    /// The figures of the rule that ejected an endpoint.
    pub(crate) fn of_ejection(self, trip: Option<EjectionTrip>) -> Self {
        let Some(EjectionTrip { rule, measured, threshold }) = trip else { return self };
        let (unit, keys): (Unit, ThresholdKeys) = match rule {
            EjectionRule::ConsecutiveFailures => {
                (Unit::Failures, &[KeyName::Upstream("outlier_ejection.consecutive_failures")])
            }
            EjectionRule::FailureRate => {
                (Unit::Percent, &[KeyName::Upstream("outlier_ejection.failure_percent")])
            }
            // One failure is enough, and no key changes that. The key is that of the time which follows.
            EjectionRule::Probation => {
                (Unit::Failures, &[KeyName::Upstream("outlier_ejection.base_seconds")])
            }
        };
        self.measured(f64::from(measured), unit).threshold(f64::from(threshold), unit).set_by(keys)
    }

    /// The figures of the rule that opened a circuit.
    pub(crate) fn of_trip(self, trip: Option<Trip>) -> Self {
        let Some(Trip { rule, measured, threshold }) = trip else { return self };
        let (unit, keys): (Unit, ThresholdKeys) = match rule {
            TripRule::ConsecutiveFailures => {
                (Unit::Failures, &[KeyName::Upstream("circuit_breaker.failure_threshold")])
            }
            TripRule::FailureRate => {
                (Unit::Percent, &[KeyName::Upstream("circuit_breaker.failure_rate_threshold")])
            }
            TripRule::SlowCallRate => {
                (Unit::Percent, &[KeyName::Upstream("circuit_breaker.slow_call_rate_threshold")])
            }
            // One failed trial is enough, and no key changes that. The key is that of the open time which follows.
            TripRule::Trial => (Unit::Failures, &[KeyName::Upstream("circuit_breaker.timeout_seconds")]),
        };
        self.measured(f64::from(measured), unit).threshold(f64::from(threshold), unit).set_by(keys)
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts and sizes are far below 2^53")]
pub(crate) fn number(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

/// A duration as a figure, in milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The number of the names of a configuration. It is given once in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct NamesNumber(pub(super) u32);

/// The parts of a decision with a fixed size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecisionFacts {
    pub(crate) kind: DecisionKind,
    /// The reason of `docs/errors.md`.
    pub(crate) reason: &'static str,
    pub(crate) figures: Figures,
    /// Status of the reply of a refusal, of the one that shadow mode suppressed, or of the failed attempt of a retry.
    pub(crate) status: Option<u16>,
    pub(crate) bucket: Option<BucketId>,
    pub(crate) endpoint: Option<u16>,
    pub(crate) credential: Option<u16>,
    pub(crate) key: Option<KeyId>,
    pub(crate) client: Option<IpAddr>,
    /// Time since the head of the request.
    pub(crate) elapsed: Option<Duration>,
    /// Incarnation of the deciding actor.
    pub(crate) generation: Option<u64>,
    /// The names that endpoint, credential, key and threshold refer to. The recorder sets them.
    pub(crate) names: NamesNumber,
}

impl DecisionFacts {
    pub(crate) fn new(kind: DecisionKind, reason: &'static str, figures: Figures) -> Self {
        Self {
            kind,
            reason,
            figures,
            status: None,
            bucket: None,
            endpoint: None,
            credential: None,
            key: None,
            client: None,
            elapsed: None,
            generation: None,
            names: NamesNumber::default(),
        }
    }
}

/// The parts of a request's access line that its story needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestEnd {
    pub(crate) status: u16,
    pub(crate) attempts: u32,
    pub(crate) admission: Option<Duration>,
    pub(crate) queue: Option<Duration>,
    /// From the permit to the head of the answer, or to the failure of the last attempt.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) sent_bytes: u64,
}

/// The fixed part of an entry of the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EntryFacts {
    Decision(DecisionFacts),
    /// The end of a request about which there are decisions.
    End(RequestEnd),
}

/// The texts of an entry. The ring cuts long ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EntryTexts<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) detail: &'a str,
}

/// A copy of an entry, with its order among all entries of the process.
#[derive(Debug, Clone)]
pub(crate) struct RingEntry {
    pub(crate) order: u64,
    pub(crate) at: SystemTime,
    pub(crate) facts: EntryFacts,
    pub(crate) request_id: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}
