//! Durations: a number in the key's own unit, or numbers with units, such as `500ms` or `1m30s`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{ValueError, ValueErrors, ValueType, quoted};
use crate::setting::Raw;

/// Units of time from the longest to the shortest, and their length in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("sec", 1_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];
const NANOS_PER_MILLI: u128 = 1_000_000;
/// Digits after the point: nanoseconds of a second.
const FRACTION_DIGITS_MAX: usize = 9;

/// The units, as the reference lists them.
pub(super) fn units() -> String {
    let names: Vec<String> = UNITS.iter().rev().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// A decimal number times `scale`, rounded down; none if the text has other characters than digits and one point.
pub(super) fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && is_digits(whole) && is_digits(fraction);
    if !is_number || fraction.len() > FRACTION_DIGITS_MAX || (fraction.is_empty() && number.contains('.')) {
        return None;
    }
    let ten_to = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits.checked_mul(u128::from(scale))? / ten_to)
}

/// The nanoseconds of a text with units, the longest unit first: `1h`, `1m30s`, `0.5s`.
fn nanos(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut total: u128 = 0;
    let mut shortest = u64::MAX;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let after = after.trim_start();
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, more) = after.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        if *scale >= shortest {
            return None;
        }
        shortest = *scale;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = more.trim_start();
    }
    (shortest != u64::MAX).then_some(total)
}

/// A duration; a number without a unit counts seconds.
pub(crate) struct Seconds(RangeInclusive<f64>);

/// A duration with a range in seconds.
pub(crate) const fn seconds(range: RangeInclusive<f64>) -> Seconds {
    Seconds(range)
}

impl ValueType for Seconds {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, ValueErrors> {
        let text = raw.scalar()?.trim();
        let value = match text.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let nanos = nanos(text).and_then(|nanos| u64::try_from(nanos).ok());
                let duration = nanos.map(Duration::from_nanos).ok_or_else(|| {
                    ValueError::new(format!("{} is not a duration", quoted(text)))
                        .with_hint("write seconds, or a number with a unit such as 500ms, 30s, 1m30s or 1h")
                })?;
                duration.as_secs_f64()
            }
        };
        let error_of = || ValueError::new(format!("{text} is out of range {}", self.accepts()));
        if !self.0.contains(&value) {
            return Err(error_of().into());
        }
        Duration::try_from_secs_f64(value).map_err(|_| error_of().into())
    }

    fn accepts(&self) -> String {
        format!("{}–{} s", self.0.start(), self.0.end())
    }

    fn unit(&self) -> Option<&'static str> {
        Some("s")
    }

    fn to_toml(&self, value: &Duration) -> String {
        value.as_secs_f64().to_string()
    }
}

/// A duration in whole seconds, for values that are sent in seconds.
pub(crate) struct WholeSeconds(RangeInclusive<u32>);

/// A duration with a range in whole seconds.
pub(crate) const fn whole_seconds(range: RangeInclusive<u32>) -> WholeSeconds {
    WholeSeconds(range)
}

impl ValueType for WholeSeconds {
    type Value = u32;

    fn parse(&self, raw: &Raw) -> Result<u32, ValueErrors> {
        let (first, last) = (f64::from(*self.0.start()), f64::from(*self.0.end()));
        let duration = seconds(first..=last).parse(raw)?;
        match u32::try_from(duration.as_secs()) {
            Ok(seconds) if duration.subsec_nanos() == 0 => Ok(seconds),
            _ => {
                Err(ValueError::new(format!("{} is not a whole number of seconds", quoted(raw.scalar()?)))
                    .into())
            }
        }
    }

    fn accepts(&self) -> String {
        format!("{}–{} s", self.0.start(), self.0.end())
    }

    fn unit(&self) -> Option<&'static str> {
        Some("s")
    }

    fn to_toml(&self, value: &u32) -> String {
        value.to_string()
    }
}

/// A duration in whole milliseconds; a number without a unit counts milliseconds.
pub(crate) struct Millis(RangeInclusive<u64>);

/// A duration with a range in milliseconds.
pub(crate) const fn millis(range: RangeInclusive<u64>) -> Millis {
    Millis(range)
}

impl ValueType for Millis {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, ValueErrors> {
        let text = raw.scalar()?.trim();
        let out_of_range = || ValueError::new(format!("{text} is out of range {}", self.accepts()));
        let value = match text.parse::<i128>() {
            Ok(millis) => u64::try_from(millis).map_err(|_| out_of_range())?,
            Err(_) => {
                let whole = nanos(text).filter(|nanos| nanos.is_multiple_of(NANOS_PER_MILLI));
                let millis = whole.map(|nanos| nanos / NANOS_PER_MILLI).ok_or_else(|| {
                    ValueError::new(format!("{} is not a whole number of milliseconds", quoted(text)))
                        .with_hint("write milliseconds, or a number with a unit such as 500ms, 30s or 1m30s")
                })?;
                u64::try_from(millis).map_err(|_| out_of_range())?
            }
        };
        if !self.0.contains(&value) {
            return Err(out_of_range().into());
        }
        Ok(Duration::from_millis(value))
    }

    fn accepts(&self) -> String {
        format!("{}–{} ms", self.0.start(), self.0.end())
    }

    fn unit(&self) -> Option<&'static str> {
        Some("ms")
    }

    fn to_toml(&self, value: &Duration) -> String {
        value.as_millis().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value_type: &impl ValueType<Value = Duration>, text: &str) -> Option<Duration> {
        value_type.parse(&Raw::Variable(text.to_owned())).ok()
    }

    /// G1
    #[test]
    fn durations_have_the_usual_units() {
        for (text, expected) in [
            ("30", 30_000),
            ("0.5", 500),
            ("1e3", 1_000_000),
            ("500ms", 500),
            ("500 ms", 500),
            ("30s", 30_000),
            ("30sec", 30_000),
            ("0.5s", 500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("1500us", 1),
        ] {
            let found = of(&seconds(0.0..=1e9), text).map(|found| found.as_millis());
            assert_eq!(found, Some(expected), "{text}");
        }
    }

    #[test]
    fn whole_seconds_have_no_fraction() {
        let of = |text: &str| whole_seconds(0..=86_400).parse(&Raw::Variable(text.to_owned())).ok();
        assert_eq!(["600", "10m", "1h30m", "1000ms"].map(of), [Some(600), Some(600), Some(5400), Some(1)]);
        assert_eq!(["0.5", "500ms", "-1", "2d", "x"].map(of), [None; 5]);
    }

    /// G1: a key in milliseconds accepts a bare number of milliseconds, and units
    #[test]
    fn a_key_in_milliseconds_accepts_units() {
        let value_type = millis(0..=600_000);
        for (text, expected) in [("500", 500), ("500ms", 500), ("2s", 2_000), ("0.5s", 500), ("1m", 60_000)] {
            assert_eq!(of(&value_type, text), Some(Duration::from_millis(expected)), "{text}");
        }
        for text in ["0.5", "0.5ms", "-1", "ms", "11m"] {
            assert_eq!(of(&value_type, text), None, "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for text in [
            "",
            "s",
            "soon",
            "5x",
            "5M",
            "5 S",
            "1s1m",
            "1s1s",
            "1..5s",
            ".5s",
            "1.s",
            "-5s",
            "1h-5m",
            "1h5",
            "5s,",
            "99999999999999999999h",
            "NaN",
            "inf",
        ] {
            assert_eq!(of(&seconds(0.0..=1e9), text), None, "{text:?}");
        }
    }
}
