//! What a connection must know of an answer's head: whether it is the final one, and whether it says how its body ends.
//!
//! actix's decoder takes an HTTP/1.1 answer with neither a length nor chunks for one without a body, although the close
//! ends it, and the bytes to come would be read as the next answer. For HTTP/1.0 it knows the rule. So such a head is
//! shown to it as HTTP/1.0: the body is read to the close, and the connection is not used again. An interim answer
//! (1xx) awc takes for the final one, so it is told apart here and left out.

use memchr::memmem;

/// How much of an answer's head is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadScan {
    /// Its end is still to come.
    Partial,
    /// An interim answer comes first.
    Interim {
        /// Its bytes.
        length: usize,
    },
    /// All of it.
    Complete,
}

const VERSION: &[u8] = b"HTTP/1.1 ";
const END: &[u8] = b"\r\n\r\n";
/// Where the version's last digit stands.
const MINOR: usize = 7;

/// Looks at the bytes an answer begins with, and changes the version in a head that leaves its body's end to the close.
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

    fn mended(text: &str) -> (HeadScan, String) {
        let mut bytes = text.as_bytes().to_vec();
        let sight = rewrite_version(&mut bytes);
        (sight, String::from_utf8(bytes).unwrap())
    }

    /// T6: only a head that leaves its body's end to the close is changed
    #[test]
    fn a_head_without_a_length_is_shown_as_http_1_0() {
        let (sight, text) = mended("HTTP/1.1 200 OK\r\nx: y\r\n\r\nbody");
        assert_eq!((sight, text.as_str()), (HeadScan::Complete, "HTTP/1.0 200 OK\r\nx: y\r\n\r\nbody"));
        for kept in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-ENCODING: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n",
            "220 mail.example ESMTP\r\n\r\n",
        ] {
            assert_eq!(mended(kept), (HeadScan::Complete, kept.to_owned()));
        }
    }

    #[test]
    fn a_head_that_has_not_all_come_is_waited_for() {
        for part in ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx: y\r\n\r"] {
            assert_eq!(mended(part), (HeadScan::Partial, part.to_owned()));
        }
    }

    #[test]
    fn an_interim_response_is_not_the_final_one() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        let both = format!("{interim}HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(mended(&both), (HeadScan::Interim { length: interim.len() }, both));
        assert_eq!(mended("HTTP/1.1 101 Switching Protocols\r\n\r\n").0, HeadScan::Complete);
    }
}
