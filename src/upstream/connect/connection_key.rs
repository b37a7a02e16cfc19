//! The key that decides which connections a request may use, beyond host and port of its endpoint.
//!
//! awc pools idle connections by the authority of the URI and passes that URI to the connector. The user information
//! of the authority (RFC 3986, 3.2.1) has no meaning for either and is never sent: `Host` is set separately, and
//! endpoints have no user information. So it carries the key: `BUCKET` if the TLS server name is that of the
//! request's host, followed by `:own` for a connection that serves one request. Requests with the same key share
//! connections, others do not. Without a key the authority is the number of the endpoint alone: awc hashes the authority
//! twice for each request, byte by byte, which takes a thousand instructions for a name with a port.
//!
//! Design: `docs/design/connections.md`.

use actix_web::http::Uri;
use actix_web::http::uri::{Authority, InvalidUri};

/// The suffix of the key for a connection that serves one request.
const SINGLE_USE: &str = ":own";

/// The key of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ConnectionKey<'a> {
    /// The bucket before the endpoint's name in the TLS server name. Empty: the endpoint's name alone.
    pub(crate) tls_bucket: &'a str,
    /// Whether the connection serves one request.
    pub(crate) is_single_use: bool,
}

impl<'a> ConnectionKey<'a> {
    /// The endpoint's authority with the key. None if the bucket is not valid in an authority.
    pub(crate) fn authority(self, endpoint: &Authority) -> Option<Authority> {
        let Self { tls_bucket, is_single_use } = self;
        if self == Self::default() {
            return Some(endpoint.clone());
        }
        format!("{tls_bucket}{}@{endpoint}", if is_single_use { SINGLE_USE } else { "" }).parse().ok()
    }

    /// Reads the key of a URI.
    pub(crate) fn of(uri: &'a Uri) -> Self {
        let authority = uri.authority().map_or("", Authority::as_str);
        let Some((key, _)) = authority.rsplit_once('@') else { return Self::default() };
        match key.strip_suffix(SINGLE_USE) {
            Some(tls_bucket) => Self { tls_bucket, is_single_use: true },
            None => Self { tls_bucket: key, is_single_use: false },
        }
    }
}

/// The URI of an endpoint's shared connections, by the number of the endpoint.
pub(crate) fn numbered_uri(endpoint: usize) -> Result<Uri, InvalidUri> {
    format!("http://{endpoint}").parse()
}

/// The number in such a URI. Any other one has a key or a port.
pub(crate) fn endpoint_number(uri: &Uri) -> Option<usize> {
    uri.authority()?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written() {
        for number in [0, 7, 123] {
            let uri = numbered_uri(number).unwrap();
            assert_eq!(endpoint_number(&uri), Some(number));
            assert_eq!(ConnectionKey::of(&uri), ConnectionKey::default());
        }
        for other in ["http://0:80", "http://:own@0:80", "http://b@0:80", "http://store", "/0"] {
            assert_eq!(endpoint_number(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_leaves_host_and_port_alone() {
        for endpoint in ["store.example:443", "[::1]:9000"] {
            let endpoint: Authority = endpoint.parse().unwrap();
            for tls_bucket in ["", "my.bucket", "a_b-C"] {
                for is_single_use in [false, true] {
                    let key = ConnectionKey { tls_bucket, is_single_use };
                    let authority = key.authority(&endpoint).unwrap();
                    let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/b").build();
                    let uri = uri.unwrap();
                    assert_eq!(ConnectionKey::of(&uri), key);
                    assert_eq!((uri.host(), uri.port_u16()), (Some(endpoint.host()), endpoint.port_u16()));
                    assert_eq!(uri.path(), "/b");
                }
            }
        }
    }
}
