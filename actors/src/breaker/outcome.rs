//! The words for how a call went (B3): only what says something about the upstream's health.

use std::fmt;
use std::time::Duration;

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// It answered with a 5xx status.
    Status(u16),
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// A connection, but to somebody who is not trusted or speaks no TLS that the gateway does.
    TlsRejected,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The answer was neither success nor error.
    Decode,
    /// It answered, but too slowly.
    Slow,
}

impl FailureCause {
    /// Whether nobody was there to connect to: a bare connection can tell when that is over.
    pub(crate) fn is_unreachable(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }

    /// The word in reasons and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsRejected => "distrust",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Decode => "decode",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// How a call went, as far as the upstream's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as it should.
    Success,
    /// It is to blame.
    Failure {
        /// How it failed.
        cause: FailureCause,
        /// For how long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Says nothing about it: a 4xx, a client that left, a request the gateway shed.
    Neutral,
}

/// The failure in an `Outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallFailure {
    pub(crate) cause: FailureCause,
    pub(crate) retry_after: Option<Duration>,
}

/// What tells against an upstream: only this opens a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdverseOutcome {
    Failed(CallFailure),
    /// A success that took too long.
    Slow,
}

impl AdverseOutcome {
    /// As the failure that a circuit opens for.
    pub(crate) fn failure(self) -> CallFailure {
        match self {
            Self::Failed(failure) => failure,
            Self::Slow => CallFailure { cause: FailureCause::Slow, retry_after: None },
        }
    }
}
