//! The story of one request, in sentences and times (O6). Each sentence has the facts of one recorded decision.

use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::decisions::decision_json;
use crate::buffers::TransferDecisions;
use crate::decisions::KeptNames;
use crate::decisions::decision::{
    DecisionFacts, DecisionKind, EntryFacts, Figures, RequestEnd, RingEntry, Unit,
};
use crate::decisions::query::RequestEntries;
use crate::telemetry::{rfc3339, unit_of};

/// The story of a request with these entries.
pub(super) fn document(names: &KeptNames, request_id: &str, found: &RequestEntries) -> Value {
    let RequestEntries { entries, omitted } = found;
    let end = entries.iter().rev().find_map(|entry| match &entry.facts {
        EntryFacts::End(end) => Some(decision_json::end(end)),
        EntryFacts::Decision(_) => None,
    });
    json!({
        "request_id": request_id,
        "sentences": entries.iter().map(|entry| sentence(names, entry)).collect::<Vec<_>>(),
        "decisions": entries.iter().filter_map(|entry| decision_json::decision(names, entry)).collect::<Vec<_>>(),
        "end": end,
        "omitted": omitted,
    })
}

fn sentence(names: &KeptNames, entry: &RingEntry) -> String {
    let at = rfc3339(entry.at);
    match &entry.facts {
        EntryFacts::End(end) => format!("{at}: {}", end_sentence(end)),
        EntryFacts::Decision(facts) => {
            let after =
                facts.elapsed.map_or_else(String::new, |time| format!(", {} after its head", text_of(time)));
            let parts = [
                what(names, facts),
                figures(&facts.figures),
                until(facts),
                who(names, facts),
                key(names, facts),
                detail(entry),
            ];
            format!("{at}{after}: {}.", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
    }
}

/// A duration in milliseconds.
fn text_of(time: Duration) -> String {
    format!("{} ms", (time.as_secs_f64() * 1e6).round() / 1e3)
}

fn what(names: &KeptNames, facts: &DecisionFacts) -> Option<String> {
    let bucket = facts.bucket.and_then(|bucket| names.bucket(bucket));
    let of_bucket = bucket.map_or_else(String::new, |bucket| format!(" of bucket `{bucket}`"));
    let status = facts.status.map_or_else(String::new, |status| format!(" with status {status}"));
    let endpoint =
        names.endpoint(facts).map_or_else(String::new, |endpoint| format!(" at endpoint {endpoint}"));
    let reason = facts.reason;
    Some(match facts.kind {
        DecisionKind::Refusal => format!(
            "the gateway refused the request{of_bucket}{status} for the reason `{reason}`, which concerns the {}",
            facts.figures.scope.as_str().replace('_', " ")
        ),
        DecisionKind::Queued if reason == TransferDecisions::PAUSE => {
            format!("the gateway had paused the transfer{of_bucket} while memory was short (`{reason}`)")
        }
        DecisionKind::Queued => format!("the request{of_bucket} had waited (`{reason}`)"),
        DecisionKind::Retry => format!(
            "an attempt{of_bucket}{endpoint} failed{status} for the reason `{reason}`, and the gateway was to repeat it"
        ),
        DecisionKind::Hedge => {
            format!("an attempt{of_bucket}{endpoint} was slow, and the gateway sent the read a second time")
        }
        DecisionKind::Shadow if facts.status.is_none() => {
            let end = if reason == TransferDecisions::PAUSE { "paused" } else { "ended" };
            format!(
                "the transfer{of_bucket} was not {end} for the reason `{reason}` only because of a shadow mode"
            )
        }
        DecisionKind::Shadow => format!(
            "the request{of_bucket} passed this check only because of a shadow mode: it would have been refused{status} for the reason `{reason}`"
        ),
        DecisionKind::Cut => format!("the gateway ended the transfer{of_bucket} for the reason `{reason}`"),
        DecisionKind::Ejection => format!("rotation{of_bucket}{endpoint} changed: `{reason}`"),
        DecisionKind::Transition => format!("state{of_bucket} changed: `{reason}`"),
    })
}

fn figures(figures: &Figures) -> Option<String> {
    let quantity = |value: f64| format!("{value} {}", unit_of(value, figures.unit.map_or("", Unit::as_str)));
    match (figures.measured, figures.threshold) {
        (Some(measured), Some(threshold)) => {
            Some(format!("measured {}, threshold {}", quantity(measured), quantity(threshold)))
        }
        (Some(measured), None) => Some(format!("measured {}", quantity(measured))),
        (None, Some(threshold)) => Some(format!("threshold {}", quantity(threshold))),
        (None, None) => None,
    }
}

fn until(facts: &DecisionFacts) -> Option<String> {
    let until = text_of(facts.figures.until?);
    Some(match facts.kind {
        DecisionKind::Retry => format!("the next attempt was due after {until}"),
        _ => format!("this could change after {until}"),
    })
}

fn who(names: &KeptNames, facts: &DecisionFacts) -> Option<String> {
    let actor = names.actor_name(facts)?;
    let generation = facts.generation?;
    Some(format!("decided by actor `{actor}`, generation {generation}"))
}

fn key(names: &KeptNames, facts: &DecisionFacts) -> Option<String> {
    let key = names.threshold_key(facts)?;
    Some(match key.source() {
        Some(source) => format!("set by `{}` ({source})", key.key),
        None => format!("set by `{}` ({})", key.key, key.origin_kind()),
    })
}

fn detail(entry: &RingEntry) -> Option<String> {
    Some(entry.detail.clone()).filter(|detail| !detail.is_empty())
}

fn end_sentence(end: &RequestEnd) -> String {
    let RequestEnd { status, attempts, admission, queue, first_byte, total, sent_bytes } = end;
    let phase = |name: &str, time: &Option<Duration>| time.map(|time| format!("{name} {}", text_of(time)));
    // The time ends with the last attempt, which may have had no answer.
    let phases = [phase("admission", admission), phase("queue", queue), phase("all attempts", first_byte)];
    let phases: Vec<String> = phases.into_iter().flatten().collect();
    let phases = if phases.is_empty() { String::new() } else { format!(" ({})", phases.join(", ")) };
    let status = match status {
        0 => "without a response".to_owned(),
        status => format!("with status {status}"),
    };
    format!(
        "the request ended {status} after {}{phases}; attempts: {attempts}; bytes sent: {sent_bytes}.",
        text_of(*total)
    )
}
