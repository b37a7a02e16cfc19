//! The words for how a call went (B3): only what says something about the upstream's health.

use std::fmt;
use std::time::Duration;

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It answered with a 5xx status.
    Status(u16),
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// A connection, but to somebody who is not trusted or speaks no TLS that the gateway does.
    Distrust,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The answer was neither success nor error.
    Decode,
    /// It answered, but too slowly.
    Slow,
}

impl Cause {
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
            Self::Distrust => "distrust",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Decode => "decode",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Cause {
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
        cause: Cause,
        /// For how long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Says nothing about it: a 4xx, a client that left, a request the gateway shed.
    Neutral,
}

/// The failure in an `Outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) retry_after: Option<Duration>,
}

/// What tells against an upstream: only this opens a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adverse {
    Failed(Failure),
    /// A success that took too long.
    Slow,
}

impl Adverse {
    /// As the failure that a circuit opens for.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Slow => Failure { cause: Cause::Slow, retry_after: None },
        }
    }
}
