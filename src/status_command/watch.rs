//! `--watch`: follows the stream. On a terminal the lines are painted again with each event; else each change is a line.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_actors::clock;

use super::{OverallStatus, STATUS_DOCUMENT, Screen, printable_json, text};
use crate::admin_client::events::{EventBuffer, ReceivedEvent};
use crate::admin_client::text::drain_line;
use crate::admin_client::{AdminTarget, ReplyError};

/// The longest time without a byte: heartbeats come every 15 s.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(45);
/// The pause before the next attempt to connect.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Cursor to the first cell; what is left below the text is erased after it (ECMA-48).
const HOME: &str = "\x1b[H";
const ERASE_BELOW: &str = "\x1b[J";
const ERASE_LINE: &str = "\x1b[K";
const SNAPSHOT: &str = "snapshot";
const CHANGE: &str = "change";
const SAMPLE: &str = "sample";
const DRAIN: &str = "drain";

/// The status as far as it is known.
struct Watched {
    document: Value,
    received: Instant,
    last_id: Option<String>,
    status: Option<OverallStatus>,
}

/// Why following ended without an error of the connection.
enum FollowEnd {
    /// The stream ended.
    Stream,
    /// The output is closed.
    Output,
}

/// Follows until the output is closed. A gateway that was never reached, or that refuses, is an error.
pub(super) fn watch(
    target: &AdminTarget,
    is_json: bool,
    screen: &mut Screen<'_>,
) -> Result<OverallStatus, ReplyError> {
    let mut watched = Watched { document: Value::Null, received: clock::now(), last_id: None, status: None };
    loop {
        let why = match (follow(target, &mut watched, is_json, screen), watched.status) {
            (Ok(FollowEnd::Output), Some(status)) => return Ok(status),
            (Ok(_), None) => return Err(target.no_document(STATUS_DOCUMENT)),
            (Ok(FollowEnd::Stream), Some(_)) => None,
            (Err(error @ ReplyError::Refused { .. }), _) | (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => Some(error),
        };
        // A stream that ended as planned is resumed without a word.
        if let (Some(error), Some(status)) = (why, watched.status) {
            let line = text::cut(&format!("{error}; trying again"), screen.is_terminal);
            let shown = match (is_json, screen.is_terminal) {
                (true, _) => Ok(()),
                (false, true) => screen.print(&format!("{line}{ERASE_LINE}\r")),
                (false, false) => screen.print(&format!("{line}\n")),
            };
            if shown.is_err() {
                return Ok(status);
            }
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// Follows one connection to its end.
fn follow(
    target: &AdminTarget,
    watched: &mut Watched,
    is_json: bool,
    screen: &mut Screen<'_>,
) -> Result<FollowEnd, ReplyError> {
    let path = if is_json || screen.is_terminal { "/status/stream" } else { "/status/stream?samples=false" };
    let last_id = watched.last_id.clone();
    let headers: Vec<(&str, &str)> = last_id.iter().map(|id| ("last-event-id", id.as_str())).collect();
    let response = target.accepted(target.get(path, &headers)?)?;
    let mut response = response.without_deadline(STREAM_IDLE_MAX);
    let mut buffer = EventBuffer::default();
    while let Some(piece) = response.next_piece().map_err(|source| target.broken(source))? {
        for event in buffer.add(&piece).map_err(|source| target.broken(source))? {
            let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
                return Err(target.no_document(STATUS_DOCUMENT));
            };
            watched.apply(&event, &data, clock::now());
            if watched.status.is_none() {
                return Err(target.no_document(STATUS_DOCUMENT));
            }
            let shown = match is_json {
                true => screen.print(&json_line(&event)),
                false => watched.show(&event, &data, target.host(), screen),
            };
            if shown.is_err() {
                return Ok(FollowEnd::Output);
            }
        }
    }
    Ok(FollowEnd::Stream)
}

/// An event as a line of JSON, with the data as they came.
fn json_line(event: &ReceivedEvent) -> String {
    let (kind, id) = (json!(event.kind), json!(event.id));
    printable_json(&format!("{{\"event\":{kind},\"id\":{id},\"data\":{}}}", event.data)) + "\n"
}

impl Watched {
    /// Brings the document up to date.
    fn apply(&mut self, event: &ReceivedEvent, data: &Value, now: Instant) {
        self.last_id.clone_from(&event.id);
        match event.kind.as_str() {
            SNAPSHOT => (self.document, self.received) = (data.clone(), now),
            CHANGE if self.document.is_object() => {
                for name in ["status", "summary", "causes", "level", "sequence"] {
                    self.document[name] = data[name].clone();
                }
                // Ages in the change are new, and the uptime is that of the snapshot.
                let uptime = self.document["uptime_ms"].as_u64().unwrap_or_default();
                let passed = now.saturating_duration_since(self.received).as_millis();
                self.document["uptime_ms"] = uptime.saturating_add(u64::try_from(passed).unwrap_or(0)).into();
                self.received = now;
            }
            SAMPLE if self.document.is_object() => self.apply_sample(data),
            DRAIN if self.document.is_object() => self.document["drain"] = data.clone(),
            _ => {}
        }
        self.status = OverallStatus::of(&self.document);
    }

    fn apply_sample(&mut self, data: &Value) {
        let values = &data["values"];
        self.document["requests_in_flight"] = values["in_flight"].clone();
        for (name, resource) in self.document["resources"].as_object_mut().into_iter().flatten() {
            let percent = values[format!("sensor.{name}")].as_f64();
            if resource.is_object() {
                resource["pressure"] = percent.map(|percent| percent / 100.0).into();
            }
        }
        for (name, bucket) in self.document["buckets"].as_object_mut().into_iter().flatten() {
            let new = &data["buckets"][name];
            if new.is_object() && bucket["pool"].is_object() {
                bucket["circuit"] = new["circuit"].clone();
                bucket["pool"]["in_flight"] = new["in_flight"].clone();
                bucket["pool"]["queued"] = new["queued"].clone();
            }
        }
    }

    fn show(
        &self,
        event: &ReceivedEvent,
        data: &Value,
        host: &str,
        screen: &mut Screen<'_>,
    ) -> io::Result<()> {
        let age = clock::now().saturating_duration_since(self.received);
        if screen.is_terminal {
            let lines = text::lines(&self.document, host, age);
            let lines = lines.iter().map(|line| text::cut(line, true) + ERASE_LINE + "\n");
            return screen.print(&format!("{HOME}{}{ERASE_BELOW}", lines.collect::<String>()));
        }
        match event.kind.as_str() {
            SNAPSHOT => screen.print(&text::joined(&text::lines(&self.document, host, age), false)),
            CHANGE => {
                let events = data["events"].as_array().into_iter().flatten();
                let mut lines: Vec<String> = events.map(text::event_line).collect();
                lines.extend(text::lines(&self.document, host, age).into_iter().next());
                screen.print(&text::joined(&lines, false))
            }
            DRAIN => screen.print(&text::joined(&[drain_line(data)], false)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, id: &str) -> ReceivedEvent {
        ReceivedEvent { id: Some(id.to_owned()), kind: kind.to_owned(), data: String::new() }
    }

    /// X7: a line of JSON has the data of the event in their order
    #[test]
    fn an_event_is_a_line_of_json() {
        let data = "{\"b\":\"\u{85}\",\"a\":1}".to_owned();
        let event = ReceivedEvent { data, ..event(CHANGE, "7") };
        let expected = "{\"event\":\"change\",\"id\":\"7\",\"data\":{\"b\":\"\\u0085\",\"a\":1}}\n";
        assert_eq!(json_line(&event), expected);
    }

    /// X7: changes and samples bring the snapshot up to date
    #[test]
    fn events_are_applied() {
        let start = clock::now();
        let mut watched = Watched { document: Value::Null, received: start, last_id: None, status: None };
        watched.apply(&event(CHANGE, "1"), &json!({ "status": "ok" }), start);
        assert_eq!(watched.status, None, "there is no document yet");
        let document = json!({ "status": "ok", "uptime_ms": 1000, "resources": { "memory": { "pressure": 0.1 } },
            "buckets": { "b": { "pool": { "in_flight": 0, "queued": 0 } } } });
        watched.apply(&event(SNAPSHOT, "2"), &document, start);
        assert_eq!((watched.status, watched.last_id.as_deref()), (Some(OverallStatus::Ok), Some("2")));
        let change =
            json!({ "status": "critical", "summary": "s", "causes": [1], "level": "normal", "sequence": 5 });
        watched.apply(&event(CHANGE, "3"), &change, start + Duration::from_secs(2));
        assert_eq!(
            (watched.status, &watched.document["uptime_ms"]),
            (Some(OverallStatus::Critical), &json!(3000))
        );
        let sample = json!({ "values": { "sensor.memory": 50, "in_flight": 4 },
            "buckets": { "b": { "in_flight": 2, "queued": 1, "circuit": "open" } } });
        watched.apply(&event(SAMPLE, "4"), &sample, start + Duration::from_secs(3));
        assert_eq!(watched.document["resources"]["memory"]["pressure"], 0.5);
        assert_eq!(
            watched.document["buckets"]["b"],
            json!({ "circuit": "open", "pool": { "in_flight": 2, "queued": 1 } })
        );
        assert_eq!(
            (watched.status, &watched.document["requests_in_flight"]),
            (Some(OverallStatus::Critical), &json!(4))
        );
        watched.apply(&event(SAMPLE, "5"), &json!({ "values": 3, "buckets": [] }), start);
        assert!(watched.document["resources"]["memory"]["pressure"].is_null());
    }
}
