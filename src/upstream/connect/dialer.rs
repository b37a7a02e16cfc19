//! Connects to the endpoints of a bucket: the addresses of a name in turn, then TLS if the endpoint has it.
//!
//! The dialer connects to configured endpoints only, whatever a request contains. An address that does not respond must leave
//! time for the next, so each address but the last has an equal share of the connect timeout.
//!
//! Design: `docs/design/connections.md`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tidegate_actors::ephemeral_ports::LocalPort;
use tidegate_config::{DnsConfig, Endpoint, UpstreamConfig};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::buffers::{self, BufferRetention};
use crate::shortage::{Shortage, with_shortage_recorded};
use crate::upstream::connect::dns_cache::{FailingLookup, HostResolver};
use crate::upstream::connect::resolver;
use crate::upstream::connect::stream::UpstreamStream;
use crate::upstream::connect::tls::{FailingTls, TlsChange, TlsError, UpstreamTls, client_config};

/// An endpoint to connect to.
struct SocketTarget {
    host: Arc<HostResolver>,
    tls: Option<UpstreamTls>,
}

/// Dials a set of endpoints. All worker threads share it, and with it the resolved addresses.
pub(crate) struct Dialer {
    targets: HashMap<(String, u16), SocketTarget>,
    /// Host and port of each endpoint, in the order of the configuration.
    endpoints: Vec<(String, u16)>,
    connect_timeout: Duration,
    receive_buffer: Option<u64>,
    has_dns_names: bool,
    /// The log for changes of the TLS state, and the bucket name. Callers of other dialers log each failure
    /// themselves.
    log: Option<(Logger, String)>,
}

