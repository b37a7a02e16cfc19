//! One base URL of an upstream.
//!
//! The URL is parsed once and kept in parts: the gateway connects to the host, and it signs and sends the authority as `Host`. No other
//! code may derive the two from a string. The authority omits the default port, because servers verify signatures without it.
//!
//! Credentials in the URL are rejected: logs would show them. Errors do not repeat a query or a fragment: it may hold a token.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use crate::schema::Section;
use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted, toml_text};

/// The scheme of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// plain HTTP
    Http,
    /// HTTP over TLS
    Https,
}

impl Scheme {
    /// The scheme as a URL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// One base URL of an upstream, in parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// its scheme
    pub scheme: Scheme,
    /// name or address to connect to; an IPv6 address has no brackets
    pub host: String,
    /// port to connect to
    pub port: u16,
    /// value of `Host`, also signed; it omits the default port of the scheme
    pub authority: String,
    /// prefix of the path of every request, without a slash at its end
    pub path_prefix: String,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// no scheme, or an unknown one
    #[error("{0} does not begin with http:// or https://")]
    Scheme(String),
    /// user or password in the URL; the text is not repeated
    #[error("an endpoint must not have a user name or password")]
    UserInfo,
    /// the host is neither a name nor an address
    #[error("{0} has no valid host")]
    Host(String),
    /// the port is not a number from 1 to 65535
    #[error("{0} has no valid port")]
    Port(String),
    /// a query, a fragment, or characters that are invalid in a path
    #[error("{0} must not have a query, a fragment or whitespace after its path")]
    Path(String),
}

impl Endpoint {
    /// Parses `http[s]://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            (None, None) => return Err(EndpointError::Scheme(shown(text))),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !path.chars().all(|c| c.is_ascii_graphic() && c != '?' && c != '#') {
            return Err(EndpointError::Path(shown(text)));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => scheme.port(),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| EndpointError::Port(shown(text)))?,
            Some(_) => return Err(EndpointError::Port(shown(text))),
        };
        let host = valid_host(host).ok_or_else(|| EndpointError::Host(shown(text)))?;
        let path_prefix = path.trim_end_matches('/').to_owned();
        Ok(Self { scheme, authority: authority_of(scheme, &host, port), host, port, path_prefix })
    }

    /// An endpoint on this machine.
    pub fn loopback(port: u16) -> Self {
        let host = "127.0.0.1".to_owned();
        let authority = authority_of(Scheme::Http, &host, port);
        Self { scheme: Scheme::Http, host, port, authority, path_prefix: String::new() }
    }

    /// Whether it uses TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether its host is an address, which needs no DNS lookup.
    pub fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Whether its host is this machine, by address or by the reserved name (RFC 6761, 6.3).
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => {
                let host = self.host.trim_end_matches('.').to_ascii_lowercase();
                host == "localhost" || host.ends_with(".localhost")
            }
        }
    }

    /// The endpoint as a URL.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.authority, self.path_prefix)
    }
}

/// The text for an error, without its query and fragment.
fn shown(text: &str) -> String {
    match text.split_once(['?', '#']) {
        Some((visible, _)) => quoted(&format!("{visible}?(hidden)")),
        None => quoted(text),
    }
}

/// Splits an authority; a colon within brackets is part of an address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn valid_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = host.len() <= 253 && host.split('.').all(is_label);
    is_name.then(|| host.to_ascii_lowercase())
}

fn authority_of(scheme: Scheme, host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == scheme.port() { host } else { format!("{host}:{port}") }
}

/// The base URL of an endpoint.
pub(crate) struct BaseUrl;

impl ValueType for BaseUrl {
    type Value = Endpoint;

    fn parse(&self, raw: &Raw) -> Result<Endpoint, ValueErrors> {
        let text = raw.text()?;
        Ok(Endpoint::parse(text).map_err(|error| {
            let value_error = ValueError::new(error.to_string());
            match error {
                EndpointError::UserInfo => value_error.with_hint("set the keys for credentials"),
                _ => value_error.with_hint("use a URL such as http://10.0.0.5:9000"),
            }
        })?)
    }

    fn accepts(&self) -> String {
        "http:// or https:// URL".to_owned()
    }

    fn to_toml(&self, value: &Endpoint) -> String {
        toml_text(&value.url())
    }
}

