//! Scans the head of a response on the connection: whether it is final, and whether it declares how its body ends.
//!
//! The decoder of actix-http treats an HTTP/1.1 response with neither a length nor chunks as a response without a
//! body. In fact the close ends the body (RFC 9112, 6.3), and its bytes would be read as the next response. For
//! HTTP/1.0 the decoder follows the rule. So the version of such a head is rewritten to HTTP/1.0: the body is read to
//! the close, and the connection is not reused. awc takes an interim response (1xx) for the final one, so it is
//! detected here and removed.
//!
//! Design: `docs/design/connections.md`.

use memchr::memchr_iter;

/// How much of a response head has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadScan {
    /// The end of the head is still to come.
    Partial,
    /// An interim response comes first.
    Interim {
        /// Its length in bytes.
        length: usize,
    },
    /// The head is complete.
    Complete,
}

const VERSION: &[u8] = b"HTTP/1.1 ";
const END: &[u8] = b"\r\n\r\n";
/// The position of the minor version digit.
const MINOR: usize = 7;

/// Scans the first bytes of a response, and rewrites the version of a close-delimited one.
pub(crate) fn rewrite_version(bytes: &mut [u8]) -> HeadScan {
    let common = bytes.len().min(VERSION.len());
    if bytes[..common] != VERSION[..common] {
        return HeadScan::Complete;
    }
    let Some((end, has_framing)) = find_end(bytes) else { return HeadScan::Partial };
    let status = bytes.get(VERSION.len()..VERSION.len() + 3).unwrap_or_default();
    if status.first() == Some(&b'1') && status != b"101" {
        return HeadScan::Interim { length: end };
    }
    if !matches!(status, b"101" | b"204" | b"304") && !has_framing {
        bytes[MINOR] = b'0';
    }
    HeadScan::Complete
}

/// The length of the head, and whether a header declares the framing of the body; none if the head is not complete.
fn find_end(bytes: &[u8]) -> Option<(usize, bool)> {
    let mut has_framing = false;
    for at in memchr_iter(b'\n', bytes) {
        let next = at + 1;
        if bytes[..next].ends_with(END) {
            return Some((next, has_framing));
        }
        has_framing = has_framing || declares_framing(&bytes[next..]);
    }
    None
}

/// Whether the bytes begin with a header that declares the framing of the body.
fn declares_framing(bytes: &[u8]) -> bool {
    let begins_with =
        |name: &[u8]| bytes.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
    match bytes.first() {
        Some(b'c' | b'C') => begins_with(b"content-length:"),
        Some(b't' | b'T') => begins_with(b"transfer-encoding:"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (HeadScan, String) {
        let mut bytes = text.as_bytes().to_vec();
        let scan = rewrite_version(&mut bytes);
        (scan, String::from_utf8(bytes).unwrap())
    }

    /// T6: only the head of a close-delimited response is changed
    #[test]
    fn a_head_without_a_length_is_rewritten_to_http_1_0() {
        let (scan, text) = rewritten("HTTP/1.1 200 OK\r\nx: y\r\n\r\nbody");
        assert_eq!((scan, text.as_str()), (HeadScan::Complete, "HTTP/1.0 200 OK\r\nx: y\r\n\r\nbody"));
        let others = "content-lengths: 1\r\ntrailer: content-length\r\n\r\ncontent-length: 4\r\n\r\n";
        let (_, text) = rewritten(&format!("HTTP/1.1 200 OK\r\n{others}"));
        assert_eq!(text, format!("HTTP/1.0 200 OK\r\n{others}"));
        for kept in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-ENCODING: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:0\r\nx: y\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n",
            "220 mail.example ESMTP\r\n\r\n",
        ] {
            assert_eq!(rewritten(kept), (HeadScan::Complete, kept.to_owned()));
        }
    }

    #[test]
    fn an_incomplete_head_is_partial() {
        for part in ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx: y\r\n\r"] {
            assert_eq!(rewritten(part), (HeadScan::Partial, part.to_owned()));
        }
    }

    #[test]
    fn an_interim_response_is_not_the_final_one() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        let both = format!("{interim}HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(rewritten(&both), (HeadScan::Interim { length: interim.len() }, both));
        assert_eq!(rewritten("HTTP/1.1 101 Switching Protocols\r\n\r\n").0, HeadScan::Complete);
    }
}
