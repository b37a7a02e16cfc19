//! Inputs and results of the circuit state machine: admissions, refusals, trial results, transitions, snapshots.

use std::time::{Duration, Instant};

use crate::breaker::call_window::CallWindow;
use crate::breaker::outcome::{CallFailure, FailureCause};
use crate::trip::Trip;

/// Retry time of requests that are refused because all trials are in use.
pub(super) const TRIALS_TAKEN_RETRY: Duration = Duration::from_secs(1);

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Admits all requests.
    Closed,
    /// Admits no requests.
    Open,
    /// Admits a few requests as trials.
    HalfOpen,
}

impl CircuitState {
    /// The value in the status document.
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

/// How a request was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketKind {
    /// The circuit was closed.
    Closed { generation: u32 },
    /// As a trial of a half-open circuit.
    Trial { generation: u32, id: TrialId },
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitRefusal {
    Open {
        retry_after: Duration,
        cause: FailureCause,
        /// The rule that opened it; none after a restart that found no trace of it.
        trip: Option<Trip>,
    },
    HalfOpenFull {
        retry_after: Duration,
    },
    /// The mode is `forced_open`.
    Forced {
        retry_after: Duration,
    },
}

impl CircuitRefusal {
    /// All trials are in use. Their end is not known, so the retry time is fixed.
    pub(crate) const TRIALS_TAKEN: Self = Self::HalfOpenFull { retry_after: TRIALS_TAKEN_RETRY };
}

/// How a request may be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitAdmission {
    Closed,
    /// The first trial makes the circuit half-open.
    FirstTrial,
    Trial,
}

/// The change that a result makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitChange {
    Nothing,
    Recorded(CallWindow),
    Tripped(CallWindow, Trip, CallFailure),
    TrialEnded(TrialId, TrialResult),
}

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrialResult {
    Ignored,
    Success,
    /// The last required success: the circuit closes.
    Closing,
    Failure(CallFailure),
}

/// A state transition of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CircuitTransition {
    Opened {
        cause: FailureCause,
        trip: Option<Trip>,
        open_for: Duration,
    },
    HalfOpened,
    /// Half-open before the open time has elapsed, because a connection to the upstream succeeded.
    HalfOpenedByConnect,
    Closed,
    /// Closed because a new configuration switches the breaker off.
    SwitchedOff,
}

/// The published state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CircuitSnapshot {
    pub(crate) state: CircuitState,
    pub(crate) generation: u32,
    /// None in an open circuit: it is forced open, without an end.
    pub(crate) open_until: Option<Instant>,
    /// Whether a connection to the upstream ends the open time.
    pub(crate) probed: bool,
    pub(crate) consecutive_failures: u32,
    pub(crate) opened_total: u64,
    pub(crate) reopened: u32,
    pub(crate) cause: Option<FailureCause>,
    /// The rule that last opened it.
    pub(crate) trip: Option<Trip>,
    /// Permits in use by trials, and when the last of their leases ends.
    pub(crate) trials: u32,
    pub(crate) leases_end: Option<Instant>,
}
