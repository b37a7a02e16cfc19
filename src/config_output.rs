//! `tidegate config`: the text that it prints.
//!
//! With `--running` it asks the running gateway for its values, and for the last hour of each limit.

use clap::Args;
use serde_json::{Value, json};
use thiserror::Error;
use tidegate::config_document;
use tidegate::telemetry::{counted, escape_controls, escape_json_document};
use tidegate_config::{Config, EffectiveConfig, EffectiveKey};

use crate::admin_client::{AdminTarget, ReplyError};

/// The name of the document in errors.
const CONFIG_DOCUMENT: &str = "configuration document";

/// What is printed, and how.
#[derive(Args)]
pub(crate) struct ConfigChoice {
    /// Print also where each value is set, its accepted range and what the key affects.
    #[arg(long)]
    origin: bool,
    /// Print JSON, as `GET /config` of the admin listener does.
    #[arg(long)]
    json: bool,
    /// Print also how near each limit of the running gateway was to acting in the last hour, and a suggested value; the gateway is at
    /// the URL, or at the admin listener of the configuration.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    running: Option<String>,
    /// Print only the keys that begin with one of these texts, such as `server.` or `buckets.photos`.
    #[arg(value_name = "KEY-PREFIX")]
    prefixes: Vec<String>,
}

/// A text with which no key begins.
#[derive(Debug, Error)]
#[error(
    "no key of this configuration begins with {0:?}; `tidegate config` without an argument prints all keys"
)]
pub(crate) struct UnknownKey(String);

/// The document of the running gateway, if it is asked for.
pub(crate) fn running(config: &Config, choice: &ConfigChoice) -> Result<Option<Value>, ReplyError> {
    let Some(url) = &choice.running else { return Ok(None) };
    let url = Some(url.as_str()).filter(|url| !url.is_empty());
    let target = AdminTarget::new(url, config)?;
    let document = target.get_document("/config", CONFIG_DOCUMENT)?.value;
    match document["keys"].is_array() {
        true => Ok(Some(document)),
        false => Err(target.no_document(CONFIG_DOCUMENT)),
    }
}

/// The chosen keys as a TOML file or as JSON.
pub(crate) fn render(
    effective: &EffectiveConfig,
    choice: &ConfigChoice,
    running: Option<&Value>,
) -> Result<String, UnknownKey> {
    let keys = effective.select(&choice.prefixes).map_err(UnknownKey)?;
    let notes = |key: &EffectiveKey| running.map_or_else(Vec::new, |running| notes(key, running));
    let json = |document: Value| escape_json_document(&format!("{document:#}\n")).into_owned();
    Ok(match (choice.json, running) {
        (true, Some(running)) => json(chosen(running, &choice.prefixes)),
        (true, None) => json(config_document(keys)),
        (false, _) => EffectiveConfig::text(&keys, choice.origin, notes),
    })
}

/// The document of the running gateway with the chosen keys.
fn chosen(running: &Value, prefixes: &[String]) -> Value {
    let is_chosen = |key: &&Value| {
        let name = key["key"].as_str().unwrap_or_default();
        prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    };
    let keys: Vec<&Value> = running["keys"].as_array().into_iter().flatten().filter(is_chosen).collect();
    json!({ "version": running["version"], "keys": keys })
}

/// What the running gateway has to say about a key: another value, the last hour, a suggestion.
fn notes(key: &EffectiveKey, running: &Value) -> Vec<String> {
    let found =
        running["keys"].as_array().into_iter().flatten().find(|found| found["key"] == key.key.as_str());
    let Some(found) = found else { return vec!["the running gateway does not have this key".to_owned()] };
    let mut notes = Vec::new();
    let own = &config_document([key.clone()])["keys"][0]["value"];
    if found["value"] != *own {
        notes.push(format!("the running gateway has {}", escape_controls(&found["value"].to_string())));
    }
    let hour = &found["last_hour"];
    let text = |value: &Value| escape_controls(value.as_str().unwrap_or_default()).into_owned();
    if let (Some(hits), Some(limit)) = (hour["hits"].as_u64(), hour["limit"].as_f64()) {
        let peak =
            hour["peak"].as_f64().map(|peak| format!(", peak {peak} of {limit} {}", text(&hour["unit"])));
        let minutes = hour["minutes"].as_u64().unwrap_or_default();
        let peak = peak.unwrap_or_default();
        let (minutes, hits) = (counted(minutes, "minutes"), counted(hits, &text(&hour["hit"])));
        notes.push(format!("in the last {minutes}: {hits}{peak}"));
    }
    if hour["suggestion"].is_object() {
        notes.push(format!("suggestion: {}", text(&hour["suggestion"]["reason"])));
    }
    notes
}
