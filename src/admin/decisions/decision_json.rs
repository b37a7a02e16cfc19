//! A decision as JSON.

use serde_json::{Value, json};

use crate::decisions::decision::{DecisionKind, EntryFacts, Figures, RequestEnd, RingEntry};
use crate::decisions::{DecisionCount, KeptNames};
use crate::telemetry::rfc3339;

/// A figure: a whole number without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number below 2^53")]
fn figure(value: Option<f64>) -> Value {
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(value as i64),
        other => Value::from(other),
    }
}

fn present(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A decision; none for the end of a request.
pub(super) fn decision(names: &KeptNames, entry: &RingEntry) -> Option<Value> {
    let EntryFacts::Decision(facts) = &entry.facts else { return None };
    let Figures { scope, measured, threshold, unit, until, .. } = facts.figures;
    let key = names.threshold_key(facts);
    Some(json!({
        "order": entry.order,
        "at": rfc3339(entry.at),
        "request_id": present(&entry.request_id),
        "kind": facts.kind.as_str(),
        "shadow": facts.kind == DecisionKind::Shadow,
        "reason": facts.reason,
        "status": facts.status,
        "scope": scope.as_str(),
        "bucket": facts.bucket.and_then(|bucket| names.bucket(bucket)),
        "endpoint": names.endpoint(facts),
        "credential": names.credential(facts),
        "client": facts.client.map(|client| client.to_string()),
        "client_key": names.client_key(facts),
        "subject": present(&entry.subject),
        "measured": figure(measured),
        "threshold": figure(threshold),
        "unit": unit.map(|unit| unit.as_str()),
        "until": until.and_then(|until| entry.at.checked_add(until)).map(rfc3339),
        "elapsed_us": facts.elapsed.map(|elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)),
        "actor": names.actor_name(facts).map(|name| json!({ "name": name, "generation": facts.generation })),
        "config": key.map(|key| json!({ "key": key.key, "origin": key.origin_kind(), "source": key.source() })),
        "detail": present(&entry.detail),
    }))
}

/// The number of decisions of one kind.
pub(super) fn count(names: &KeptNames, count: &DecisionCount) -> Value {
    json!({
        "kind": count.kind.as_str(),
        "reason": count.reason,
        "scope": count.scope.as_str(),
        "bucket": count.bucket.and_then(|bucket| names.bucket(bucket)),
        "count": count.count,
    })
}

/// The end of a request.
pub(super) fn end(end: &RequestEnd) -> Value {
    let us = |time: Option<std::time::Duration>| {
        time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    };
    json!({
        "status": end.status,
        "attempts": end.attempts,
        "admission_us": us(end.admission),
        "queue_us": us(end.queue),
        "first_byte_us": us(end.first_byte),
        "total_us": us(Some(end.total)),
        "sent_bytes": end.sent_bytes,
    })
}
