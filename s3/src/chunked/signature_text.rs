//! The text of a signature in the framing of a body.

use subtle::ConstantTimeEq;

const SIGNATURE_DIGITS: usize = 64;

/// Whether a text has the form of a signature.
pub(super) fn is_signature(text: &[u8]) -> bool {
    text.len() == SIGNATURE_DIGITS && text.iter().all(u8::is_ascii_hexdigit)
}

/// Compares in constant time.
pub(super) fn constant_time_eq(expected: &str, given: &[u8]) -> bool {
    expected.as_bytes().ct_eq(given).into()
}
