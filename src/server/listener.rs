//! A listener on the acceptor thread: accepting in batches, pauses, and the close of its socket.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use slog::{Logger, error, info, warn};
use socket2::SockRef;
use tidegate_actors::{clock, descriptors};
use tokio::sync::oneshot;

use super::acceptor_handle::DuplicatedSocket;
use super::admission::{Admission, AdmissionDecision};
use super::listen;
use super::metrics::AcceptMetrics;
use super::pause::{AcceptFailure, AcceptPauses, FULL_PAUSE, PAUSE, PauseCause};
use super::worker::{AcceptedSocket, WorkerSender};
use super::worker_accept::{AcceptMode, SharedListener, places};
use crate::telemetry::millis;

/// Connections that one listener accepts before it yields to the others.
const BATCH: usize = 64;
/// Time for handshakes that have begun when a listener closes: the last ACK of one takes a round trip.
const HANDSHAKE_TIME: Duration = Duration::from_millis(50);
/// The additional time for which a listener stays open while a shortage prevents its backlog from being accepted.
const SHORTAGE_TIME: Duration = Duration::from_secs(1);
/// The longest wait for the workers to close their references to a socket. A worker that hangs is not waited for.
const RELEASE_TIME: Duration = Duration::from_millis(100);
const RELEASE_POLL: Duration = Duration::from_millis(1);
/// A listener with more workers is not lent: each connection wakes all of them, which costs more than the acceptor's message from three on.
const LENDING_WORKERS_MAX: usize = 2;
/// Free places beyond those that the workers need, from which on a listener is lent to them.
const SPARE_PLACES: usize = 16;

/// A listening socket and what its connections need.
pub(crate) struct Listener {
    pub(super) name: &'static str,
    pub(super) socket: Arc<TcpListener>,
    workers: Vec<WorkerSender>,
    admission: Arc<dyn Admission>,
    /// The workers' part, after the start.
    shared: Option<Arc<SharedListener>>,
    /// When it may be lent to the workers again; none while it is lent.
    lend_at: Option<Instant>,
    pub(super) pauses: AcceptPauses,
    /// The start of the search for the least loaded worker, so that equally loaded ones take turns.
    next_worker: usize,
    /// A service manager has the socket open too: the backlog is left to the next process.
    is_activated: bool,
    closing: Option<PendingClose>,
    /// An upgrade runs: connections wait in the backlog.
    pub(super) is_suspended: bool,
}

/// A listener that closes when its backlog is empty.
pub(super) struct PendingClose {
    at: Instant,
    pub(super) closed: oneshot::Sender<()>,
}

/// The state of a backlog.
#[derive(PartialEq, Eq)]
pub(super) enum Backlog {
    Empty,
    /// More connections may wait.
    Unknown,
}

impl Listener {
    pub(crate) fn new(
        name: &'static str,
        socket: TcpListener,
        workers: Vec<WorkerSender>,
        admission: Box<dyn Admission>,
    ) -> Self {
        Self {
            name,
            socket: Arc::new(socket),
            workers,
            admission: Arc::from(admission),
            shared: None,
            lend_at: Some(clock::now()),
            pauses: AcceptPauses::default(),
            next_worker: 0,
            is_activated: false,
            closing: None,
            is_suspended: false,
        }
    }

    /// Whether a service manager has the socket open too.
    pub(crate) fn activated(self, is_activated: bool) -> Self {
        Self { is_activated, ..self }
    }

    /// Has the workers accept while this listener is lent to them. `wake` wakes the acceptor.
    pub(super) fn share(&mut self, wake: &Arc<UnixStream>, log: &Logger) {
        let shared = SharedListener::new(
            (self.name, &self.socket),
            Arc::clone(&self.admission),
            self.workers.clone(),
            Arc::clone(wake),
            log.clone(),
        );
        for (index, worker) in self.workers.iter().enumerate() {
            worker.accept(Arc::clone(&shared), index);
        }
        self.shared = Some(shared);
    }

    /// Whether the acceptor watches the socket.
    pub(super) fn is_polled(&self, now: Instant) -> bool {
        !self.is_suspended && !self.is_lent() && !self.pauses.is_paused(now)
    }

