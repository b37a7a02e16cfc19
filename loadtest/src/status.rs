//! Reads the gateway's status document, as an operator's monitoring does.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::admin_call;
use crate::clock::{self, millis};
use crate::statistics::{Statistics, percentile};

/// A later answer counts as missing.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// One reading of `/status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StatusReading {
    /// Time from the connect to the last byte, or to the failure.
    pub(crate) took_ms: f64,
    /// Whether a document was received.
    pub(crate) answered: bool,
    /// Whether its status is ok, its level is normal and it has no cause.
    pub(crate) normal: bool,
    /// Its status, level, and the codes of its causes.
    pub(crate) summary: String,
}

/// Reads the document.
pub(crate) fn read(admin: SocketAddr) -> StatusReading {
    let begin = clock::now();
    let answer = admin_call::get(admin, "/status", STATUS_TIMEOUT).unwrap_or_default();
    let took_ms = millis(clock::now() - begin);
    let document = answer.starts_with("HTTP/1.1 200").then(|| answer.split_once("\r\n\r\n")).flatten();
    let document: Option<Value> = document.and_then(|(_, body)| serde_json::from_str(body).ok());
    let (normal, summary) = document.as_ref().map_or((false, String::new()), evaluate);
    StatusReading { took_ms, answered: document.is_some(), normal, summary }
}

fn evaluate(document: &Value) -> (bool, String) {
    let text = |key: &str| document[key].as_str().unwrap_or("absent").to_owned();
    let causes = document["causes"].as_array();
    let (status, level) = (text("status"), text("level"));
    let normal = status == "ok" && level == "normal" && causes.is_some_and(Vec::is_empty);
    let names: Vec<_> = causes
        .into_iter()
        .flatten()
        .map(|cause| cause["code"].as_str().map_or_else(|| cause.to_string(), str::to_owned))
        .collect();
    (normal, format!("status {status}, level {level}, causes [{}]", names.join(", ")))
}

/// Writes the statistics of a step's readings as `STEP.status.…`.
pub(crate) fn summarize(readings: &[&StatusReading], step: &str, into: &mut Statistics) {
    let Some(last) = readings.last() else { return };
    let durations: Vec<_> = readings.iter().map(|reading| reading.took_ms).collect();
    let unanswered = readings.iter().filter(|reading| !reading.answered).count();
    let mut set = |name: &str, value: f64| into.set(format!("{step}.status.{name}"), value);
    set("asked", readings.len() as f64);
    set("unanswered", unanswered as f64);
    set("normal_last", f64::from(u8::from(last.normal)));
    for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
        into.set_if_present(format!("{step}.status.{name}"), percentile(&durations, quantile));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn normal_is_an_ok_status_and_a_normal_level_without_causes() {
        let cases = [
            (json!({ "status": "ok", "level": "normal", "causes": [] }), true),
            (json!({ "status": "ok", "level": "normal" }), false),
            (json!({ "level": "normal", "causes": [] }), false),
            (json!({ "status": "ok", "level": "warning", "causes": [] }), false),
            (json!({ "status": "ok", "level": "normal", "causes": [{ "code": "log" }] }), false),
        ];
        for (document, normal) in cases {
            assert_eq!(evaluate(&document).0, normal, "{document}");
        }
        let document = json!({ "status": "degraded", "level": "normal", "causes": [{ "code": "log" }] });
        assert_eq!(evaluate(&document).1, "status degraded, level normal, causes [log]");
    }

    #[test]
    fn a_failed_connect_is_unanswered() {
        let reading = read(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut statistics = Statistics::default();
        summarize(&[&reading], "s", &mut statistics);
        assert_eq!(statistics.value("s.status.unanswered"), Some(1.0));
        assert_eq!(statistics.value("s.status.normal_last"), Some(0.0));
    }
}
