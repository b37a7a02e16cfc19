//! The report of a replay as data. Its JSON is this structure; `text.rs` and `html.rs` write it for people.

pub mod html;
mod not_simulated;
mod plots;
mod side;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::replay::Outcome;
use crate::replay::log::counts::LineCounts;
use crate::replay::log::line::TIME_MAX_US;
use crate::replay::log::merge::LogProblem;
use crate::replay::names::{Clients, LogNames, OTHERS};
use crate::replay::suggestion::Suggestion;
use crate::replay::tally::Tally;
use crate::replay::timeline::Interval;
use crate::telemetry::rfc3339;

use side::{BucketSides, CircuitChange};

pub(crate) use side::{Side, SideCounts};

/// Clients in the report.
const CLIENTS_SHOWN: usize = 20;

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was read.
    pub log: LogSummary,
    /// What happened to all requests: by the log, the model of the old configuration, the model of the new one.
    pub all: Vec<SideCounts>,
    /// Requests that the log admitted and the new configuration refuses.
    pub newly_refused: u64,
    /// Requests that the log refused and the new configuration admits.
    pub newly_admitted: u64,
    /// Limits and circuits in shadow mode that would have refused, by reason, with the new configuration.
    pub shadowed: BTreeMap<&'static str, u64>,
    /// By bucket.
    pub buckets: Vec<BucketSides>,
    /// The clients with the most refusals.
    pub clients: Vec<ClientSides>,
    /// Over time.
    pub timeline: Vec<TimelineRow>,
    /// The begin of the timeline.
    #[serde(skip)]
    timeline_begin_us: u64,
    /// The width of a row of the timeline, in seconds.
    pub timeline_width_s: f64,
    /// Changes of circuits with the new configuration.
    pub circuits: Vec<CircuitChange>,
    /// Their number, which may be higher than the number of those listed.
    pub circuits_total: u64,
    /// What the models leave out.
    pub not_simulated: Vec<String>,
    /// The tightest limits that would have refused few requests.
    pub suggestions: Option<Vec<Suggestion>>,
}

/// What was read.
#[derive(Debug, Clone, Serialize)]
pub struct LogSummary {
    /// Start of the first request.
    pub begin: String,
    /// End of the last request.
    pub end: String,
    /// Lines.
    pub counts: LineCounts,
    /// Logs that could not be read to their ends.
    pub problems: Vec<LogProblem>,
    /// Requests that the log refused before a call: their service time is drawn from other requests.
    pub estimated: u64,
    /// Those for which no other request was observed before.
    pub without_observation: u64,
    /// Requests of older versions, with a class derived from the method.
    pub class_derived: u64,
    /// Refused requests that name no key or subject.
    pub unidentified: u64,
    /// Requests with keys or subjects beyond the first 100,000: no limit of a key, a subject or a client charges them.
    pub untracked: u64,
    /// Requests to buckets that the new configuration does not have.
    pub missing_buckets: BTreeMap<String, u64>,
    /// Requests with keys that the new configuration does not have.
    pub missing_keys: u64,
    /// Other reasons in the log, which a replay does not change.
    pub other_reasons: BTreeMap<String, u64>,
}

/// Requests and refusals of one client.
#[derive(Debug, Clone, Serialize)]
pub struct ClientSides {
    /// Its key, subject or address.
    pub client: String,
    /// Requests.
    pub requests: u64,
    /// Refused by the log.
    pub refused_by_log: u64,
    /// Refused by the new configuration.
    pub refused_by_new: u64,
}

/// One interval.
#[derive(Debug, Clone, Serialize)]
pub struct TimelineRow {
    /// Its begin.
    pub begin: String,
    /// What the log did.
    pub log: Interval,
    /// What the model of the old configuration did.
    pub against: Option<Interval>,
    /// What the new configuration did.
    pub new: Interval,
}

impl Report {
    pub(crate) fn new(outcome: Outcome<'_>) -> Self {
        let Outcome { request, log, facts, other_reasons, clients, logged, old, new, suggestions } = outcome;
        let names = &log.names;
        let (new, new_names) = new;
        let old = old.map(|(tally, _)| tally);
        let sides: Vec<(Side, &Tally)> =
            [(Side::Log, Some(&logged)), (Side::Against, old.as_ref()), (Side::New, Some(&new))]
                .into_iter()
                .filter_map(|(side, tally)| Some((side, tally?)))
                .collect();
        let circuits = new.moves.iter().map(|change| CircuitChange::new(change, facts.begin_us, &new_names));
        Self {
            log: LogSummary {
                begin: time_text(facts.begin_us),
                end: time_text(facts.end_us),
                counts: log.counts(),
                problems: log.problems(),
                estimated: facts.estimated,
                without_observation: facts.without_observation,
                class_derived: facts.class_derived,
                unidentified: facts.unidentified,
                untracked: facts.untracked,
                missing_buckets: named(&new_names.missing_buckets, |id| names.buckets.name(id)),
                missing_keys: new_names.missing_keys,
                other_reasons: named(&other_reasons, |id| names.reasons.name(id)),
            },
            all: sides.iter().map(|(side, tally)| SideCounts::new(*side, &tally.all, names)).collect(),
            newly_refused: new.newly_refused,
            newly_admitted: new.newly_admitted,
            shadowed: new.shadowed.iter().map(|(refusal, count)| (refusal.reason(), *count)).collect(),
            buckets: BucketSides::all(&sides, names),
            clients: client_rows(&logged, &new, names, clients),
            timeline: timeline_rows(&logged, old.as_ref(), &new),
            timeline_begin_us: new.timeline.begin_us,
            timeline_width_s: seconds(new.timeline.width_us),
            circuits: circuits.collect(),
            circuits_total: new.moves_total,
            not_simulated: not_simulated::list(request.new, &facts),
            suggestions,
        }
    }
}

