//! Words, addresses, free text, secrets, and lists of any of them.

use std::net::IpAddr;

use super::{Fault, Faults, Form};
use crate::bucket::Secret;
use crate::hint;
use crate::setting::Raw;

/// The longest part of a value that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A value in quotes, safe to print on one line.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

/// `true` or `false`, also in the words of YAML 1.1 and of shells; case does not matter.
pub(crate) struct Flag;

const TRUE: [&str; 4] = ["true", "yes", "on", "1"];
const FALSE: [&str; 4] = ["false", "no", "off", "0"];

/// The words for on and for off, as the reference lists them.
pub(super) fn switches() -> [String; 2] {
    [TRUE, FALSE].map(|words| words.map(|word| format!("`{word}`")).join(", "))
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(text))
}

impl Form for Flag {
    type Value = bool;

    fn parse(&self, raw: &Raw) -> Result<bool, Faults> {
        let text = raw.scalar()?.trim();
        match (is_one_of(text, &TRUE), is_one_of(text, &FALSE)) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => {
                let words = |words: [&str; 4]| words.join(", ");
                let hint = format!("write one of {}, or one of {}", words(TRUE), words(FALSE));
                Err(Fault::new(format!("{} is neither true nor false", shown(text))).hinting(hint).into())
            }
        }
    }

    fn accepts(&self) -> String {
        "true or false".to_owned()
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// An IP address to listen on.
pub(crate) struct Address;

impl Form for Address {
    type Value = IpAddr;

    fn parse(&self, raw: &Raw) -> Result<IpAddr, Faults> {
        let text = raw.scalar()?;
        let fault = || {
            Fault::new(format!("{} is not an IP address", shown(text)))
                .hinting("such as 127.0.0.1, 0.0.0.0 or ::")
        };
        text.trim().parse().map_err(|_| fault().into())
    }

    fn accepts(&self) -> String {
        "IPv4 or IPv6 address".to_owned()
    }

    fn show(&self, value: &IpAddr) -> String {
        format!("\"{value}\"")
    }
}

/// One word of a closed list, each with its meaning; case does not matter.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Form for Choice<T> {
    type Value = T;

    fn parse(&self, raw: &Raw) -> Result<T, Faults> {
        let text = raw.scalar()?.trim();
        if let Some((_, value)) = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let fault = Fault::new(format!("{} is none of {}", shown(text), self.accepts()));
        let nearest = hint::nearest(&text.to_lowercase(), self.0.iter().map(|(word, _)| *word));
        Err(match nearest {
            Some(word) => fault.hinting(format!("did you mean {word}?")).into(),
            None => fault.into(),
        })
    }

    fn accepts(&self) -> String {
        self.0.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
    }

    fn show(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, meaning)| meaning == value).map_or("", |(word, _)| word);
        format!("\"{word}\"")
    }
}

/// Text without blanks. The faults do not repeat it, because half of a swapped pair may be a secret.
fn word(raw: &Raw) -> Result<&str, Fault> {
    match raw.text()? {
        "" => Err(Fault::new("is empty")),
        text if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err(Fault::new("holds blanks or control characters"))
        }
        text => Ok(text),
    }
}

/// A word of text; the field is how the reference calls it.
pub(crate) struct Word(pub(crate) &'static str);

impl Form for Word {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        Ok(word(raw)?.to_owned())
    }

    fn accepts(&self) -> String {
        self.0.to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// A domain name, kept in lower case.
pub(crate) struct Domain;

impl Form for Domain {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let text = raw.text()?.trim();
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() > 253 || !text.split('.').all(is_label) || text.parse::<IpAddr>().is_ok() {
            let fault = Fault::new(format!("{} is no domain name", shown(text)));
            return Err(fault.hinting("such as s3.example.com, without port").into());
        }
        Ok(text.to_ascii_lowercase())
    }

    fn accepts(&self) -> String {
        "domain name".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// Text that no error, log line or reference shows.
pub(crate) struct SecretText;

impl Form for SecretText {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, Faults> {
        Ok(Secret::new(word(raw)?))
    }

    fn accepts(&self) -> String {
        "text, never shown".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn show(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}

/// A list of values of one form.
pub(crate) struct List<F>(F);

/// A list; in a variable, separated by commas.
pub(crate) const fn list<F>(form: F) -> List<F> {
    List(form)
}

impl<F: Form> Form for List<F> {
    type Value = Vec<F::Value>;

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Faults> {
        let mut values = Vec::new();
        let mut faults = Vec::new();
        for item in raw.items()? {
            match self.0.parse(&item) {
                Ok(value) => values.push(value),
                Err(Faults(more)) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
    }

    fn accepts(&self) -> String {
        format!("list: {}", self.0.accepts())
    }

    fn show(&self, values: &Self::Value) -> String {
        let items: Vec<_> = values.iter().map(|value| self.0.show(value)).collect();
        format!("[{}]", items.join(", "))
    }
}
