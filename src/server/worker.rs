//! Worker threads: each is an actix arbiter that runs its share of the actors and one task per connection.
//!
//! The acceptor sends sockets over a channel. The channel holds no more than the listener's connection limit, because
//! a socket counts as open from the moment it is sent. The count is a ticket that is released when the connection's
//! task ends, even by a panic.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream as StdTcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;

use actix_rt::{Arbiter, ArbiterHandle};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::worker_accept::{SharedListener, accept_on_worker};

/// Serves the connections of one worker thread.
pub(crate) trait ConnectionHandler: 'static {
    /// Serves one connection to its end. The address is that of its peer; none if the kernel returned none.
    fn serve(
        self: Rc<Self>,
        stream: TcpStream,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = ()> + 'static;
}

/// A connection's ticket in its worker's count.
struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An accepted socket, and the address of its peer.
pub(super) struct AcceptedSocket {
    stream: StdTcpStream,
    peer: Option<SocketAddr>,
}

/// An accepted socket that counts as an open connection of a worker.
pub(super) struct CountedSocket {
    socket: AcceptedSocket,
    open: OpenConnection,
}

impl AcceptedSocket {
    /// Accepts a waiting connection.
    pub(super) fn accept(listener: &TcpListener) -> Result<Self, Errno> {
        let (descriptor, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let peer = peer.and_then(|address| SocketAddr::try_from(address).ok());
        Ok(Self { stream: StdTcpStream::from(descriptor), peer })
    }
}

/// A message for a worker thread.
enum WorkerMessage {
    /// Serve the connection of this socket.
    Serve(CountedSocket),
    /// Accept the connections of this listener while the acceptor lends it. The number is the worker's among those of the listener.
    Accept(Arc<SharedListener>, usize),
}

/// Sends sockets to a worker thread.
#[derive(Clone)]
pub(crate) struct WorkerSender {
    messages: UnboundedSender<WorkerMessage>,
    open: Arc<AtomicUsize>,
    channel: Arc<ChannelState>,
}

/// The sockets that may wait in a worker's channel. A thread that hangs holds back no more than these. A thread that wakes up needs some,
/// else the other one would keep a burst of connections for itself.
const WAITING_MAX: usize = 8;

/// The state of a worker's channel.
#[derive(Default)]
struct ChannelState {
    /// Sockets that the worker has not received yet.
    waiting: AtomicUsize,
    has_ended: AtomicBool,
}

impl WorkerSender {
    /// The open connections of this worker, with those in its channel.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Sends a socket. Returns it as an error if the worker has ended.
    pub(super) fn send(&self, socket: AcceptedSocket) -> Result<(), AcceptedSocket> {
        self.channel.waiting.fetch_add(1, Ordering::Relaxed);
        match self.messages.send(WorkerMessage::Serve(self.count(socket))) {
            Err(SendError(WorkerMessage::Serve(refused))) => Err(refused.socket),
            Err(SendError(WorkerMessage::Accept(..))) | Ok(()) => Ok(()),
        }
    }

    /// Counts a socket as an open connection of this worker.
    pub(super) fn count(&self, socket: AcceptedSocket) -> CountedSocket {
        self.open.fetch_add(1, Ordering::Relaxed);
        CountedSocket { socket, open: OpenConnection(Arc::clone(&self.open)) }
    }

    /// Has the worker accept the connections of a listener.
    pub(super) fn accept(&self, shared: Arc<SharedListener>, index: usize) {
        // An ended worker accepts nothing.
        let _ = self.messages.send(WorkerMessage::Accept(shared, index));
    }

    /// Whether the worker receives the sockets that are sent to it. One that hangs or has ended does not.
    pub(super) fn is_receiving(&self) -> bool {
        self.channel.waiting.load(Ordering::Relaxed) < WAITING_MAX
    }

    /// Marks the worker as ended. True for the first call.
    pub(super) fn set_ended(&self) -> bool {
        !self.channel.has_ended.swap(true, Ordering::Relaxed)
    }
}

/// One worker thread.
pub(crate) struct WorkerThread {
    arbiter: ArbiterHandle,
    sender: WorkerSender,
}

impl WorkerThread {
    pub(crate) fn sender(&self) -> WorkerSender {
        self.sender.clone()
    }

