//! Fuzz target `proxy_header`: PROXY protocol headers of both versions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::fuzz_input::Input;
use crate::listener::proxy_protocol::{HEADER_BYTES_MAX, Parsed, parse};

/// Properties: the result does not depend on the slices of the input, no byte after the header is read, and every valid header gives its
/// address.
pub fn proxy_header(bytes: &[u8]) {
    any_bytes(bytes);
    let mut input = Input::new(bytes);
    let (is_v6, is_line) = (input.byte() & 1 == 1, input.byte() & 1 == 1);
    let source = SocketAddr::new(address(&mut input, is_v6), u16::from(input.byte()) << 8 | 0x17);
    let destination = SocketAddr::new(address(&mut input, is_v6), u16::from(input.byte()));
    if is_line {
        check_v1(source, destination);
    } else {
        check_v2(source, destination, input.rest());
    }
}

fn address(input: &mut Input<'_>, is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::from(u128::from(input.u64()) << 64 | u128::from(input.u64())).into()
    } else {
        Ipv4Addr::from((input.u64() >> 32) as u32).into()
    }
}

fn any_bytes(bytes: &[u8]) {
    let whole = parse(bytes);
    let mut length = 0;
    // Reads only as many bytes as the parser requests.
    let read = loop {
        match parse(&bytes[..length]) {
            Parsed::NeedMore(more) => {
                assert!(more > 0 && length + more <= HEADER_BYTES_MAX, "{more} more after {length}");
                if length + more > bytes.len() {
                    break None;
                }
                length += more;
            }
            done => break Some(done),
        }
    };
    match read {
        None => assert!(!matches!(whole, Parsed::Done { .. }), "{whole:?} from fewer bytes than requested"),
        Some(Parsed::Done { consumed, .. }) => {
            assert_eq!(consumed, length, "bytes of the request were read");
            assert_eq!(read, Some(whole), "bytes after the header change the result");
        }
        Some(_) => assert!(matches!(whole, Parsed::Malformed(_)), "{whole:?} is malformed in pieces"),
    }
    if let Parsed::Done { consumed, address } = whole {
        for end in 0..consumed {
            assert!(matches!(parse(&bytes[..end]), Parsed::NeedMore(_)), "{end} of {consumed} bytes");
        }
        if let Some(address) = address.filter(|_| bytes.starts_with(b"PROXY ")) {
            let line = std::str::from_utf8(&bytes[..consumed]).expect("a line of addresses is text");
            let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
            assert_eq!(words.len(), 6, "{line}");
            assert_eq!(address.port().to_string(), words[4], "{line}");
            assert!(address.is_ipv6() || address.ip().to_string() == words[2], "{line}");
        }
    }
}

fn expect(header: &[u8], address: SocketAddr) {
    let followed = [header, b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(parse(&followed), Parsed::Done { address: Some(address), consumed: header.len() });
}

fn check_v1(source: SocketAddr, destination: SocketAddr) {
    let family = if source.is_ipv6() { "TCP6" } else { "TCP4" };
    let (from, to) = (source.ip(), destination.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    expect(line.as_bytes(), source);
}

/// `rest` is in the place of the TLVs after the addresses.
fn check_v2(source: SocketAddr, destination: SocketAddr, rest: &[u8]) {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let body = [octets(source.ip()), octets(destination.ip()), ports, rest.to_vec()].concat();
    let Ok(length) = u16::try_from(body.len()) else { return };
    let family = if source.is_ipv6() { 0x21 } else { 0x11 };
    let head = [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length.to_be_bytes()].concat();
    let block = [head, body].concat();
    if block.len() > HEADER_BYTES_MAX {
        assert!(matches!(parse(&block), Parsed::Malformed(_)), "{} bytes are accepted", block.len());
    } else {
        expect(&block, source);
    }
}
