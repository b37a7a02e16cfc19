//! What is told of limits: which refused, which would have, and what is left.

use std::time::Duration;

use tidegate_config::RateLimit;

/// A limit, by what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// All requests together.
    Global,
    /// This client's address.
    Ip,
    /// This bucket.
    Bucket,
    /// This client key.
    Key,
    /// This subject of tokens.
    Subject,
    /// This client's address, for authentications that fail.
    FailedAuth,
}

impl LimitScope {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Global, Self::Ip, Self::Bucket, Self::Key, Self::Subject, Self::FailedAuth];

    /// The word in reasons and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Ip => "ip",
            Self::Bucket => "bucket",
            Self::Key => "key",
            Self::Subject => "subject",
            Self::FailedAuth => "failed_auth",
        }
    }
}

/// Some of the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitScopes(u8);

impl LimitScopes {
    /// One of them.
    pub fn only(scope: LimitScope) -> Self {
        Self(1 << scope as u8)
    }

    /// Adds one.
    pub fn insert(&mut self, scope: LimitScope) {
        self.0 |= 1 << scope as u8;
    }

    /// Whether it is among them.
    pub fn contains(self, scope: LimitScope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = LimitScope> {
        LimitScope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

/// How a request found a limit: a refusal tells it, and where that is wanted every answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitStatus {
    /// Which limit.
    pub scope: LimitScope,
    /// Its burst.
    pub burst: u32,
    /// Its rate per second.
    pub requests_per_second: f64,
    /// Tokens that are left of it.
    pub remaining: u32,
    /// When a request that was refused fits; after one that was admitted, when another token is there.
    pub retry_after: Duration,
}

impl LimitStatus {
    /// Too many failed authentications, for so long yet.
    pub(crate) fn of_auth_lockout(limit: RateLimit, wait: Duration) -> Self {
        Self {
            scope: LimitScope::FailedAuth,
            burst: limit.burst.get(),
            requests_per_second: limit.requests_per_second,
            remaining: 0,
            retry_after: wait,
        }
    }
}

/// What the limits that let a request pass say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Allowed {
    /// Those in shadow mode that would have refused it.
    pub shadowed: LimitScopes,
    /// The one with the least left, where answers tell it.
    pub tightest: Option<LimitStatus>,
}

impl Allowed {
    /// Only shadow limits had anything to say.
    pub(crate) fn shadowed(scope: LimitScope) -> Self {
        Self { shadowed: LimitScopes::only(scope), tightest: None }
    }

    /// What both together say.
    pub fn merge(self, other: Self) -> Self {
        let tightest = match (self.tightest, other.tightest) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        };
        Self { shadowed: LimitScopes(self.shadowed.0 | other.shadowed.0), tightest }
    }
}
