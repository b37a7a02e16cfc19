//! A slow link between two peers: latency and bandwidth, in user space, because not every kernel can delay packets.
//!
//! Its buffers for undelivered bytes are small, so a fast sender gets back-pressure.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

const BUFFER_BYTES: usize = 16 << 10;

/// Latency and bandwidth for each direction of each connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkShape {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second: u32,
}

/// The entry of a link; it forwards to the target address until the test ends.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
}

impl Link {
    pub(crate) fn start(far: SocketAddr, shape: LinkShape) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(64).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(forward_connection(near, far, shape));
            }
        });
        Self { address }
    }
}

async fn forward_connection(near: TcpStream, far: SocketAddr, shape: LinkShape) {
    // Establishing a connection takes a round trip.
    sleep(shape.latency * 2).await;
    let Ok(far) = TcpStream::connect(far).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    tokio::spawn(forward_shaped(from_near, to_far, shape));
    forward_shaped(from_far, to_near, shape).await;
}

async fn forward_shaped(
    mut from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin + Send + 'static,
    shape: LinkShape,
) {
    let (pieces, arriving) = mpsc::channel(64);
    tokio::spawn(deliver(arriving, to));
    let mut buffer = vec![0; BUFFER_BYTES.min(shape.bytes_per_second as usize / 20).max(1)];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        sleep(Duration::from_secs(bytes as u64) / shape.bytes_per_second).await;
        if pieces.send((Instant::now() + shape.latency, buffer[..bytes].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn deliver(mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: impl AsyncWrite + Unpin) {
    while let Some((due, piece)) = arriving.recv().await {
        sleep_until(due).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
