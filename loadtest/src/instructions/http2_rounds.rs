//! The load of a count over HTTP/2 in TLS: requests for a small object on one connection, in rounds of one request on each of its streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Uri;
use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::closed_loop::CONNECTIONS;
use crate::certificate::NAME;
use crate::destination::Destination;
use crate::http2_load;

/// Concurrent requests: as many as those of the count over HTTP/1.1, for which the upstream waits.
const STREAMS: usize = CONNECTIONS;
/// The wait for one round with a proxy that runs under callgrind, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A kept connection to a proxy.
pub(super) struct Http2Rounds {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    target: Uri,
}

impl Http2Rounds {
    /// Connects. `path` is of an object with a length.
    pub(super) fn connect(address: SocketAddr, tls: Arc<ClientConfig>, path: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let target = format!("https://{NAME}{path}").parse().map_err(io::Error::other)?;
        let destination = Destination { tls: Some(tls), ..address.into() };
        let requests = runtime.block_on(async {
            let stream = tokio::time::timeout(TIMEOUT, destination.connect()).await??;
            let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
            // Its error is that of the requests.
            tokio::spawn(connection);
            Ok::<_, io::Error>(requests)
        })?;
        Ok(Self { runtime, requests, target })
    }

    /// Sends this many requests, rounded down to whole rounds, and receives their answers. Any other answer than 200 is an error.
    pub(super) fn exchange(&mut self, requests: usize) -> io::Result<()> {
        let Self { runtime, requests: handle, target } = self;
        runtime.block_on(async {
            for _ in 0..requests / STREAMS {
                let mut round = JoinSet::new();
                for _ in 0..STREAMS {
                    let (mut handle, target) = (handle.clone(), target.clone());
                    round.spawn(async move { http2_load::exchange(&mut handle, &target).await });
                }
                let answers = tokio::time::timeout(TIMEOUT, round.join_all()).await?;
                for answer in answers {
                    match answer.map_err(io::Error::other)? {
                        (200, _) => {}
                        (status, _) => {
                            return Err(io::Error::other(format!("the proxy answered with {status}")));
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
