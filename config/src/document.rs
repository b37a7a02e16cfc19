//! Reads a TOML or YAML document into paths and raw values.
//!
//! The `toml` crate parses TOML, because it gives the line of each key. The `config` crate parses YAML. Merging is done here, because
//! the merged tree of that crate loses the origin of a value. A parse error is reported by line and reason only: the parsers quote the
//! line, and the line may hold a secret (C4).

use std::error::Error;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Source as _, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::setting::{KeyPath, Raw};
use crate::value_type::ValueError;

/// A value of a document.
pub(crate) struct Leaf {
    pub(crate) path: KeyPath,
    pub(crate) raw: Raw,
    /// the line of its key, if the parser gives it
    pub(crate) line: Option<usize>,
}

/// The leaves of a document; the extension of `name` gives the format.
pub(crate) fn parse(name: &Path, text: &str) -> Result<Vec<Leaf>, ValueError> {
    match extension(name) {
        Some("toml") => parse_toml(text).map_err(|error| cannot_be_parsed(error.as_ref(), text)),
        Some("yaml" | "yml") => parse_yaml(text),
        _ => {
            Err(ValueError::new("has an unknown format").with_hint("use the extension .toml, .yaml or .yml"))
        }
    }
}

fn parse_toml(text: &str) -> Result<Vec<Leaf>, ParseError> {
    let root = DeTable::parse(text)?;
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut leaves = Vec::new();
    flatten_toml(&KeyPath::default(), root.into_inner(), &ends, &mut leaves)?;
    Ok(leaves)
}

/// `ends` are the positions of the line breaks.
fn flatten_toml(
    section: &KeyPath,
    table: DeTable<'_>,
    ends: &[usize],
    leaves: &mut Vec<Leaf>,
) -> Result<(), ParseError> {
    for (key, value) in table {
        let path = section.child(key.get_ref());
        match value.into_inner() {
            DeValue::Table(table) if !table.is_empty() => flatten_toml(&path, table, ends, leaves)?,
            value => {
                let line = ends.partition_point(|end| *end < key.span().start) + 1;
                leaves.push(Leaf { path, raw: raw_toml(value)?, line: Some(line) });
            }
        }
    }
    Ok(())
}

fn raw_toml(value: DeValue<'_>) -> Result<Raw, ParseError> {
    Ok(match value {
        DeValue::Table(_) => Raw::Empty,
        DeValue::Boolean(value) => Raw::Bare(value.to_string()),
        DeValue::Integer(value) => Raw::Bare(i64::from_str_radix(value.as_str(), value.radix())?.to_string()),
        DeValue::Float(value) => {
            let number: f64 = value.as_str().parse()?;
            if number.is_infinite() && !value.as_str().contains("inf") {
                return Err("floating-point number overflowed".into());
            }
            Raw::Bare(number.to_string())
        }
        DeValue::String(text) => Raw::Text(text.into_owned()),
        DeValue::Datetime(time) => Raw::Text(time.to_string()),
        DeValue::Array(items) => Raw::List(
            items.into_iter().map(Spanned::into_inner).map(raw_toml).collect::<Result<_, ParseError>>()?,
        ),
    })
}

/// Whether the extension of the file is that of YAML.
pub(crate) fn is_yaml(name: &Path) -> bool {
    matches!(extension(name), Some("yaml" | "yml"))
}

fn extension(name: &Path) -> Option<&str> {
    name.extension()?.to_str()
}

fn parse_yaml(text: &str) -> Result<Vec<Leaf>, ValueError> {
    let root = File::from_str(text, FileFormat::Yaml).collect().map_err(|error| describe(error, text))?;
    let mut leaves = Vec::new();
    for (name, value) in root {
        flatten(KeyPath::new([name]), value, &mut leaves);
    }
    Ok(leaves)
}

fn flatten(path: KeyPath, value: Value, leaves: &mut Vec<Leaf>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(path.child(&name), value, leaves);
            }
        }
        kind => leaves.push(Leaf { path, raw: raw(kind), line: None }),
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
    cannot_be_parsed(cause.as_ref(), text)
}

/// The error of a parser.
type ParseError = Box<dyn Error + Send + Sync>;

fn cannot_be_parsed(cause: &(dyn Error + Send + Sync + 'static), text: &str) -> ValueError {
    ValueError::new(format!("cannot be parsed: {}", reason(cause, text)))
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
