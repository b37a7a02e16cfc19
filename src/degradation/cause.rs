//! A cause with its history, as the status document, the events and the log show it.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use crate::degradation::codes::{CauseCode, Severity};
use crate::degradation::counts::Touched;
use crate::degradation::finding::{Finding, Quantity, Scope};
use crate::telemetry::{millis, rfc3339};

/// The effect of a cause on requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Effect {
    pub(crate) text: Cow<'static, str>,
    /// What it has touched since it began.
    #[serde(flatten)]
    pub(crate) touched: Touched,
}

/// A cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cause {
    pub(crate) code: CauseCode,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    /// What its code means.
    pub(crate) meaning: &'static str,
    pub(crate) scope: Scope,
    #[serde(serialize_with = "timestamp")]
    pub(crate) since: SystemTime,
    pub(crate) since_ms: u64,
    pub(crate) measured: Option<Quantity>,
    pub(crate) threshold: Option<Quantity>,
    #[serde(serialize_with = "expiry")]
    pub(crate) until: Option<SystemTime>,
    pub(crate) ends_when: &'static str,
    pub(crate) effect: Effect,
    pub(crate) docs: String,
}

/// The same time on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// The wall-clock time of a time before or after this one.
    pub(crate) fn wall_of(self, at: Instant) -> SystemTime {
        let later = at.checked_duration_since(self.now);
        let time = match later {
            Some(left) => self.wall.checked_add(left),
            None => self.wall.checked_sub(self.now.saturating_duration_since(at)),
        };
        time.unwrap_or(self.wall)
    }
}

impl Cause {
    pub(crate) fn new(
        finding: &Finding,
        (began, since): (Instant, SystemTime),
        touched: Touched,
        at: Moment,
    ) -> Self {
        Self {
            code: finding.code,
            severity: finding.code.severity(),
            message: finding.message.clone(),
            meaning: finding.code.entry().meaning,
            scope: finding.scope.clone(),
            since,
            since_ms: millis(at.now.saturating_duration_since(began)),
            measured: finding.measured,
            threshold: finding.threshold,
            until: finding.until.map(|until| at.wall_of(until)),
            ends_when: finding.ends_when,
            effect: Effect { text: finding.effect.clone(), touched },
            docs: finding.code.docs(),
        }
    }
}

/// What happened to a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub(crate) enum Change {
    Began,
    Ended {
        #[serde(serialize_with = "duration", rename = "lasted_ms")]
        lasted: Duration,
    },
    /// It began and ended between two samples, this often.
    Passed {
        count: u64,
    },
}

/// A change of the list of causes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CauseEvent {
    /// Rises by one with each event.
    pub(crate) sequence: u64,
    #[serde(serialize_with = "timestamp")]
    pub(crate) at: SystemTime,
    #[serde(flatten)]
    pub(crate) change: Change,
    pub(crate) cause: Cause,
}

fn timestamp<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

fn expiry<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis(*duration))
}
