//! `tidegate status`: the status of a running gateway and its causes in at most 20 lines, with an exit code for scripts (X7).
//!
//! It asks the admin listener for the status document. With `--watch` it follows the stream and shows each change; when the stream ends it
//! connects again and resumes. `text.rs` makes the lines, `watch.rs` follows the stream. Text of the gateway is escaped before it reaches a
//! terminal.

mod text;
mod watch;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tidegate::telemetry::escape_json_document;
use tidegate_config::Config;

use crate::admin_client::{AdminTarget, ReplyError};

/// The name of the document in errors.
const STATUS_DOCUMENT: &str = "status document";

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
    pub(crate) url: Option<String>,
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

/// Received JSON as it came, without a character that could control a terminal.
fn printable_json(json: &str) -> String {
    // Tabs and carriage returns separate tokens: in its texts JSON has escapes for them.
    escape_json_document(&json.replace(['\t', '\r'], " ")).into_owned()
}

/// Asks and shows.
pub(crate) fn run(
    config: &Config,
    choice: &StatusChoice,
    screen: &mut Screen<'_>,
) -> Result<OverallStatus, ReplyError> {
    let target = AdminTarget::new(choice.url.as_deref(), config)?;
    if choice.watch {
        return watch::watch(&target, choice.json, screen);
    }
    let document = target.get_document("/status", STATUS_DOCUMENT)?;
    let status = OverallStatus::of(&document.value).ok_or_else(|| target.no_document(STATUS_DOCUMENT))?;
    let shown = match choice.json {
        true => screen.print(&format!("{}\n", printable_json(document.text.trim_end()))),
        false => {
            let lines = text::lines(&document.value, target.host(), Duration::ZERO);
            screen.print(&text::joined(&lines, screen.is_terminal))
        }
    };
    // A closed pipe is no error, and the status is known.
    let _ = shown;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X7, O2: the order of the members stays, and no character controls a terminal
    #[test]
    fn json_is_printed_as_it_came() {
        let received = "{\"z\":\"a\u{9b}2J\u{202e}\u{7f}é\",\r\n\t\"a\": 1}";
        let printed = printable_json(received);
        assert_eq!(printed, "{\"z\":\"a\\u009b2J\\u202e\\u007fé\", \n \"a\": 1}");
        let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(value(&printed), value(received));
    }
}
