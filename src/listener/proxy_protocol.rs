//! Parses PROXY protocol headers of versions 1 and 2 (L3): the address of the client, which a trusted proxy sends
//! before the first byte of a connection.
//!
//! No I/O. `NeedMore` never requests bytes beyond the header, so a caller that reads exactly that number leaves the
//! request in the socket. If the protocol is expected, bytes that do not begin a header are malformed, as the
//! specification demands: otherwise a client could pretend to be a proxy by omitting the header. `LOCAL`, `UNSPEC`
//! and `UNKNOWN` are the proxy's own connections, such as health checks, and keep the peer's address. So do Unix
//! sockets, which have no address. TLVs after the addresses are skipped, their checksum included.
//!
//! Source: "The PROXY protocol, versions 1 & 2", Willy Tarreau, 2020/03/05.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest line of version 1 with its line end.
const V1_BYTES_MAX: usize = 107;
/// The shortest line: `PROXY UNKNOWN` with its line end.
const V1_BYTES_MIN: usize = 15;
/// The longest accepted header of version 2. The specification allows 64 KiB; addresses need at most 216 bytes, and
/// what proxies append is far below the rest.
pub(crate) const HEADER_BYTES_MAX: usize = 536;
/// Signature, command, family, length.
const V2_BYTES_MIN: usize = 16;
const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The result of parsing the bytes received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a header, which lacks at least this number of bytes.
    NeedMore(usize),
    /// A complete header.
    Done {
        /// The client's address; `None` for the proxy's own connection.
        address: Option<SocketAddr>,
        /// The length of the header.
        consumed: usize,
    },
    /// Not a header, and why.
    Malformed(&'static str),
}

/// Parses the header at the beginning of a connection.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    if is_prefix(bytes, V1_SIGNATURE) {
        parse_v1(bytes)
    } else if is_prefix(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else {
        Parsed::Malformed("the connection does not begin with a PROXY header")
    }
}

