//! Accepting on the worker threads: a connection is accepted by the thread that serves it.
//!
//! The acceptor thread lends a listener to the workers while nothing is short (`listener.rs`). Each of them watches the socket with its
//! event loop, accepts a few connections at a time, and serves them without a message to another thread. A worker with more open
//! connections than the one with the fewest sends the socket to that one, so that few long connections are spread evenly.
//!
//! A worker decides nothing: when places become scarce, or an accept fails, it returns the listener to the acceptor. That one closes idle
//! connections, pauses, logs and counts.
//!
//! The mode is read under the lock of its channel for each batch. So when [`SharedListener::set`] has returned, no worker accepts in
//! another mode. A worker in another mode does not watch the socket, so waiting connections wake no thread.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use slog::{Logger, error};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};
use tokio::sync::watch;

use super::admission::Admission;
use super::pause::AcceptFailure;
use super::worker::{AcceptedSocket, ConnectionHandler, WorkerSender, serve_socket};

/// Connections that a worker accepts before its other tasks run.
const BATCH: usize = 8;
/// A worker may have this many connections more than the one with the fewest, and at most a quarter more.
const LEAD_MAX: usize = 8;

/// The free places that the workers of a listener need, because each may be about to accept a batch.
pub(super) fn places(workers: usize) -> usize {
    workers * BATCH
}

/// Who accepts the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptMode {
    /// The acceptor thread, or no thread.
    Acceptor,
    /// The worker threads.
    Workers,
    /// No thread ever again.
    Closed,
}

/// What the workers need of a listener.
pub(super) struct SharedListener {
    name: &'static str,
    /// The listener of the acceptor owns it.
    socket: Weak<TcpListener>,
    mode: watch::Sender<AcceptMode>,
    admission: Arc<dyn Admission>,
    workers: Vec<WorkerSender>,
    /// Held while a worker is chosen and counted, so that two that accept at once do not choose by the same counts.
    counts: Mutex<()>,
    /// Wakes the acceptor.
    acceptor: Arc<UnixStream>,
    log: Logger,
}

/// The result of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchEnd {
    /// No connection waits.
    Empty,
    /// More connections may wait.
    Full,
    /// Something is short: the acceptor must go on.
    Short,
    /// The acceptor has taken the listener back.
    TakenBack,
}

impl SharedListener {
    pub(super) fn new(
        (name, socket): (&'static str, &Arc<TcpListener>),
        admission: Arc<dyn Admission>,
        workers: Vec<WorkerSender>,
        acceptor: Arc<UnixStream>,
        log: Logger,
    ) -> Arc<Self> {
        let (socket, mode) = (Arc::downgrade(socket), watch::Sender::new(AcceptMode::Acceptor));
        Arc::new(Self { name, socket, mode, admission, workers, counts: Mutex::default(), acceptor, log })
    }

    pub(super) fn mode(&self) -> AcceptMode {
        *self.mode.borrow()
    }

    /// Sets the mode. Returns when no worker accepts in another one.
    pub(super) fn set(&self, mode: AcceptMode) {
        self.mode.send_if_modified(|current| std::mem::replace(current, mode) != mode);
    }

    /// Returns the listener to the acceptor.
    fn give_back(&self) {
        let is_changed = self.mode.send_if_modified(|mode| {
            let is_changed = *mode == AcceptMode::Workers;
            if is_changed {
                *mode = AcceptMode::Acceptor;
            }
            is_changed
        });
        if is_changed {
            // A full pipe wakes the acceptor as well.
            let _ = (&*self.acceptor).write(&[0]);
        }
    }

    /// Accepts a batch on the worker with this index. It holds the mode until its end.
    fn accept<S: ConnectionHandler>(&self, socket: &TcpListener, index: usize, service: &Rc<S>) -> BatchEnd {
        let mode = self.mode.borrow();
        if *mode != AcceptMode::Workers {
            return BatchEnd::TakenBack;
        }
        if !self.admission.has_room(places(self.workers.len())) {
            return BatchEnd::Short;
        }
        for _ in 0..BATCH {
            match AcceptedSocket::accept(socket) {
                Ok(accepted) => self.dispatch(accepted, index, service),
                Err(error) => match AcceptFailure::classify(error) {
                    AcceptFailure::Empty => return BatchEnd::Empty,
                    AcceptFailure::Connection => {}
                    AcceptFailure::Shortage(_) => return BatchEnd::Short,
                },
            }
        }
        BatchEnd::Full
    }

    /// Serves a connection on this thread, or sends it to the worker with the fewest.
    fn dispatch<S: ConnectionHandler>(&self, mut accepted: AcceptedSocket, index: usize, service: &Rc<S>) {
        let Some(own) = self.workers.get(index) else { return };
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = self.less_loaded(own) {
            match other.send(accepted) {
                Ok(()) => return,
                Err(refused) => {
                    accepted = refused;
                    if other.set_ended() {
                        error!(self.log, "a worker thread has ended, the others serve new connections"; "listener" => self.name);
                    }
                }
            }
        }
        let counted = own.count(accepted);
        drop(counts);
        serve_socket(service, counted);
    }

    /// The worker with the fewest connections, if this one has too many more.
    fn less_loaded(&self, own: &WorkerSender) -> Option<&WorkerSender> {
        let others = self.workers.iter().filter(|worker| worker.is_receiving());
        let fewest = others.min_by_key(|worker| worker.open())?;
        let lead_max = (fewest.open() / 4).min(LEAD_MAX);
        (own.open() > fewest.open() + lead_max).then_some(fewest)
    }
}

/// Accepts connections on a worker thread, whenever the acceptor lends the listener. Returns when it closes.
pub(super) async fn accept_on_worker<S: ConnectionHandler>(
    shared: Arc<SharedListener>,
    index: usize,
    service: Rc<S>,
) {
    let mut mode = shared.mode.subscribe();
    loop {
        let current = *mode.borrow_and_update();
        match current {
            AcceptMode::Closed => return,
            AcceptMode::Workers => {
                tokio::select! {
                    biased;
                    () = accept_ready(&shared, index, &service) => {}
                    _ = mode.changed() => continue,
                }
            }
            AcceptMode::Acceptor => {}
        }
        if mode.changed().await.is_err() {
            return;
        }
    }
}

/// Accepts until the listener is returned to the acceptor.
async fn accept_ready<S: ConnectionHandler>(shared: &SharedListener, index: usize, service: &Rc<S>) {
    let Some(socket) = shared.socket.upgrade() else { return };
    // An error means that the kernel has no memory to watch the socket.
    let Ok(socket) = watch_socket(socket) else { return shared.give_back() };
    while let Ok(mut ready) = socket.readable().await {
        let accepted = catch_unwind(AssertUnwindSafe(|| shared.accept(socket.get_ref(), index, service)));
        match accepted {
            Ok(BatchEnd::Empty) => ready.clear_ready(),
            Ok(BatchEnd::Full) => tokio::task::yield_now().await,
            Ok(BatchEnd::TakenBack) => return,
            Ok(BatchEnd::Short) => return shared.give_back(),
            Err(_panic) => {
                error!(shared.log, "accepting on a worker thread panicked"; "listener" => shared.name);
                return shared.give_back();
            }
        }
    }
}

/// Watches a listening socket with the event loop of this thread.
#[expect(unsafe_code, reason = "the safe constructor of tokio is deprecated")]
fn watch_socket(
    socket: Arc<TcpListener>,
) -> Result<AsyncFd<Arc<TcpListener>>, AsyncFdRegisterError<Arc<TcpListener>>> {
    // SAFETY: the descriptor stays open and the same while the `Arc` exists, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
}
