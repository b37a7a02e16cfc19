//! Byte counts in scenarios: an integer, or a string such as `"64KiB"` or `"1GiB"`.

use serde::{Deserialize, Deserializer, de};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Number(u64),
            Text(String),
        }
        match Spelling::deserialize(deserializer)? {
            Spelling::Number(bytes) => Ok(Self(bytes)),
            Spelling::Text(text) => {
                parse(&text).map(Self).ok_or_else(|| de::Error::custom(format!("{text:?} is not a size")))
            }
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let (number, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|number| (number, shift)))
        .unwrap_or((text, 0));
    number.trim().parse::<u64>().ok()?.checked_shl(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let sizes =
            [("12", Some(12)), ("64KiB", Some(65_536)), ("1 MiB", Some(1 << 20)), ("1GiB", Some(1 << 30))];
        for (text, bytes) in sizes.into_iter().chain([("1 stone", None), ("", None)]) {
            assert_eq!(parse(text), bytes, "{text:?}");
        }
    }
}
