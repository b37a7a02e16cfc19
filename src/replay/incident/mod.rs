//! The timeline of an incident, from the log of one or more gateways: causes of degradation, changes of levels, circuits and endpoints,
//! warnings, periods of refusals, and the clients that were touched.
//!
//! Access lines count by the time at which they were written. Memory is bounded: at most `EVENTS_MAX` events are kept, further ones are
//! counted, and the tables of clients and reasons have maxima.

mod refusals;
pub mod text;

use std::path::PathBuf;

use serde::Serialize;

use crate::replay::ReplayError;
use crate::replay::incident::refusals::{RefusalRow, Refusals};
use crate::replay::log::line::{LineKind, LogLine, OtherFields, RequestFields};
use crate::replay::log::merge::{LineCounts, LogProblem, OpenLogs, open_logs, problems};
use crate::replay::log::parse_line;
use crate::replay::log::source::NextLine;
use crate::replay::names::{Clients, LogNames, LoggedClient, OTHERS};
use crate::replay::report::time_text;

/// Most events of a timeline.
const EVENTS_MAX: usize = 10_000;
/// Clients in the report.
const CLIENTS_SHOWN: usize = 20;
/// The longest text of an event.
const TEXT_MAX: usize = 2_000;

/// What to report.
pub struct IncidentRequest<'a> {
    /// Begin, in microseconds since 1970.
    pub from_us: u64,
    /// End.
    pub to_us: u64,
    /// The logs; `-` is stdin.
    pub logs: &'a [PathBuf],
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A cause of degradation began, ended or passed.
    Cause,
    /// A level, a circuit, an endpoint, a credential or an actor changed.
    Transition,
    /// Requests began to be refused.
    Refusals,
    /// Another warning or error.
    Warning,
}

impl EventKind {
    /// The word in the text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cause => "cause",
            Self::Transition => "transition",
            Self::Refusals => "refusals",
            Self::Warning => "warning",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Microseconds since 1970.
    #[serde(skip)]
    at_us: u64,
    /// When.
    pub at: String,
    /// What kind.
    pub kind: EventKind,
    /// The message with its fields.
    pub text: String,
}

/// Requests of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncidentClient {
    /// Its key, subject or address.
    pub client: String,
    /// Requests.
    pub requests: u64,
    /// Requests that the gateway refused or broke.
    pub refused: u64,
}

/// The timeline.
#[derive(Debug, Clone, Serialize)]
pub struct Incident {
    /// Begin.
    pub from: String,
    /// End.
    pub to: String,
    /// What was read.
    pub counts: LineCounts,
    /// Lines before or after the time.
    pub outside: u64,
    /// Logs that could not be read to their ends.
    pub problems: Vec<LogProblem>,
    /// Requests in the time.
    pub requests: u64,
    /// Requests with a reason of the gateway.
    pub with_reason: u64,
    /// Answers with a status of 500 or more.
    pub server_errors: u64,
    /// The events in their order.
    pub events: Vec<Event>,
    /// Events that were not kept.
    pub events_left_out: u64,
    /// Refusals by bucket and reason, the most first.
    pub refusals: Vec<RefusalRow>,
    /// The clients with the most refusals.
    pub clients: Vec<IncidentClient>,
}

/// Makes the timeline.
///
/// # Errors
/// A log cannot be opened, or no line is of tidegate's log.
pub fn incident(request: &IncidentRequest<'_>) -> Result<Incident, ReplayError> {
    let OpenLogs { mut readers, .. } = open_logs(request.logs)?;
    let mut collector = Collector::new(request);
    for reader in &mut readers {
        loop {
            let line = match reader.next_line() {
                NextLine::End => break,
                NextLine::TooLong => {
                    collector.counts.lines += 1;
                    collector.counts.too_long += 1;
                    continue;
                }
                NextLine::Line(line) => line,
            };
            collector.counts.lines += 1;
            match parse_line(line, true) {
                Ok(line) => collector.add(&line),
                Err(error) => collector.counts.count_error(error),
            }
        }
    }
    let problems = problems(readers.iter());
    if collector.counts.requests + collector.counts.other_messages == 0 {
        return Err(ReplayError::NothingUsable { counts: collector.counts, problems });
    }
    Ok(collector.finish(request, problems))
}

/// Collects the lines.
struct Collector {
    from_us: u64,
    to_us: u64,
    counts: LineCounts,
    outside: u64,
    requests: u64,
    with_reason: u64,
    server_errors: u64,
    events: Vec<Event>,
    events_left_out: u64,
    refusals: Refusals,
    names: LogNames,
    clients: Clients,
    client_counts: Vec<(u64, u64)>,
    other_clients: (u64, u64),
}

impl Collector {
    fn new(request: &IncidentRequest<'_>) -> Self {
        Self {
            from_us: request.from_us,
            to_us: request.to_us,
            counts: LineCounts::default(),
            outside: 0,
            requests: 0,
            with_reason: 0,
            server_errors: 0,
            events: Vec::new(),
            events_left_out: 0,
            refusals: Refusals::default(),
            names: LogNames::default(),
            clients: Clients::default(),
            client_counts: Vec::new(),
            other_clients: (0, 0),
        }
    }

    fn add(&mut self, line: &LogLine<'_>) {
        let is_inside = (self.from_us..=self.to_us).contains(&line.written_us);
        self.outside += u64::from(!is_inside);
        match &line.kind {
            LineKind::Request(_) => self.counts.requests += 1,
            LineKind::Other(_) => self.counts.other_messages += 1,
        }
        match &line.kind {
            _ if !is_inside => {}
            LineKind::Request(fields) => self.add_request(fields, line.written_us),
            LineKind::Other(fields) => {
                if let Some(kind) = event_kind(fields) {
                    self.push(line.written_us, kind, event_text(fields));
                }
            }
        }
    }

