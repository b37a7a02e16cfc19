//! A suggested value of a limit, from its last hour. Pure.

use serde::Serialize;

use super::limit_entry::{Advice, LimitEntry};
use crate::telemetry::counted;

/// Complete minutes without which nothing is suggested.
const MINUTES_MIN: u64 = 10;
/// A limit is high if it is more than this many times its peak.
const HIGH_FACTOR: f64 = 4.0;
/// A lower limit leaves this many times the peak.
const HEADROOM: f64 = 2.0;
/// A limit that acts is raised by this factor.
const RAISE: f64 = 1.5;

/// A value and its reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Suggestion {
    /// None if only the cause can be removed.
    value: Option<f64>,
    reason: String,
}

/// The suggestion; none if the value fits, or if too little is known.
pub(super) fn suggest(
    entry: &LimitEntry,
    (hits, peak): (u64, Option<f64>),
    minutes: u64,
) -> Option<Suggestion> {
    if minutes < MINUTES_MIN {
        return None;
    }
    if hits > 0 {
        return Some(after_hits(entry, hits, minutes));
    }
    let peak = peak.filter(|peak| *peak > 0.0 && HIGH_FACTOR * peak < entry.limit)?;
    let value = (HEADROOM * peak).ceil().max(entry.min);
    let is_lower = entry.advice.is_lowered() && value < entry.limit;
    is_lower.then(|| {
        let (limit, unit) = (entry.limit, entry.unit);
        let reason = format!(
            "peak {peak} of {limit} {unit} in the last {minutes} minutes: a limit of {value} would still be twice the peak"
        );
        Suggestion { value: Some(value), reason }
    })
}

fn after_hits(entry: &LimitEntry, hits: u64, minutes: u64) -> Suggestion {
    let (limit, hit) = (entry.limit, entry.hit());
    let raised = (RAISE * limit).ceil().max(limit + 1.0);
    let (value, advice) = match entry.advice {
        Advice::Count => (Some(raised), format!("raise it to {raised} if memory and the store allow that")),
        Advice::Burst => {
            (Some(raised), format!("a burst of {raised}, or a higher requests_per_second, would admit more"))
        }
        Advice::Cache => (Some(raised), format!("{raised} entries would keep more of them")),
        Advice::Time | Advice::Wait => (None, "remove the cause of the delay before you raise it".to_owned()),
        Advice::Failures => (None, "remove the cause of the failures before you raise it".to_owned()),
        Advice::Size => (None, "raise it only if such requests are legitimate".to_owned()),
        Advice::Level => (
            None,
            "give the process more of the resource, or lower server.max_concurrent_requests".to_owned(),
        ),
    };
    let reason = format!("{} at {limit} in the last {minutes} minutes: {advice}", counted(hits, hit));
    Suggestion { value, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admin::limit_use::limit_entry::{HitSource, PeakSource};

    fn entry(limit: f64, advice: Advice) -> LimitEntry {
        LimitEntry {
            key: "k".to_owned(),
            bucket: None,
            limit,
            min: 1.0,
            unit: "requests",
            peak: PeakSource::InFlight,
            hits: HitSource::Reasons(&["x"]),
            advice,
        }
    }

    /// G2: a high limit is lowered to twice its peak, and a limit that refused is raised
    #[test]
    fn values_are_suggested_with_their_reasons() {
        let found = suggest(&entry(1000.0, Advice::Count), (0, Some(38.0)), 60).unwrap();
        assert_eq!(found.value, Some(76.0));
        assert_eq!(
            found.reason,
            "peak 38 of 1000 requests in the last 60 minutes: a limit of 76 would still be twice the peak"
        );
        let found = suggest(&entry(50.0, Advice::Count), (312, Some(50.0)), 60).unwrap();
        assert_eq!(found.value, Some(75.0));
        assert_eq!(
            found.reason,
            "312 requests refused at 50 in the last 60 minutes: raise it to 75 if memory and the store allow that"
        );
        assert_eq!(suggest(&entry(5.0, Advice::Time), (1, None), 10).unwrap().value, None);
    }

    /// G2: nothing is suggested without ten minutes, without use, or for a value that fits
    #[test]
    fn little_data_suggests_nothing() {
        let limit = entry(1000.0, Advice::Count);
        assert_eq!(suggest(&limit, (312, Some(1000.0)), 9), None);
        assert_eq!(suggest(&limit, (0, Some(0.0)), 60), None);
        assert_eq!(suggest(&limit, (0, None), 60), None);
        assert_eq!(suggest(&limit, (0, Some(250.0)), 60), None);
        assert_eq!(
            suggest(&entry(95.0, Advice::Level), (0, Some(1.0)), 60),
            None,
            "a level is never lowered"
        );
    }

    proptest! {
        /// G2: a suggested value never refuses what was seen, and moves the limit in the right direction
        #[test]
        fn suggestions_are_safe(limit in 1_u32..1_000_000, share in 0.0..1.0_f64, hits in 0_u64..3) {
            let (limit, peak) = (f64::from(limit), (f64::from(limit) * share).round());
            let found = suggest(&entry(limit, Advice::Count), (hits, Some(peak)), 60);
            if let Some(value) = found.and_then(|found| found.value) {
                prop_assert!(value >= 2.0 * peak || hits > 0, "{value} {peak}");
                prop_assert_eq!(value > limit, hits > 0, "{}", value);
            }
        }
    }
}
