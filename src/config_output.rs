//! `tidegate config`: the text that it prints.

use clap::Args;
use thiserror::Error;
use tidegate::config_document;
use tidegate_config::EffectiveConfig;

/// What is printed, and how.
#[derive(Args)]
pub(crate) struct ConfigChoice {
    /// Print also where each value is set, its accepted range and what the key affects.
    #[arg(long)]
    origin: bool,
    /// Print JSON, as `GET /config` of the admin listener does.
    #[arg(long)]
    json: bool,
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

/// The chosen keys as a TOML file or as JSON.
pub(crate) fn render(effective: &EffectiveConfig, choice: &ConfigChoice) -> Result<String, UnknownKey> {
    let keys = effective.select(&choice.prefixes).map_err(UnknownKey)?;
    Ok(match choice.json {
        true => format!("{:#}\n", config_document(keys)),
        false => EffectiveConfig::text(&keys, choice.origin),
    })
}
