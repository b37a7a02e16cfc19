//! The causes of degradation: each source provoked with real parts, from the begin of the cause to its end.
//!
//! A cause is checked in the status document, in the metric and in the log.

mod bucket_sources;
mod command;
mod documents;
mod event_stream;
mod history;
mod level_sources;
mod limit_use;
mod process_sources;
mod reloads;
mod renewals;
pub(crate) mod schema;
mod stream;
mod watchers;

use serde_json::Value;

use crate::support::{Gateway, wait_for};
use crate::tidy::sources::read;

/// The present causes with this code.
async fn causes(gateway: &Gateway, code: &str) -> Vec<Value> {
    let status = gateway.status().await;
    let causes = status["causes"].as_array().unwrap().iter();
    causes.filter(|cause| cause["code"] == code).cloned().collect()
}

/// Waits for a cause.
async fn cause(gateway: &Gateway, code: &str) -> Value {
    wait_for(&format!("the cause {code}"), || async { causes(gateway, code).await.pop() }).await
}

/// Waits until a cause has refused this many requests: the record of a request is written after its answer.
async fn cause_that_refused(gateway: &Gateway, code: &str, refused: u64) -> Value {
    wait_for(&format!("{code} has refused {refused}"), || async {
        let cause = causes(gateway, code).await.pop()?;
        let counted = cause["effect"]["refused"].as_u64().unwrap();
        assert!(counted <= refused, "{cause}");
        (counted == refused).then_some(cause)
    })
    .await
}

async fn gauge(gateway: &Gateway, code: &str, scope: &str) -> f64 {
    gateway.metric(&format!("degradation_causes{{code=\"{code}\",scope=\"{scope}\"}}")).await
}

/// A field of a cause in `docs/causes.md`.
fn documented(code: &str, field: &str) -> String {
    let page = read("docs/causes.md");
    let section = page.split("\n### ").find_map(|section| section.strip_prefix(&format!("`{code}`\n")));
    let section = section.unwrap_or_else(|| panic!("docs/causes.md has no cause {code}"));
    let value = section.lines().find_map(|line| line.strip_prefix(&format!("- {field}: ")));
    value.unwrap_or_else(|| panic!("{code} has no {field}")).trim_matches('`').to_owned()
}

/// Checks a cause against its documentation: a sentence, the scope, figures with units.
fn assert_explained(cause: &Value) {
    let code = cause["code"].as_str().unwrap();
    assert_eq!(cause["severity"], documented(code, "Severity"), "{cause}");
    assert_eq!(cause["scope"]["kind"], documented(code, "Scope"), "{cause}");
    assert!(cause["message"].as_str().unwrap().split(' ').count() > 3, "{cause}");
    for field in ["meaning", "ends_when"] {
        assert!(!cause[field].as_str().unwrap().is_empty(), "{field}: {cause}");
    }
    assert!(!cause["effect"]["text"].as_str().unwrap().is_empty(), "{cause}");
    assert_eq!(cause["docs"], format!("docs/causes.md#{code}"), "{cause}");
    for figure in [&cause["measured"], &cause["threshold"]] {
        let has_unit = figure["unit"].as_str().is_some_and(|unit| !unit.is_empty());
        assert!(figure.is_null() || (has_unit && figure["value"].is_number()), "{cause}");
    }
}

/// Waits for a cause; checks it against its documentation, the log line of its begin and its gauge.
pub(crate) async fn has_begun(gateway: &Gateway, code: &str, scope: &str) -> Value {
    let cause = cause(gateway, code).await;
    assert_explained(&cause);
    assert_eq!(gauge(gateway, code, scope).await, 1.0, "{cause}");
    let line = gateway.wait_for_log_line("degradation began", |line| line["code"] == code).await;
    let level = if cause["severity"] == "critical" { "WARNING" } else { "INFO" };
    assert_eq!((&line["level"], &line["severity"]), (&level.into(), &cause["severity"]), "{line}");
    assert_eq!(
        (&line["name"], &line["bucket"]),
        (&cause["scope"]["name"], &cause["scope"]["bucket"]),
        "{line}"
    );
    cause
}

/// Waits for the end of a cause; returns the log line of its last end.
pub(crate) async fn has_ended(gateway: &Gateway, code: &str, scope: &str) -> Value {
    wait_for(&format!("the cause {code} ends"), || async {
        causes(gateway, code).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(gauge(gateway, code, scope).await, 0.0, "{code}");
    let line = wait_for(&format!("each end of {code} is logged"), || async {
        let lines = gateway.log_lines();
        let of = |message| lines.iter().filter(move |line| line["msg"] == message && line["code"] == code);
        let is_over = of("degradation began").count() == of("degradation ended").count();
        of("degradation ended").next_back().filter(|_| is_over).cloned()
    })
    .await;
    assert!(line["lasted_ms"].is_u64(), "{line}");
    let status = gateway.status().await;
    let events = status["events"].as_array().unwrap();
    let of_code: Vec<_> = events.iter().filter(|event| event["cause"]["code"] == code).collect();
    let (first, last) = (of_code.first().unwrap(), of_code.last().unwrap());
    assert_eq!((&first["change"], &last["change"]), (&"began".into(), &"ended".into()), "{of_code:?}");
    assert_eq!(last["cause"]["effect"]["refused"], line["refused"], "{last}");
    line
}
