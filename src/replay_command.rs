//! `tidegate simulate` and `tidegate incident`: arguments, and the files and texts of the reports.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;
use tidegate::replay::incident::{self, IncidentRequest};
use tidegate::replay::{self, Progress, ReplayError, SimulateRequest};
use tidegate::telemetry::escape_json_document;
use tidegate_config::{Config, Problems, Sources};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is replayed, and where the reports go.
#[derive(Args)]
pub(crate) struct SimulateChoice {
    /// Also replay with this configuration, the one that the logs were made with: the difference to the log is the model's error.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write the report as JSON to this file, or to stdout (`-`) instead of the text.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML page to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the tightest limits that would have refused at most 0.1 % of these requests.
    #[arg(long)]
    suggest: bool,
    /// Access logs, plain or compressed by gzip; `-` is stdin.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// The time and the logs of an incident.
#[derive(Args)]
pub(crate) struct IncidentChoice {
    /// Begin, in RFC 3339: 2027-01-31T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: u64,
    /// End.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Logs, plain or compressed by gzip; `-` is stdin.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// Why a command of this file fails.
#[derive(Debug, Error)]
pub(crate) enum ReplayCommandError {
    #[error("{0}")]
    Replay(#[from] ReplayError),
    #[error("--against: {0}")]
    Old(Problems),
    #[error("no bucket is configured; name the configuration to try: tidegate simulate --config FILE LOG")]
    NoBuckets,
    #[error("--from is after --to")]
    TimeOrder,
    #[error("incident reads no configuration; leave out {0}")]
    NoConfiguration(&'static str),
    #[error("{} is a log of this replay, or the other report; choose another path", .0.display())]
    Overwrite(PathBuf),
    #[error("{} cannot be written: {source}; choose another path", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl ReplayCommandError {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Replay(ReplayError::NothingUsable { .. }) => 1,
            Self::Replay(ReplayError::Open(_)) | Self::NoBuckets => 2,
            Self::TimeOrder | Self::NoConfiguration(_) | Self::Overwrite(_) => 2,
            Self::Old(_) => 78,
            Self::Write { .. } => 73,
        }
    }
}

/// Seed of all replays, so that equal inputs give equal reports.
const SEED: u64 = 1;

/// Replays logs with `new`. Returns the text for stdout.
pub(crate) fn simulate(
    choice: &SimulateChoice,
    new: &Config,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<String, ReplayCommandError> {
    if new.buckets.is_empty() {
        return Err(ReplayCommandError::NoBuckets);
    }
    check_outputs(choice)?;
    let sources = |file: &PathBuf| Sources::default().environment(tidegate_config::environment()).file(file);
    let old = choice.against.as_ref().map(|file| tidegate_config::load(sources(file)));
    let old = old.transpose().map_err(ReplayCommandError::Old)?;
    let request =
        SimulateRequest { new, old: old.as_ref(), logs: &choice.logs, suggests: choice.suggest, seed: SEED };
    let report = replay::simulate(&request, on_progress)?;
    if let Some(path) = &choice.html {
        write(path, &replay::html::render(&report))?;
    }
    let json = choice.json.as_ref().map(|path| (path, to_json(&report)));
    match json {
        Some((path, json)) if path.as_os_str() == "-" => Ok(json),
        Some((path, json)) => {
            write(path, &json)?;
            Ok(replay::text::render(&report))
        }
        None => Ok(replay::text::render(&report)),
    }
}

/// Refuses a report that would replace a log of the replay or the other report.
fn check_outputs(choice: &SimulateChoice) -> Result<(), ReplayCommandError> {
    let is_same = |one: &Path, other: &Path| match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        // At least one does not exist yet.
        _ => one == other,
    };
    let json = choice.json.as_ref().filter(|path| path.as_os_str() != "-");
    for output in choice.html.iter().chain(json) {
        if choice.logs.iter().any(|log| is_same(log, output)) {
            return Err(ReplayCommandError::Overwrite(output.clone()));
        }
    }
    match (&choice.html, json) {
        (Some(html), Some(json)) if is_same(html, json) => Err(ReplayCommandError::Overwrite(json.clone())),
        _ => Ok(()),
    }
}

/// Makes the timeline of an incident. Returns the text for stdout.
pub(crate) fn incident(choice: &IncidentChoice) -> Result<String, ReplayCommandError> {
    if choice.from > choice.to {
        return Err(ReplayCommandError::TimeOrder);
    }
    let request = IncidentRequest { from_us: choice.from, to_us: choice.to, logs: &choice.logs };
    let incident = incident::incident(&request)?;
    Ok(if choice.json { to_json(&incident) } else { incident::text::render(&incident) })
}

fn to_json(report: &impl serde::Serialize) -> String {
    // The reports have only maps with text keys, which cannot fail.
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    // A terminal may show it.
    let mut json = escape_json_document(&json).into_owned();
    json.push('\n');
    json
}

fn write(path: &Path, text: &str) -> Result<(), ReplayCommandError> {
    fs::write(path, text).map_err(|source| ReplayCommandError::Write { path: path.to_owned(), source })
}

/// The answer to a text that is no time. The errors of the parser name its grammar, not the text.
const TIME_FORMS: &str = "this is no valid date and time in RFC 3339; write 2027-01-31T18:00:00Z, or 2027-01-31T19:00:00+01:00 with an \
                          offset";

/// Microseconds since 1970.
fn parse_time(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TIME_FORMS.to_owned())?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000).map_err(|_| "the time is before 1970".to_owned())
}

/// The progress as one line for a terminal, which overwrites the last one.
pub(crate) fn progress_line(progress: &Progress) -> String {
    const WIDTH: u64 = 30;
    let Progress { bytes, size, requests } = *progress;
    match size.filter(|size| *size > 0) {
        None => format!("\r{requests} requests, {} MiB\x1b[K", bytes >> 20),
        Some(size) => {
            let share = |whole: u64| bytes.min(size).saturating_mul(whole) / size;
            let filled = usize::try_from(share(WIDTH)).unwrap_or_default();
            let width = usize::try_from(WIDTH).unwrap_or_default();
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(width.saturating_sub(filled)));
            format!("\r[{bar}] {} %, {requests} requests\x1b[K", share(100))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bar is full at the end, and a log of unknown size has none.
    #[test]
    fn the_bar_fills() {
        let progress = Progress { bytes: 50, size: Some(100), requests: 7 };
        assert!(progress_line(&progress).contains(&format!("[{}{}] 50 %", "#".repeat(15), ".".repeat(15))));
        assert!(!progress_line(&Progress { size: None, ..progress }).contains('%'));
        assert!(progress_line(&Progress { bytes: 200, ..progress }).contains("100 %"));
    }

    /// A time without an offset is refused with an example.
    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(parse_time("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Ok(0));
        for text in ["yesterday", "2026", "2027-01-31", "2027-02-30T18:00:00Z", "2027-01-31T18:00:00"] {
            assert_eq!(parse_time(text), Err(TIME_FORMS.to_owned()), "{text}");
        }
        assert_eq!(parse_time("1969-01-01T00:00:00Z"), Err("the time is before 1970".to_owned()));
    }
}
