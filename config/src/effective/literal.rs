//! A TOML value as a number, a text, a truth value or a list.

use toml::{Table, Value};

use crate::value_type::{SIZE_UNIT, parsed_size};

/// A value without the spelling of its source.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// true or false
    Flag(bool),
    /// a whole number
    Integer(i64),
    /// a decimal number
    Decimal(f64),
    /// text
    Text(String),
    /// a list
    List(Vec<Self>),
}

impl Literal {
    /// The literal of a TOML value. A size with a unit becomes a number of bytes.
    pub(super) fn parse(toml: &str, unit: Option<&str>) -> Option<Self> {
        let table: Table = toml::from_str(&format!("value = {toml}")).ok()?;
        let literal = Self::of(table.get("value")?)?;
        match &literal {
            Self::Text(text) if unit == Some(SIZE_UNIT) => {
                let bytes = parsed_size(text).and_then(|bytes| i64::try_from(bytes).ok());
                Some(bytes.map_or(literal, Self::Integer))
            }
            _ => Some(literal),
        }
    }

    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Boolean(value) => Self::Flag(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::Decimal(*value),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect::<Option<_>>()?),
            Value::Datetime(_) | Value::Table(_) => return None,
        })
    }
}
