//! Words, addresses, free text, secrets, and lists of any of them.

use std::net::IpAddr;

use super::{ValueError, ValueErrors, ValueType};
use crate::bucket::Secret;
use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::hint;
use crate::setting::Raw;

/// Maximum length of a value in an error.
const SHOWN_CHARS_MAX: usize = 60;

/// A value in quotes, escaped and cut for one line of output.
pub(crate) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

/// A whole value as a TOML string on one line.
pub(crate) fn toml_text(text: &str) -> String {
    let mut toml = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => toml.extend(['\\', c]),
            c if c.is_control() => toml.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => toml.push(c),
        }
    }
    toml.push('"');
    toml
}

/// `true` or `false`, and the words of YAML 1.1 and of shells, in any case.
pub(crate) struct Flag;

const TRUE: [&str; 4] = ["true", "yes", "on", "1"];
const FALSE: [&str; 4] = ["false", "no", "off", "0"];

/// The words for true and for false, as the reference lists them.
pub(super) fn boolean_words() -> [String; 2] {
    [TRUE, FALSE].map(|words| words.map(|word| format!("`{word}`")).join(", "))
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(text))
}

impl ValueType for Flag {
    type Value = bool;

    fn parse(&self, raw: &Raw) -> Result<bool, ValueErrors> {
        let text = raw.scalar()?.trim();
        match (is_one_of(text, &TRUE), is_one_of(text, &FALSE)) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => {
                let words = |words: [&str; 4]| words.join(", ");
                let hint = format!("write one of {}, or one of {}", words(TRUE), words(FALSE));
                Err(ValueError::new(format!("{} is neither true nor false", quoted(text)))
                    .with_hint(hint)
                    .into())
            }
        }
    }

    fn accepts(&self) -> String {
        "true or false".to_owned()
    }

    fn to_toml(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// An IP address to listen on.
pub(crate) struct Address;

impl ValueType for Address {
    type Value = IpAddr;

    fn parse(&self, raw: &Raw) -> Result<IpAddr, ValueErrors> {
        let text = raw.scalar()?;
        let error_of = || {
            ValueError::new(format!("{} is not an IP address", quoted(text)))
                .with_hint("use an address such as 127.0.0.1, 0.0.0.0 or ::")
        };
        text.trim().parse().map_err(|_| error_of().into())
    }

    fn accepts(&self) -> String {
        "IPv4 or IPv6 address".to_owned()
    }

    fn to_toml(&self, value: &IpAddr) -> String {
        format!("\"{value}\"")
    }
}

/// One word of a closed list, in any case, and its value.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> ValueType for Choice<T> {
    type Value = T;

    fn parse(&self, raw: &Raw) -> Result<T, ValueErrors> {
        let text = raw.scalar()?.trim();
        if let Some((_, value)) = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let error = ValueError::new(format!("{} is not one of {}", quoted(text), self.accepts()));
        let nearest = hint::nearest(&text.to_lowercase(), self.0.iter().map(|(word, _)| *word));
        Err(match nearest {
            Some(word) => error.with_hint(format!("did you mean {word}?")).into(),
            None => error.into(),
        })
    }

    fn accepts(&self) -> String {
        self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
    }

    fn to_toml(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, meaning)| meaning == value).map_or("", |(word, _)| word);
        format!("\"{word}\"")
    }
}

/// Text without whitespace. The errors do not repeat it: if two keys were swapped, it may be a secret.
fn word(raw: &Raw) -> Result<&str, ValueError> {
    match raw.text()? {
        "" => Err(ValueError::new("is empty")),
        text if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err(ValueError::new("has whitespace or control characters"))
        }
        text => Ok(text),
    }
}

/// Text without whitespace; the field is its description in the reference.
pub(crate) struct Word(pub(crate) &'static str);

impl ValueType for Word {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        Ok(word(raw)?.to_owned())
    }

    fn accepts(&self) -> String {
        self.0.to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// Whether a text is a `token` of HTTP (RFC 9110, 5.6.2).
pub(crate) fn is_http_token(text: &str) -> bool {
    let is_mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// A domain name, converted to lower case.
pub(crate) struct Domain;

impl ValueType for Domain {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let text = raw.text()?.trim();
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() > 253 || !text.split('.').all(is_label) || text.parse::<IpAddr>().is_ok() {
            let error = ValueError::new(format!("{} is not a domain name", quoted(text)));
            return Err(error.with_hint("use a name such as s3.example.com, without a port").into());
        }
        Ok(text.to_ascii_lowercase())
    }

    fn accepts(&self) -> String {
        "domain name".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// Text that errors, log lines and the reference do not show.
pub(crate) struct SecretText;

impl ValueType for SecretText {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, ValueErrors> {
        Ok(Secret::new(word(raw)?))
    }

    fn accepts(&self) -> String {
        "text, never shown".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn shown(&self, _: &Secret, _: Option<&Raw>) -> Shown {
        Shown::secret()
    }

    fn fingerprint(&self, value: &Secret) -> Option<Fingerprint> {
        Some(Fingerprint::of(value.expose()))
    }

    fn to_toml(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}

/// A list of values of one type.
pub(crate) struct List<F>(F);

/// A list; in a variable, commas separate the items.
pub(crate) const fn list<F>(value_type: F) -> List<F> {
    List(value_type)
}

impl<F: ValueType> ValueType for List<F> {
    type Value = Vec<F::Value>;

    fn parse(&self, raw: &Raw) -> Result<Self::Value, ValueErrors> {
        let mut values = Vec::new();
        let mut errors = Vec::new();
        for item in raw.items()? {
            match self.0.parse(&item) {
                Ok(value) => values.push(value),
                Err(ValueErrors(more)) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(ValueErrors(errors)) }
    }

    fn accepts(&self) -> String {
        format!("list: {}", self.0.accepts())
    }

    fn to_toml(&self, values: &Self::Value) -> String {
        let items: Vec<_> = values.iter().map(|value| self.0.to_toml(value)).collect();
        format!("[{}]", items.join(", "))
    }
}
