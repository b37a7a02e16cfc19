//! The words in which a circuit decides: what a request or a result means for it, and what it says of itself.

use std::time::{Duration, Instant};

use crate::breaker::outcome::{Cause, Failure};
use crate::breaker::tally::Tally;

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
pub(crate) enum Pass {
    /// The circuit had closed meanwhile.
    Closed { generation: u32 },
    /// As one of the few.
    Trial { generation: u32, id: TrialId },
}

/// Why a request is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Open {
        retry_after: Duration,
        cause: Cause,
    },
    HalfOpenFull {
        retry_after: Duration,
    },
    /// The configuration says so.
    Forced {
        retry_after: Duration,
    },
}

impl Refusal {
    /// What a request is told that finds all trials taken: they end when they end.
    pub(crate) const TRIALS_TAKEN: Self = Self::HalfOpenFull { retry_after: TRIALS_TAKEN_RETRY };
}

/// What admitting a request changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Closed,
    /// The first trial turns the circuit half-open.
    FirstTrial,
    Trial,
}

/// What a result changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    Tallied(Tally),
    Tripped(Tally, Failure),
    TrialEnded(TrialId, Verdict),
}

/// What a trial says of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Nothing,
    Good,
    /// The last success that was needed.
    GoodEnough,
    Bad(Failure),
}

/// A circuit changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    Opened {
        cause: Cause,
        open_for: Duration,
    },
    HalfOpened,
    /// Half-open before its time, because its upstream can be connected to again.
    Reached,
    Closed,
}

/// What is published of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) state: CircuitState,
    pub(crate) generation: u32,
    /// None in a circuit that is open has no end.
    pub(crate) open_until: Option<Instant>,
    /// Whether it is open because nobody could be connected to, and a connection ends that.
    pub(crate) probed: bool,
    pub(crate) consecutive_failures: u32,
    pub(crate) opened_total: u64,
    pub(crate) reopened: u32,
    pub(crate) cause: Option<Cause>,
    /// Trials' permits that are out, and when the last lease of them ends.
    pub(crate) trials: u32,
    pub(crate) leases_end: Option<Instant>,
}
