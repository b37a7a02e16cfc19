//! The client's address (L3), which limits count by and the log shows.
//!
//! It is the peer's address, unless the peer is a trusted proxy. Then the one configured header is read from its end,
//! where the nearest proxy appended, towards its beginning, which the client may have written. The first address that
//! is not a trusted proxy's is the client's. Entries to the left of it are not read, so a client cannot influence the
//! result. If all entries are trusted, the farthest is the client. An entry that is not an address (`unknown`, an
//! obfuscated name, garbage) stops the walk: the last valid hop counts as the client.
//!
//! Several lines of a header are one list, in their order. `Forwarded` (RFC 7239) is also split from its end: an open
//! quote in the client's part cannot hide what proxies appended. There is no fallback from one header to another: the
//! client could write a header that its proxies do not overwrite. `X-Real-IP` and host names are not supported.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use tidegate_config::{ClientAddressHeader, Network};

pub(crate) const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");

/// The source of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressSource {
    /// From the connection.
    Peer,
    /// From the PROXY header of a trusted peer.
    Proxy,
    /// From the connection of a trusted peer that sent no PROXY header although one is required: only probes are
    /// allowed.
    MissingProxyHeader,
    /// From the header of a trusted proxy.
    Forwarded,
}

impl AddressSource {
    /// The name in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Peer | Self::MissingProxyHeader => "peer",
            Self::Proxy => "proxy",
            Self::Forwarded => "forwarded",
        }
    }
}

/// A client's address. IPv4-mapped IPv6 addresses are unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    pub(crate) address: IpAddr,
    pub(crate) source: AddressSource,
}

impl ClientAddress {
    /// The address of the peer, or the one in its PROXY header.
    pub(crate) fn new(address: SocketAddr, source: AddressSource) -> Self {
        Self { address: address.ip().to_canonical(), source }
    }

    /// The client behind `self` if `self` is a trusted proxy, else `self`.
    pub(crate) fn resolve_client(
        self,
        trusted: &[Network],
        header: ClientAddressHeader,
        headers: &HeaderMap,
    ) -> Self {
        let Hops { addresses, .. } = match is_trusted(self.address, trusted) {
            true => self.hops(trusted, header, headers),
            false => return self,
        };
        let found = addresses.get(1..).and_then(<[_]>::last);
        found.map_or(self, |address| Self { address: *address, source: AddressSource::Forwarded })
    }

    /// The addresses from `self` to the client, through trusted proxies.
    pub(crate) fn hops(self, trusted: &[Network], header: ClientAddressHeader, headers: &HeaderMap) -> Hops {
        let mut hops = Hops { addresses: vec![self.address], is_trusted: true, farthest: String::new() };
        if !is_trusted(self.address, trusted) {
            return Hops { is_trusted: false, ..hops };
        }
        let (name, parse): (_, fn(&str) -> Option<IpAddr>) = match header {
            ClientAddressHeader::XForwardedFor => (&X_FORWARDED_FOR, parse_node),
            ClientAddressHeader::Forwarded => (&FORWARDED, parse_element),
            ClientAddressHeader::CfConnectingIp => (&CF_CONNECTING_IP, parse_node),
        };
        let lines: Vec<_> =
            headers.get_all(name).map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        let entries = lines.iter().rev().flat_map(|line| rsplit_unquoted(line, ','));
        // Empty entries of a list are ignored (RFC 9110, 5.6.1).
        for entry in entries.map(str::trim).filter(|entry| !entry.is_empty()) {
            let Some(address) = parse(entry) else { break };
            hops.addresses.push(address.to_canonical());
            entry.clone_into(&mut hops.farthest);
            if !is_trusted(address, trusted) {
                break;
            }
        }
        hops
    }
}

/// The addresses between the gateway and a client.
pub(crate) struct Hops {
    /// The nearest first; the last one is the client's.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the nearest is a trusted proxy's.
    pub(crate) is_trusted: bool,
    /// The entry of the last address; empty if no entry was read.
    farthest: String,
}

