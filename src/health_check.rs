//! The client of `tidegate health`: one liveness probe of a running gateway, without a client library, so that the
//! image's health check is cheap.
//!
//! The probe goes to the admin listener. If that demands client certificates, it goes to the data listener. With TLS any
//! certificate is accepted that proves its key: the probe sends no secret, and an expired certificate is no reason to
//! restart the process.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tidegate_config::Config;

use crate::admin_client::tls::{TrustedServer, tls_stream};

const TIMEOUT: Duration = Duration::from_secs(2);
const RESPONSE_BYTES_MAX: u64 = 4096;

/// A listener that answers the probe.
struct ProbeTarget {
    address: SocketAddr,
    path: &'static str,
    is_tls: bool,
}

impl ProbeTarget {
    fn of(config: &Config) -> Self {
        let (admin, server) = (&config.admin, &config.server);
        let (ip, port, path, is_tls) = if admin.tls.client_ca_file.is_some() {
            (server.address, server.port, "/-/livez", server.tls.files().is_some())
        } else {
            (admin.address, admin.port, "/livez", admin.tls.files().is_some())
        };
        let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
        Self { address: SocketAddr::new(ip, port), path, is_tls }
    }

    fn probe(&self) -> io::Result<String> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        if self.is_tls {
            let name = ServerName::from(self.address.ip());
            self.exchange(tls_stream(stream, Some(name), &TrustedServer::any())?)
        } else {
            self.exchange(stream)
        }
    }

    fn exchange(&self, mut stream: impl Read + Write) -> io::Result<String> {
        write!(stream, "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", self.path)?;
        stream.flush()?;
        let mut response = String::new();
        stream.take(RESPONSE_BYTES_MAX).read_to_string(&mut response)?;
        Ok(response)
    }
}

/// Sends one probe. The error is the address and the reason.
pub(crate) fn probe(config: &Config) -> Result<(), (SocketAddr, String)> {
    let target = ProbeTarget::of(config);
    let response = target.probe().map_err(|error| (target.address, error.to_string()))?;
    if response.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err((target.address, format!("GET {} was not answered with 200", target.path)))
    }
}
