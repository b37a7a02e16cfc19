//! `tidegate drain --bucket NAME [--endpoint URL]`: drains one bucket or one endpoint, or ends that (G4).
//!
//! It sends `POST /drain` to the admin listener, which needs the token of operators, and reads `GET /drains` until no request is left.
//! The exit code is 0 if the target has drained, 1 if the gateway refuses it, ends the drain or is still busy at `--timeout`, and 3 if
//! the gateway cannot be reached.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tidegate::telemetry::escape_controls;
use tidegate_actors::clock;
use tidegate_s3::percent::percent_encode;

use super::DrainEnd;
use crate::admin_client::{AdminTarget, ReplyError};

/// The names of the documents in errors.
const DRAIN_DOCUMENT: &str = "reply to a drain";
const DRAINS_DOCUMENT: &str = "list of drains";
/// Time between two readings of the progress.
const POLL: Duration = Duration::from_millis(200);
/// The progress is printed again after this time without a change.
const PRINT_EVERY: Duration = Duration::from_secs(5);

/// The target and the order.
#[derive(Args)]
pub(crate) struct TargetChoice {
    /// Drain only this bucket: it refuses new requests.
    #[arg(long, value_name = "NAME")]
    pub(super) bucket: Option<String>,
    /// Drain only this endpoint of the bucket: it gets no new calls.
    #[arg(long, value_name = "URL", requires = "bucket")]
    endpoint: Option<String>,
    /// Why, for the log and the status.
    #[arg(long, value_name = "TEXT", requires = "bucket", conflicts_with = "end")]
    reason: Option<String>,
    /// End the drain after this time, as 90, 90s, 15m, 2h or 1d.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "bucket", conflicts_with = "end")]
    expires: Option<Duration>,
    /// End the drain.
    #[arg(long, requires = "bucket", conflicts_with = "no_wait")]
    end: bool,
    /// The longest wait, as 90, 90s, 15m, 2h or 1d; without it, the wait has no limit.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "bucket", conflicts_with_all = ["end", "no_wait"])]
    timeout: Option<Duration>,
}

/// Seconds, or a number with one of the units s, m, h and d.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        Some(b'd') => (&text[..text.len() - 1], 24 * 3600),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: Option<u64> = if is_number { digits.parse().ok() } else { None };
    let seconds = count.and_then(|count| count.checked_mul(unit)).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| "write it as 90, 90s, 15m, 2h or 1d".to_owned())
}

/// Drains the bucket or the endpoint and waits, as chosen.
pub(super) fn run(
    target: &AdminTarget,
    (bucket, choice): (&str, &TargetChoice),
    no_wait: bool,
    out: &mut dyn Write,
) -> Result<DrainEnd, ReplyError> {
    match order(target, (bucket, choice), no_wait, out) {
        // The gateway has read the order, and does not accept it.
        Err(refused @ ReplyError::Refused { status: 400 | 404 | 503, has_document: true, .. }) => {
            print(out, &refused.to_string());
            Ok(DrainEnd::NotDrained)
        }
        result => result,
    }
}

fn order(
    target: &AdminTarget,
    (bucket, choice): (&str, &TargetChoice),
    no_wait: bool,
    out: &mut dyn Write,
) -> Result<DrainEnd, ReplyError> {
    let encoded = |text: &str| percent_encode(text.as_bytes(), false);
    let mut path = format!("/drain?bucket={}", encoded(bucket));
    if let Some(endpoint) = &choice.endpoint {
        path += &format!("&endpoint={}", encoded(endpoint));
    }
    if choice.end {
        let reply = target.send_for_document("DELETE", &path, DRAIN_DOCUMENT)?;
        let ended = if reply["was_draining"] == true { "the drain has ended" } else { "it did not drain" };
        print(out, &format!("{}: {ended}", name(&reply)));
        return Ok(DrainEnd::Complete);
    }
    if let Some(reason) = &choice.reason {
        path += &format!("&reason={}", encoded(reason));
    }
    if let Some(expires) = choice.expires {
        path += &format!("&expires={}", expires.as_secs());
    }
    let reply = target.send_for_document("POST", &path, DRAIN_DOCUMENT)?;
    if !reply["was_draining"].is_boolean() {
        return Err(target.no_document(DRAIN_DOCUMENT));
    }
    match no_wait {
        true => {
            print(out, &progress(&reply));
            Ok(DrainEnd::Begun)
        }
        false => wait(target, reply, choice.timeout, out),
    }
}

