//! Reads a TOML or YAML document into paths and raw values.
//!
//! The `config` crate parses. Merging is done here, because the merged tree of that crate loses the origin of a value. A parse error
//! is reported by line and reason only: the parsers quote the line, and the line may hold a secret (C4).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Source as _, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use crate::setting::{KeyPath, Raw};
use crate::value_type::ValueError;

/// The leaves of a document; the extension of `name` gives the format.
pub(crate) fn parse(name: &Path, text: &str) -> Result<Vec<(KeyPath, Raw)>, ValueError> {
    let format = match name.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            return Err(
                ValueError::new("has an unknown format").with_hint("use the extension .toml, .yaml or .yml")
            );
        }
    };
    let root = File::from_str(text, format).collect().map_err(|error| describe(error, text))?;
    let mut leaves = Vec::new();
    for (name, value) in root {
        flatten(KeyPath::new([name]), value, &mut leaves);
    }
    Ok(leaves)
}

/// The line of each key of a TOML document; other parsers do not give lines.
pub(crate) fn lines(name: &Path, text: &str) -> BTreeMap<KeyPath, usize> {
    let mut lines = BTreeMap::new();
    if name.extension().is_some_and(|extension| extension == "toml")
        && let Ok(root) = DeTable::parse(text)
    {
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        find_lines(&KeyPath::default(), root.get_ref(), &ends, &mut lines);
    }
    lines
}

/// `ends` are the positions of the line breaks.
fn find_lines(section: &KeyPath, table: &DeTable<'_>, ends: &[usize], lines: &mut BTreeMap<KeyPath, usize>) {
    for (key, value) in table {
        let path = section.child(key.get_ref());
        if let DeValue::Table(table) = value.get_ref() {
            find_lines(&path, table, ends, lines);
        }
        lines.insert(path, ends.partition_point(|end| *end < key.span().start) + 1);
    }
}

fn flatten(path: KeyPath, value: Value, leaves: &mut Vec<(KeyPath, Raw)>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(path.child(&name), value, leaves);
            }
        }
        kind => leaves.push((path, raw(kind))),
    }
}

fn raw(kind: ValueKind) -> Raw {
    match kind {
        ValueKind::Nil | ValueKind::Table(_) => Raw::Empty,
        ValueKind::Boolean(value) => Raw::Bare(value.to_string()),
        ValueKind::I64(value) => Raw::Bare(value.to_string()),
        ValueKind::I128(value) => Raw::Bare(value.to_string()),
        ValueKind::U64(value) => Raw::Bare(value.to_string()),
        ValueKind::U128(value) => Raw::Bare(value.to_string()),
        ValueKind::Float(value) => Raw::Bare(value.to_string()),
        ValueKind::String(value) => Raw::Text(value),
        ValueKind::Array(items) => Raw::List(items.into_iter().map(|item| raw(item.kind)).collect()),
    }
}

fn describe(error: ConfigError, text: &str) -> ValueError {
    let ConfigError::FileParse { cause, .. } = error else {
        return ValueError::new("cannot be parsed");
    };
    ValueError::new(format!("cannot be parsed: {}", reason(cause.as_ref(), text)))
}

fn reason(cause: &(dyn Error + Send + Sync + 'static), text: &str) -> String {
    let Some(error) = cause.downcast_ref::<toml::de::Error>() else {
        return cause.to_string().replace(['\n', '\r'], " ");
    };
    let message = error.message().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}
