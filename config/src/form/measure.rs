//! Lengths of time and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::number::{Decimal, Whole};
use super::{Fault, Faults, Form, decimal, shown, whole};
use crate::setting::Raw;

/// A number of seconds, whole or decimal.
pub(crate) struct Seconds(Decimal);

/// A length of time in seconds within `range`.
pub(crate) const fn seconds(range: RangeInclusive<f64>) -> Seconds {
    Seconds(decimal(range))
}

impl Form for Seconds {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, Faults> {
        let text = raw.scalar()?;
        if text.trim().parse::<f64>().is_err() {
            let fault = Fault::new(format!("{} is not a number of seconds", shown(text)));
            return Err(fault.hinting("write seconds without a unit, such as 30 or 0.5").into());
        }
        let value = self.0.parse(raw)?;
        Duration::try_from_secs_f64(value)
            .map_err(|_| Fault::new(format!("{value} is out of range {}", self.0.accepts())).into())
    }

    fn accepts(&self) -> String {
        format!("{} s", self.0.accepts())
    }

    fn show(&self, value: &Duration) -> String {
        value.as_secs_f64().to_string()
    }
}

/// A whole number of milliseconds.
pub(crate) struct Millis(Whole<u64>);

/// A length of time in milliseconds within `range`.
pub(crate) const fn millis(range: RangeInclusive<u64>) -> Millis {
    Millis(whole(range))
}

impl Form for Millis {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, Faults> {
        self.0.parse(raw).map(Duration::from_millis)
    }

    fn accepts(&self) -> String {
        format!("{} ms", self.0.accepts())
    }

    fn show(&self, value: &Duration) -> String {
        value.as_millis().to_string()
    }
}

const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A size: bytes, or text with a unit.
pub(crate) struct Bytes(RangeInclusive<u64>);

/// A size in bytes within `range`.
pub(crate) const fn bytes(range: RangeInclusive<u64>) -> Bytes {
    Bytes(range)
}

/// A size as people write it, where it is a whole number of binary units.
fn written(bytes: u64) -> String {
    UNITS[4..]
        .iter()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
        .map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

impl Form for Bytes {
    type Value = u64;

    fn parse(&self, raw: &Raw) -> Result<u64, Faults> {
        let text = raw.scalar()?.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit = unit.trim_start();
        let scale = UNITS.iter().find(|(name, _)| unit.is_empty() || name.eq_ignore_ascii_case(unit));
        let (Some((_, scale)), false) = (scale, digits.is_empty()) else {
            let fault = Fault::new(format!("{} is not a size", shown(text)));
            return Err(fault.hinting("write bytes, or a number with a unit such as 64MiB or 100MB").into());
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(*scale))
            .filter(|value| self.0.contains(value))
            .ok_or_else(|| Fault::new(format!("{text} is out of range {}", self.range())).into())
    }

    fn accepts(&self) -> String {
        format!("size, {}", self.range())
    }

    fn show(&self, value: &u64) -> String {
        let text = written(*value);
        if text.ends_with('B') { format!("\"{text}\"") } else { text }
    }
}

impl Bytes {
    fn range(&self) -> String {
        let spelt = |bytes: &u64| {
            let text = written(*bytes);
            if text.ends_with('B') { text } else { format!("{text} B") }
        };
        format!("{}–{}", spelt(self.0.start()), spelt(self.0.end()))
    }
}

/// A size, or a word for none, which reads as `None`.
pub(crate) struct OrWord(Bytes, &'static str);

/// A size within `range`, or no limit.
pub(crate) const fn or_unlimited(range: RangeInclusive<u64>) -> OrWord {
    OrWord(bytes(range), "unlimited")
}

/// A size within `range`, or what the system chooses.
pub(crate) const fn or_auto(range: RangeInclusive<u64>) -> OrWord {
    OrWord(bytes(range), "auto")
}

impl Form for OrWord {
    type Value = Option<u64>;

    fn parse(&self, raw: &Raw) -> Result<Option<u64>, Faults> {
        if raw.scalar()?.trim() == self.1 {
            return Ok(None);
        }
        self.0.parse(raw).map(Some)
    }

    fn accepts(&self) -> String {
        format!("{}, or \"{}\"", self.0.accepts(), self.1)
    }

    fn show(&self, value: &Option<u64>) -> String {
        value.map_or_else(|| format!("\"{}\"", self.1), |bytes| self.0.show(&bytes))
    }
}
