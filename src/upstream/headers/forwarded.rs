//! Headers that describe the client's connection to the upstream, for a bucket with `forwarded = "set"` (V13).
//!
//! `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Via` (RFC 9110, 7.6.3). The gateway writes their
//! values: the addresses between it and the client, the protocol of the listener and the `Host`. Behind a trusted
//! proxy, protocol and host are taken from the proxy, and the gateway appends to its `Via`. Values from the client
//! are never used, except its `Host`.
//!
//! With `server.client_address_header = "forwarded"`, protocol and host are read from `Forwarded`, because the proxy
//! may pass `X-Forwarded-*` unchanged. Cloudflare sends no host.

use std::fmt::Write as _;
use std::net::IpAddr;

use actix_web::http::Version;
use actix_web::http::header::{
    HOST, HeaderMap, HeaderName, HeaderValue, VIA, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use tidegate_config::{ClientAddressHeader, ServerConfig};
use tidegate_s3::addressing;

use crate::client_address::{CF_CONNECTING_IP, ClientAddress, Hops};
use crate::request_head::Head;

/// Longest host name with its port, in characters (RFC 1035, 2.3.4).
const HOST_CHARS_MAX: usize = 260;

/// The request headers that this module reads.
pub(crate) const READ_HEADERS: [HeaderName; 6] = [
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    VIA,
    actix_web::http::header::FORWARDED,
    CF_CONNECTING_IP,
];

/// The headers to send.
pub(crate) struct ForwardingHeaders([(HeaderName, Option<HeaderValue>); 4]);

impl ForwardingHeaders {
    /// Builds them for a request that came from `peer`.
    pub(crate) fn of(head: Head<'_>, peer: Option<ClientAddress>, server: &ServerConfig) -> Self {
        let hops =
            peer.map(|peer| peer.hops(&server.trusted_proxies, server.client_address_header, head.headers));
        let is_proxied = hops.as_ref().is_some_and(|hops| hops.is_trusted);
        let written = |name: &HeaderName| {
            let hops = hops.as_ref().filter(|_| is_proxied)?;
            written_by_proxy(head.headers, name, server.client_address_header, hops)
        };
        let proto = written(&X_FORWARDED_PROTO)
            .map(|proto| proto.to_ascii_lowercase())
            .filter(|proto| matches!(proto.as_str(), "http" | "https"));
        let proto = proto.and_then(|proto| HeaderValue::try_from(proto).ok());
        let host = written(&X_FORWARDED_HOST).filter(|host| is_host(host));
        let host = host.and_then(|host| HeaderValue::try_from(host).ok());
        let values = [
            (X_FORWARDED_FOR, hops.as_ref().and_then(|hops| forwarded_for(&hops.addresses))),
            (X_FORWARDED_PROTO, Some(proto.unwrap_or(HeaderValue::from_static(client_scheme(server))))),
            (X_FORWARDED_HOST, host.or_else(|| request_host(head))),
            (VIA, via(head, is_proxied)),
        ];
        Self(values)
    }

    /// Sets the headers of an attempt.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            if let Some(value) = value {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The client's address comes first: each proxy appends the address of its peer.
fn forwarded_for(nearest_first: &[IpAddr]) -> Option<HeaderValue> {
    let mut text = String::with_capacity(16 * nearest_first.len());
    for address in nearest_first.iter().rev() {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{address}");
    }
    HeaderValue::try_from(text).ok()
}

/// The `Host`, or the authority of HTTP/2.
fn request_host(head: Head<'_>) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(addressing::request_host(head)).ok();
    head.headers.get(HOST).cloned().or_else(authority).filter(|host| !host.is_empty())
}

/// The value that the proxy nearest to the client wrote, if trusted proxies write this header.
fn written_by_proxy(
    headers: &HeaderMap,
    name: &HeaderName,
    header: ClientAddressHeader,
    hops: &Hops,
) -> Option<String> {
    match header {
        ClientAddressHeader::Forwarded if *name == X_FORWARDED_PROTO => hops.parameter("proto"),
        ClientAddressHeader::Forwarded => hops.parameter("host"),
        ClientAddressHeader::CfConnectingIp if *name == X_FORWARDED_HOST => None,
        ClientAddressHeader::CfConnectingIp | ClientAddressHeader::XForwardedFor => {
            let lines: Vec<&str> = headers.get_all(name).filter_map(|line| line.to_str().ok()).collect();
            let entries: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
            // Proxies that append write one entry each, as in the address list. Other proxies leave one entry.
            let of_client = entries.len().checked_sub(hops.addresses.len().saturating_sub(1).max(1));
            entries.get(of_client.unwrap_or(0)).map(|entry| (*entry).to_owned())
        }
    }
}

fn is_host(text: &str) -> bool {
    let is_legal =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= HOST_CHARS_MAX && text.bytes().all(is_legal)
}

fn via(head: Head<'_>, is_proxied: bool) -> Option<HeaderValue> {
    let own = match head.version {
        Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2 tidegate",
        _ => "1.1 tidegate",
    };
    let before = head.headers.get_all(VIA).filter(|_| is_proxied).filter_map(|line| line.to_str().ok());
    let before: Vec<&str> = before.map(str::trim).filter(|line| !line.is_empty()).collect();
    match before[..] {
        [] => Some(HeaderValue::from_static(own)),
        _ => HeaderValue::try_from(format!("{}, {own}", before.join(", "))).ok(),
    }
}

/// The scheme between client and gateway, whatever a header claims.
pub(crate) fn client_scheme(server: &ServerConfig) -> &'static str {
    if server.tls.files().is_some() { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use actix_web::http::{Method, Uri};
    use tidegate_config::Network;

    use super::*;
    use crate::client_address::AddressSource;

    fn sent(peer: &str, header: ClientAddressHeader, lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let server = ServerConfig {
            trusted_proxies: vec![Network::parse("10.0.0.0/8").unwrap()],
            client_address_header: header,
            ..ServerConfig::default()
        };
        let uri = Uri::from_static("/api/x");
        let head = Head::new(&Method::GET, &uri, Version::HTTP_11, &headers);
        let peer = ClientAddress::new(peer.parse().unwrap(), AddressSource::Peer);
        let ForwardingHeaders(pairs) = ForwardingHeaders::of(head, Some(peer), &server);
        pairs.iter().flat_map(|(_, value)| value).map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    const BY_LIST: ClientAddressHeader = ClientAddressHeader::XForwardedFor;

    /// V13
    #[test]
    fn values_of_an_untrusted_peer_are_not_sent() {
        let strangers = [
            ("host", "api.test"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.test"),
            ("via", "1.1 evil"),
            ("forwarded", "for=6.6.6.6;proto=https"),
        ];
        let expected = ["198.51.100.1", "http", "api.test", "1.1 tidegate"];
        assert_eq!(sent("198.51.100.1:80", BY_LIST, &strangers), expected);
        assert_eq!(sent("198.51.100.1:80", ClientAddressHeader::Forwarded, &strangers), expected);
    }

    /// V13: the addresses before the first untrusted one were written by the client and are dropped
    #[test]
    fn values_of_a_trusted_proxy_are_continued() {
        let proxied = [
            ("host", "inner.test"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.2.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.test"),
            ("via", "1.1 front"),
        ];
        let expected = ["203.0.113.9, 10.2.0.1, 10.0.0.1", "https", "api.test", "1.1 front, 1.1 tidegate"];
        assert_eq!(sent("10.0.0.1:80", BY_LIST, &proxied), expected);
        let appended = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http, https")];
        assert_eq!(sent("10.0.0.1:80", BY_LIST, &appended)[1], "https", "the entry of the client is skipped");
        for bad in ["gopher", "", "https;x", "ht tp"] {
            let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", bad)];
            assert_eq!(sent("10.0.0.1:80", BY_LIST, &lines)[1], "http", "{bad}");
        }
        let odd = [("host", "inner.test"), ("x-forwarded-host", "a b/\"")];
        assert_eq!(sent("10.0.0.1:80", BY_LIST, &odd)[2], "inner.test");
    }

    /// V13: only the header that the proxies write is read
    #[test]
    fn the_configured_header_alone_is_read() {
        let lines = [
            ("host", "inner.test"),
            ("forwarded", "for=203.0.113.9;proto=HTTPS;host=\"api.test:8443\""),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.test"),
            ("cf-connecting-ip", "203.0.113.7"),
        ];
        let by = |header| sent("10.0.0.1:80", header, &lines);
        assert_eq!(
            by(ClientAddressHeader::Forwarded)[..3],
            ["203.0.113.9, 10.0.0.1", "https", "api.test:8443"]
        );
        assert_eq!(
            by(ClientAddressHeader::CfConnectingIp)[..3],
            ["203.0.113.7, 10.0.0.1", "http", "inner.test"]
        );
    }
}
