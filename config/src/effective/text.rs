//! The effective configuration as a TOML file with one key per line.
//!
//! The file gives the same configuration when it is loaded, except for secrets and hidden queries of paths. So a key is a comment if it
//! has no value, if its value is hidden, or if it is not set and a check asks whether it is: setting it to its default would then have
//! another effect.

use crate::effective::{EffectiveKey, EffectiveValue};
use crate::problem::Origin;

const HEAD: &str = "\
# The effective configuration of tidegate. Loading this file gives the same configuration, except for secrets and
# for paths with a hidden query: set these again, else their checks are off.
# A key behind `#` has no value, is a secret, or is not set and stays so, because setting it would affect other keys.
";

/// The text of the file.
pub(super) fn file(
    keys: &[EffectiveKey],
    origins: bool,
    notes: impl Fn(&EffectiveKey) -> Vec<String>,
) -> String {
    let mut text = HEAD.to_owned();
    for key in keys {
        if origins {
            text.push_str(&description(key));
        }
        for note in notes(key) {
            text.push_str(&format!("# {note}\n"));
        }
        text.push_str(&line(key, origins));
    }
    text
}

/// The meaning and the accepted values of a key, as comments above its line.
fn description(key: &EffectiveKey) -> String {
    let default = match (key.default_text, &key.default) {
        (Some(words), _) => format!("; default: {words}"),
        (None, Some(default)) => format!("; default: {default}"),
        (None, None) => String::new(),
    };
    format!("\n# {}\n# accepts: {}{default}\n", key.about(), key.accepts)
}

fn line(key: &EffectiveKey, origins: bool) -> String {
    let name = &key.key;
    let (assignment, absent) = match &key.value {
        EffectiveValue::Toml(value) if key.is_independent => (format!("{name} = {value}"), None),
        EffectiveValue::Toml(value) => (format!("#{name} = {value}"), None),
        EffectiveValue::Hidden(text) => (format!("#{name} = \"{text}\""), None),
        EffectiveValue::Absent => (format!("#{name} ="), key.default_text),
    };
    // a text has its unit itself, as in "64MiB"
    let is_number = matches!(&key.value, EffectiveValue::Toml(value) if !value.starts_with('"'));
    let unit = key.unit.filter(|_| is_number).map(str::to_owned);
    let absent = absent.map(|words| format!("not set: {words}"));
    let notes: Vec<String> = [unit, absent, origins.then(|| origin(key))].into_iter().flatten().collect();
    match notes.is_empty() {
        true => format!("{assignment}\n"),
        false => format!("{assignment} # {}\n", notes.join("; ")),
    }
}

/// The origin on one line.
fn origin(key: &EffectiveKey) -> String {
    match (&key.origin, key.line) {
        (Origin::File(path), Some(line)) => {
            format!("from {}, line {line}", path.display().to_string().escape_debug())
        }
        (origin, _) => origin.of_value().escape_debug().to_string(),
    }
}
