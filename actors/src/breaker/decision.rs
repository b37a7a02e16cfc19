//! The words in which a circuit decides: what a request or a result means for it, and what it says of itself.

use std::time::{Duration, Instant};

use crate::breaker::call_window::CallWindow;
use crate::breaker::outcome::{CallFailure, FailureCause};

/// When those may ask again who find all trials taken.
pub(super) const TRIALS_TAKEN_RETRY: Duration = Duration::from_secs(1);

/// What a circuit does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Admits all.
    Closed,
    /// Admits none.
    Open,
    /// Admits trials.
    HalfOpen,
}

impl CircuitState {
    /// The word in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A trial's number, unique within its circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrialId(pub(super) u64);

/// How a request came past the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketKind {
    /// The circuit had closed meanwhile.
    Closed { generation: u32 },
    /// As one of the few.
    Trial { generation: u32, id: TrialId },
}

/// Why a request is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitRefusal {
    Open {
        retry_after: Duration,
        cause: FailureCause,
    },
    HalfOpenFull {
        retry_after: Duration,
    },
    /// The configuration says so.
    Forced {
        retry_after: Duration,
    },
}

impl CircuitRefusal {
    /// What a request is told that finds all trials taken: they end when they end.
    pub(crate) const TRIALS_TAKEN: Self = Self::HalfOpenFull { retry_after: TRIALS_TAKEN_RETRY };
}

/// What admitting a request changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitAdmission {
    Closed,
    /// The first trial turns the circuit half-open.
    FirstTrial,
    Trial,
}

/// What a result changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitChange {
    Nothing,
    Recorded(CallWindow),
    Tripped(CallWindow, CallFailure),
    TrialEnded(TrialId, TrialResult),
}

/// What a trial says of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrialResult {
    Ignored,
    Success,
    /// The last success that was needed.
    Closing,
    Failure(CallFailure),
}

/// A circuit changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitTransition {
    Opened {
        cause: FailureCause,
        open_for: Duration,
    },
    HalfOpened,
    /// Half-open before its time, because its upstream can be connected to again.
    HalfOpenedByConnect,
    Closed,
}

/// What is published of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CircuitSnapshot {
    pub(crate) state: CircuitState,
    pub(crate) generation: u32,
    /// None in a circuit that is open has no end.
    pub(crate) open_until: Option<Instant>,
    /// Whether it is open because nobody could be connected to, and a connection ends that.
    pub(crate) probed: bool,
    pub(crate) consecutive_failures: u32,
    pub(crate) opened_total: u64,
    pub(crate) reopened: u32,
    pub(crate) cause: Option<FailureCause>,
    /// Trials' permits that are out, and when the last lease of them ends.
    pub(crate) trials: u32,
    pub(crate) leases_end: Option<Instant>,
}
