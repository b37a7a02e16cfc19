//! Scans the head of a response on the connection: whether it is final, and whether it declares how its body ends.
//!
//! The decoder of actix-http treats an HTTP/1.1 response with neither a length nor chunks as a response without a
//! body. In fact the close ends the body (RFC 9112, 6.3), and its bytes would be read as the next response. For
//! HTTP/1.0 the decoder follows the rule. So the version of such a head is rewritten to HTTP/1.0: the body is read to
//! the close, and the connection is not reused. awc takes an interim response (1xx) for the final one, so it is
//! detected here and removed.
//!
//! Design: `docs/design/connections.md`.

use memchr::memmem;

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
    let Some(end) = memmem::find(bytes, END) else { return HeadScan::Partial };
    let status = bytes.get(VERSION.len()..VERSION.len() + 3).unwrap_or_default();
    if status.first() == Some(&b'1') && status != b"101" {
        return HeadScan::Interim { length: end + END.len() };
    }
    if !matches!(status, b"101" | b"204" | b"304") && !has_body_framing(&bytes[..end]) {
        bytes[MINOR] = b'0';
    }
    HeadScan::Complete
}

fn has_body_framing(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
    })
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
        for kept in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-ENCODING: chunked\r\n\r\n",
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
