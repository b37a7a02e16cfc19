//! Where an endpoint is connected to, and what a request to it says as `Host`.
//!
//! The two are not the same. Connections go to the endpoint's own name and port, whatever bucket a request is for: names that
//! clients invent under a pattern cost no look-up and no connection, and a bucket name with dots needs no certificate of its
//! own. `Host` is the endpoint's, with the bucket before it where the store wants it there.

use actix_web::http::header::{HeaderValue, InvalidHeaderValue};
use actix_web::http::uri::{Authority, InvalidUri};
use tidegate_config::{Addressing, Endpoint};

/// One endpoint, as a request needs it.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Host and port, for the connection.
    pub(crate) connection: Authority,
    host: String,
}

impl Destination {
    pub(crate) fn of(endpoint: &Endpoint) -> Result<Self, InvalidUri> {
        let Endpoint { host, port, .. } = endpoint;
        let connection =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Self { connection: connection.parse()?, host: endpoint.authority.clone() })
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
        let destination = |url| Destination::of(&Endpoint::parse(url).unwrap()).unwrap();
        let tls = destination("https://s3.example.com");
        assert_eq!(tls.connection, "s3.example.com:443");
        assert_eq!(tls.host(Addressing::Path, "b").unwrap(), "s3.example.com");
        assert_eq!(tls.host(Addressing::Virtual, "my.b").unwrap(), "my.b.s3.example.com");
        let plain = destination("http://store:9000");
        assert_eq!(plain.host(Addressing::Virtual, "b").unwrap(), "b.store:9000");
        assert_eq!(destination("http://[::1]").connection, "[::1]:80");
    }
}