impl LogSummary {
    /// What was read besides ordinary requests, one sentence each. They contain names of the log, which are not escaped.
    fn notes(&self) -> Vec<String> {
        let counts = &self.counts;
        let numbers = [
            (counts.other_messages, "lines have other messages and are skipped"),
            (counts.malformed, "lines are cut, damaged or of another format and are skipped"),
            (
                counts.incomplete,
                "access lines have no total_us (connections without a request), or a time of more than a year, and are skipped",
            ),
            (counts.too_long, "lines are longer than 1 MiB and are skipped"),
            (counts.late, "requests came too late in the log and are replayed later than they began"),
            (counts.clock_steps, "steps of the log's clock backwards are left out"),
            (
                self.estimated,
                "of the requests that the log refused had called no store and may call it in a replay: their service time is estimated",
            ),
            (
                self.without_observation,
                "of these have no request before them to estimate from: 10 ms are assumed",
            ),
            (
                self.missing_keys,
                "requests have keys that the new configuration does not have: new does not refuse them for that",
            ),
            (
                self.untracked,
                "requests have keys or subjects beyond the first 100,000: no limit of a key, a subject or a client charges them",
            ),
        ];
        let numbers = numbers.into_iter().filter(|(count, _)| *count > 0);
        let problems = self.problems.iter().map(|problem| format!("{}: {}", problem.log, problem.problem));
        let missing = self.missing_buckets.iter().map(|(bucket, count)| {
            format!(
                "{count} requests to {bucket}, which the new configuration does not have: new refuses them"
            )
        });
        let reasons = self.other_reasons.iter().map(|(reason, count)| {
            format!("{count} requests ended with {reason}, which a replay does not change")
        });
        numbers
            .map(|(count, note)| format!("{count} {note}"))
            .chain(problems)
            .chain(missing)
            .chain(reasons)
            .collect()
    }
}

impl Report {
    /// What the new configuration changes, one sentence each.
    fn changes(&self) -> Vec<String> {
        let mut changes = vec![format!(
            "the log admitted and new refuses: {}; the log refused and new admits: {}",
            self.newly_refused, self.newly_admitted
        )];
        changes.extend(
            self.shadowed
                .iter()
                .map(|(reason, count)| format!("shadow mode of new would refuse: {count} ({reason})")),
        );
        changes
    }
}

#[expect(clippy::cast_precision_loss, reason = "a width in seconds")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A time of the log as a time stamp.
pub(crate) fn time_text(micros: u64) -> String {
    let micros = micros.min(TIME_MAX_US);
    rfc3339(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(micros))
}

fn named<'a>(counts: &BTreeMap<u32, u64>, name: impl Fn(u32) -> &'a str) -> BTreeMap<String, u64> {
    counts.iter().map(|(id, count)| (name(*id).to_owned(), *count)).collect()
}

fn client_rows(logged: &Tally, new: &Tally, names: &LogNames, clients: &Clients) -> Vec<ClientSides> {
    let row = |id: u32, (requests, refused_by_log): (u64, u64), (_, refused_by_new): (u64, u64)| {
        ClientSides { client: names.client(clients.client(id)), requests, refused_by_log, refused_by_new }
    };
    let ids = (0..).zip(logged.clients.iter().zip(&new.clients));
    let mut rows: Vec<ClientSides> = ids.map(|(id, (logged, new))| row(id, *logged, *new)).collect();
    if logged.other_clients.0 > 0 {
        rows.push(row(OTHERS, logged.other_clients, new.other_clients));
    }
    rows.sort_by_key(|row| std::cmp::Reverse((row.refused_by_new.max(row.refused_by_log), row.requests)));
    rows.truncate(CLIENTS_SHOWN);
    rows
}

fn timeline_rows(logged: &Tally, old: Option<&Tally>, new: &Tally) -> Vec<TimelineRow> {
    let timeline = &new.timeline;
    let row = |(at, (log, new)): (usize, (&Interval, &Interval))| TimelineRow {
        begin: time_text(timeline.begin_us.saturating_add(timeline.width_us.saturating_mul(at as u64))),
        log: *log,
        against: old.and_then(|old| old.timeline.intervals.get(at)).copied(),
        new: *new,
    };
    logged.timeline.intervals.iter().zip(&timeline.intervals).enumerate().map(row).collect()
}
