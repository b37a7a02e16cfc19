//! A drain as it crosses to a successor, with the bucket or the endpoint that it is for. Times are nanoseconds of `CLOCK_MONOTONIC`.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::clock::MonotonicClock;
use crate::pool::operator_drain::Drain;
use crate::pool::operator_drain::drain_cell::DrainCell;

/// The longest text that crosses. The admin listener accepts shorter ones.
const TEXT_BYTES_MAX: usize = 1024;

/// A drain that an operator has ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::pool) struct ExportedDrain {
    began: u64,
    /// None for a drain without an end.
    until: Option<u64>,
    ordered_by: String,
    reason: Option<String>,
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

impl ExportedDrain {
    /// The drain in effect.
    pub(in crate::pool) fn of(cell: &DrainCell, clock: &MonotonicClock, now: Instant) -> Option<Self> {
        let drain = cell.drain(now)?;
        Some(Self {
            began: clock.nanos(drain.began),
            until: drain.until.map(|until| clock.nanos(until)),
            ordered_by: drain.ordered_by.clone(),
            reason: drain.reason.clone(),
        })
    }

    /// Goes on with the drain, unless it has expired meanwhile.
    pub(in crate::pool) fn import(&self, cell: &DrainCell, clock: &MonotonicClock, now: Instant) {
        let until = self.until.map(|until| clock.instant(until));
        if until.is_none_or(|until| until > now) {
            cell.set(Drain {
                began: clock.instant(self.began).min(now),
                until,
                ordered_by: bounded(&self.ordered_by),
                reason: self.reason.as_deref().map(bounded),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{self, monotonic_clock};

    /// G8, G11, P5: reason, begin and end cross; an expired drain does not, and texts are bounded
    #[test]
    fn a_drain_crosses() {
        let (clock, now) = (monotonic_clock(), clock::now());
        let (before, after) = (DrainCell::default(), DrainCell::default());
        assert_eq!(ExportedDrain::of(&before, &clock, now), None);
        let until = now + Duration::from_secs(60);
        let (ordered_by, reason) = ("ann".to_owned(), Some("disk".to_owned()));
        let drain = Drain { began: now, until: Some(until), ordered_by, reason };
        before.set(drain.clone());
        let exported = ExportedDrain::of(&before, &clock, now).unwrap();
        exported.import(&after, &clock, until + Duration::from_secs(1));
        assert!(!after.is_set(), "it has expired");
        exported.import(&after, &clock, now + Duration::from_secs(1));
        let found = after.drain(now).unwrap();
        let is_same = |one: Instant, other: Instant| one >= other && one - other < Duration::from_millis(5);
        assert!(is_same(found.began, now) && is_same(found.until.unwrap(), until), "{found:?}");
        assert_eq!((&found.ordered_by, &found.reason), (&drain.ordered_by, &drain.reason));

        let long = ExportedDrain { reason: Some("ü".repeat(2_000)), began: u64::MAX, ..exported };
        let endless = ExportedDrain { until: None, ..long };
        after.end();
        endless.import(&after, &clock, now);
        let found = after.drain(now + Duration::from_secs(1 << 30)).unwrap();
        assert_eq!((found.began, found.reason.as_ref().unwrap().len()), (now, TEXT_BYTES_MAX));
    }
}