impl Dialer {
    pub(crate) fn new<'a>(
        endpoints: impl IntoIterator<Item = &'a Endpoint>,
        upstream: &UpstreamConfig,
        dns: &DnsConfig,
    ) -> Result<Self, TlsError> {
        let mut targets = HashMap::new();
        let mut numbered = Vec::new();
        let mut has_dns_names = false;
        let mut config = None;
        for endpoint in endpoints {
            has_dns_names |= !endpoint.is_address();
            let tls = if endpoint.is_tls() {
                let config = match &config {
                    Some(config) => config,
                    None => config.insert(client_config(&upstream.tls)?),
                };
                Some(UpstreamTls::new(config, &endpoint.host)?)
            } else {
                None
            };
            let host = HostResolver::new(&endpoint.host, dns, resolver::system_lookup());
            numbered.push((endpoint.host.clone(), endpoint.port));
            targets.insert((endpoint.host.clone(), endpoint.port), SocketTarget { host, tls });
        }
        let UpstreamConfig { connect_timeout, connection_pool, .. } = upstream;
        Ok(Self {
            targets,
            endpoints: numbered,
            connect_timeout: *connect_timeout,
            receive_buffer: connection_pool.receive_buffer.filter(|bytes| *bytes <= receive_buffer_max()),
            has_dns_names,
            log: None,
        })
    }

    /// Logs when TLS with an endpoint of this bucket begins to fail, and when it recovers.
    pub(crate) fn with_log(self, bucket: &str, log: &Logger) -> Self {
        Self { log: Some((log.clone(), bucket.to_owned())), ..self }
    }

    /// The endpoints with failing TLS, by host and port.
    pub(crate) fn tls_failures(&self) -> Vec<(String, FailingTls)> {
        let failure = |((host, port), target): (&(String, u16), &SocketTarget)| {
            Some((format!("{host}:{port}"), target.tls.as_ref()?.failure()?))
        };
        let mut failures: Vec<_> = self.targets.iter().filter_map(failure).collect();
        failures.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        failures
    }

    /// The endpoints with names that cannot be looked up, by host and port.
    pub(crate) fn failing_lookups(&self) -> Vec<(String, FailingLookup)> {
        let stale = |((host, port), target): (&(String, u16), &SocketTarget)| {
            Some((format!("{host}:{port}"), target.host.failing_lookup()?))
        };
        let mut answers: Vec<_> = self.targets.iter().filter_map(stale).collect();
        answers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        answers
    }

    /// The number of connections that used an answer after a failed lookup.
    pub(crate) fn stale_uses(&self) -> u64 {
        self.targets.values().map(|target| target.host.stale_uses()).sum()
    }

    /// How its connections keep their receive buffers between large bodies.
    pub(crate) fn buffer_retention(&self) -> BufferRetention {
        if self.receive_buffer.is_some() { BufferRetention::Fixed } else { BufferRetention::UntilClose }
    }

    /// Whether an endpoint is a DNS name, so that its address may change.
    pub(crate) fn has_dns_names(&self) -> bool {
        self.has_dns_names
    }

    /// Connects to the endpoint with this number, in the order of the configuration.
    pub(crate) async fn connect_endpoint(
        &self,
        number: usize,
        tls_bucket: &str,
    ) -> io::Result<UpstreamStream> {
        let Some((host, port)) = self.endpoints.get(number) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no endpoint {number}")));
        };
        self.connect(host, *port, tls_bucket).await
    }

    /// Connects to the endpoint with this host and port. The TLS server name is that of the endpoint, after
    /// `tls_bucket` if that is not empty.
    async fn connect(&self, host: &str, port: u16, tls_bucket: &str) -> io::Result<UpstreamStream> {
        let Some(SocketTarget { host: name, tls }) = self.targets.get(&(host.to_owned(), port)) else {
            return Err(unknown_endpoint(host, port));
        };
        let (stream, mut local_port) = with_shortage_recorded(self.connect_any(name, port).await)?;
        Ok(match tls {
            None => UpstreamStream::plain(stream, local_port),
            Some(tls) => {
                let (tls_stream, change) = tls.handshake(stream, tls_bucket).await;
                if let Some(change) = change {
                    self.log_tls_change(&change, host, port);
                }
                // The gateway closes the connection of a failed handshake.
                let tls_stream = tls_stream.inspect_err(|_| local_port.keep_in_time_wait())?;
                UpstreamStream::tls(tls_stream, local_port)
            }
        })
    }

    fn log_tls_change(&self, change: &TlsChange, host: &str, port: u16) {
        let Some((log, bucket)) = &self.log else { return };
        let endpoint = format!("{host}:{port}");
        match change {
            TlsChange::Failed(failure) => {
                warn!(log, "TLS handshake with the endpoint failed"; "bucket" => bucket, "endpoint" => endpoint,
                    "error" => failure.to_string());
            }
            TlsChange::Recovered => {
                info!(log, "TLS handshake with the endpoint succeeds again"; "bucket" => bucket,
                    "endpoint" => endpoint);
            }
        }
    }

    /// Connects to the endpoint with this host and port and closes the connection, without TLS and without sending a
    /// byte.
    pub(crate) async fn test_connect(&self, host: &str, port: u16) -> io::Result<()> {
        let Some(target) = self.targets.get(&(host.to_owned(), port)) else {
            return Err(unknown_endpoint(host, port));
        };
        let (stream, local_port) = with_shortage_recorded(self.connect_any(&target.host, port).await)?;
        drop(UpstreamStream::plain(stream, local_port));
        Ok(())
    }

    /// Connects to the first address that responds. The last address has all the time that the caller gives. If none
    /// responds and an address could not be tried for lack of descriptors, ports or memory, the error is that
    /// shortage: the upstream may be healthy.
    async fn connect_any(&self, name: &Arc<HostResolver>, port: u16) -> io::Result<(TcpStream, LocalPort)> {
        let addresses = name.addresses(port).await?;
        let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut shortage = None;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (index, address) in addresses.iter().enumerate() {
            let attempt = self.connect_address(*address);
            let connected = if index + 1 == addresses.len() {
                attempt.await
            } else {
                timeout(share, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match connected {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    shortage = shortage.or(Shortage::of_connect(&error, *address));
                    last = error;
                }
            }
        }
        Err(shortage.map_or(last, io::Error::from))
    }

    async fn connect_address(&self, address: SocketAddr) -> io::Result<(TcpStream, LocalPort)> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            // Set before the connect, so that the TCP window scale fits it.
            socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        } else {
            buffers::start_small(socket.as_raw_fd());
        }
        let port = LocalPort::open(address);
        Ok((socket.connect(address).await?, port))
    }
}

fn unknown_endpoint(host: &str, port: u16) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no endpoint is `{host}:{port}`"))
}

/// The largest receive buffer that the kernel allows. A larger value would be cut to it and turn off autotuning.
fn receive_buffer_max() -> u64 {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    limit.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tidegate_config::Endpoint;

    use super::*;

    /// P1: the kernel's receive buffer has the configured size
    #[tokio::test]
    async fn a_connection_has_the_configured_buffer() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let buffer = async |bytes| {
            let mut upstream = UpstreamConfig::default();
            upstream.connection_pool.receive_buffer = bytes;
            let dialer = Dialer::new([&Endpoint::loopback(port)], &upstream, &DnsConfig::default()).unwrap();
            let stream = dialer.connect("127.0.0.1", port, "").await.unwrap();
            assert!(stream.socket().nodelay().unwrap());
            SockRef::from(stream.socket()).recv_buffer_size().unwrap()
        };
        // Linux doubles the requested size for its own bookkeeping.
        assert_eq!(buffer(Some(8192)).await, 16_384);
        assert!(buffer(None).await > 16_384);
    }
}
