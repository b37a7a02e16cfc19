//! `tidegate drain`: begins the drain of a running gateway, as SIGTERM does, and follows it until the process has ended (G4). `target.rs`
//! drains one bucket or one endpoint.
//!
//! It opens the event stream of the status first, so that the result cannot be missed, and then sends `POST /drain`, which needs the token
//! of operators. The last event of a drain has its result. A process that ends without one has been killed, or a second signal has ended
//! it. The exit code is 0 if every request has ended, and 1 if some were cut off or the result is not known.

pub(crate) mod target;

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tidegate_actors::clock;
use tidegate_config::Config;

use crate::admin_client::events::EventBuffer;
use crate::admin_client::text::drain_line;
use crate::admin_client::{AdminTarget, ReplyError, Response};
use target::TargetChoice;

/// The names of the documents in errors.
const DRAIN_DOCUMENT: &str = "reply to a drain";
const STATUS_DOCUMENT: &str = "status stream";
const STREAM: &str = "/status/stream?samples=false";
/// The longest time without a byte: an event of the drain comes each second, and heartbeats every 15 s.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(45);
/// The pause before the next attempt to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait for the end of the process after its result: its threads stop within 5 s.
const PROCESS_END_MAX: Duration = Duration::from_secs(15);
/// The time between two lines that differ in their times only.
const LINE_EVERY: Duration = Duration::from_secs(10);
const ERASE_LINE: &str = "\x1b[K";

/// What is drained, and whether the command waits.
#[derive(Args)]
pub(crate) struct DrainChoice {
    #[command(flatten)]
    target: TargetChoice,
    /// Begin the drain, and do not wait for its end.
    #[arg(long)]
    no_wait: bool,
    /// Admin listener, as http://127.0.0.1:8090; by default that of the configuration.
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// How the drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainEnd {
    /// It has begun, and nothing waited for its end.
    Begun,
    /// Every request has ended.
    Complete,
    /// Requests were cut off.
    CutOff,
    /// Requests of the bucket or endpoint are left, or the gateway refuses the drain.
    NotDrained,
    /// The process has ended without a result.
    Unknown,
}

impl DrainEnd {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Begun | Self::Complete => 0,
            Self::CutOff | Self::NotDrained | Self::Unknown => 1,
        }
    }
}

/// Where the lines go.
pub(crate) struct DrainOutput<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) is_terminal: bool,
}

/// Drains the gateway of this configuration.
pub(crate) fn run(
    config: &Config,
    choice: &DrainChoice,
    output: DrainOutput<'_>,
) -> Result<DrainEnd, ReplyError> {
    let target = AdminTarget::new(choice.url.as_deref(), config)?.with_operator_token(config);
    if let Some(bucket) = &choice.target.bucket {
        return target::run(&target, (bucket, &choice.target), choice.no_wait, output.out);
    }
    let mut lines = Lines { output, last: None };
    if choice.no_wait {
        lines.print(&begin(&target)?["drain"]);
        return Ok(DrainEnd::Begun);
    }
    let mut stream = DrainStream::open(&target)?;
    // The snapshot: from then on no event is missed.
    stream.next_event()?;
    lines.print(&begin(&target)?["drain"]);
    loop {
        let next = match follow(stream, &mut lines) {
            FollowEnd::Result(cut_off) => {
                wait_for_end(&target);
                return Ok(if cut_off == 0 { DrainEnd::Complete } else { DrainEnd::CutOff });
            }
            // A stream may end before the drain, and the gateway may have no room for it at once.
            FollowEnd::Stream => reopen(&target),
            FollowEnd::OtherProcess => None,
        };
        let Some(next) = next else {
            lines.write_line(
                "the gateway has ended without a result of its drain: its log may have the reason",
            );
            return Ok(DrainEnd::Unknown);
        };
        stream = next;
    }
}

/// Why a stream is no longer followed.
enum FollowEnd {
    /// The drain has ended, and has cut off so many requests.
    Result(u64),
    /// The stream has ended.
    Stream,
    /// Another process answers, which does not drain.
    OtherProcess,
}

/// Sends the request to drain; returns the reply.
fn begin(target: &AdminTarget) -> Result<Value, ReplyError> {
    let reply = target.send_for_document("POST", "/drain", DRAIN_DOCUMENT)?;
    if reply["drain"].is_object() { Ok(reply) } else { Err(target.no_document(DRAIN_DOCUMENT)) }
}

/// Prints the events of a stream.
fn follow(mut stream: DrainStream<'_>, lines: &mut Lines<'_>) -> FollowEnd {
    loop {
        let drain = match stream.next_event() {
            Ok(Some(drain)) if drain.is_object() => drain,
            Ok(Some(_)) => return FollowEnd::OtherProcess,
            Ok(None) | Err(_) => return FollowEnd::Stream,
        };
        lines.print(&drain);
        if let Some(cut_off) = drain["cut_off"].as_u64() {
            return FollowEnd::Result(cut_off);
        }
    }
}