/// Whether one text is a prefix of the other.
fn is_prefix(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(byte, expected)| byte == expected)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n`
fn parse_v1(bytes: &[u8]) -> Parsed {
    if bytes.len() < V1_BYTES_MIN {
        return Parsed::NeedMore(V1_BYTES_MIN - bytes.len());
    }
    let window = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let missing = if window.ends_with(b"\r") { 1 } else { 2 };
        return if window.len() + missing > V1_BYTES_MAX {
            Parsed::Malformed("the line does not end within 107 bytes")
        } else {
            Parsed::NeedMore(missing)
        };
    };
    let read = std::str::from_utf8(&window[..end]).ok().and_then(v1_source);
    read.map_or(Parsed::Malformed("the line is malformed"), |address| Parsed::Done {
        address,
        consumed: end + 2,
    })
}

/// Parses a line: the outer `None` if it is malformed, the inner one if it has no address.
fn v1_source(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    match words.next()? {
        // The specification requires to ignore the rest.
        "UNKNOWN" => Some(None),
        "TCP4" => v1_addresses::<Ipv4Addr>(words).map(Some),
        "TCP6" => v1_addresses::<Ipv6Addr>(words).map(Some),
        _ => None,
    }
}

/// Parses source and destination, then their ports. Only the source is used, but all must be valid.
fn v1_addresses<'l, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'l str>,
) -> Option<SocketAddr> {
    let source: A = words.next()?.parse().ok()?;
    let _: A = words.next()?.parse().ok()?;
    let (source_port, _) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    words.next().is_none().then(|| SocketAddr::new(source.into(), source_port))
}

/// Parses digits without a sign and without leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some((head, rest)) = bytes.split_at_checked(V2_BYTES_MIN) else {
        return Parsed::NeedMore(V2_BYTES_MIN - bytes.len());
    };
    let [.., command, family, high, low] = head else { return Parsed::Malformed("the head is too short") };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let consumed = V2_BYTES_MIN + length;
    if consumed > HEADER_BYTES_MAX {
        return Parsed::Malformed("the header has more than 536 bytes");
    }
    if !matches!(command, 0x20 | 0x21) {
        return Parsed::Malformed("the version is not 2, or the command neither LOCAL nor PROXY");
    }
    let Some(body) = rest.get(..length) else { return Parsed::NeedMore(consumed - bytes.len()) };
    if *command == 0x20 {
        return Parsed::Done { address: None, consumed };
    }
    let address = match family {
        // A datagram transport is not TCP, but its addresses have the same form.
        0x11 | 0x12 => v2_source::<4, 12, Ipv4Addr>(body).map(Some),
        0x21 | 0x22 => v2_source::<16, 36, Ipv6Addr>(body).map(Some),
        0x00 => Some(None),
        0x31 | 0x32 => (body.len() >= 216).then_some(None),
        _ => return Parsed::Malformed("the address family is unknown"),
    };
    address.map_or(Parsed::Malformed("the addresses are incomplete"), |address| Parsed::Done {
        address,
        consumed,
    })
}

/// Source and destination, then their ports, in network order.
fn v2_source<const ADDRESS: usize, const ALL: usize, A: From<[u8; ADDRESS]> + Into<IpAddr>>(
    body: &[u8],
) -> Option<SocketAddr> {
    let body: &[u8; ALL] = body.first_chunk()?;
    let source: [u8; ADDRESS] = *body.first_chunk()?;
    let port = [*body.get(2 * ADDRESS)?, *body.get(2 * ADDRESS + 1)?];
    Some(SocketAddr::new(A::from(source).into(), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEXT: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn block_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    fn v4(tlvs: &[u8]) -> Vec<u8> {
        let body =
            [&[192, 0, 2, 1, 198, 51, 100, 1][..], &4711_u16.to_be_bytes(), &443_u16.to_be_bytes(), tlvs];
        block_of(0x21, 0x11, &body.concat())
    }

    fn v6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let body = [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[1, 0], &[2, 0]];
        block_of(0x21, 0x21, &body.concat())
    }

    fn done(address: Option<&str>, consumed: usize) -> Parsed {
        Parsed::Done { address: address.map(|text| text.parse().unwrap()), consumed }
    }

    /// Valid headers with their addresses.
    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        let long =
            format!("PROXY UNKNOWN {} 65535 65535", ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"; 2].join(" "));
        assert_eq!(long.len(), V1_BYTES_MAX - 2);
        vec![
            (line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443"), Some("192.0.2.1:4711")),
            (line("PROXY TCP6 2001:db8::1 ::1 65535 0"), Some("[2001:db8::1]:65535")),
            (line("PROXY UNKNOWN"), None),
            (line(&long), None),
            (v4(&[]), Some("192.0.2.1:4711")),
            (v4(&[0x04, 0, 1, 0, 0xee, 0, 0]), Some("192.0.2.1:4711")),
            (v4(&[0xff; 536 - 16 - 12]), Some("192.0.2.1:4711")),
            (v6(), Some("[2001:db8::1]:256")),
            (block_of(0x20, 0x00, &[]), None),
            (block_of(0x20, 0x11, &[1, 2, 3]), None),
            (block_of(0x21, 0x00, b"whatever"), None),
            (block_of(0x21, 0x31, &[0; 216]), None),
        ]
    }

    /// L3
    #[test]
    fn a_header_is_parsed_and_the_rest_is_left() {
        for (header, address) in headers() {
            assert_eq!(parse(&header), done(address, header.len()), "{header:?}");
            assert_eq!(parse(&[&header, NEXT].concat()), done(address, header.len()), "{header:?}");
        }
    }

    /// L3: a reader that reads the requested bytes has exactly the header in the end
    #[test]
    fn only_bytes_of_the_header_are_requested() {
        for (header, address) in headers() {
            for cut in 0..header.len() {
                let Parsed::NeedMore(more) = parse(&header[..cut]) else { panic!("{cut} of {header:?}") };
                assert!(more > 0 && cut + more <= header.len(), "{cut} + {more} of {header:?}");
            }
            let mut read = 0;
            while let Parsed::NeedMore(more) = parse(&header[..read]) {
                read += more;
            }
            assert_eq!(parse(&header[..read]), done(address, read));
        }
    }

    /// L3: malformed headers are never repaired
    #[test]
    fn other_bytes_are_malformed() {
        let line = |text: &str| text.as_bytes().to_vec();
        for bad in [
            NEXT.to_vec(),
            line("G"),
            line("\r\n\r\nG"),
            line("proxy UNKNOWN\r\n"),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n"),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 \r\n"),
            line("PROXY TCP4  192.0.2.1 198.51.100.1 4711 443\r\n"),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 65536\r\n"),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 +4711 443\r\n"),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 04711 443\r\n"),
            line("PROXY TCP4 192.0.2.01 198.51.100.1 4711 443\r\n"),
            line("PROXY TCP4 2001:db8::1 ::1 1 2\r\n"),
            line("PROXY TCP6 192.0.2.1 198.51.100.1 4711 443\r\n"),
            line("PROXY TCP5 192.0.2.1 198.51.100.1 4711 443\r\n"),
            line("PROXY TCP4 \u{e9} 198.51.100.1 4711 443\r\n"),
            format!("PROXY UNKNOWN {}", "x".repeat(107)).into_bytes(),
            block_of(0x11, 0x11, &[0; 12]),
            block_of(0x22, 0x11, &[0; 12]),
            block_of(0x21, 0x11, &[0; 11]),
            block_of(0x21, 0x21, &[0; 35]),
            block_of(0x21, 0x31, &[0; 215]),
            block_of(0x21, 0x13, &[0; 12]),
            block_of(0x21, 0x41, &[0; 12]),
            block_of(0x21, 0x11, &[0; 521]),
        ] {
            assert!(matches!(parse(&bad), Parsed::Malformed(_)), "{:?} -> {:?}", bad, parse(&bad));
        }
    }

    proptest! {
        /// L3: any bytes have a result within its bounds
        #[test]
        fn any_bytes_have_a_result(begin in 0..4_usize, rest in proptest::collection::vec(any::<u8>(), 0..600)) {
            let begin: &[u8] = [&b""[..], V1_SIGNATURE, V2_SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"][begin];
            let bytes = [begin, &rest].concat();
            match parse(&bytes) {
                Parsed::NeedMore(more) => prop_assert!(more > 0 && bytes.len() + more <= HEADER_BYTES_MAX),
                Parsed::Done { consumed, .. } => prop_assert!(consumed <= bytes.len()),
                Parsed::Malformed(why) => prop_assert!(!why.is_empty()),
            }
        }
    }
}