    /// The count of its open connections.
    pub(crate) fn open(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.sender.open)
    }

    pub(super) fn stop(&self) {
        self.arbiter.stop();
    }
}

/// The number of open connections on these workers.
pub(crate) fn open_connections(counts: &[Arc<AtomicUsize>]) -> usize {
    counts.iter().map(|open| open.load(Ordering::Relaxed)).sum()
}

/// Starts worker threads, and receives the reports of ended ones.
pub(crate) struct WorkerThreads {
    threads: Vec<WorkerThread>,
    ended: UnboundedSender<String>,
    reports: UnboundedReceiver<String>,
}

/// Reports the end of a worker thread on its drop, whatever the cause of the end.
struct EndReport {
    name: String,
    ended: UnboundedSender<String>,
}

impl Drop for EndReport {
    fn drop(&mut self) {
        // An error means that the server was dropped and needs no report.
        let _ = self.ended.send(std::mem::take(&mut self.name));
    }
}

impl EndReport {
    /// Reports after the task that owns the returned sender has ended, and after the tasks of the connections are dropped: their drops
    /// write the last log lines. An ending thread drops its `LocalSet`, with the oldest task first, before the tasks of its runtime. So a
    /// task of the runtime owns the report.
    fn hold(self) -> oneshot::Sender<Infallible> {
        let (receiving, has_ended) = oneshot::channel();
        tokio::spawn(async move {
            let _report = self;
            let _ = has_ended.await;
        });
        receiving
    }
}

impl WorkerThreads {
    pub(crate) fn new() -> Self {
        let (ended, reports) = unbounded_channel();
        Self { threads: Vec::new(), ended, reports }
    }

    /// Starts a thread with at most this number of blocking threads. `build` runs on it and builds the handler of its
    /// connections. Returns when the handler is built. Must be called inside an actix system.
    pub(crate) fn start<S: ConnectionHandler, F: Future<Output = io::Result<S>> + 'static>(
        &mut self,
        name: String,
        blocking_threads: usize,
        build: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<&WorkerThread> {
        let runtime = move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().max_blocking_threads(blocking_threads).build()
        };
        let arbiter = Arbiter::try_with_tokio_rt(runtime)?.handle();
        let (messages, inbox) = unbounded_channel();
        let channel = Arc::<ChannelState>::default();
        let state = Arc::clone(&channel);
        let (built, is_built) = std_mpsc::channel();
        let report = EndReport { name, ended: self.ended.clone() };
        arbiter.spawn_fn(move || {
            let building = build();
            actix_rt::spawn(async move {
                let _receiving = report.hold();
                match building.await {
                    Ok(service) => {
                        let _ = built.send(Ok(()));
                        receive(inbox, &state, Rc::new(service)).await;
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
            });
        });
        is_built.recv().map_err(|_| io::Error::other("a worker thread ended while it started"))??;
        let sender = WorkerSender { messages, open: Arc::default(), channel };
        self.threads.push(WorkerThread { arbiter, sender });
        self.threads.last().ok_or_else(|| io::Error::other("no worker thread"))
    }

    pub(super) fn into_parts(self) -> (Vec<WorkerThread>, UnboundedReceiver<String>) {
        (self.threads, self.reports)
    }
}

/// Spawns one task per socket and per listener. Runs until its thread ends.
async fn receive<S: ConnectionHandler>(
    mut inbox: UnboundedReceiver<WorkerMessage>,
    state: &ChannelState,
    service: Rc<S>,
) {
    while let Some(message) = inbox.recv().await {
        match message {
            WorkerMessage::Serve(counted) => {
                state.waiting.fetch_sub(1, Ordering::Relaxed);
                serve_socket(&service, counted);
            }
            WorkerMessage::Accept(shared, index) => {
                actix_rt::spawn(accept_on_worker(shared, index, Rc::clone(&service)));
            }
        }
    }
}

/// Spawns the task of a connection on this thread.
pub(super) fn serve_socket<S: ConnectionHandler>(service: &Rc<S>, counted: CountedSocket) {
    let (service, CountedSocket { socket: AcceptedSocket { stream, peer }, open }) =
        (Rc::clone(service), counted);
    actix_rt::spawn(async move {
        let _open = open;
        // An error means that the kernel has no memory to watch the socket: the connection closes.
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        service.serve(stream, peer).await;
    });
}
