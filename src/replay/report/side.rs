//! The figures of one side, of all requests or of one bucket.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tidegate_actors::replay::CircuitMove;

use crate::replay::configuration::ConfiguredNames;
use crate::replay::names::LogNames;
use crate::replay::report::time_text;
use crate::replay::request::RefusalReason;
use crate::replay::tally::{Counts, Tally};

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The gateway that wrote the log.
    Log,
    /// The model of the old configuration.
    Against,
    /// The model of the new configuration.
    New,
}

impl Side {
    /// The title of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Against => "model of old",
            Self::New => "new",
        }
    }
}

/// The figures of one side.
#[derive(Debug, Clone, Serialize)]
pub struct SideCounts {
    /// Who decided.
    pub side: Side,
    /// Requests.
    pub requests: u64,
    /// Requests that were not refused.
    pub admitted: u64,
    /// Admitted requests that waited for more than 10 ms.
    pub queued: u64,
    /// Refused requests.
    pub refused: u64,
    /// Refused requests by reason.
    pub refused_by_reason: BTreeMap<String, u64>,
    /// The wait that 99 % of the admitted requests do not exceed, in ms.
    pub wait_p99_ms: f64,
    /// The longest wait of an admitted request, in ms.
    pub wait_max_ms: f64,
}

impl SideCounts {
    pub(super) fn new(side: Side, counts: &Counts, names: &LogNames) -> Self {
        let name = |reason: &RefusalReason| match reason {
            RefusalReason::Decided(refusal) => refusal.reason().to_owned(),
            RefusalReason::Other(reason) => names.reasons.name(*reason).to_owned(),
        };
        Self {
            side,
            requests: counts.requests,
            admitted: counts.admitted,
            queued: counts.queued,
            refused: counts.refused_total(),
            refused_by_reason: counts.refused.iter().map(|(reason, count)| (name(reason), *count)).collect(),
            wait_p99_ms: counts.waits.quantile(990).as_secs_f64() * 1e3,
            wait_max_ms: counts.waits.max().as_secs_f64() * 1e3,
        }
    }
}

/// The figures of several sides as a table.
pub(super) struct SideTable {
    /// The titles of the columns with figures.
    pub(super) titles: Vec<&'static str>,
    /// The title and the figures of each row.
    pub(super) rows: Vec<(String, Vec<String>)>,
}

impl SideTable {
    pub(super) fn new(sides: &[SideCounts]) -> Self {
        let row = |title: &str, of: &dyn Fn(&SideCounts) -> String| {
            (title.to_owned(), sides.iter().map(of).collect::<Vec<_>>())
        };
        let mut rows = vec![
            row("admitted", &|side| side.admitted.to_string()),
            row("queued for over 10 ms", &|side| side.queued.to_string()),
            row("wait p99, ms", &|side| format!("{:.1}", side.wait_p99_ms)),
            row("wait max, ms", &|side| format!("{:.1}", side.wait_max_ms)),
            row("refused", &|side| side.refused.to_string()),
        ];
        let reasons: BTreeSet<&String> =
            sides.iter().flat_map(|side| side.refused_by_reason.keys()).collect();
        rows.extend(reasons.into_iter().map(|reason| {
            row(reason, &|side| side.refused_by_reason.get(reason).copied().unwrap_or(0).to_string())
        }));
        Self { titles: sides.iter().map(|side| side.side.title()).collect(), rows }
    }
}

/// The figures of one bucket.
#[derive(Debug, Clone, Serialize)]
pub struct BucketSides {
    /// Its section; none for requests without a bucket.
    pub bucket: Option<String>,
    /// What each side did.
    pub sides: Vec<SideCounts>,
}

impl BucketSides {
    pub(super) fn all(sides: &[(Side, &Tally)], names: &LogNames) -> Vec<Self> {
        let ids: BTreeSet<Option<u32>> =
            sides.iter().flat_map(|(_, tally)| tally.buckets.keys().copied()).collect();
        let none = Counts::default();
        let of_bucket = |id: Option<u32>| Self {
            bucket: id.map(|id| names.buckets.name(id).to_owned()),
            sides: sides
                .iter()
                .map(|(side, tally)| SideCounts::new(*side, tally.buckets.get(&id).unwrap_or(&none), names))
                .collect(),
        };
        ids.into_iter().map(of_bucket).collect()
    }
}

/// A change of a circuit.
#[derive(Debug, Clone, Serialize)]
pub struct CircuitChange {
    /// When.
    pub at: String,
    /// The bucket's section.
    pub bucket: String,
    /// The class of the circuit.
    pub class: &'static str,
    /// `opened`, `half_opened` or `closed`.
    pub state: &'static str,
}

impl CircuitChange {
    pub(super) fn new(change: &CircuitMove, begin_us: u64, names: &ConfiguredNames) -> Self {
        let after = u64::try_from(change.at.as_micros()).unwrap_or(u64::MAX);
        Self {
            at: time_text(begin_us.saturating_add(after)),
            bucket: names.bucket_name(change.bucket).to_owned(),
            class: change.class,
            state: change.state,
        }
    }
}
