//! The format of the events (HTML Living Standard, 9.2): the lines `id`, `event` and `data`, and an empty line.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use tidegate_actors::Level;

use crate::admin::status::EVENTS_SHOWN;
use crate::admin::status::history::{BucketSample, Point};
use crate::admin::status::summary;
use crate::degradation::cause::{Cause, CauseEvent};
use crate::degradation::codes::Severity;
use crate::degradation::published::CauseList;
use crate::telemetry::rfc3339;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    /// The whole status document.
    Snapshot,
    /// Causes began or ended.
    Change,
    /// The values of one second.
    Sample,
    /// How far the drain of the process is.
    Drain,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Change => "change",
            Self::Sample => "sample",
            Self::Drain => "drain",
        }
    }
}

/// The data of a change.
#[derive(Serialize)]
pub(super) struct ChangeData<'a> {
    status: &'static str,
    summary: String,
    causes: &'a [Cause],
    level: &'static str,
    sequence: u64,
    events: Vec<&'a CauseEvent>,
}

/// The change after the event with the number `sequence`. Of very many events it has the last ones.
pub(super) fn change(list: &CauseList, sequence: u64, level: Level) -> ChangeData<'_> {
    let (_, events) = list.events_after(sequence);
    let mut events: Vec<&CauseEvent> = events.map(|event| &**event).collect();
    events.drain(..events.len().saturating_sub(EVENTS_SHOWN));
    ChangeData {
        status: list.severity().map_or("ok", Severity::as_str),
        summary: summary::sentence(&list.causes),
        causes: &list.causes,
        level: level.as_str(),
        sequence: list.sequence,
        events,
    }
}

/// The data of a sample.
#[derive(Serialize)]
pub(super) struct SampleData<'a> {
    at: String,
    values: Members<'a, Point>,
    buckets: Members<'a, BucketData>,
}

#[derive(Serialize)]
struct BucketData {
    in_flight: usize,
    queued: usize,
    circuit: &'static str,
}

/// A JSON object of these members, in their order.
struct Members<'a, V>(Vec<(&'a str, V)>);

impl<V: Serialize> Serialize for Members<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

pub(super) fn sample<'a>(
    at: SystemTime,
    values: impl Iterator<Item = (&'a str, &'a f32)>,
    buckets: impl Iterator<Item = BucketSample<'a>>,
) -> SampleData<'a> {
    let values = values.map(|(name, value)| (name, Point(*value))).collect();
    let bucket = |BucketSample { name, in_flight, queued, circuit }| {
        (name, BucketData { in_flight, queued, circuit: circuit.as_str() })
    };
    SampleData { at: rfc3339(at), values: Members(values), buckets: Members(buckets.map(bucket).collect()) }
}

/// An event with its number.
pub(super) fn event(id: u64, kind: EventKind, data: &impl Serialize) -> Bytes {
    let mut text = format!("id: {id}\nevent: {}\ndata: ", kind.as_str()).into_bytes();
    // JSON has no line breaks outside of texts, where they are escaped. All data can be encoded.
    let _ = serde_json::to_writer(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7: hostile text cannot end an event or begin another one
    #[test]
    fn text_stays_in_its_line() {
        let encoded = event(7, EventKind::Change, &"a\n\nevent: forged\r\ndata: x\u{2028}");
        let text = String::from_utf8(encoded.to_vec()).unwrap();
        assert_eq!(text, "id: 7\nevent: change\ndata: \"a\\n\\nevent: forged\\r\\ndata: x\u{2028}\"\n\n");
    }
}
