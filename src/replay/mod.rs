//! Replays of recorded access logs: `tidegate simulate` and `tidegate incident`.
//!
//! `simulate` gives the requests of a log, in the order of their starts, to the state machines of the actors with another configuration
//! (`tidegate_actors::replay`) and compares the decisions with those of the log. `incident` makes a timeline of causes, changes and
//! refusals. Both read logs of any size in bounded memory. Nothing here writes to a terminal: `src/cli.rs` prints the reports.

mod configuration;
pub mod incident;
mod log;
mod model;
mod names;
mod queue_depths;
mod report;
mod request;
mod service_times;
mod suggestion;
mod tally;
mod timeline;
mod wait_histogram;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tidegate_actors::replay::{CallOutcome, Refusal, Work};
use tidegate_config::Config;

use crate::replay::configuration::ConfiguredNames;
use crate::replay::log::merge::MergedLog;
use crate::replay::model::Model;
use crate::replay::names::{Clients, LoggedClient};
use crate::replay::queue_depths::QueueDepths;
use crate::replay::request::{RecordedCall, RecordedRequest, RefusalReason};
use crate::replay::service_times::ServiceTimes;
use crate::replay::suggestion::{ObservedRequest, Suggester};
use crate::replay::tally::{RequestTag, Tally};

pub use log::counts::LineCounts;
pub use log::merge::LogProblem;
pub use log::source::OpenError;
pub use report::{Report, html, text};
pub use suggestion::Suggestion;

/// Requests between two reports of the progress.
const PROGRESS_REQUESTS: u64 = 50_000;

/// The longest time that a replay spans. The limits count in nanoseconds, which fit 584 years.
const SPAN_MAX_US: u64 = 100 * 366 * 86_400 * 1_000_000;

/// What to replay.
pub struct SimulateRequest<'a> {
    /// The configuration to try.
    pub new: &'a Config,
    /// The configuration with which the logs were made.
    pub old: Option<&'a Config>,
    /// The logs; `-` is stdin.
    pub logs: &'a [PathBuf],
    /// Whether limits are suggested.
    pub suggests: bool,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// A log cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// No line of the logs can be used.
    #[error("no line of the logs can be used: {}", unusable(.counts, .problems))]
    NothingUsable {
        /// What was read.
        counts: LineCounts,
        /// The logs that could not be read.
        problems: Vec<LogProblem>,
    },
}

/// Why lines cannot be used, and what to do.
fn unusable(counts: &LineCounts, problems: &[LogProblem]) -> String {
    let mut parts: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.log, problem.problem)).collect();
    let LineCounts { lines, other_messages, malformed, incomplete, too_long, .. } = *counts;
    parts.push(match lines {
        0 => "there are no lines".to_owned(),
        _ => format!(
            "of {lines} lines {malformed} are no lines of tidegate's log, {other_messages} have other messages than `request`, \
             {incomplete} have no total_us or a time of more than a year, {too_long} are too long"
        ),
    });
    parts.push("give access logs of tidegate (log.access = true)".to_owned());
    parts.join("; ")
}

/// How far a replay is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes that have been read.
    pub bytes: u64,
    /// The bytes of all logs, if it is known.
    pub size: Option<u64>,
    /// Requests that have been replayed.
    pub requests: u64,
}

/// Facts about the requests that are the same for all sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestFacts {
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
    /// Requests with a drawn service time.
    pub(crate) estimated: u64,
    /// Those among them without an observed time to draw from.
    pub(crate) without_observation: u64,
    /// Requests with a class that was derived from the method.
    pub(crate) class_derived: u64,
    /// Refused requests without a known key or subject, which the limits of keys and subjects cannot charge.
    pub(crate) unidentified: u64,
    /// Requests with keys or subjects beyond the maximum of their table.
    pub(crate) untracked: u64,
    /// Requests that the process's cursor or a resource level refused.
    pub(crate) shed: u64,
}

/// Everything that a report is made of.
pub(crate) struct Outcome<'a> {
    pub(crate) request: &'a SimulateRequest<'a>,
    pub(crate) log: &'a MergedLog,
    pub(crate) facts: RequestFacts,
    pub(crate) other_reasons: std::collections::BTreeMap<u32, u64>,
    pub(crate) clients: &'a Clients,
    pub(crate) logged: Tally,
    pub(crate) old: Option<(Tally, ConfiguredNames)>,
    pub(crate) new: (Tally, ConfiguredNames),
    pub(crate) suggestions: Option<Vec<Suggestion>>,
}

