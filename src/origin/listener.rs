//! The origin's listener: one thread, one single-threaded runtime, HTTP/1.1 on the loopback interface.
//!
//! `TCP_NODELAY` is set on every connection: head and body of a small answer leave in two writes, and Nagle's
//! algorithm against the reader's delayed acknowledgement would hold the second back for some 45 ms.
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

// The gateway stops its origin after `server.drain_timeout`: connections that are open by then are idle or cut off.
const STOP_GRACE: Duration = Duration::from_millis(300);
// Without descriptors `accept` fails at once, for as long as that lasts: wait instead of spinning.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Operations that wait for the disk at a time; others queue.
const DISK_THREADS_MAX: usize = 16;

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(DISK_THREADS_MAX).build()
}

/// Binds before the thread exists, so that every failure is the caller's to report.
pub(super) fn listen(runtime: &Runtime) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    TcpListener::from_std(listener)
}

/// Serves until `stopped` resolves: by a message or, as here, by the sender's drop.
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
        // Connections that are open after the grace are cut by the runtime's shutdown.
        drop(timeout(STOP_GRACE, connections.shutdown()).await);
    });
    // A write that takes longer ends on its thread. It holds the store, and so the lock on the directory.
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
        // Only a socket that is already closed refuses the option.
        return;
    }
    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
    let connection = connections.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
    // A connection's error is the peer's going away; the gateway sees and reports it on its own side.
    tokio::spawn(async move { drop(connection.await) });
}
