//! The address of an endpoint, and the `Host` of a request to it.
//!
//! The two differ. Connections go to the endpoint's own name and port, whatever bucket a request is for: names that
//! clients invent under a pattern cost no DNS lookup. `Host` is that of the endpoint, with the bucket before it for
//! virtual addressing. The TLS server name is that of the endpoint, so that a bucket name with dots needs no
//! certificate of its own, or the name in `Host` (`tls.sni`). Only in the second case does a bucket have separate
//! connections.
//!
//! Design: `docs/design/connections.md`.

use std::borrow::Cow;

use actix_web::http::Uri;
use actix_web::http::header::{HeaderValue, InvalidHeaderValue};
use actix_web::http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use tidegate_config::{Addressing, Endpoint, Sni};
use tidegate_s3::target;

use crate::upstream::connect::connection_key::{ConnectionKey, numbered_uri};
use crate::upstream::connect::tls;

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Host and port of the connection.
    connection: Authority,
    /// The URI of the connections that requests share.
    shared: Uri,
    host: String,
    /// The path prefix of every request, without a slash at its end.
    path: String,
    /// Whether the TLS server name is the name in `Host`.
    tls_asks_for_host: bool,
}

impl Destination {
    /// `number` is that of the endpoint in the dialer.
    pub(crate) fn of(endpoint: &Endpoint, number: usize, sni: Sni) -> Result<Self, InvalidUri> {
        let Endpoint { host, port, .. } = endpoint;
        let connection =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Self {
            connection: connection.parse()?,
            shared: numbered_uri(number)?,
            host: endpoint.authority.clone(),
            path: endpoint.path_prefix.clone(),
            tls_asks_for_host: endpoint.is_tls() && sni == Sni::Host,
        })
    }

    /// The URI that selects the connection of a request for this bucket; none if the TLS server name would be invalid. The target and
    /// the `Host` of the request are not in it.
    pub(crate) fn connection_uri(
        &self,
        addressing: Addressing,
        bucket: &str,
        is_single_use: bool,
    ) -> Option<Uri> {
        if !is_single_use && !self.has_tls_name(addressing) {
            return Some(self.shared.clone());
        }
        let authority = self.connection_authority(addressing, bucket, is_single_use)?;
        Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query("/").build().ok()
    }

    /// Whether the TLS server name contains the bucket.
    fn has_tls_name(&self, addressing: Addressing) -> bool {
        self.tls_asks_for_host && addressing == Addressing::Virtual
    }

    /// The authority to connect to, with the connection key of a request for this bucket. None if the TLS server name
    /// would be invalid.
    pub(crate) fn connection_authority(
        &self,
        addressing: Addressing,
        bucket: &str,
        is_single_use: bool,
    ) -> Option<Authority> {
        let has_tls_name = self.has_tls_name(addressing);
        let tls_bucket = if has_tls_name { bucket } else { "" };
        if has_tls_name && tls::bucket_server_name(bucket, self.connection.host()).is_err() {
            return None;
        }
        ConnectionKey { tls_bucket, is_single_use }.authority(&self.connection)
    }

    /// Whether each bucket of this endpoint has separate connections.
    pub(crate) fn pools_by_bucket(&self) -> bool {
        self.tls_asks_for_host
    }

    /// The target of a request to this endpoint. The signature covers it.
    pub(crate) fn target<'a>(&self, target: &'a PathAndQuery) -> Option<Cow<'a, PathAndQuery>> {
        if self.path.is_empty() {
            return Some(Cow::Borrowed(target));
        }
        target::add_prefix(target.as_str(), &self.path).parse().ok().map(Cow::Owned)
    }

    /// The path prefix of the endpoint, without a slash at its end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The `Host` of a request for this bucket.
    pub(crate) fn host(
        &self,
        addressing: Addressing,
        bucket: &str,
    ) -> Result<HeaderValue, InvalidHeaderValue> {
        match addressing {
            Addressing::Path => HeaderValue::from_str(&self.host),
            Addressing::Virtual => HeaderValue::try_from(format!("{bucket}.{}", self.host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_in_the_host_and_never_in_the_connection() {
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), 3, Sni::Endpoint).unwrap();
        let tls = destination("https://s3.example.com");
        assert_eq!(tls.connection, "s3.example.com:443");
        assert_eq!(tls.host(Addressing::Path, "b").unwrap(), "s3.example.com");
        assert_eq!(tls.host(Addressing::Virtual, "my.b").unwrap(), "my.b.s3.example.com");
        let plain = destination("http://store:9000");
        assert_eq!(plain.host(Addressing::Virtual, "b").unwrap(), "b.store:9000");
        assert_eq!(destination("http://[::1]").connection, "[::1]:80");
        for one in [&tls, &plain] {
            let shared = one.connection_authority(Addressing::Virtual, "my.b", false).unwrap();
            assert_eq!(shared, one.connection);
            let own = one.connection_authority(Addressing::Virtual, "my.b", true).unwrap();
            assert_ne!(own, one.connection);
            let uri = |is_single_use| one.connection_uri(Addressing::Virtual, "my.b", is_single_use).unwrap();
            assert_eq!(uri(false), "http://3/");
            assert_eq!(uri(true).authority(), Some(&own));
        }
    }

    /// A7: a bucket has separate connections only if its name is in the TLS server name
    #[test]
    fn tls_may_ask_for_the_name_in_host() {
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), 3, Sni::Host).unwrap();
        let tls = destination("https://s3.example.com");
        let of = |bucket| tls.connection_authority(Addressing::Virtual, bucket, false);
        assert_eq!(of("my.b").unwrap(), "my.b@s3.example.com:443");
        assert_ne!(of("a"), of("b"));
        let uri = |addressing, bucket| tls.connection_uri(addressing, bucket, false);
        assert_eq!(uri(Addressing::Virtual, "my.b").unwrap(), "http://my.b@s3.example.com:443/");
        assert_eq!(uri(Addressing::Path, "my.b").unwrap(), "http://3/");
        assert_eq!(uri(Addressing::Virtual, "a..b"), None);
        assert_eq!(tls.connection_authority(Addressing::Path, "b", false).unwrap(), "s3.example.com:443");
        for no_name in ["a..b", ".a", "a-", &"a".repeat(64)] {
            assert_eq!(of(no_name), None, "{no_name}");
        }
        let plain = destination("http://s3.example.com");
        assert_eq!(plain.connection_authority(Addressing::Virtual, "b", false).unwrap(), "s3.example.com:80");
        assert!(tls.pools_by_bucket() && !plain.pools_by_bucket());
    }

    /// V5: the path prefix of an endpoint is put before the path of the request
    #[test]
    fn an_endpoint_may_lie_below_a_path() {
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), 3, Sni::Endpoint).unwrap();
        let target: PathAndQuery = "/b//a%2Fb?x=%20".parse().unwrap();
        let below = destination("https://h/storage/v1/s3/");
        assert_eq!(*below.target(&target).unwrap(), "/storage/v1/s3/b//a%2Fb?x=%20");
        assert_eq!(*destination("https://h").target(&target).unwrap(), target);
    }
}
