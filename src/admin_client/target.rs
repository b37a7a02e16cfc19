//! Where the admin listener is: from the configuration, or from a URL.

use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tidegate_config::{Config, Secret};

use super::ADDRESS_HINT;
use super::tls::TrustedServer;

/// An admin listener.
pub(crate) struct AdminTarget {
    /// The value of `Host`.
    pub(super) host: String,
    /// Its name or address, without brackets.
    pub(super) name: String,
    pub(super) port: u16,
    /// None for cleartext.
    pub(super) tls: Option<TrustedServer>,
    pub(super) token: Option<Secret>,
    /// What helps if nothing accepts a connection there.
    pub(super) hint: &'static str,
}

/// An admin listener that cannot be asked.
#[derive(Debug, Error)]
pub(crate) enum InvalidTarget {
    #[error(
        "{0:?} is not the URL of an admin listener; write it as http://127.0.0.1:8090 or https://NAME:PORT"
    )]
    Url(String),
    #[error(
        "{0} is not a loopback address, and without TLS the token could be read on the way; use https, or run the command on the \
         gateway's machine"
    )]
    TokenInCleartext(String),
    #[error(
        "admin.port is 0, so the port is known only to the running gateway; give its URL, which the log line `listening` has"
    )]
    UnknownPort,
    #[error(
        "admin.tls.client_ca_file demands a certificate of each client, and this command has none; ask with curl --cert, or use the \
         status page of another gateway"
    )]
    ClientCertificate,
    #[error("{0}")]
    Certificate(String),
}

impl AdminTarget {
    /// The listener at this URL, or that of the configuration.
    pub(crate) fn new(url: Option<&str>, config: &Config) -> Result<Self, InvalidTarget> {
        url.map_or_else(|| Self::of_config(config), |url| Self::at_url(url, config))
    }

    /// The listener of this configuration.
    fn of_config(config: &Config) -> Result<Self, InvalidTarget> {
        let admin = &config.admin;
        if admin.port == 0 {
            return Err(InvalidTarget::UnknownPort);
        }
        if admin.tls.client_ca_file.is_some() {
            return Err(InvalidTarget::ClientCertificate);
        }
        let ip = match admin.address {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let tls = match admin.tls.files() {
            None => None,
            Some((pem, _)) => {
                let trusted = TrustedServer::with_certificate(&pem.text);
                let fault = |error| InvalidTarget::Certificate(format!("{}: {error}", pem.path));
                Some(trusted.map_err(fault)?)
            }
        };
        let host = std::net::SocketAddr::new(ip, admin.port).to_string();
        Ok(Self {
            host,
            name: ip.to_string(),
            port: admin.port,
            tls,
            token: token(config),
            hint: ADDRESS_HINT,
        })
    }

    /// The listener at this URL, with the token of the configuration.
    fn at_url(url: &str, config: &Config) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        let is_plain = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if !is_plain || authority.host().is_empty() {
            return Err(invalid());
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let token = token(config);
        let is_loopback = name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        if token.is_some() && !is_tls && !is_loopback {
            return Err(InvalidTarget::TokenInCleartext(name));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = match (is_tls, config.admin.tls.files()) {
            (false, _) => None,
            (true, Some((pem, _))) if is_loopback => Some(
                TrustedServer::with_certificate(&pem.text)
                    .map_err(|error| InvalidTarget::Certificate(format!("{}: {error}", pem.path)))?,
            ),
            (true, _) => Some(TrustedServer::of_system().map_err(InvalidTarget::Certificate)?),
        };
        Ok(Self { host: authority.as_str().to_owned(), name, port, tls, token, hint: "" })
    }

    /// The same with the token of operators, for a request that changes something.
    pub(crate) fn with_operator_token(mut self, config: &Config) -> Self {
        if let Some(token) = config.admin.operator_token() {
            self.token = Some(token.clone());
        }
        self
    }

    /// The listener as people write it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The name that the certificate of a listener at a URL must have.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.name.clone()).ok()
    }
}

/// The reading token, which shows less than the operator's if it leaks.
fn token(config: &Config) -> Option<Secret> {
    config.admin.read_token().or(config.admin.operator_token()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<(String, String, u16, bool), InvalidTarget> {
        let target = AdminTarget::at_url(url, &Config::default())?;
        Ok((target.host, target.name, target.port, target.tls.is_some()))
    }

    /// X7: a URL names a host and a port, and nothing else
    #[test]
    fn urls_are_read() {
        let target = |host: &str, name: &str, port| (host.to_owned(), name.to_owned(), port, false);
        assert_eq!(at("http://127.0.0.1:8090").unwrap(), target("127.0.0.1:8090", "127.0.0.1", 8090));
        assert_eq!(at("http://[::1]:1/").unwrap(), target("[::1]:1", "::1", 1));
        assert_eq!(at("http://gateway.test").unwrap(), target("gateway.test", "gateway.test", 80));
        for bad in [
            "",
            "127.0.0.1:8090",
            "ftp://a",
            "http://",
            "http://a/status",
            "http://u:p@a",
            "http://a/?b",
            "http://a b",
        ] {
            assert!(matches!(at(bad), Err(InvalidTarget::Url(_))), "{bad}");
        }
    }
}
