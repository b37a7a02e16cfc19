//! The grammar of a host with an optional port in `Host` and `:authority` (RFC 9110, 7.2; RFC 3986, 3.2.2).
//!
//! Stricter than the grammar in two places where implementations differ: the host is not empty, and it has no comma,
//! at which some implementations split a list of hosts. User information is not allowed (RFC 9110, 4.2.4).

use std::net::Ipv6Addr;

/// Whether the text is a host with or without a port, and nothing else.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.first() {
        Some(b'[') => {
            let Some(end) = memchr::memchr(b']', text) else { return false };
            let (literal, rest) = (&text[1..end], &text[end + 1..]);
            let is_address = std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
            return is_address && (rest.is_empty() || rest.split_first().is_some_and(is_port));
        }
        Some(_) => match memchr::memchr(b':', text) {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, &text[text.len()..]),
        },
        None => return false,
    };
    is_name(host) && (port.is_empty() || port.split_first().is_some_and(is_port))
}

/// The characters of a name: `unreserved` and `sub-delims` without the comma (RFC 3986, 2.2 and 2.3).
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(byte, b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

/// A registered name or an IPv4 address.
fn is_name(host: &[u8]) -> bool {
    let mut rest = host;
    while let Some((byte, behind)) = rest.split_first() {
        rest = match byte {
            b'%' => match behind {
                [high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => behind,
                _ => return false,
            },
            byte if NAME_BYTES[usize::from(*byte)] => behind,
            _ => return false,
        };
    }
    !host.is_empty()
}

/// A colon and the digits of a port. The digits may be missing.
fn is_port((colon, digits): (&u8, &[u8])) -> bool {
    let append = |port: u32, digit: &u8| {
        let port = port * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        (port <= u32::from(u16::MAX)).then_some(port)
    };
    *colon == b':' && digits.iter().try_fold(0, append).is_some()
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    /// V1
    #[test]
    fn a_host_may_have_a_port() {
        for host in [
            "a",
            "gateway.example:8080",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::7]:443",
            "my_bucket.s3.example.",
            "a%2db",
            "xn--bcher-kva.example",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
    }

    /// V1
    #[test]
    fn anything_else_is_no_host() {
        for host in [
            "",
            ":80",
            "user@a",
            "user:password@a",
            "a/path",
            "a, b",
            "a,b",
            "a b",
            "a\t",
            "a?b",
            "a#b",
            "http://a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[::1%25eth0]",
            "[v1.x]",
            "::1",
            "[]",
            "a%2",
            "a%zz",
            "\u{e9}",
            "a\\b",
            "a\"",
            "<a>",
            "{a}",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }
}
