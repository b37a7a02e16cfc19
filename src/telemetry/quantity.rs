//! Numbers with their units in sentences.

use std::borrow::Cow;

/// The unit of a value. Units are plurals; that of one thing is the singular: `failures in a row` becomes `failure in a row`. Abbreviations
/// and shares (`ms`, `% of failed calls`) do not change.
pub fn unit_of(value: f64, unit: &str) -> Cow<'_, str> {
    #[expect(clippy::float_cmp, reason = "one thing is exactly one")]
    if value != 1.0 || unit.starts_with('%') {
        return Cow::Borrowed(unit);
    }
    let is_noun = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_plural = |word: &&str| is_noun(word) && word.ends_with('s') && !word.ends_with("ss");
    let Some(noun) = unit.split(' ').find(is_plural) else { return Cow::Borrowed(unit) };
    let singular = match noun.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => noun[..noun.len() - 1].to_owned(),
    };
    Cow::Owned(unit.replacen(noun, &singular, 1))
}

/// A number of things: `1 request`, `2 requests`.
#[expect(clippy::cast_precision_loss, reason = "only 1 differs from other numbers")]
pub fn counted(count: u64, unit: &str) -> String {
    format!("{count} {}", unit_of(count as f64, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X10: one thing is named in the singular, and other quantities keep their unit
    #[test]
    fn one_thing_is_singular() {
        for (unit, one) in [
            ("failures in a row", "1 failure in a row"),
            ("waiting requests", "1 waiting request"),
            ("requests refused", "1 request refused"),
            ("entries", "1 entry"),
            ("ms", "1 ms"),
            ("requests/s", "1 requests/s"),
            ("% of failed calls", "1 % of failed calls"),
            ("", "1 "),
        ] {
            assert_eq!(counted(1, unit), one);
            assert_eq!(counted(0, unit), format!("0 {unit}"));
            assert_eq!(unit_of(1.5, unit), unit);
        }
    }
}
