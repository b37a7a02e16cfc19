//! The status of limits: which refused, which would have refused in shadow mode, and what is left.

use std::time::Duration;

use tidegate_config::RateLimit;

/// The scope of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
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
    /// The client's address, for failed authentications.
    FailedAuth,
}

impl LimitScope {
    /// All scopes.
    pub const ALL: [Self; 6] =
        [Self::Global, Self::Ip, Self::Bucket, Self::Key, Self::Subject, Self::FailedAuth];

    /// The value in reasons and metrics.
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

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitScopes(u8);

impl LimitScopes {
    fn with(self, scope: LimitScope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// Whether the set has this scope.
    pub fn contains(self, scope: LimitScope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes of the set.
    pub fn iter(self) -> impl Iterator<Item = LimitScope> {
        LimitScope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<LimitScope> for LimitScopes {
    fn from_iter<S: IntoIterator<Item = LimitScope>>(scopes: S) -> Self {
        scopes.into_iter().fold(Self::default(), Self::with)
    }
}

/// The state of a limit after a request, for refusals and, where configured, for the headers of every answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitStatus {
    /// The scope of the limit.
    pub scope: LimitScope,
    /// Its burst.
    pub burst: u32,
    /// Its rate per second.
    pub requests_per_second: f64,
    /// Tokens left.
    pub remaining: u32,
    /// For a refused request, the time until it fits; for an admitted one, the time until the next token.
    pub retry_after: Duration,
}

impl LimitStatus {
    /// The status of a client that is locked out for `wait` after failed authentications.
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

/// The result of the limits for an admitted request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    /// The shadow limits that would have refused it, with the status that the refusal would have had.
    pub shadowed: Vec<LimitStatus>,
    /// The limit with the fewest tokens left, where rate-limit headers are sent.
    pub tightest: Option<LimitStatus>,
}

impl Allowed {
    /// The result of a single shadow limit that would have refused.
    pub(crate) fn shadowed(status: LimitStatus) -> Self {
        Self { shadowed: vec![status], tightest: None }
    }

    /// The scopes of the shadow limits that would have refused it.
    pub fn shadowed_scopes(&self) -> LimitScopes {
        self.shadowed.iter().map(|status| status.scope).collect()
    }

    /// Adds the result of further limits.
    pub fn merge(&mut self, other: Self) {
        self.tightest = match (self.tightest, other.tightest) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        };
        self.shadowed.extend(other.shadowed);
    }
}
