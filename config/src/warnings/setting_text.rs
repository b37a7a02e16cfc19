//! Warnings about two keys: each is named with its value and its origin.

use std::borrow::Cow;
use std::time::Duration;

use crate::effective::Shown;
use crate::problem::Origin;
use crate::reference::template::template;
use crate::schema::{Entry, Section};

/// The value in effect of a key.
fn shown(entry: &Entry) -> Option<Cow<'_, Shown>> {
    entry.shown(template(&entry.path)?)
}

/// The same, with its unit.
fn value(entry: Option<&Entry>) -> String {
    let value = entry.and_then(shown);
    let text = match value.as_deref() {
        Some(Shown::Toml(text) | Shown::Hidden(text)) => text.as_str(),
        None => "not set",
    };
    // a text has its unit itself, as in "64MiB"
    match entry.and_then(|entry| entry.unit).filter(|_| !text.starts_with('"') && value.is_some()) {
        Some(unit) => format!("{text} {unit}"),
        None => text.to_owned(),
    }
}

/// A key of this section with its value and its origin: `server.workers (4, from TIDEGATE_SERVER__WORKERS)`.
pub(super) fn described(section: &Section<'_>, name: &str) -> String {
    let origin = section.origin_within(name).unwrap_or(Origin::Default);
    format!("{} ({}, {})", section.full_key(name), value(section.entry(name)), origin.of_value())
}

/// The total timeout of a bucket: the default of an http bucket is not that of the key.
pub(super) fn total_timeout(root: &mut Section<'_>, total: Duration) -> String {
    let origin = root.child("server").origin_within("request_timeout").unwrap_or(Origin::Default);
    format!("server.request_timeout ({} s, {})", total.as_secs_f64(), origin.of_value())
}

/// Warns about a key, with its value before the message.
pub(super) fn warn(section: &mut Section<'_>, name: &str, message: &str, hint: impl Into<String>) {
    let message = format!("{} {message}", value(section.entry(name)));
    section.warn(name, message, hint.into());
}

/// Whether a key is set to another value than its default.
fn is_changed(section: &Section<'_>, name: &str) -> bool {
    let default = |entry: &Entry| template(&entry.path)?.default.value.as_deref();
    let is_default = |entry: &Entry| match shown(entry).as_deref() {
        Some(Shown::Toml(value)) => default(entry) == Some(value),
        Some(Shown::Hidden(_)) => false,
        None => true,
    };
    section.origin_within(name).is_some() && !section.entry(name).is_some_and(is_default)
}

/// Warns about those of these keys that are set to another value than their default.
pub(super) fn warn_set(section: &mut Section<'_>, names: &[&str], message: &str, hint: &str) {
    for name in names {
        if is_changed(section, name) {
            warn(section, name, message, hint);
        }
    }
}
