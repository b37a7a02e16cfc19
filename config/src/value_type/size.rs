//! Sizes: bytes, or a number with a unit. Single letters are binary units, as in Kubernetes, nginx and Docker; `kB`, `MB`, `GB` and
//! `TB` are decimal (IEC 80000-13).

use std::ops::RangeInclusive;

use super::duration::scaled;
use super::{ValueError, ValueErrors, ValueType, quoted};
use crate::setting::Raw;

/// The unit of sizes.
pub(crate) const UNIT: &str = "bytes";
/// Units and their bytes; the units of written defaults come first.
const UNITS: [(&str, u64); 17] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The binary or the decimal units, as the reference lists them.
pub(super) fn units(is_binary: bool) -> String {
    let of_kind = |size: &u64| size.is_power_of_two() == is_binary;
    let names = UNITS.iter().filter(|(_, size)| *size > 1 && of_kind(size));
    names.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A size: bytes, or text with a unit.
pub(crate) struct Bytes(RangeInclusive<u64>);

/// A size in bytes within `range`.
pub(crate) const fn bytes(range: RangeInclusive<u64>) -> Bytes {
    Bytes(range)
}

/// A size in the largest binary unit that divides it, else in bytes.
fn written(bytes: u64) -> String {
    UNITS[..4]
        .iter()
        .find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size))
        .map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

/// The bytes of a text. Fractions of larger units are rounded down to a byte; fractions of a byte are invalid.
pub(crate) fn parsed(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let scale = match unit {
        "" => 1,
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    if scale == 1 && number.contains('.') {
        return None;
    }
    scaled(number, scale)
}

impl ValueType for Bytes {
    type Value = u64;

    fn parse(&self, raw: &Raw) -> Result<u64, ValueErrors> {
        let text = raw.scalar()?.trim();
        let bytes = parsed(text).ok_or_else(|| {
            ValueError::new(format!("{} is not a size", quoted(text)))
                .with_hint("write bytes, or a number with a unit such as 64MiB, 512Mi, 10M or 100MB")
        })?;
        let bytes = u64::try_from(bytes).ok().filter(|bytes| self.0.contains(bytes));
        bytes.ok_or_else(|| ValueError::new(format!("{text} is out of range {}", self.range())).into())
    }

    fn accepts(&self) -> String {
        format!("size, {}", self.range())
    }

    fn unit(&self) -> Option<&'static str> {
        Some(UNIT)
    }

    fn to_toml(&self, value: &u64) -> String {
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

/// A size, or a word that parses as `None`.
pub(crate) struct OrWord(Bytes, &'static str);

/// A size within `range`, or `unlimited`.
pub(crate) const fn or_unlimited(range: RangeInclusive<u64>) -> OrWord {
    OrWord(bytes(range), "unlimited")
}

/// A size within `range`, or `auto`.
pub(crate) const fn or_auto(range: RangeInclusive<u64>) -> OrWord {
    OrWord(bytes(range), "auto")
}

impl ValueType for OrWord {
    type Value = Option<u64>;

    fn parse(&self, raw: &Raw) -> Result<Option<u64>, ValueErrors> {
        if raw.scalar()?.trim().eq_ignore_ascii_case(self.1) {
            return Ok(None);
        }
        self.0.parse(raw).map(Some)
    }

    fn accepts(&self) -> String {
        format!("{}, or \"{}\"", self.0.accepts(), self.1)
    }

    fn unit(&self) -> Option<&'static str> {
        Some(UNIT)
    }

    fn to_toml(&self, value: &Option<u64>) -> String {
        value.map_or_else(|| format!("\"{}\"", self.1), |bytes| self.0.to_toml(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<u64> {
        bytes(0..=1 << 50).parse(&Raw::Variable(text.to_owned())).ok()
    }

    /// G1
    #[test]
    fn sizes_have_the_usual_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("12B", 12),
            ("1K", 1 << 10),
            ("10M", 10 << 20),
            ("10m", 10 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
            ("512Mi", 512 << 20),
            ("1Ki", 1 << 10),
            ("1Gi", 1 << 30),
            ("64MiB", 64 << 20),
            ("7 kib", 7 << 10),
            ("1.5GiB", 3 << 29),
            ("0.5K", 512),
            ("1kB", 1_000),
            ("1KB", 1_000),
            ("100MB", 100_000_000),
            ("1.5GB", 1_500_000_000),
            ("1TB", 1_000_000_000_000),
            ("1.1KiB", 1126),
        ] {
            assert_eq!(of(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn the_reference_names_each_unit_once() {
        assert_eq!(units(false), "`TB`, `GB`, `MB`, `kB`");
        assert_eq!(units(true).split(", ").count() + 4 + 1, UNITS.len(), "and B");
    }

    #[test]
    fn invalid_sizes_are_rejected() {
        for text in [
            "",
            "M",
            "1.5",
            "1.5B",
            "1..5M",
            ".5M",
            "1.M",
            "-1M",
            "1 M B",
            "64 apples",
            "1e3",
            "9999999T",
            "1,5M",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
