//! One bucket's HTTP client on one worker thread: awc with every default that is wrong for a gateway set right.
//!
//! No redirects, no decompression, no timeout of its own (the watch has them all), no default headers, `TCP_NODELAY`.
//! awc's own limit is the pool's whole size on every worker, so that it never queues: the bucket's gate is what bounds
//! connections in use. Idle ones over `max_idle` are closed as their answer ends, see `answer.rs`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected};
use actix_web::http::Uri;
use tidegate_actors::KeyId;
use tidegate_config::{BucketConfig, Kind};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::auth::Keyring;
use crate::s3::sign::Signer;
use crate::upstream::connection::Connection;

/// How long an idle upstream connection is kept; below what common servers keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Open upstream connections of one bucket, all workers together.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCounts {
    open: Arc<AtomicUsize>,
}

impl ConnectionCounts {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// What a worker calls a bucket's upstream with.
pub(crate) struct Client {
    pub(crate) http: awc::Client,
    signer: Option<Signer>,
    /// Of keys that sign as themselves.
    own: HashMap<KeyId, Signer>,
}

impl Client {
    pub(crate) fn new(bucket: &BucketConfig, keyring: &Keyring, counts: &ConnectionCounts) -> Self {
        let upstream = &bucket.upstream;
        let open = Arc::clone(&counts.open);
        let receive_buffer =
            upstream.connection_pool.receive_buffer.filter(|bytes| *bytes <= receive_buffer_max());
        let connect = fn_service(move |info: ConnectInfo<Uri>| {
            let open = Arc::clone(&open);
            async move {
                let stream = connect(&info, receive_buffer).await.map_err(ConnectError::Io)?;
                Ok(Connected::new(info.request().clone(), Connection::new(stream, open)))
            }
        });
        let connector = awc::Connector::new()
            .connector(connect)
            .timeout(upstream.connect_timeout)
            .limit(upstream.connection_pool.size.get().max(upstream.concurrency.max_concurrent.get()))
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(Duration::MAX / 4)
            .disconnect_timeout(Duration::ZERO);
        let http = awc::ClientBuilder::new()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish();
        let signer =
            upstream.credentials.clone().map(|credentials| Signer::new(credentials, upstream.region.clone()));
        let own = |(id, pair)| (id, Signer::new(pair, upstream.region.clone()));
        let own =
            if bucket.kind == Kind::S3 { keyring.own_pairs().map(own).collect() } else { HashMap::new() };
        Self { http, signer, own }
    }

    /// Who signs a request of this client key's.
    pub(crate) fn signer(&self, key: Option<KeyId>) -> Option<&Signer> {
        key.and_then(|key| self.own.get(&key)).or(self.signer.as_ref())
    }
}

/// The largest buffer that can be had. A larger one would be cut to it, and no longer grow by itself.
fn receive_buffer_max() -> u64 {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
    limit.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Tries each address the name has, in order.
async fn connect(info: &ConnectInfo<Uri>, receive_buffer: Option<u64>) -> io::Result<TcpStream> {
    let host = info.hostname().trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no address for `{host}`"));
    for address in lookup_host((host, info.port())).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            // Set before the connection is made, so that the window is scaled for it.
            socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    /// P1: what the kernel may hold of an answer is what was configured
    #[actix_rt::test]
    async fn a_connection_has_the_configured_buffer() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let buffer = async |bytes| {
            let stream = connect(&ConnectInfo::new(uri.clone()), bytes).await.unwrap();
            assert!(stream.nodelay().unwrap());
            SockRef::from(&stream).recv_buffer_size().unwrap()
        };
        // Linux doubles what is asked for, to account for its own bookkeeping.
        assert_eq!(buffer(Some(8192)).await, 16_384);
        assert!(buffer(None).await > 16_384);
    }
}