/// Replays logs. `on_progress` is called from time to time.
///
/// # Errors
/// A log cannot be opened, or no line can be used.
pub fn simulate(
    request: &SimulateRequest<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, ReplayError> {
    let mut log = MergedLog::open(request.logs)?;
    let Some(first) = log.next_request() else {
        return Err(ReplayError::NothingUsable { counts: log.counts(), problems: log.problems() });
    };
    let mut run = Run::new(request, &first);
    let mut next = Some(first);
    let mut count = 0;
    while let Some(recorded) = next {
        run.replay(&recorded, &log);
        count += 1;
        if count % PROGRESS_REQUESTS == 0 {
            on_progress(Progress { bytes: log.bytes_read(), size: log.size, requests: count });
        }
        next = log.next_request();
    }
    on_progress(Progress { bytes: log.bytes_read(), size: log.size, requests: count });
    Ok(run.finish(request, &log))
}

/// The state of one run.
struct Run {
    begin_us: u64,
    times: ServiceTimes,
    clients: Clients,
    logged: Tally,
    old: Option<Model<Tally>>,
    new: Model<Tally>,
    suggester: Option<(Suggester, QueueDepths)>,
    facts: RequestFacts,
    other_reasons: std::collections::BTreeMap<u32, u64>,
}

impl Run {
    fn new(request: &SimulateRequest<'_>, first: &RecordedRequest) -> Self {
        let begin_us = first.start_us;
        Self {
            begin_us,
            times: ServiceTimes::new(request.seed),
            clients: Clients::default(),
            logged: Tally::new(begin_us),
            old: request.old.map(|old| Model::new(old, request.seed, Tally::new(begin_us))),
            new: Model::new(request.new, request.seed, Tally::new(begin_us)),
            suggester: request
                .suggests
                .then(|| (Suggester::default(), QueueDepths::new(request.new, request.seed))),
            facts: RequestFacts { begin_us, end_us: begin_us, ..RequestFacts::default() },
            other_reasons: std::collections::BTreeMap::new(),
        }
    }

    fn replay(&mut self, request: &RecordedRequest, log: &MergedLog) {
        let client = self.clients.id(request.client);
        let work = self.work(request);
        let tag = RequestTag {
            start_us: request.start_us,
            bucket: request.bucket,
            client,
            is_refused_by_log: request.refusal.is_some(),
            lasting_refusal: request.lasting_refusal(),
            is_estimated: request.call == RecordedCall::Prevented,
        };
        self.count(request, tag);
        let at_us = request.start_us.saturating_sub(self.begin_us).min(SPAN_MAX_US);
        let at = Duration::from_micros(at_us);
        if let Some(old) = &mut self.old {
            old.arrive(request, (at, work), tag, log);
        }
        let (bucket, cost) = self.new.arrive(request, (at, work), tag, log);
        if let Some((suggester, depths)) = &mut self.suggester {
            let service_us = match work {
                Work::Call { service, .. } => Some(u64::try_from(service.as_micros()).unwrap_or(u64::MAX)),
                Work::Local { .. } => None,
            };
            let depth = bucket.map(|_| depths.of(request, (at, work), tag, log));
            suggester.observe(&ObservedRequest { request, at_us, client, cost, service_us, depth });
        }
    }

    /// What the request does once it is admitted.
    fn work(&mut self, request: &RecordedRequest) -> Work {
        match request.call {
            RecordedCall::None => Work::Local { took: Duration::from_micros(request.total_us) },
            RecordedCall::Made { service_us, outcome } => {
                self.times.observe(request.bucket, request.class, service_us, outcome);
                Work::Call { service: Duration::from_micros(service_us), outcome }
            }
            RecordedCall::Prevented => {
                let (service, last) = self.times.draw(request.bucket, request.class);
                let is_circuit = matches!(request.refusal, Some(RefusalReason::Decided(Refusal::Circuit(_))));
                let success = CallOutcome { is_success: true, ..CallOutcome::default() };
                Work::Call { service, outcome: if is_circuit { last } else { success } }
            }
        }
    }

    /// Counts what the log did.
    fn count(&mut self, request: &RecordedRequest, tag: RequestTag) {
        let facts = &mut self.facts;
        facts.end_us = facts.end_us.max(request.start_us.saturating_add(request.total_us));
        facts.estimated += u64::from(tag.is_estimated);
        facts.class_derived += u64::from(request.is_class_derived);
        facts.unidentified +=
            u64::from(tag.is_estimated && matches!(request.client, LoggedClient::Address(_)));
        facts.untracked += u64::from(request.client.is_untracked());
        facts.shed += u64::from(request.is_shed());
        if let Some(reason) = request.reason {
            *self.other_reasons.entry(reason).or_default() += 1;
        }
        match request.refusal {
            Some(reason) => self.logged.refuse(tag, reason),
            None => self.logged.admit(tag, Duration::from_micros(request.queue_us.unwrap_or_default())),
        }
    }

    fn finish(self, request: &SimulateRequest<'_>, log: &MergedLog) -> Report {
        let Self { mut logged, old, new, suggester, facts, other_reasons, clients, times, .. } = self;
        let end = |mut model: Model<Tally>| {
            model.replay.finish(&mut model.observer);
            (model.observer, model.names)
        };
        let (mut old, mut new) = (old.map(end), end(new));
        let mut timelines = vec![&mut logged.timeline, &mut new.0.timeline];
        timelines.extend(old.as_mut().map(|(tally, _)| &mut tally.timeline));
        timeline::Timeline::align(&mut timelines);
        let facts = RequestFacts { without_observation: times.unknown, ..facts };
        let kind = |name: &str| {
            let configs = [Some(request.new), request.old];
            let mut buckets = configs.into_iter().flatten().filter_map(|config| config.buckets.get(name));
            buckets.next().map(|bucket| bucket.kind.as_str())
        };
        let suggestions = suggester.map(|(suggester, _)| suggester.finish(&log.names, kind));
        let clients = &clients;
        Report::new(Outcome { request, log, facts, other_reasons, clients, logged, old, new, suggestions })
    }
}
