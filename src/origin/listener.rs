//! The origin's listener: one thread, one single-threaded runtime, HTTP/1.1 on the loopback interface.
//!
//! `TCP_NODELAY` is set on every connection. Head and body of a small answer are sent in two writes, and Nagle's algorithm would delay the
//! second for about 45 ms until the reader's delayed acknowledgement.
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::request_validation::ValidatedService;

// The gateway stops its origin after the drain: connections that are still open are idle or cut off.
const STOP_GRACE: Duration = Duration::from_millis(300);
// Without free descriptors `accept` fails immediately: wait instead of spinning.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Maximum of concurrent operations that wait for the disk; others queue.
const DISK_THREADS_MAX: usize = 16;

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(DISK_THREADS_MAX).build()
}

/// Binds before the thread starts, so that the caller can report every failure.
pub(super) fn listen(runtime: &Runtime) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    TcpListener::from_std(listener)
}

/// Serves until `stopped` resolves, by the drop of its sender.
pub(super) fn run(
    runtime: Runtime,
    listener: TcpListener,
    service: ValidatedService,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async move {
        let connections = GracefulShutdown::new();
        tokio::select! {
            _ = stopped => {}
            () = accept(listener, &service, &connections) => {}
        }
        // The runtime's shutdown closes connections that are open after the grace period.
        drop(timeout(STOP_GRACE, connections.shutdown()).await);
    });
    // A longer disk write finishes on its thread. It keeps the store, and so the lock on the directory.
    runtime.shutdown_timeout(STOP_GRACE);
}

async fn accept(listener: TcpListener, service: &ValidatedService, connections: &GracefulShutdown) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => serve(stream, service.clone(), connections),
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

fn serve(stream: TcpStream, service: ValidatedService, connections: &GracefulShutdown) {
    if stream.set_nodelay(true).is_err() {
        // The option fails only on a closed socket.
        return;
    }
    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
    let connection = connections.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
    // An error means that the peer closed the connection, which the gateway reports itself.
    tokio::spawn(async move { drop(connection.await) });
}
