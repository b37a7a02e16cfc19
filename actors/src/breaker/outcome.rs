//! Outcomes of upstream calls (B3), reduced to what the health of the upstream depends on.

use std::fmt;
use std::time::Duration;

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// The upstream answered with a 5xx status.
    Status(u16),
    /// The connection failed.
    Connect,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The connection was made, but the certificate is not trusted or no TLS version is shared.
    TlsRejected,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The answer was neither success nor error.
    Decode,
    /// The upstream answered, but too slowly.
    Slow,
}

impl FailureCause {
    /// Whether no connection could be made: a connection probe can detect the end of such a failure.
    pub(crate) fn is_unreachable(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }

    /// What happened, for a sentence that continues after "because".
    pub fn clause(self) -> String {
        match self {
            Self::Status(status) => format!("the upstream answered {status}"),
            Self::Connect => "connections failed".to_owned(),
            Self::ConnectTimeout => "connections were not made in time".to_owned(),
            Self::TlsRejected => "TLS handshakes failed".to_owned(),
            Self::Timeout => "the upstream did not answer in time".to_owned(),
            Self::Reset => "connections broke".to_owned(),
            Self::Decode => "answers were not valid HTTP".to_owned(),
            Self::Slow => "answers were slow".to_owned(),
        }
    }

    /// The value in reasons and metrics.
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

/// The outcome of a call, as far as the upstream's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered correctly.
    Success,
    /// The failure is attributed to the upstream.
    Failure {
        /// The cause.
        cause: FailureCause,
        /// The upstream's Retry-After.
        retry_after: Option<Duration>,
    },
    /// No evidence about the upstream: a 4xx, a client that disconnected, a request that the gateway shed.
    Neutral,
}

/// The failure in an `Outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallFailure {
    pub(crate) cause: FailureCause,
    pub(crate) retry_after: Option<Duration>,
}

/// An outcome that can open a circuit; no other can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdverseOutcome {
    Failed(CallFailure),
    /// A success that took too long.
    Slow,
}

impl AdverseOutcome {
    /// The failure that is recorded as the cause if the circuit opens.
    pub(crate) fn failure(self) -> CallFailure {
        match self {
            Self::Failed(failure) => failure,
            Self::Slow => CallFailure { cause: FailureCause::Slow, retry_after: None },
        }
    }
}