impl Hops {
    /// A parameter that the proxy next to the client wrote in its element of `Forwarded` (RFC 7239, 4).
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.farthest, name).map(str::to_owned)
    }
}

/// Whether this is the address of a trusted proxy.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(address))
}

/// The parts between separators outside quotes, last first. A part with an odd quote runs to the beginning.
fn rsplit_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let remaining = rest?;
        let mut quoted = false;
        let at = remaining.rfind(|c| {
            quoted ^= c == '"';
            c == separator && !quoted
        });
        let part = at.map_or(remaining, |at| &remaining[at + separator.len_utf8()..]);
        rest = at.map(|at| &remaining[..at]);
        Some(part)
    })
}

/// One element of `Forwarded`: `for=192.0.2.60;proto=http`, `For="[2001:db8::17]:4711"`.
fn parse_element(text: &str) -> Option<IpAddr> {
    parse_node(parameter(text, "for")?)
}

/// A parameter of an element, without its quotes; `None` if it is missing or repeated.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let named = rsplit_unquoted(element, ';').filter_map(|pair| {
        let (other, value) = pair.split_once('=')?;
        other.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    });
    let mut values = named.fuse();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

/// An address with or without a port; IPv6 with a port is in brackets.
fn parse_node(text: &str) -> Option<IpAddr> {
    let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(|| bracketed(text).map(IpAddr::V6)).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.1:5000";

    fn found(
        peer: &str,
        header: ClientAddressHeader,
        lines: &[(&'static str, &str)],
    ) -> (String, AddressSource) {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|text| Network::parse(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let peer = ClientAddress::new(peer.parse().unwrap(), AddressSource::Peer);
        let client = peer.resolve_client(&trusted, header, &headers);
        (client.address.to_string(), client.source)
    }

    fn by_list(lines: &[&str]) -> (String, AddressSource) {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        found(PEER, ClientAddressHeader::XForwardedFor, &lines)
    }

    fn forwarded(address: &str) -> (String, AddressSource) {
        (address.to_owned(), AddressSource::Forwarded)
    }

    fn peer() -> (String, AddressSource) {
        ("10.0.0.1".to_owned(), AddressSource::Peer)
    }

    /// L3
    #[test]
    fn the_first_untrusted_hop_from_the_end_is_the_client() {
        assert_eq!(by_list(&["203.0.113.9"]), forwarded("203.0.113.9"));
        assert_eq!(by_list(&["6.6.6.6, 203.0.113.9"]), forwarded("203.0.113.9"));
        assert_eq!(by_list(&["6.6.6.6,203.0.113.9 , 10.2.0.1,10.3.0.1"]), forwarded("203.0.113.9"));
        assert_eq!(
            by_list(&["6.6.6.6", "203.0.113.9", "10.3.0.1"]),
            forwarded("203.0.113.9"),
            "lines are one list"
        );
        assert_eq!(by_list(&["203.0.113.9:4711"]), forwarded("203.0.113.9"));
        assert_eq!(by_list(&["2001:db8:9::7"]), forwarded("2001:db8:9::7"));
        assert_eq!(by_list(&["[2001:db8:9::7]:4711, 2001:db8:1::2"]), forwarded("2001:db8:9::7"));
        assert_eq!(
            by_list(&["::ffff:203.0.113.9, ::ffff:10.0.0.2"]),
            forwarded("203.0.113.9"),
            "IPv4 is unmapped"
        );
        assert_eq!(by_list(&["10.9.9.9, 10.2.0.1"]), forwarded("10.9.9.9"), "all trusted: the farthest");
        assert_eq!(
            by_list(&["203.0.113.9, , 10.2.0.1,"]),
            forwarded("203.0.113.9"),
            "empty entries are none"
        );
    }

    /// L3: a malformed entry is never skipped
    #[test]
    fn a_malformed_entry_stops_the_walk_at_the_last_good_hop() {
        for bad in [
            "unknown",
            "_hidden",
            "203.0.113.9.1",
            "203.0.113.09",
            "fe80::1%eth0",
            "\u{e9}",
            "a b",
            "\"6.6.6.6\"",
        ] {
            assert_eq!(by_list(&[&format!("6.6.6.6, {bad}, 10.2.0.1")]), forwarded("10.2.0.1"), "{bad}");
            assert_eq!(by_list(&[&format!("6.6.6.6, {bad}")]), peer(), "{bad}");
        }
        assert_eq!(by_list(&[]), peer());
        assert_eq!(by_list(&["", " , "]), peer());
    }

    /// L3: the header is read behind a PROXY header only if that names a trusted proxy
    #[test]
    fn the_header_is_read_behind_a_proxied_address_of_a_trusted_proxy() {
        let trusted = [Network::parse("10.0.0.0/8").unwrap()];
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("203.0.113.9"));
        let behind = |proxied: &str| {
            let client = ClientAddress::new(proxied.parse().unwrap(), AddressSource::Proxy);
            let client = client.resolve_client(&trusted, ClientAddressHeader::XForwardedFor, &headers);
            (client.address.to_string(), client.source.as_str())
        };
        assert_eq!(behind("198.51.100.1:80"), ("198.51.100.1".to_owned(), "proxy"));
        assert_eq!(behind("10.0.0.7:80"), ("203.0.113.9".to_owned(), "forwarded"));
    }

    /// L3: headers of untrusted peers, and headers other than the configured one, change nothing
    #[test]
    fn untrusted_headers_change_nothing() {
        let every = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=2.2.2.2"),
            ("cf-connecting-ip", "3.3.3.3"),
            ("x-real-ip", "4.4.4.4"),
        ];
        use ClientAddressHeader::{CfConnectingIp, Forwarded, XForwardedFor};
        for (header, address) in
            [(XForwardedFor, "1.1.1.1"), (Forwarded, "2.2.2.2"), (CfConnectingIp, "3.3.3.3")]
        {
            assert_eq!(found(PEER, header, &every), forwarded(address));
            let stranger = ("198.51.100.1".to_owned(), AddressSource::Peer);
            assert_eq!(found("198.51.100.1:80", header, &every), stranger);
            assert_eq!(found("[::ffff:198.51.100.1]:80", header, &every), stranger);
        }
    }

    /// L3
    #[test]
    fn forwarded_is_parsed_in_every_form() {
        let by = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            found(PEER, ClientAddressHeader::Forwarded, &lines)
        };
        assert_eq!(by(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), forwarded("192.0.2.60"));
        assert_eq!(by(&["by=x; FOR=\"192.0.2.60:80\" ;proto=http"]), forwarded("192.0.2.60"));
        assert_eq!(by(&["For=\"[2001:db8:9::17]:4711\", for=10.2.0.1"]), forwarded("2001:db8:9::17"));
        assert_eq!(
            by(&["for=6.6.6.6", "for=192.0.2.60", "for=\"[2001:db8:1::2]\";by=\"a,b;c\""]),
            forwarded("192.0.2.60")
        );
        for bad in
            ["proto=http", "for=unknown", "for=_x", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1", "for", "="]
        {
            assert_eq!(by(&[&format!("for=6.6.6.6, {bad}")]), peer(), "{bad}");
        }
    }

    /// L3: a quote that the client leaves open cannot hide what a proxy appended
    #[test]
    fn an_open_quote_of_a_client_hides_nothing() {
        for written in ["for=\"", "for=6.6.6.6;x=\"", "\"", "for=\"\\", "for=6.6.6.6, \"\"\"", ";;;=\",\""] {
            let lines = [("forwarded", &*format!("{written}, for=\"[2001:db8:9::1]\";proto=http"))];
            let client = found(PEER, ClientAddressHeader::Forwarded, &lines);
            assert_eq!(client, forwarded("2001:db8:9::1"), "{written}");
        }
    }
}
