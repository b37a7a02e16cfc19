//! Durations: a number in the key's own unit, or numbers with units, such as `500ms` or `1m30s`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Fault, Faults, Form, shown};
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
/// Digits after the point that are read: nanoseconds of a second.
const FRACTION_DIGITS_MAX: usize = 9;

/// The units in the words of the reference.
pub(super) fn units() -> String {
    let names: Vec<String> = UNITS.iter().rev().map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

/// A decimal number times `scale`, rounded down; none for anything but digits and one point.
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

/// A duration of so many seconds.
pub(crate) const fn seconds(range: RangeInclusive<f64>) -> Seconds {
    Seconds(range)
}

impl Form for Seconds {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, Faults> {
        let text = raw.scalar()?.trim();
        let value = match text.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let nanos = nanos(text).and_then(|nanos| u64::try_from(nanos).ok());
                let duration = nanos.map(Duration::from_nanos).ok_or_else(|| {
                    Fault::new(format!("{} is not a duration", shown(text)))
                        .hinting("write seconds, or a number with a unit such as 500ms, 30s, 1m30s or 1h")
                })?;
                duration.as_secs_f64()
            }
        };
        let fault = || Fault::new(format!("{text} is out of range {}", self.accepts()));
        if !self.0.contains(&value) {
            return Err(fault().into());
        }
        Duration::try_from_secs_f64(value).map_err(|_| fault().into())
    }

    fn accepts(&self) -> String {
        format!("{}–{} s", self.0.start(), self.0.end())
    }

    fn show(&self, value: &Duration) -> String {
        value.as_secs_f64().to_string()
    }
}

/// A duration in whole seconds, for what others are told in seconds.
pub(crate) struct WholeSeconds(RangeInclusive<u32>);

/// A duration of so many whole seconds.
pub(crate) const fn whole_seconds(range: RangeInclusive<u32>) -> WholeSeconds {
    WholeSeconds(range)
}

impl Form for WholeSeconds {
    type Value = u32;

    fn parse(&self, raw: &Raw) -> Result<u32, Faults> {
        let (first, last) = (f64::from(*self.0.start()), f64::from(*self.0.end()));
        let duration = seconds(first..=last).parse(raw)?;
        match u32::try_from(duration.as_secs()) {
            Ok(seconds) if duration.subsec_nanos() == 0 => Ok(seconds),
            _ => Err(Fault::new(format!("{} is not a whole number of seconds", shown(raw.scalar()?))).into()),
        }
    }

    fn accepts(&self) -> String {
        format!("{}–{} s", self.0.start(), self.0.end())
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }
}

/// A duration in whole milliseconds; a number without a unit counts milliseconds.
pub(crate) struct Millis(RangeInclusive<u64>);

/// A duration of so many milliseconds.
pub(crate) const fn millis(range: RangeInclusive<u64>) -> Millis {
    Millis(range)
}

impl Form for Millis {
    type Value = Duration;

    fn parse(&self, raw: &Raw) -> Result<Duration, Faults> {
        let text = raw.scalar()?.trim();
        let out_of_range = || Fault::new(format!("{text} is out of range {}", self.accepts()));
        let value = match text.parse::<i128>() {
            Ok(millis) => u64::try_from(millis).map_err(|_| out_of_range())?,
            Err(_) => {
                let whole = nanos(text).filter(|nanos| nanos.is_multiple_of(NANOS_PER_MILLI));
                let millis = whole.map(|nanos| nanos / NANOS_PER_MILLI).ok_or_else(|| {
                    Fault::new(format!("{} is not a whole number of milliseconds", shown(text)))
                        .hinting("write milliseconds, or a number with a unit such as 500ms, 30s or 1m30s")
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

    fn show(&self, value: &Duration) -> String {
        value.as_millis().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(form: &impl Form<Value = Duration>, text: &str) -> Option<Duration> {
        form.parse(&Raw::Variable(text.to_owned())).ok()
    }

    /// G1
    #[test]
    fn durations_take_the_units_that_people_write() {
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

    /// G1: a key in milliseconds counts a bare number in milliseconds, and obeys a unit
    #[test]
    fn a_key_in_milliseconds_obeys_a_unit() {
        let form = millis(0..=600_000);
        for (text, expected) in [("500", 500), ("500ms", 500), ("2s", 2_000), ("0.5s", 500), ("1m", 60_000)] {
            assert_eq!(of(&form, text), Some(Duration::from_millis(expected)), "{text}");
        }
        for text in ["0.5", "0.5ms", "-1", "ms", "11m"] {
            assert_eq!(of(&form, text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
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