    fn is_lent(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.mode() == AcceptMode::Workers)
    }

    /// Lends the listener to the workers, if nothing is short. One that was given back is lent again after a while at the earliest.
    pub(super) fn lend(&mut self, now: Instant) {
        if self.is_lent() {
            return;
        }
        let lend_at = *self.lend_at.get_or_insert_with(|| now + PAUSE);
        let is_possible =
            !self.is_suspended && self.closing.is_none() && self.pauses.is_clear() && now >= lend_at;
        if is_possible
            && self.workers.len() <= LENDING_WORKERS_MAX
            && self.admission.has_room(places(self.workers.len()) + SPARE_PLACES)
            && let Some(shared) = &self.shared
        {
            self.lend_at = None;
            shared.set(AcceptMode::Workers);
        }
    }

    /// Takes the listener back from the workers. Returns when none of them accepts any more.
    pub(super) fn take_back(&mut self, mode: AcceptMode) {
        if let Some(shared) = &self.shared {
            shared.set(mode);
        }
        self.lend_at.get_or_insert_with(clock::now);
    }

    /// Accepts nothing until the end of the suspension.
    pub(super) fn suspend(&mut self) {
        self.is_suspended = true;
        self.take_back(AcceptMode::Acceptor);
    }

    pub(super) fn duplicate(&self) -> io::Result<DuplicatedSocket> {
        let socket = self.socket.try_clone()?.into();
        Ok(DuplicatedSocket { name: self.name, socket, is_activated: self.is_activated })
    }

    pub(super) fn begin_to_close(&mut self, closed: oneshot::Sender<()>, log: &Logger) {
        self.take_back(AcceptMode::Acceptor);
        if self.is_activated {
            self.closing = Some(PendingClose { at: clock::now(), closed });
            return;
        }
        if let Err(error) = listen::refuse_new(&self.socket) {
            warn!(log, "connections that arrive while the listener closes are reset";
                "listener" => self.name, "error" => error.to_string(),
                "hint" => "set server.drain_delay so that the load balancer stops sending connections before it");
        }
        self.is_suspended = false;
        self.closing = Some(PendingClose { at: clock::now() + HANDSHAKE_TIME, closed });
    }

    /// Accepts a batch of waiting connections.
    pub(super) fn accept(&mut self, metrics: &AcceptMetrics, log: &Logger) -> Backlog {
        for accepted in 0..BATCH {
            // A closing listener accepts all waiting connections, because its close resets the others.
            if self.closing.is_none()
                && let AdmissionDecision::Pause(cause) = self.admission.admit()
            {
                // After an accepted connection it is unknown whether another one waits; the next poll(2) shows that.
                if accepted == 0 {
                    self.pause(cause, None, metrics, log);
                }
                return Backlog::Unknown;
            }
            match self.accept_one() {
                Ok(accepted) => self.dispatch(accepted, log),
                Err(error) => match AcceptFailure::classify(error) {
                    AcceptFailure::Empty => return Backlog::Empty,
                    AcceptFailure::Connection => {}
                    AcceptFailure::Shortage(cause) => {
                        self.pause(cause, Some(error), metrics, log);
                        return Backlog::Unknown;
                    }
                },
            }
        }
        Backlog::Unknown
    }

    fn accept_one(&self) -> Result<AcceptedSocket, Errno> {
        let accept = || AcceptedSocket::accept(&self.socket);
        if !self.admission.uses_reserve() {
            return accept();
        }
        let accepted = descriptors::with_reserve(|| accept().map_err(io::Error::from));
        accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Sends the socket to the worker with the fewest open connections.
    fn dispatch(&mut self, mut accepted: AcceptedSocket, log: &Logger) {
        while !self.workers.is_empty() {
            let count = self.workers.len();
            self.next_worker = (self.next_worker + 1) % count;
            let indexes = (0..count).map(|offset| (self.next_worker + offset) % count);
            let Some(chosen) = indexes.min_by_key(|index| self.workers[*index].open()) else { return };
            match self.workers[chosen].send(accepted) {
                Ok(()) => return,
                Err(refused) => {
                    accepted = refused;
                    self.workers.swap_remove(chosen);
                    error!(log, "a worker thread has ended, the others serve new connections";
                        "listener" => self.name, "workers_left" => self.workers.len());
                }
            }
        }
    }

    fn pause(&mut self, cause: PauseCause, error: Option<Errno>, metrics: &AcceptMetrics, log: &Logger) {
        let (now, length) = (clock::now(), if error.is_some() { PAUSE } else { FULL_PAUSE });
        let begins = self.pauses.begin(now, length);
        // A full listener is checked every few milliseconds, which counts as one event.
        if begins || error.is_some() {
            metrics.count_failure(cause);
        }
        if begins {
            metrics.episode_began(self.name, cause, now);
            warn!(log, "accepting connections pauses"; "listener" => self.name, "cause" => cause.as_str(),
                "error" => error.map(|error| io::Error::from(error).to_string()), "hint" => cause.hint());
        }
    }

    pub(super) fn end_episode(&mut self, now: Instant, metrics: &AcceptMetrics, log: &Logger) {
        if let Some(episode) = self.pauses.take_ended(now) {
            metrics.episode_ended(self.name);
            let lasted = episode.end.saturating_duration_since(episode.began);
            info!(log, "accepting connections resumes"; "listener" => self.name, "pauses" => episode.count,
                "lasted_ms" => millis(lasted));
        }
    }

    /// Closes the socket, and ends an episode of pauses with it.
    pub(super) fn close(mut self, metrics: &AcceptMetrics, log: &Logger) -> Option<PendingClose> {
        if let Some(episode) = self.pauses.end(clock::now()) {
            metrics.episode_ended(self.name);
            let lasted = episode.end.saturating_duration_since(episode.began);
            info!(log, "accepting connections ends with the listener, while it pauses"; "listener" => self.name, "pauses" => episode.count,
                "lasted_ms" => millis(lasted));
        }
        self.take_back(AcceptMode::Closed);
        let due = clock::now() + RELEASE_TIME;
        while Arc::strong_count(&self.socket) > 1 && clock::now() < due {
            std::thread::sleep(RELEASE_POLL);
        }
        if self.closing.is_some() && !self.is_activated {
            // Even if a worker that hangs still has the socket.
            let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
        }
        self.closing.take()
    }

    /// The next time at which this listener needs attention without a new connection.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let pause = self.pauses.next_change(now);
        // A listener in a pause cannot close: the end of the pause comes first.
        let closing = self.closing.as_ref().filter(|_| !self.pauses.is_paused(now)).map(|closing| closing.at);
        pause.into_iter().chain(closing).min()
    }

    /// Whether this listener must close and its backlog is empty.
    pub(super) fn may_close(&mut self, now: Instant, metrics: &AcceptMetrics, log: &Logger) -> bool {
        let Some(due) = self.closing.as_ref().map(|closing| closing.at).filter(|due| now >= *due) else {
            return false;
        };
        if self.is_activated {
            return true;
        }
        if now >= due + SHORTAGE_TIME {
            error!(log, "the listener closes while connections wait in its backlog, they are reset"; "listener" => self.name,
                "hint" => "accept_failures_total names the shortage");
            return true;
        }
        !self.pauses.is_paused(now) && self.accept(metrics, log) == Backlog::Empty
    }
}
