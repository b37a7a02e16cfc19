//! Connections to a bucket's endpoints: a name's addresses in turn, then TLS where the endpoint asks for it.
//!
//! Only endpoints of the configuration are dialled, whatever a request says. An address that does not answer must leave time
//! for the next, so each but the last has its share of the time to connect.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tidegate_config::{DnsConfig, Endpoint, UpstreamConfig};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::buffers::{self, BufferRetention};
use crate::shortage::{Shortage, with_shortage_recorded};
use crate::upstream::dns_cache::HostResolver;
use crate::upstream::resolver;
use crate::upstream::stream::UpstreamStream;
use crate::upstream::tls::{FailingTls, TlsChange, TlsError, UpstreamTls, client_config};

/// Where one endpoint is.
struct SocketTarget {
    host: Arc<HostResolver>,
    tls: Option<UpstreamTls>,
}

/// Dials a set of endpoints. One for all worker threads, so that they share what the names resolve to.
pub(crate) struct Dialer {
    targets: HashMap<(String, u16), SocketTarget>,
    connect_timeout: Duration,
    receive_buffer: Option<u64>,
    has_dns_names: bool,
    /// Where changes of TLS are logged, and the bucket that they concern. The callers of other dialers log each failure themselves.
    log: Option<(Logger, String)>,
}

impl Dialer {
    pub(crate) fn new<'a>(
        endpoints: impl IntoIterator<Item = &'a Endpoint>,
        upstream: &UpstreamConfig,
        dns: &DnsConfig,
    ) -> Result<Self, TlsError> {
        let mut targets = HashMap::new();
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
            targets.insert((endpoint.host.clone(), endpoint.port), SocketTarget { host, tls });
        }
        let UpstreamConfig { connect_timeout, connection_pool, .. } = upstream;
        Ok(Self {
            targets,
            connect_timeout: *connect_timeout,
            receive_buffer: connection_pool.receive_buffer.filter(|bytes| *bytes <= receive_buffer_max()),
            has_dns_names,
            log: None,
        })
    }

    /// Logs when TLS with an endpoint of this bucket begins to fail, and when it succeeds again.
    pub(crate) fn with_log(self, bucket: &str, log: &Logger) -> Self {
        Self { log: Some((log.clone(), bucket.to_owned())), ..self }
    }

    /// The endpoints with which TLS fails, by host and port.
    pub(crate) fn tls_failures(&self) -> Vec<(String, FailingTls)> {
        let failure = |((host, port), place): (&(String, u16), &SocketTarget)| {
            Some((format!("{host}:{port}"), place.tls.as_ref()?.failure()?))
        };
        let mut failures: Vec<_> = self.targets.iter().filter_map(failure).collect();
        failures.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        failures
    }

    /// What its connections keep of their receive buffers between large bodies.
    pub(crate) fn buffer_retention(&self) -> BufferRetention {
        if self.receive_buffer.is_some() { BufferRetention::Fixed } else { BufferRetention::UntilClose }
    }

    /// Whether what is dialled may come to lie elsewhere.
    pub(crate) fn has_dns_names(&self) -> bool {
        self.has_dns_names
    }

    /// Connects to the endpoint of this host and port. TLS asks for its name, with `tls_bucket` before it if that is not empty.
    pub(crate) async fn dial(&self, host: &str, port: u16, tls_bucket: &str) -> io::Result<UpstreamStream> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let Some(SocketTarget { host: name, tls }) = self.targets.get(&(host.to_owned(), port)) else {
            return Err(unknown_endpoint(host, port));
        };
        let stream = with_shortage_recorded(self.connect_any(name, port).await)?;
        Ok(match tls {
            None => UpstreamStream::Plain(stream),
            Some(securer) => {
                let (secured, news) = securer.handshake(stream, tls_bucket).await;
                if let Some(news) = news {
                    self.log_tls_change(&news, host, port);
                }
                UpstreamStream::Tls(Box::new(secured?))
            }
        })
    }

    fn log_tls_change(&self, news: &TlsChange, host: &str, port: u16) {
        let Some((log, bucket)) = &self.log else { return };
        let endpoint = format!("{host}:{port}");
        match news {
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

    /// Connects to the endpoint of this host and port, and closes the connection: no TLS, and not a byte.
    pub(crate) async fn test_connect(&self, host: &str, port: u16) -> io::Result<()> {
        let Some(target) = self.targets.get(&(host.to_owned(), port)) else {
            return Err(unknown_endpoint(host, port));
        };
        with_shortage_recorded(self.connect_any(&target.host, port).await).map(drop)
    }

    /// The first address that answers; the last has all the time that the caller gives. If none does and an address could not be tried
    /// for want of a descriptor, a port or memory, that is the error: the upstream may be well.
    async fn connect_any(&self, name: &Arc<HostResolver>, port: u16) -> io::Result<TcpStream> {
        let addresses = name.addresses(port).await?;
        let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut shortage = None;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (at, address) in addresses.iter().enumerate() {
            let connecting = self.connect(*address);
            let connected = if at + 1 == addresses.len() {
                connecting.await
            } else {
                timeout(share, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    shortage = shortage.or(Shortage::of_connect(&error, *address));
                    last = error;
                }
            }
        }
        Err(shortage.map_or(last, io::Error::from))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            // Set before the connection is made, so that the window is scaled for it.
            socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        } else {
            buffers::start_small(socket.as_raw_fd());
        }
        socket.connect(address).await
    }
}

fn unknown_endpoint(host: &str, port: u16) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no endpoint is `{host}:{port}`"))
}

/// The largest buffer that can be had. A larger one would be cut to it, and no longer grow by itself.
fn receive_buffer_max() -> u64 {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    limit.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tidegate_config::Endpoint;

    use super::*;

    /// P1: what the kernel may hold of an answer is what was configured
    #[tokio::test]
    async fn a_connection_has_the_configured_buffer() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let buffer = async |bytes| {
            let mut upstream = UpstreamConfig::default();
            upstream.connection_pool.receive_buffer = bytes;
            let dialer = Dialer::new([&Endpoint::loopback(port)], &upstream, &DnsConfig::default()).unwrap();
            let UpstreamStream::Plain(stream) = dialer.dial("127.0.0.1", port, "").await.unwrap() else {
                panic!("no TLS")
            };
            assert!(stream.nodelay().unwrap());
            SockRef::from(&stream).recv_buffer_size().unwrap()
        };
        // Linux doubles what is asked for, to account for its own bookkeeping.
        assert_eq!(buffer(Some(8192)).await, 16_384);
        assert!(buffer(None).await > 16_384);
    }
}
