//! A decision as a log line (`log.decisions`).

use slog::{Logger, info};

use crate::decisions::decision::{DecisionFacts, DecisionKind, DecisionScope, EntryTexts};
use crate::decisions::names::{Names, ThresholdKey};
use crate::telemetry::millis;

/// Writes one line.
pub(super) fn write(log: &Logger, names: &Names, facts: &DecisionFacts, texts: &EntryTexts<'_>) {
    let figures = &facts.figures;
    let key = names.threshold_key(facts);
    let present = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
    // slog writes the last field first.
    info!(log, "decision";
        "detail" => present(texts.detail),
        "elapsed_us" => facts.elapsed.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        "config_origin" => key.as_ref().map(ThresholdKey::origin_kind),
        "config_key" => key.as_ref().map(|key| key.key.as_str()),
        "generation" => facts.generation,
        "by_actor" => names.actor_name(facts),
        "until_ms" => figures.until.map(millis),
        "unit" => figures.unit.map(|unit| unit.as_str()),
        "threshold" => figures.threshold,
        "measured" => figures.measured,
        "subject" => present(texts.subject),
        "client_key" => names.client_key(facts),
        "client" => facts.client.map(|client| client.to_string()),
        "credential" => names.credential(facts),
        "endpoint" => names.endpoint(facts),
        "bucket" => facts.bucket.and_then(|bucket| names.bucket(bucket)),
        "scope" => DecisionScope::as_str(figures.scope),
        "status" => facts.status,
        "shadow" => facts.kind == DecisionKind::Shadow,
        "reason" => facts.reason,
        "kind" => DecisionKind::as_str(facts.kind),
        "id" => present(texts.request_id));
}
