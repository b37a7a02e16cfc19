//! Percent-encoding and decoding (RFC 3986, 2.1) with S3's set of unreserved characters.
//!
//! Source: Signature Version 4, "Create a canonical request" (`UriEncode`).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// The ASCII characters that are encoded outside of a path. Bytes above 127 are always encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

fn encoded_set(keep_slash: bool) -> &'static AsciiSet {
    if keep_slash { ENCODED_IN_PATH } else { ENCODED }
}

/// S3's encoding: encodes every byte except unreserved characters, and except slashes if `keep_slash` is set.
pub fn percent_encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(bytes.len() + 16);
    encoded.extend(percent_encoding::percent_encode(bytes, encoded_set(keep_slash)));
    encoded
}

/// Whether `percent_encode` would change nothing.
pub(crate) fn is_encoded(bytes: &[u8], keep_slash: bool) -> bool {
    let first = percent_encoding::percent_encode(bytes, encoded_set(keep_slash)).next();
    // A part without a change is a part of `bytes` itself. An escape can have the same text: `%25` is encoded as `%2525`.
    first.is_none_or(|first| first.len() == bytes.len() && first.as_ptr() == bytes.as_ptr())
}

/// Percent-decodes a text; malformed escapes stay unchanged.
pub fn percent_decode(text: &[u8]) -> Vec<u8> {
    // The text before the first escape is copied at once: byte by byte it would cost more than the rest.
    let (plain, escaped) = text.split_at(memchr::memchr(b'%', text).unwrap_or(text.len()));
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    decoded.extend(percent_encoding::percent_decode(escaped));
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A9: byte for byte
    #[test]
    fn all_bytes_but_unreserved_ones_are_encoded() {
        for byte in 0..=u8::MAX {
            let is_plain = b"-._~".contains(&byte) || byte.is_ascii_alphanumeric();
            let expected = if is_plain { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            assert_eq!(percent_encode(&[byte], false), expected);
            let in_path = if byte == b'/' { "/" } else { &expected };
            assert_eq!(percent_encode(&[byte], true), in_path);
        }
    }

    /// A9: an escape is encoded again, even if its text is the escape of its first byte
    #[test]
    fn an_escape_is_not_encoded() {
        for (text, expected) in [
            (&b"%25"[..], false),
            (b"%2F", false),
            (b"%", false),
            (b"a/b", false),
            (b"a-b", true),
            (b"", true),
        ] {
            assert_eq!(is_encoded(text, false), expected, "{text:?}");
        }
        assert!(is_encoded(b"a/b", true));
        assert_eq!(percent_encode(b"%25", false), "%2525");
    }

    /// The decoder by the definition: an escape is a `%` with two hexadecimal digits, everything else is itself.
    fn decoded_by_definition(text: &[u8]) -> Vec<u8> {
        match text {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [char::from(*high), char::from(*low)].map(|digit| digit.to_digit(16).unwrap());
                let byte = u8::try_from(digits[0] * 16 + digits[1]).unwrap();
                [&[byte], &*decoded_by_definition(rest)].concat()
            }
            [byte, rest @ ..] => [&[*byte], &*decoded_by_definition(rest)].concat(),
            [] => Vec::new(),
        }
    }

    proptest! {
        /// A9, V3: malformed escapes stay unchanged
        #[test]
        fn decoding_changes_only_escapes(text in prop::collection::vec(prop_oneof![
            3 => Just(b'%'), 6 => prop::sample::select(&b"0123456789abcdefABCDEFgG+- /"[..]), 1 => any::<u8>(),
        ], 0..40)) {
            prop_assert_eq!(percent_decode(&text), decoded_by_definition(&text));
        }

        /// A9
        #[test]
        fn decoding_reverses_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40), keep_slash: bool) {
            let encoded = percent_encode(&bytes, keep_slash);
            prop_assert_eq!(is_encoded(&bytes, keep_slash), encoded.as_bytes() == bytes);
            prop_assert_eq!(percent_decode(encoded.as_bytes()), bytes);
        }
    }
}
