//! Reads a TOML or YAML document into paths and raw values.
//!
//! The parsers are the `config` crate's; merging is not, because its merged tree forgets which variable a
//! value came from. A parse error is reported by line and reason only: the parsers quote the offending line,
//! and the offending line may be a secret (C4).

use std::error::Error;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Source as _, Value, ValueKind};

use crate::form::Fault;
use crate::setting::{KeyPath, Raw};

/// The leaves of a document; `name` decides by its extension how the text is read.
pub(crate) fn parse(name: &Path, text: &str) -> Result<Vec<(KeyPath, Raw)>, Fault> {
    let format = match name.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            return Err(Fault::new("is of an unknown format").hinting("name it .toml, .yaml or .yml"));
        }
    };
    let root = File::from_str(text, format).collect().map_err(|error| describe(error, text))?;
    let mut leaves = Vec::new();
    for (name, value) in root {
        flatten(KeyPath::new([name]), value, &mut leaves);
    }
    Ok(leaves)
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

fn describe(error: ConfigError, text: &str) -> Fault {
    let ConfigError::FileParse { cause, .. } = error else {
        return Fault::new("cannot be parsed");
    };
    Fault::new(format!("cannot be parsed: {}", reason(cause.as_ref(), text)))
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
