//! Warnings about valid settings that cancel or hide each other (G12).
//!
//! A warning reports a setting without effect, or with an effect that its user cannot expect. Defaults cause no warnings: a default that
//! contradicts a setting is adjusted to it. Each check reads the finished configuration; the walk provides whether a key was set,
//! and its origin.
//!
//! Checks of the machine (files, descriptors, names) are not here: the program that starts a gateway makes them.

mod access;
mod actions;
mod capacity;
mod endpoints;
mod limits;
mod output;
mod patterns;
mod regions;
mod setting_text;
mod switched_off;
mod thresholds;

use std::path::PathBuf;

use crate::Config;
use crate::file_access::Exposure;
use crate::problem::{Origin, Problem};
use crate::schema::{Entry, Section, Walk};

/// Records every warning about a configuration.
pub(crate) fn find(root: &mut Section<'_>, config: &Config) {
    access::find(root, config);
    actions::find(root, config);
    capacity::find(root, config);
    endpoints::find(root, config);
    limits::find(root, config);
    output::find(root, config);
    patterns::find(root, config);
    regions::find(root, config);
    switched_off::find(root, config);
    thresholds::find(root, config);
}

/// A warning about a configuration file that others can read and that holds a secret, or that others can write.
pub(crate) fn of_exposed_file(walk: &Walk, exposure: Option<(PathBuf, Exposure)>) -> Option<Problem> {
    let (path, exposure) = exposure?;
    let is_in_file =
        |entry: &&Entry| walk.setting(entry).is_some_and(|setting| matches!(setting.origin, Origin::File(_)));
    let secrets = walk.entries.iter().filter(|entry| entry.is_secret);
    let mut secrets = secrets.filter(is_in_file).map(|entry| &entry.path);
    let key = match (secrets.next(), &exposure) {
        (Some(secret), _) => secret.to_string(),
        (None, Exposure::Writable { .. }) => path.display().to_string(),
        (None, _) => return None,
    };
    let more = match secrets.count() {
        0 => String::new(),
        count => format!("; the file has {count} more secrets"),
    };
    let holds = if key == path.display().to_string() { "" } else { "is a secret, and its file " };
    let hint = format!("{}; or put the secret into a variable or a file of its own", exposure.remedy());
    Some(Problem {
        key,
        source: Origin::File(path),
        line: None,
        message: format!("{holds}{exposure}{more}"),
        hint: Some(hint),
    })
}
