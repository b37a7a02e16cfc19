//! How awc connects: with settings for a gateway.
//!
//! No redirects, no decompression, no default headers, `TCP_NODELAY`, and no timeout of awc: `attempt/timeouts.rs` has
//! all of them. The connection limit of awc is the size of the whole pool on every worker, so that awc never queues: the
//! bucket's gate limits the connections in use. Idle connections over `max_idle` are closed when their response ends,
//! see `response/body.rs`.
//!
//! awc uses plain HTTP everywhere. The dialer does TLS, below the connection that handles early responses
//! (`docs/design/connections.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_service::{Service, fn_service};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected};
use actix_web::http::Uri;
use awc::{Connect, Connector};

use crate::upstream::connect::connection_key::{ConnectionKey, endpoint_number};
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::exchange::connection::UpstreamConnection;
use crate::upstream::exchange::sent_request::PooledConnections;

/// How long an idle upstream connection is kept. Shorter than the keep-alive of common servers.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The maximum age of a connection to a DNS name. A busy connection would never follow a changed address.
const DNS_NAME_LIFETIME: Duration = Duration::from_secs(300);

/// Open upstream connections of one bucket, on all workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCounts {
    open: Arc<AtomicUsize>,
}

impl ConnectionCounts {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// How an awc client connects.
pub(crate) struct ConnectorSettings {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) counts: ConnectionCounts,
    pub(crate) timeout: Duration,
    /// The maximum number of connections in use.
    pub(crate) limit: usize,
}

impl ConnectorSettings {
    /// A client of awc, for the gateway's own requests.
    pub(crate) fn client(&self) -> awc::Client {
        awc::ClientBuilder::new()
            .connector(self.connector())
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish()
    }

    /// Connections for the requests of clients.
    pub(crate) fn connections(&self) -> PooledConnections {
        let pool = self.connector().finish();
        PooledConnections::new(move |uri, head, body| {
            let connecting = pool.call(Connect { uri, addr: None });
            Box::pin(async move { connecting.await?.send_request(head, body).await })
        })
    }

    fn connector(
        &self,
    ) -> Connector<
        impl Service<ConnectInfo<Uri>, Response = Connected<Uri, UpstreamConnection>, Error = ConnectError>
        + Clone
        + 'static,
    > {
        let lifetime = if self.dialer.has_dns_names() { DNS_NAME_LIFETIME } else { Duration::MAX / 4 };
        let (dialer, open) = (Arc::clone(&self.dialer), Arc::clone(&self.counts.open));
        let connect = fn_service(move |info: ConnectInfo<Uri>| {
            let (dialer, open) = (Arc::clone(&dialer), Arc::clone(&open));
            // Boxed like other rare paths: it has a place in the state of each call, and few calls connect.
            Box::pin(async move {
                let ConnectionKey { tls_bucket, .. } = ConnectionKey::of(info.request());
                let numbered = endpoint_number(info.request()).and_then(|number| dialer.endpoint(number));
                let (host, port) = numbered.unwrap_or_else(|| (info.hostname(), info.port()));
                let connected = dialer.connect(host, port, tls_bucket).await;
                let stream = connected.map_err(ConnectError::Io)?;
                Ok(Connected::new(
                    info.request().clone(),
                    UpstreamConnection::new(stream, open, dialer.buffer_retention()),
                ))
            })
        });
        Connector::new()
            .connector(connect)
            .timeout(self.timeout)
            .limit(self.limit)
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(lifetime)
            .disconnect_timeout(Duration::ZERO)
    }
}