/// Reads the progress until no request is left.
fn wait(
    target: &AdminTarget,
    mut drain: Value,
    timeout: Option<Duration>,
    out: &mut dyn Write,
) -> Result<DrainEnd, ReplyError> {
    let deadline = timeout.and_then(|timeout| clock::now().checked_add(timeout));
    let mut printed: Option<(Value, Instant)> = None;
    loop {
        let (left, now) = (drain["requests_left"].clone(), clock::now());
        if left == 0 {
            print(out, &format!("{}: drained", name(&drain)));
            return Ok(DrainEnd::Complete);
        }
        let is_new = printed
            .as_ref()
            .is_none_or(|(before, at)| *before != left || now.saturating_duration_since(*at) >= PRINT_EVERY);
        if is_new {
            print(out, &progress(&drain));
            printed = Some((left, now));
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            print(out, &format!("{}: still busy at the end of --timeout; the drain goes on", name(&drain)));
            return Ok(DrainEnd::NotDrained);
        }
        sleep(deadline.map_or(POLL, |deadline| deadline.saturating_duration_since(now).min(POLL)));
        let list = target.get_document("/drains", DRAINS_DOCUMENT)?.value;
        let Some(drains) = list["drains"].as_array() else {
            return Err(target.no_document(DRAINS_DOCUMENT));
        };
        let is_same =
            |other: &&Value| other["bucket"] == drain["bucket"] && other["endpoint"] == drain["endpoint"];
        match drains.iter().find(is_same) {
            Some(same) => drain = same.clone(),
            None => {
                let message = "the drain has ended before the last request: it expired, an operator ended it, or the gateway was upgraded";
                print(out, &format!("{}: {message}", name(&drain)));
                return Ok(DrainEnd::NotDrained);
            }
        }
    }
}

/// The bucket or the endpoint of a reply.
fn name(drain: &Value) -> String {
    let text = |value: &Value| escape_controls(value.as_str().unwrap_or_default()).into_owned();
    match drain["endpoint"].is_string() {
        true => format!("endpoint {} of bucket {}", text(&drain["endpoint"]), text(&drain["bucket"])),
        false => format!("bucket {}", text(&drain["bucket"])),
    }
}

fn progress(drain: &Value) -> String {
    let left = drain["requests_left"].as_u64().unwrap_or_default();
    let requests = if left == 1 { "request" } else { "requests" };
    let oldest = drain["oldest_ms"].as_u64().map(|ms| format!(", the oldest for {ms} ms"));
    let expires =
        drain["expires_in_ms"].as_u64().map(|ms| format!("; the drain expires in {} s", ms.div_ceil(1000)));
    format!(
        "{} drains: {left} {requests} left{}{}",
        name(drain),
        oldest.unwrap_or_default(),
        expires.unwrap_or_default()
    )
}

/// A reader that has closed the pipe ends no drain.
fn print(out: &mut dyn Write, line: &str) {
    let _: io::Result<()> = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// G4: a duration has seconds or a unit
    #[test]
    fn durations_are_parsed() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "0", "0m", "-1s", "1.5h", "1w", "m5", "99999999999999999999d", "5é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    /// G4: the progress names the target, the requests left, the oldest and the expiry, and no text controls a terminal
    #[test]
    fn the_progress_is_a_sentence() {
        let mut drain = json!({ "bucket": "a\u{1b}", "endpoint": null, "requests_left": 1, "oldest_ms": 1500,
            "expires_in_ms": 59_001 });
        assert_eq!(
            progress(&drain),
            "bucket a\\u001b drains: 1 request left, the oldest for 1500 ms; the drain expires in 60 s"
        );
        drain["endpoint"] = "store:80".into();
        (drain["requests_left"], drain["oldest_ms"], drain["expires_in_ms"]) =
            (2.into(), Value::Null, Value::Null);
        assert_eq!(progress(&drain), "endpoint store:80 of bucket a\\u001b drains: 2 requests left");
    }
}