/// Rejects endpoints that contradict each other. `standby` are those of the failover.
pub(super) fn check_endpoints(
    section: &mut Section<'_>,
    endpoints: Option<&[Endpoint]>,
    standby: &[Endpoint],
) {
    let endpoints = match endpoints {
        // an invalid list has a problem already
        None if section.is_set("endpoints") => return,
        None | Some([]) => {
            let hint = "set at least one, such as http://10.0.0.5:9000".to_owned();
            section.refuse("endpoints", "a bucket needs an endpoint", Some(hint));
            return;
        }
        Some(endpoints) => endpoints,
    };
    let all: Vec<&Endpoint> = endpoints.iter().chain(standby).collect();
    let mut seen = BTreeSet::new();
    for endpoint in &all {
        if !seen.insert(endpoint.url()) {
            section.refuse("endpoints", format!("{} is listed twice", endpoint.url()), None);
        }
    }
    // the connection pool is keyed by host and port
    let is_mixed = |one: &Endpoint, other: &Endpoint| {
        one.port == other.port && one.host == other.host && one.is_tls() != other.is_tls()
    };
    if let Some(mixed) = all.iter().find(|one| all.iter().any(|other| is_mixed(one, other))) {
        let message = format!("port {} of {} is listed both with TLS and without", mixed.port, mixed.host);
        section.refuse("endpoints", message, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u16, String, String) {
        let Endpoint { scheme: _, host, port, authority, path_prefix } = Endpoint::parse(text).unwrap();
        (host, port, authority, path_prefix)
    }

    fn owned(host: &str, port: u16, authority: &str, path: &str) -> (String, u16, String, String) {
        (host.to_owned(), port, authority.to_owned(), path.to_owned())
    }

    #[test]
    fn the_authority_omits_the_default_port_only() {
        assert_eq!(parts("http://store:9000"), owned("store", 9000, "store:9000", ""));
        assert_eq!(parts("http://Store.example:80/"), owned("store.example", 80, "store.example", ""));
        assert_eq!(parts("http://[::1]:9000"), owned("::1", 9000, "[::1]:9000", ""));
        assert_eq!(parts("http://[::1]"), owned("::1", 80, "[::1]", ""));
        assert_eq!(parts("https://store"), owned("store", 443, "store", ""));
        assert_eq!(parts("https://store:80"), owned("store", 80, "store:80", ""));
        assert_eq!(parts("http://store:443"), owned("store", 443, "store:443", ""));
        assert_eq!(parts("http://api/v1/"), owned("api", 80, "api", "/v1"));
    }

    #[test]
    fn loopback_hosts_are_recognised() {
        let is_loopback = |url| Endpoint::parse(url).unwrap().is_loopback();
        for url in [
            "http://127.0.0.1",
            "http://127.9.8.7:1",
            "http://[::1]:9",
            "http://localhost",
            "http://a.LOCALHOST:1",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in
            ["http://10.0.0.1", "http://0.0.0.0", "http://localhost.example", "http://127.0.0.1.example"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn a_url_survives_the_round_trip() {
        for url in ["http://store:9000", "http://[::1]:1/v1/x", "http://a.b", "https://a", "https://a:9/x"] {
            assert_eq!(Endpoint::parse(url).unwrap().url(), url);
        }
        assert_eq!(Endpoint::loopback(81), Endpoint::parse("http://127.0.0.1:81").unwrap());
    }

    #[test]
    fn invalid_endpoints_are_rejected_with_a_reason() {
        let error = |text| Endpoint::parse(text).unwrap_err();
        assert!(matches!(error("ftp://a"), EndpointError::Scheme(_)));
        assert!(matches!(error("store:9000"), EndpointError::Scheme(_)));
        for text in ["http://", "http://:80", "http://a..b", "http://[::g]", "http://a b", "http://[::1"] {
            assert!(matches!(error(text), EndpointError::Host(_)), "{text}");
        }
        for text in ["http://a:", "http://a:0", "http://a:65536", "http://a:+1", "http://a:b"] {
            assert!(matches!(error(text), EndpointError::Port(_)), "{text}");
        }
        for text in ["http://a/?x", "http://a#f", "http://a/b c", "http://a?x"] {
            assert!(matches!(error(text), EndpointError::Path(_)), "{text}");
        }
    }

    /// C4
    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let error = Endpoint::parse("https://me:hunter2@store").unwrap_err();
        assert_eq!(error, EndpointError::UserInfo);
        assert!(!error.to_string().contains("hunter2"));
    }
}
