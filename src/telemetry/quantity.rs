//! Numbers with their units in sentences.

use std::borrow::Cow;

use super::escape_controls;

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

/// The buckets that a text names.
const BUCKETS_SHOWN: usize = 8;

/// Requests by bucket, as in `photos 2, videos 1`: the buckets with the most first, at most eight of them.
pub fn requests_by_bucket<'a>(requests: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut buckets: Vec<_> = requests.collect();
    buckets.sort_by_key(|(_, requests)| std::cmp::Reverse(*requests));
    let shown = buckets.iter().take(BUCKETS_SHOWN);
    let mut parts: Vec<_> =
        shown.map(|(name, requests)| format!("{} {requests}", escape_controls(name))).collect();
    if buckets.len() > BUCKETS_SHOWN {
        parts.push(format!("and {} more buckets", buckets.len() - BUCKETS_SHOWN));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4: the text has the buckets with the most requests, and counts the others
    #[test]
    fn the_text_of_buckets_is_bounded() {
        let of = |count: u64| {
            let buckets: Vec<_> = (0..count).map(|at| (format!("b{at:02}"), 1 + at % 3)).collect();
            requests_by_bucket(buckets.iter().map(|(name, requests)| (name.as_str(), *requests)))
        };
        assert_eq!((of(0).as_str(), of(3).as_str()), ("", "b02 3, b01 2, b00 1"));
        let many = of(300);
        assert!(many.starts_with("b02 3, b05 3, ") && many.ends_with(", and 292 more buckets"), "{many}");
        assert_eq!(many.split(", ").count(), BUCKETS_SHOWN + 1);
        assert_eq!(requests_by_bucket([("a\u{1b}", 1)].into_iter()), "a\\u001b 1");
    }

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
