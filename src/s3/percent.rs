//! Percent-decoding.

/// Percent-decodes a text; malformed escapes stay unchanged.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    // The text before the first escape is copied at once: byte by byte it would cost more than the rest.
    let (plain, escaped) = text.split_at(memchr::memchr(b'%', text).unwrap_or(text.len()));
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    decoded.extend(percent_encoding::percent_decode(escaped));
    decoded
}
