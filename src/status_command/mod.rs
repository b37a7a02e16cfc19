//! `tidegate status`: the status of a running gateway and its causes in at most 20 lines, with an exit code for scripts (X7).
//!
//! It asks the admin listener for the status document. With `--watch` it follows the stream and shows each change; when the stream ends it
//! connects again and resumes. `text.rs` makes the lines, `events.rs` reads events, `watch.rs` follows the stream. Text of the gateway is
//! escaped before it reaches a terminal.

mod events;
mod text;
mod watch;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use thiserror::Error;
use tidegate::telemetry::escape_controls;
use tidegate_config::Config;

use crate::admin_client::{AdminTarget, ClientError, InvalidTarget, Response};

/// The longest time without a byte of a document.
const DOCUMENT_IDLE_MAX: Duration = Duration::from_secs(5);

/// What is asked, and how it is shown.
#[derive(Args)]
pub(crate) struct StatusChoice {
    /// Follow the changes until the command is interrupted.
    #[arg(long)]
    watch: bool,
    /// Print the JSON of the admin listener: the document, or with --watch one line for each event.
    #[arg(long)]
    json: bool,
    /// Admin listener, as http://127.0.0.1:8090; by default that of the configuration.
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// Where the text goes.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) is_terminal: bool,
}

impl Screen<'_> {
    fn print(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// `status` of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverallStatus {
    Ok,
    Degraded,
    Critical,
}

impl OverallStatus {
    fn of(document: &Value) -> Option<Self> {
        match document["status"].as_str()? {
            "ok" => Some(Self::Ok),
            "degraded" => Some(Self::Degraded),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }

    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::Critical => 2,
        }
    }
}

/// Why there is no status. The exit code is 3.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    #[error("{0}")]
    Target(#[from] InvalidTarget),
    #[error("the status is unknown: {0}")]
    Client(#[from] ClientError),
    #[error("{host} refused the request with {status}: {detail}")]
    Refused { host: String, status: u16, detail: String },
    #[error("{host} sent no status document; is it the admin listener of a tidegate?")]
    NoDocument { host: String },
    #[error("the connection to {host} broke: {source}")]
    Broken { host: String, source: io::Error },
}

/// Asks and shows.
pub(crate) fn run(
    config: &Config,
    choice: &StatusChoice,
    screen: &mut Screen<'_>,
) -> Result<OverallStatus, StatusError> {
    let target = match &choice.url {
        None => AdminTarget::of_config(config)?,
        Some(url) => AdminTarget::at_url(url, config)?,
    };
    if choice.watch {
        return watch::watch(&target, choice.json, screen);
    }
    let response = accepted(&target, target.get("/status", &[], DOCUMENT_IDLE_MAX)?)?;
    let body = response.body().map_err(|source| broken(&target, source))?;
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    let found = document.as_ref().and_then(|document| Some((document, OverallStatus::of(document)?)));
    let (document, status) = found.ok_or_else(|| no_document(&target))?;
    let shown = match choice.json {
        true => screen.print(&format!("{document}\n")),
        false => {
            let lines = text::lines(document, target.host(), Duration::ZERO);
            screen.print(&text::joined(&lines, screen.is_terminal))
        }
    };
    // A closed pipe is no error, and the status is known.
    let _ = shown;
    Ok(status)
}

fn no_document(target: &AdminTarget) -> StatusError {
    StatusError::NoDocument { host: target.host().to_owned() }
}

fn broken(target: &AdminTarget, source: io::Error) -> StatusError {
    StatusError::Broken { host: target.host().to_owned(), source }
}

/// The response, or the message of its refusal.
fn accepted(target: &AdminTarget, response: Response) -> Result<Response, StatusError> {
    let status = response.status;
    if status == 200 {
        return Ok(response);
    }
    let body = response.body().unwrap_or_default();
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let error = &document["error"];
    let detail = match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => format!("{}: {}", escape_controls(code), escape_controls(message)),
        _ => "it has no error document; is it the admin listener of a tidegate?".to_owned(),
    };
    Err(StatusError::Refused { host: target.host().to_owned(), status, detail })
}
