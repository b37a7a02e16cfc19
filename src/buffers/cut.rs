//! Why a response or an upload is cut, and the figures that decided (O4).

use std::time::Duration;

use tidegate_actors::{Level, WaitCut};
use tidegate_config::MonitorConfig;

use crate::decisions::decision::KeyName::{Process, Upstream};
use crate::decisions::decision::{DecidingActor, DecisionScope, Figures, ThresholdKeys, Unit, ms, number};

/// Why a response is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutReason {
    /// No byte within `server.write_stall_timeout`.
    Stalled,
    /// Fewer bytes than `server.min_send_rate` requires, or too many events wait for it.
    Slow,
    /// Its client occupies too much capacity with responses that it does not read.
    Crowding,
    /// Memory is short, and this is one of the heaviest transfers.
    Memory,
    /// A reload has withdrawn the key of its client.
    Withdrawn,
}

impl CutReason {
    /// The reason in logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Stalled => "write_stall",
            Self::Slow => "slow_client_rate",
            Self::Crowding => "slow_client",
            Self::Memory => "memory_pressure",
            Self::Withdrawn => "key_withdrawn",
        }
    }
}

/// A cut and its figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    pub(crate) reason: CutReason,
    pub(crate) figures: Figures,
}

impl Cut {
    /// The client read nothing for this time.
    pub(super) fn stalled(waited: Duration, limit: Duration) -> Self {
        let figures = Figures::of(DecisionScope::Client).set_by(&[Process("server.write_stall_timeout")]);
        let figures = figures.measured(ms(waited), Unit::Milliseconds);
        Self { reason: CutReason::Stalled, figures: figures.threshold(ms(limit), Unit::Milliseconds) }
    }

    /// The client read fewer bytes a second than this rate.
    pub(super) fn slow(bytes_per_second: u64, rate: u64) -> Self {
        let figures = Figures::of(DecisionScope::Client).set_by(&[Process("server.min_send_rate")]);
        let figures = figures.measured(number(bytes_per_second), Unit::BytesPerSecond);
        Self { reason: CutReason::Slow, figures: figures.threshold(number(rate), Unit::BytesPerSecond) }
    }
}

impl From<CrowdingCut> for Cut {
    fn from(crowding: CrowdingCut) -> Self {
        Self { reason: CutReason::Crowding, figures: crowding.figures() }
    }
}

impl From<MemoryCut> for Cut {
    fn from(memory: MemoryCut) -> Self {
        Self { reason: CutReason::Memory, figures: memory.figures() }
    }
}

impl From<WithdrawnCut> for Cut {
    fn from(withdrawn: WithdrawnCut) -> Self {
        Self { reason: CutReason::Withdrawn, figures: withdrawn.figures() }
    }
}

/// Why a transfer is cut that its client does not delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TransferCut {
    Memory(MemoryCut),
    Withdrawn(WithdrawnCut),
}

impl TransferCut {
    /// The reason in logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Memory(_) => CutReason::Memory.reason(),
            Self::Withdrawn(_) => CutReason::Withdrawn.reason(),
        }
    }

    pub(crate) fn figures(self) -> Figures {
        match self {
            Self::Memory(memory) => memory.figures(),
            Self::Withdrawn(withdrawn) => withdrawn.figures(),
        }
    }
}

/// The key of the client was withdrawn this long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WithdrawnCut {
    pub(super) grace: Duration,
}

impl WithdrawnCut {
    fn figures(self) -> Figures {
        let figures = Figures::of(DecisionScope::Client).set_by(&[Process("server.revoke_grace")]);
        let grace = ms(self.grace);
        figures.measured(grace, Unit::Milliseconds).threshold(grace, Unit::Milliseconds)
    }
}

/// The client has too many requests that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrowdingCut {
    pub(super) waits: WaitCut,
    /// They hold the permits of a bucket's gate; else the slots of the process.
    pub(super) is_gate: bool,
}

impl CrowdingCut {
    /// The requests that wait, and the most that may.
    pub(crate) fn figures(self) -> Figures {
        let Self { waits: WaitCut { waiting, limit }, is_gate } = self;
        let (actor, keys): (_, ThresholdKeys) = match is_gate {
            true => (DecidingActor::Pool, &[Upstream("concurrency.max_concurrent")]),
            false => (DecidingActor::Monitor, &[Process("server.max_concurrent_requests")]),
        };
        let figures = Figures::of(DecisionScope::Client).decided_by(actor).set_by(keys);
        let figures = figures.measured(f64::from(waiting), Unit::Requests);
        figures.threshold(f64::from(limit), Unit::Requests)
    }
}

/// The process's own memory when a transfer was cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MemoryCut {
    /// In percent of its limit.
    percent: f64,
    /// The percentage from which on memory is at the level of the action.
    threshold: u8,
    keys: ThresholdKeys,
}

impl MemoryCut {
    /// `was_at`: memory was at the level in the sample before. Then it stays there until it is below the end of the level.
    pub(super) fn new(percent: f64, (level, was_at): (Level, bool), config: &MonitorConfig) -> Self {
        let threshold = if was_at { level.ends_below(config) } else { level.begins_at(config) };
        let keys: ThresholdKeys = match (level, was_at) {
            (Level::Normal, _) | (Level::Warning, true) => &[Process("monitor.recover")],
            (Level::Warning, false) | (Level::Critical, true) => &[Process("monitor.warning")],
            (Level::Critical, false) | (Level::Exhausted, true) => &[Process("monitor.critical")],
            (Level::Exhausted, false) => &[Process("monitor.exhausted")],
        };
        Self { percent, threshold, keys }
    }

    /// The share of memory in use, and the threshold that it is not below.
    pub(crate) fn figures(self) -> Figures {
        let figures = Figures::of(DecisionScope::Process).decided_by(DecidingActor::Monitor);
        let figures = figures.set_by(self.keys).measured(self.percent, Unit::Percent);
        figures.threshold(f64::from(self.threshold), Unit::Percent)
    }
}