/// Opens the stream again; none once the gateway accepts no connection.
fn reopen(target: &AdminTarget) -> Option<DrainStream<'_>> {
    loop {
        match DrainStream::open(target) {
            Ok(stream) => return Some(stream),
            Err(ReplyError::Refused { .. }) => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return None,
        }
    }
}

/// Waits until the admin listener accepts no connection.
fn wait_for_end(target: &AdminTarget) {
    let deadline = clock::now() + PROCESS_END_MAX;
    while target.get("/livez", &[]).is_ok() && clock::now() < deadline {
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// The drain in the events of a status stream.
struct DrainStream<'a> {
    target: &'a AdminTarget,
    response: Response,
    buffer: EventBuffer,
    /// Drains that were received and not returned.
    received: Vec<Value>,
}

impl<'a> DrainStream<'a> {
    fn open(target: &'a AdminTarget) -> Result<Self, ReplyError> {
        let response = target.accepted(target.get(STREAM, &[])?)?.without_deadline(STREAM_IDLE_MAX);
        Ok(Self { target, response, buffer: EventBuffer::default(), received: Vec::new() })
    }

    /// The drain in the next event that has one: null in a snapshot before the drain. None at the end of the stream.
    fn next_event(&mut self) -> Result<Option<Value>, ReplyError> {
        while self.received.is_empty() {
            let piece = self.response.next_piece().map_err(|source| self.target.broken(source))?;
            let Some(piece) = piece else { return Ok(None) };
            for event in self.buffer.add(&piece).map_err(|source| self.target.broken(source))? {
                let data: Value = serde_json::from_str(&event.data)
                    .map_err(|_| self.target.no_document(STATUS_DOCUMENT))?;
                match event.kind.as_str() {
                    "snapshot" => self.received.push(data["drain"].clone()),
                    "drain" => self.received.push(data),
                    _ => {}
                }
            }
        }
        Ok(Some(self.received.remove(0)))
    }
}

/// The lines that were printed.
struct Lines<'a> {
    output: DrainOutput<'a>,
    /// The facts of the last line without its times, and when it was printed.
    last: Option<(Value, Instant)>,
}

impl Lines<'_> {
    /// Prints the line of a drain, unless it has the same facts as the last one. On a terminal it replaces that.
    fn print(&mut self, drain: &Value) {
        if !drain.is_object() {
            return;
        }
        let mut facts = drain.clone();
        for time in ["remaining_ms", "oldest_ms", "until"] {
            facts[time] = Value::Null;
        }
        let now = clock::now();
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| *last == facts && now.saturating_duration_since(*at) < LINE_EVERY);
        if is_same && !self.output.is_terminal {
            return;
        }
        self.last = Some((facts, now));
        let line = drain_line(drain);
        match self.output.is_terminal && drain["cut_off"].is_null() {
            true => self.write(&format!("{line}{ERASE_LINE}\r")),
            false => self.write_line(&line),
        }
    }

    fn write_line(&mut self, line: &str) {
        let erase = if self.output.is_terminal { ERASE_LINE } else { "" };
        self.write(&format!("{line}{erase}\n"));
    }

    /// A closed output is no error: the exit code has the result.
    fn write(&mut self, text: &str) {
        let out = &mut self.output.out;
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// G4: a line is printed when its facts have changed; a terminal shows each
    #[test]
    fn lines_have_new_facts() {
        let drain = |requests: u64, remaining: u64, cut_off: Option<u64>| {
            json!({ "phase": "closing", "requests": requests,
            "streams": 0, "connections": 1, "buckets": {}, "remaining_ms": remaining, "cut_off": cut_off })
        };
        for (is_terminal, expected) in [(false, 3), (true, 4)] {
            let mut written = Vec::new();
            let mut lines = Lines { output: DrainOutput { out: &mut written, is_terminal }, last: None };
            for event in
                [drain(2, 9000, None), drain(2, 8000, None), drain(1, 7000, None), drain(0, 0, Some(1))]
            {
                lines.print(&event);
            }
            lines.print(&Value::Null);
            let text = String::from_utf8(written).unwrap();
            let shown = text.split(['\n', '\r']).filter(|line| !line.is_empty()).count();
            assert_eq!(shown, expected, "{text:?}");
            assert!(text.ends_with(if is_terminal { "cut off\x1b[K\n" } else { "cut off\n" }), "{text:?}");
        }
    }

    /// G4: the exit code shows whether every request has ended
    #[test]
    fn the_exit_code_is_the_result() {
        let codes =
            [DrainEnd::Begun, DrainEnd::Complete, DrainEnd::CutOff, DrainEnd::Unknown].map(DrainEnd::code);
        assert_eq!(codes, [0, 0, 1, 1]);
    }
}
