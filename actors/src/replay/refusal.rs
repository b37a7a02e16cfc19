//! The refusals that a replay decides, with their reasons in the access log.

use crate::limiter::LimitScope;
use crate::replay::circuits::CircuitRefusalKind;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// `server.max_concurrent_requests`
    InFlight,
    /// A rate limit.
    Limit(RateScope),
    /// `concurrency.max_per_client`
    ClientConcurrency,
    /// The queue is full.
    QueueFull,
    /// The expected wait is longer than the request can wait.
    QueueTooLong,
    /// The queue was full, and a request of a higher class came.
    QueueDisplaced,
    /// The queue was overloaded.
    QueueOverload,
    /// No permit was released in time.
    QueueTimeout,
    /// The circuit.
    Circuit(CircuitRefusalKind),
    /// The cursor of the bucket.
    ShedBucket,
}

/// The rate limits that a replay has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RateScope {
    /// All requests together.
    Global,
    /// The client's address.
    Ip,
    /// The bucket.
    Bucket,
    /// The client key.
    Key,
    /// The token subject.
    Subject,
}

impl RateScope {
    pub(super) fn of(scope: LimitScope) -> Self {
        match scope {
            LimitScope::Global => Self::Global,
            // A replay charges no failed authentication.
            LimitScope::Ip | LimitScope::FailedAuth => Self::Ip,
            LimitScope::Bucket => Self::Bucket,
            LimitScope::Key => Self::Key,
            LimitScope::Subject => Self::Subject,
        }
    }
}

impl Refusal {
    /// All refusals of a replay, in the order of the steps.
    pub const ALL: [Self; 16] = [
        Self::InFlight,
        Self::Limit(RateScope::Global),
        Self::Limit(RateScope::Ip),
        Self::Limit(RateScope::Bucket),
        Self::ClientConcurrency,
        Self::Limit(RateScope::Key),
        Self::Limit(RateScope::Subject),
        Self::Circuit(CircuitRefusalKind::Open),
        Self::Circuit(CircuitRefusalKind::HalfOpen),
        Self::Circuit(CircuitRefusalKind::Forced),
        Self::ShedBucket,
        Self::QueueFull,
        Self::QueueTooLong,
        Self::QueueDisplaced,
        Self::QueueOverload,
        Self::QueueTimeout,
    ];

    /// The reason in the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InFlight => "too_many_requests_in_flight",
            Self::Limit(RateScope::Global) => "rate_limit_global",
            Self::Limit(RateScope::Ip) => "rate_limit_ip",
            Self::Limit(RateScope::Bucket) => "rate_limit_bucket",
            Self::Limit(RateScope::Key) => "rate_limit_key",
            Self::Limit(RateScope::Subject) => "rate_limit_subject",
            Self::ClientConcurrency => "client_concurrency",
            Self::QueueFull => "queue_full",
            Self::QueueTooLong => "queue_too_long",
            Self::QueueDisplaced => "queue_displaced",
            Self::QueueOverload => "queue_overload",
            Self::QueueTimeout => "queue_timeout",
            Self::Circuit(CircuitRefusalKind::Open) => "breaker_open",
            Self::Circuit(CircuitRefusalKind::HalfOpen) => "breaker_half_open",
            Self::Circuit(CircuitRefusalKind::Forced) => "breaker_forced_open",
            Self::ShedBucket => "shed_bucket",
        }
    }

    /// The refusal with this reason.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.reason() == reason)
    }
}
