//! The server of both listeners: from a listening socket to a connection on a worker thread.
//!
//! `listen.rs` binds the listening sockets, `inherited.rs` has those that another process has opened. `acceptor.rs`, one thread, waits for
//! connections, calls `admission.rs` before each accept, and sends the socket to the worker thread with the fewest open connections.
//! `listener.rs` is one listener there. While nothing is short it is lent to the worker threads, which accept in `worker_accept.rs`.
//! `acceptor_handle.rs` has its commands, `pause.rs` decides how long accepting pauses after a shortage. `worker.rs` spawns one task per
//! connection, which calls [`ConnectionHandler::serve`] (`listener/mod.rs`). `tls.rs` has the certificates, `tls_tickets.rs` the session
//! tickets, `idle_connections.rs` the registry of connections, `idle_closer.rs` closes idle ones under pressure, and
//! `connection_reserve.rs` is the admin listener's reserve.
//!
//! actix-server is not used: it reports no failed accept, it cannot close its listening sockets while its connections
//! stay open, and it resets the connections in the backlog (X5, G4).
//!
//! A panic in a connection's task ends that connection. A panic in the acceptor is logged, and the acceptor restarts.
//! When a worker thread ends, its actors are lost: [`Server::worker_ended`] reports it, and the process drains and
//! exits.

mod acceptor;
mod acceptor_handle;
mod admission;
pub(crate) mod certificate_validity;
pub(crate) mod connection_reserve;
pub(crate) mod idle_closer;
pub(crate) mod idle_connections;
pub(crate) mod inherited;
mod listen;
mod listener;
mod metrics;
mod pause;
pub(crate) mod rejected_addresses;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod tls_tickets;
mod worker;
mod worker_accept;
#[cfg(test)]
mod worker_accept_tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use slog::Logger;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

pub(crate) use acceptor::Acceptor;
pub(crate) use acceptor_handle::AcceptorHandle;
pub(crate) use admission::{Admission, AdmissionDecision, ConnectionLimit};
pub(crate) use listen::{SocketSettings, listen};
pub(crate) use listener::Listener;
pub(crate) use metrics::AcceptMetrics;
pub(crate) use pause::PauseCause;
pub(crate) use worker::{ConnectionHandler, WorkerThread, WorkerThreads, open_connections};

/// The running acceptor and its worker threads.
pub(crate) struct Server {
    acceptor: Arc<AcceptorHandle>,
    threads: Vec<WorkerThread>,
    ended: UnboundedReceiver<String>,
}

impl Server {
    /// Starts the acceptor thread for these listeners. If it is suspended, it accepts nothing until it is resumed.
    ///
    /// # Errors The thread or its wake-up socket cannot be created.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        is_suspended: bool,
        threads: WorkerThreads,
        metrics: AcceptMetrics,
        log: &Logger,
    ) -> io::Result<Self> {
        let acceptor = Arc::new(Acceptor::start(listeners, is_suspended, metrics, log.clone())?);
        let (threads, ended) = threads.into_parts();
        Ok(Self { acceptor, threads, ended })
    }

    /// The handle of the acceptor.
    pub(crate) fn acceptor(&self) -> Arc<AcceptorHandle> {
        Arc::clone(&self.acceptor)
    }

    /// Requests an answer of the acceptor thread. The receiver fails if the thread has ended.
    pub(crate) fn acceptor_check(&self) -> impl Fn() -> oneshot::Receiver<()> + use<> {
        let acceptor = Arc::clone(&self.acceptor);
        move || acceptor.request_answer()
    }

    /// Closes the listening socket with this name. Connections in its backlog are accepted first, unless another process has the
    /// socket open too. Returns when the socket is closed.
    pub(crate) async fn close(&self, listener: &'static str) {
        self.acceptor.close(listener).await;
    }

    /// Waits until a worker thread has ended without being stopped; returns its name. Never returns while all of them
    /// run.
    pub(crate) async fn worker_ended(&mut self) -> String {
        match self.ended.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// Stops the acceptor and all worker threads. Connections that are still open are closed. Waits at most `limit` until
    /// the tasks of all threads are dropped.
    pub(crate) async fn stop(mut self, limit: Duration) {
        self.acceptor.stop();
        self.threads.iter().for_each(WorkerThread::stop);
        let all_ended = async {
            for _ in &self.threads {
                let _ = self.ended.recv().await;
            }
        };
        let _ = tokio::time::timeout(limit, all_ended).await;
    }
}
