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

use actix_web::http::header::{HeaderValue, InvalidHeaderValue};
use actix_web::http::uri::{Authority, InvalidUri, PathAndQuery};
use tidegate_config::{Addressing, Endpoint, Sni};
use tidegate_s3::target;

use crate::upstream::connect::tls;

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The name or address that connections go to.
    name: String,
    /// Host and port in `Host`.
    host: String,
    /// The path prefix of every request, without a slash at its end.
    path: String,
    /// Whether the TLS server name is the name in `Host`.
    tls_asks_for_host: bool,
}

impl Destination {
    pub(crate) fn of(endpoint: &Endpoint, sni: Sni) -> Result<Self, InvalidUri> {
        endpoint.authority.parse::<Authority>()?;
        Ok(Self {
            name: endpoint.host.clone(),
            host: endpoint.authority.clone(),
            path: endpoint.path_prefix.clone(),
            tls_asks_for_host: endpoint.is_tls() && sni == Sni::Host,
        })
    }

    /// The bucket in the TLS server name of a request for this bucket; empty if the name is the endpoint's alone. None if the TLS server
    /// name would be invalid.
    pub(crate) fn tls_bucket<'a>(&self, addressing: Addressing, bucket: &'a str) -> Option<&'a str> {
        if !self.tls_asks_for_host || addressing == Addressing::Path {
            return Some("");
        }
        tls::bucket_server_name(bucket, &self.name).is_ok().then_some(bucket)
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
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), Sni::Endpoint).unwrap();
        let tls = destination("https://s3.example.com");
        assert_eq!(tls.name, "s3.example.com");
        assert_eq!(tls.host(Addressing::Path, "b").unwrap(), "s3.example.com");
        assert_eq!(tls.host(Addressing::Virtual, "my.b").unwrap(), "my.b.s3.example.com");
        let plain = destination("http://store:9000");
        assert_eq!(plain.host(Addressing::Virtual, "b").unwrap(), "b.store:9000");
        for one in [&tls, &plain] {
            assert_eq!(one.tls_bucket(Addressing::Virtual, "my.b"), Some(""));
        }
    }

    /// A7: a bucket has separate connections only if its name is in the TLS server name
    #[test]
    fn tls_may_ask_for_the_name_in_host() {
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), Sni::Host).unwrap();
        let tls = destination("https://s3.example.com");
        assert_eq!(tls.tls_bucket(Addressing::Virtual, "my.b"), Some("my.b"));
        assert_eq!(tls.tls_bucket(Addressing::Path, "b"), Some(""));
        for no_name in ["a..b", ".a", "a-", &"a".repeat(64)] {
            assert_eq!(tls.tls_bucket(Addressing::Virtual, no_name), None, "{no_name}");
        }
        let plain = destination("http://s3.example.com");
        assert_eq!(plain.tls_bucket(Addressing::Virtual, "b"), Some(""));
    }

    /// V5: the path prefix of an endpoint is put before the path of the request
    #[test]
    fn an_endpoint_may_lie_below_a_path() {
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap(), Sni::Endpoint).unwrap();
        let target: PathAndQuery = "/b//a%2Fb?x=%20".parse().unwrap();
        let below = destination("https://h/storage/v1/s3/");
        assert_eq!(*below.target(&target).unwrap(), "/storage/v1/s3/b//a%2Fb?x=%20");
        assert_eq!(*destination("https://h").target(&target).unwrap(), target);
    }
}