    fn push(&mut self, at_us: u64, kind: EventKind, text: String) {
        if self.events.len() >= EVENTS_MAX {
            self.events_left_out += 1;
            return;
        }
        self.events.push(Event { at_us, at: time_text(at_us), kind, text });
    }

    fn add_request(&mut self, fields: &RequestFields<'_>, at_us: u64) {
        self.requests += 1;
        self.server_errors += u64::from(fields.status >= 500);
        let client = match (&fields.key, &fields.subject, fields.client) {
            (Some(key), _, _) => LoggedClient::Key(self.names.keys.id(key)),
            (None, Some(subject), _) => LoggedClient::Subject(self.names.subjects.id(subject)),
            (None, None, Some(address)) => LoggedClient::Address(address),
            (None, None, None) => LoggedClient::Unknown,
        };
        let id = self.clients.id(client);
        let count = match id {
            OTHERS => &mut self.other_clients,
            id => {
                let at = id as usize;
                if self.client_counts.len() <= at {
                    self.client_counts.resize(at + 1, (0, 0));
                }
                &mut self.client_counts[at]
            }
        };
        count.0 += 1;
        let Some(reason) = &fields.reason else { return };
        count.1 += 1;
        self.with_reason += 1;
        let bucket = fields.bucket.as_deref().map(|bucket| self.names.buckets.id(bucket));
        let reason = self.names.reasons.id(reason);
        self.refusals.add((bucket, reason), at_us);
    }

    fn finish(mut self, request: &IncidentRequest<'_>, problems: Vec<LogProblem>) -> Incident {
        let (rows, periods) = std::mem::take(&mut self.refusals).finish(&self.names);
        for (at_us, text) in periods {
            self.push(at_us, EventKind::Refusals, text);
        }
        self.events.sort_by_key(|event| event.at_us);
        let client = |(id, (requests, refused)): (u32, &(u64, u64))| IncidentClient {
            client: self.names.client(self.clients.client(id)),
            requests: *requests,
            refused: *refused,
        };
        let mut clients: Vec<IncidentClient> = (0..).zip(&self.client_counts).map(client).collect();
        if self.other_clients.0 > 0 {
            clients.push(client((OTHERS, &self.other_clients)));
        }
        clients.sort_by_key(|client| std::cmp::Reverse((client.refused, client.requests)));
        clients.truncate(CLIENTS_SHOWN);
        Incident {
            from: time_text(request.from_us),
            to: time_text(request.to_us),
            counts: self.counts,
            outside: self.outside,
            problems,
            requests: self.requests,
            with_reason: self.with_reason,
            server_errors: self.server_errors,
            events: self.events,
            events_left_out: self.events_left_out,
            refusals: rows,
            clients,
        }
    }
}

/// The kind of event that a line is; none if it is no part of a timeline.
fn event_kind(fields: &OtherFields<'_>) -> Option<EventKind> {
    const TRANSITIONS: [&str; 10] = [
        "degradation level ",
        "circuit ",
        "endpoint ",
        "all endpoints failed",
        "an endpoint succeeded again",
        "failed over ",
        "failed back ",
        "credential ",
        "actor ",
        "accepting connections ",
    ];
    let message = &*fields.message;
    let begins = |beginning: &&str| message.starts_with(beginning);
    // Decisions are counted by their access lines.
    if message == "decision" {
        return None;
    }
    if TRANSITIONS.iter().any(begins) {
        return Some(EventKind::Transition);
    }
    if message.starts_with("degradation ") {
        return Some(EventKind::Cause);
    }
    let is_severe = |level: &&str| fields.level.starts_with(level);
    ["WARN", "ERRO", "CRIT"].iter().any(is_severe).then_some(EventKind::Warning)
}

/// The message with its fields.
fn event_text(fields: &OtherFields<'_>) -> String {
    let mut text = fields.message.clone().into_owned();
    for (at, (key, value)) in fields.fields.iter().enumerate() {
        if value.is_empty() {
            continue;
        }
        text.push_str(if at == 0 { ": " } else { ", " });
        text.push_str(key);
        text.push(' ');
        text.push_str(value);
        if text.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.push('…');
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(level: &'static str, message: &'static str) -> OtherFields<'static> {
        OtherFields {
            level: level.into(),
            message: message.into(),
            fields: vec![("bucket".into(), "b".into())],
        }
    }

    /// Each line of a timeline has its kind; ordinary lines and decisions are no events.
    #[test]
    fn events_have_kinds() {
        for (level, message, kind) in [
            ("INFO", "degradation began", Some(EventKind::Cause)),
            ("WARN", "degradation level rose", Some(EventKind::Transition)),
            ("INFO", "circuit half-open", Some(EventKind::Transition)),
            ("WARN", "transfer broken", Some(EventKind::Warning)),
            ("ERRO", "panic", Some(EventKind::Warning)),
            ("INFO", "listening", None),
            ("WARN", "decision", None),
        ] {
            assert_eq!(event_kind(&other(level, message)), kind, "{message}");
        }
        assert_eq!(event_text(&other("INFO", "circuit closed")), "circuit closed: bucket b");
    }

    /// A long text is cut at a character.
    #[test]
    fn a_long_text_is_cut() {
        let fields =
            OtherFields { fields: vec![("x".into(), "é".repeat(5_000).into())], ..other("WARN", "m") };
        assert!(event_text(&fields).len() <= TEXT_MAX + 3);
    }
}
