//! The configurations of a gateway that is reloaded: one base, and overlays that are applied in rotation.
//!
//! Each configuration has a number, from 1. Its text has that number wherever the scenario has `{n}`, so every configuration differs from
//! every other one in all these places. Even numbers are written in the reverse order of sections.

mod check;
mod limit_check;
mod placeholders;
mod repeated;
mod timeline;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

pub(crate) use check::{ConfigurationCheck, JudgedSpec, SeenAnswer};
pub(crate) use limit_check::{LimitCheck, RateLimit};
pub(crate) use placeholders::Placeholders;
pub(crate) use repeated::RepeatedSpec;
pub(crate) use timeline::{SharedTimeline, Timeline};

use crate::gateway::{merge, table};
use placeholders::overlay_of;

/// An overlay over the configuration of the runner.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverlaySpec {
    /// Values of `{NAME}` in all texts of this configuration.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    /// Keys that this configuration lacks, such as `buckets.films`.
    #[serde(default)]
    remove: Vec<String>,
    /// Keys that are merged over the rest.
    #[serde(default)]
    settings: Table,
}

/// The file of the gateway's configuration.
pub(crate) struct ConfigurationFile {
    path: PathBuf,
    base: Table,
    overlays: Vec<OverlaySpec>,
    placeholders: Placeholders,
}

impl ConfigurationFile {
    /// The file at `path`, with the configuration `base` below the overlays.
    pub(crate) fn new(
        path: PathBuf,
        base: Table,
        overlays: Vec<OverlaySpec>,
        placeholders: Placeholders,
    ) -> Self {
        Self { path, base, overlays, placeholders }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Replaces the file by the configuration with this number, in one step.
    pub(crate) fn write(&self, number: u64) -> io::Result<()> {
        let next = self.path.with_extension("next");
        fs::write(&next, self.text(number))?;
        fs::set_permissions(&next, Permissions::from_mode(0o600))?;
        fs::rename(&next, &self.path)
    }

    /// The rate limit of a bucket in the configuration with this number.
    pub(crate) fn rate_limit(&self, bucket: &str, number: u64) -> Option<RateLimit> {
        let all = self.merged(number);
        let limit = all.get("buckets")?.get(bucket)?.get("rate_limit")?;
        let number = |key: &str| {
            let value = limit.get(key)?;
            value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
        };
        let per_second = number("requests_per_second")?;
        Some(RateLimit { per_second, burst: number("burst").unwrap_or(per_second.max(1.0)) })
    }

    fn merged(&self, number: u64) -> Table {
        let mut all = self.base.clone();
        if let Some(overlay) = overlay_of(&self.overlays, number) {
            merge(&mut all, &overlay.settings);
            overlay.remove.iter().for_each(|key| remove(&mut all, key));
        }
        all
    }

    fn text(&self, number: u64) -> String {
        let mut sections = sections(&self.merged(number));
        if number.is_multiple_of(2) {
            sections.reverse();
        }
        let text: Vec<_> = sections.iter().map(Table::to_string).collect();
        self.placeholders.fill(&text.join("\n"), number)
    }
}

/// Removes a dotted key.
fn remove(all: &mut Table, key: &str) {
    match key.split_once('.') {
        None => drop(all.remove(key)),
        Some((first, rest)) => {
            if let Some(Value::Table(inner)) = all.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

/// The sections of a configuration that can stand in any order. A table of tables is one section for each of these.
fn sections(all: &Table) -> Vec<Table> {
    let mut sections = Vec::new();
    for (key, value) in all {
        match value {
            Value::Table(inner) if !inner.is_empty() && inner.values().all(Value::is_table) => {
                let parts = inner.iter().map(|(name, part)| {
                    let part = Table::from_iter([(name.clone(), part.clone())]);
                    table([(key, part.into())])
                });
                sections.extend(parts);
            }
            _ => sections.push(table([(key, value.clone())])),
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &std::path::Path) -> ConfigurationFile {
        let base = "[server]\nport = 1\n[keys.m]\nsecret = 'a-{n}'\n[keys.b]\nsecret = 'b'\n\
                    [buckets.x]\nauth = []\n[buckets.x.rate_limit]\nrequests_per_second = 5\n";
        let overlay = |text: &str| toml::from_str(text).unwrap();
        let overlays = vec![
            overlay("remove = ['keys.b', 'nothing.there']"),
            overlay("[settings.buckets.x.rate_limit]\nburst = 9\n[settings.keys.a]\nsecret = 'c'"),
        ];
        let base = toml::from_str(base).unwrap();
        ConfigurationFile::new(directory.join("c.toml"), base, overlays, Placeholders::default())
    }

    #[test]
    fn overlays_are_merged_in_rotation_and_even_numbers_are_in_reverse_order() {
        let directory = crate::process::RunDirectory::create("configurations").unwrap();
        let file = file(directory.path());
        let written = |number: u64| {
            file.write(number).unwrap();
            fs::read_to_string(file.path()).unwrap()
        };
        let all: Table = toml::from_str(&written(3)).unwrap();
        assert_eq!(all["keys"].as_table().unwrap().keys().collect::<Vec<_>>(), ["m"]);
        assert_eq!(all["keys"]["m"]["secret"].as_str(), Some("a-3"));
        let text = written(4);
        let all: Table = toml::from_str(&text).unwrap();
        assert_eq!(all["keys"].as_table().unwrap().keys().collect::<Vec<_>>(), ["a", "b", "m"]);
        assert!(text.find("[keys.m]") < text.find("[keys.a]"), "{text}");
        assert!(text.find("[server]") < text.find("[keys.m]"), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no other file is left");
        directory.discard();
    }

    #[test]
    fn the_limit_of_a_bucket_is_that_of_the_configuration() {
        let file = file(std::path::Path::new("/nowhere"));
        let limit = |number| file.rate_limit("x", number).map(|limit| (limit.per_second, limit.burst));
        assert_eq!((limit(1), limit(2)), (Some((5.0, 5.0)), Some((5.0, 9.0))));
        assert!(file.rate_limit("y", 1).is_none());
    }
}
