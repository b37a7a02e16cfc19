//! Counts, ports, percentages and rates.

use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;

use super::{ValueErrors, ValueType, quoted};
use crate::setting::Raw;
use crate::value_type::ValueError;

/// An integer type of a key.
pub(crate) trait Number: Copy + PartialEq {
    fn from_u64(value: u64) -> Option<Self>;
    fn into_u64(self) -> Option<u64>;
}

macro_rules! numbers {
    ($($plain:ty)*; $($nonzero:ty)*) => {
        $(impl Number for $plain {
            fn from_u64(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
            fn into_u64(self) -> Option<u64> {
                self.try_into().ok()
            }
        })*
        $(impl Number for $nonzero {
            fn from_u64(value: u64) -> Option<Self> {
                Self::new(value.try_into().ok()?)
            }
            fn into_u64(self) -> Option<u64> {
                self.get().try_into().ok()
            }
        })*
    };
}
numbers!(u8 u16 u32 u64 usize; NonZeroU32 NonZeroUsize);

/// A default from a literal. Zero would become one; no default is zero.
pub(crate) const fn nonzero(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}

/// The same for sizes of tables and pools.
pub(crate) const fn nonzero_size(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => NonZeroUsize::MIN,
    }
}

/// A whole number within a range.
pub(crate) struct Whole<T> {
    range: RangeInclusive<u64>,
    is_percent: bool,
    number: PhantomData<T>,
}

/// A whole number within `range`.
pub(crate) const fn whole<T>(range: RangeInclusive<u64>) -> Whole<T> {
    Whole { range, is_percent: false, number: PhantomData }
}

/// A whole number of percent within `range`.
pub(crate) const fn percent<T>(range: RangeInclusive<u64>) -> Whole<T> {
    Whole { range, is_percent: true, number: PhantomData }
}

impl<T: Number> ValueType for Whole<T> {
    type Value = T;

    fn parse(&self, raw: &Raw) -> Result<T, ValueErrors> {
        let text = raw.scalar()?;
        let Ok(value) = text.trim().parse::<i128>() else {
            let unit = if self.is_percent { format!(", {}", self.accepts()) } else { String::new() };
            return Err(ValueError::new(format!("{} is not a whole number{unit}", quoted(text))).into());
        };
        u64::try_from(value)
            .ok()
            .filter(|value| self.range.contains(value))
            .and_then(T::from_u64)
            .ok_or_else(|| ValueError::new(format!("{value} is out of range {}", self.accepts())).into())
    }

    fn accepts(&self) -> String {
        let unit = if self.is_percent { " %" } else { "" };
        format!("{}–{}{unit}", self.range.start(), self.range.end())
    }

    fn unit(&self) -> Option<&'static str> {
        self.is_percent.then_some("%")
    }

    fn to_toml(&self, value: &T) -> String {
        value.into_u64().map_or_else(String::new, |value| value.to_string())
    }
}

/// A decimal number within a range.
pub(crate) struct Decimal(RangeInclusive<f64>);

/// A decimal number within `range`.
pub(crate) const fn decimal(range: RangeInclusive<f64>) -> Decimal {
    Decimal(range)
}

impl ValueType for Decimal {
    type Value = f64;

    fn parse(&self, raw: &Raw) -> Result<f64, ValueErrors> {
        let text = raw.scalar()?;
        match text.trim().parse::<f64>() {
            Ok(value) if self.0.contains(&value) => Ok(value),
            Ok(value) => Err(ValueError::new(format!("{value} is out of range {}", self.accepts())).into()),
            Err(_) => Err(ValueError::new(format!("{} is not a number", quoted(text))).into()),
        }
    }

    fn accepts(&self) -> String {
        format!("{}–{}", self.0.start(), self.0.end())
    }

    fn to_toml(&self, value: &f64) -> String {
        value.to_string()
    }
}
