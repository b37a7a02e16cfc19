//! The timeline of an incident, from the log of one or more gateways: causes of degradation, changes of levels, circuits and endpoints,
//! warnings, periods of refusals, and the clients that were touched.
//!
//! Access lines count by the time at which they were written. Memory is bounded: the events of each kind and the tables of clients and
//! reasons have maxima, and further events are counted.

mod events;
mod refusals;
pub mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::replay::ReplayError;
use crate::replay::incident::events::Events;
use crate::replay::incident::refusals::{RefusalRow, Refusals};
use crate::replay::log::counts::LineCounts;
use crate::replay::log::line::{LineKind, LogLine, RequestFields};
use crate::replay::log::merge::{LogProblem, OpenLogs, open_logs, problems};
use crate::replay::log::written_order::read_in_written_order;
use crate::replay::names::{Clients, LogNames, OTHERS};
use crate::replay::report::time_text;
use crate::replay::request::RefusalReason;

pub use events::{Event, EventKind};

/// Clients in the report.
const CLIENTS_SHOWN: usize = 20;

/// What to report.
pub struct IncidentRequest<'a> {
    /// Begin, in microseconds since 1970.
    pub from_us: u64,
    /// End.
    pub to_us: u64,
    /// The logs; `-` is stdin.
    pub logs: &'a [PathBuf],
}

/// Requests of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncidentClient {
    /// Its key, subject or address.
    pub client: String,
    /// Requests.
    pub requests: u64,
    /// Requests that the gateway refused.
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
    /// Requests with a reason of the gateway: refusals, failed calls, broken transfers and connections without an answer.
    pub with_reason: u64,
    /// Those among them that were not refused, by reason.
    pub other_reasons: BTreeMap<String, u64>,
    /// Answers with a status of 500 or more.
    pub server_errors: u64,
    /// The events in their order.
    pub events: Vec<Event>,
    /// Events other than warnings that were not kept.
    pub events_left_out: u64,
    /// Warnings that were not kept.
    pub warnings_left_out: u64,
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
    let counts = read_in_written_order(&mut readers, &mut |line| collector.add(line));
    let problems = problems(readers.iter());
    if counts.requests + counts.other_messages == 0 {
        return Err(ReplayError::NothingUsable { counts, problems });
    }
    Ok(collector.finish(request, counts, problems))
}

/// Collects the lines.
struct Collector {
    from_us: u64,
    to_us: u64,
    outside: u64,
    requests: u64,
    with_reason: u64,
    /// By the number of the reason.
    other_reasons: BTreeMap<u32, u64>,
    server_errors: u64,
    events: Events,
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
            outside: 0,
            requests: 0,
            with_reason: 0,
            other_reasons: BTreeMap::new(),
            server_errors: 0,
            events: Events::default(),
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
            _ if !is_inside => {}
            LineKind::Request(fields) => self.add_request(fields, line.written_us),
            LineKind::Other(fields) => self.events.add_line(fields, line.written_us),
        }
    }

    fn add_request(&mut self, fields: &RequestFields<'_>, at_us: u64) {
        self.requests += 1;
        self.server_errors += u64::from(fields.status >= 500);
        let id = self.clients.id(self.names.client_of(fields));
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
        self.with_reason += 1;
        let reason = self.names.reasons.id(reason);
        if RefusalReason::of(fields, &mut self.names.reasons).is_none() {
            *self.other_reasons.entry(reason).or_default() += 1;
            return;
        }
        count.1 += 1;
        let bucket = fields.bucket.as_deref().map(|bucket| self.names.buckets.id(bucket));
        self.refusals.add((bucket, reason), at_us);
    }

    fn finish(
        mut self,
        request: &IncidentRequest<'_>,
        counts: LineCounts,
        problems: Vec<LogProblem>,
    ) -> Incident {
        let (rows, periods) = std::mem::take(&mut self.refusals).finish(&self.names);
        for (at_us, text) in periods {
            self.events.push(at_us, EventKind::Refusals, text);
        }
        let reason_count =
            |(reason, count): (&u32, &u64)| (self.names.reasons.name(*reason).to_owned(), *count);
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
            counts,
            outside: self.outside,
            problems,
            requests: self.requests,
            with_reason: self.with_reason,
            other_reasons: self.other_reasons.iter().map(reason_count).collect(),
            server_errors: self.server_errors,
            events_left_out: self.events.left_out,
            warnings_left_out: self.events.warnings_left_out,
            events: self.events.finish(),
            refusals: rows,
            clients,
        }
    }
}
