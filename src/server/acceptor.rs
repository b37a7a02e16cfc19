//! The acceptor: one thread that accepts the connections of all listeners.
//!
//! It waits in poll(2) for its listening sockets and for commands. A paused listener is not polled, so a shortage
//! never spins (X5). The sockets are polled level-triggered: the next poll finds a connection that was left in the
//! backlog.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use slog::{Logger, error, info, warn};
use tidegate_actors::{clock, descriptors};
use tokio::sync::oneshot;

use super::acceptor_handle::{AcceptorCommand, AcceptorHandle, DuplicatedSocket};
use super::admission::{Admission, AdmissionDecision};
use super::listen;
use super::metrics::AcceptMetrics;
use super::pause::{AcceptFailure, AcceptPauses, FULL_PAUSE, PAUSE, PauseCause};
use super::worker::WorkerSender;
use crate::telemetry::millis;

/// Connections that one listener accepts before it yields to the others.
const BATCH: usize = 64;
/// Time for handshakes that have begun when a listener closes: the last ACK of one takes a round trip.
const HANDSHAKE_TIME: Duration = Duration::from_millis(50);
/// The additional time for which a listener stays open while a shortage prevents its backlog from being accepted.
const SHORTAGE_TIME: Duration = Duration::from_secs(1);

/// A listening socket and what its connections need.
pub(crate) struct Listener {
    name: &'static str,
    socket: TcpListener,
    workers: Vec<WorkerSender>,
    admission: Box<dyn Admission>,
    pauses: AcceptPauses,
    /// The start of the search for the least loaded worker, so that equally loaded ones take turns.
    next_worker: usize,
    /// A service manager has the socket open too: the backlog is left to the next process.
    is_activated: bool,
    closing: Option<PendingClose>,
    /// An upgrade runs: connections wait in the backlog.
    is_suspended: bool,
}

/// A listener that closes when its backlog is empty.
struct PendingClose {
    at: Instant,
    closed: oneshot::Sender<()>,
}

/// The state of a backlog.
#[derive(PartialEq, Eq)]
enum Backlog {
    Empty,
    /// More connections may wait.
    Unknown,
}

/// The acceptor thread's state.
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    commands: Receiver<AcceptorCommand>,
    wake: UnixStream,
    metrics: AcceptMetrics,
    log: Logger,
}

impl Acceptor {
    /// Starts the thread. A suspended acceptor accepts nothing until it is resumed.
    pub(super) fn start(
        mut listeners: Vec<Listener>,
        is_suspended: bool,
        metrics: AcceptMetrics,
        log: Logger,
    ) -> io::Result<AcceptorHandle> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (sender, commands) = channel();
        listeners.iter_mut().for_each(|listener| listener.is_suspended = is_suspended);
        let mut acceptor = Self { listeners, commands, wake: woken, metrics, log };
        std::thread::Builder::new().name("acceptor".to_owned()).spawn(move || acceptor.run())?;
        Ok(AcceptorHandle { commands: sender, wake })
    }

    /// Runs until it is stopped. A panic ends one iteration, not the thread: no iteration leaves its changes half
    /// done.
    fn run(&mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.run_once())) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_panic) => {
                    error!(self.log, "the acceptor panicked and is restarted"; "pause_ms" => PAUSE.as_millis() as u64);
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Waits and accepts once. False when the acceptor must stop.
    fn run_once(&mut self) -> bool {
        let (is_woken, ready) = match self.wait() {
            Ok(polled) => polled,
            Err(error) => {
                error!(self.log, "waiting for connections failed"; "error" => error.to_string());
                std::thread::sleep(PAUSE);
                return true;
            }
        };
        if is_woken && !self.handle_commands() {
            return false;
        }
        for index in ready {
            // A command may have closed or suspended the listener.
            if let Some(listener) = self.listeners.get_mut(index).filter(|listener| !listener.is_suspended) {
                listener.accept(&self.metrics, &self.log);
            }
        }
        let now = clock::now();
        for listener in &mut self.listeners {
            listener.end_episode(now, &self.metrics, &self.log);
        }
        self.close_finished(now);
        true
    }

    /// Waits for a command or a connection; returns whether commands wait, and which listeners have connections.
    fn wait(&self) -> io::Result<(bool, Vec<usize>)> {
        let now = clock::now();
        let mut indexes = Vec::with_capacity(self.listeners.len());
        let mut polled = Vec::with_capacity(self.listeners.len() + 1);
        polled.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        for (index, listener) in self.listeners.iter().enumerate() {
            if !listener.is_suspended && !listener.pauses.is_paused(now) {
                indexes.push(index);
                polled.push(PollFd::from_borrowed_fd(listener.socket.as_fd(), PollFlags::IN));
            }
        }
        let next = self.listeners.iter().filter_map(|listener| listener.next_change(now)).min();
        let timeout = next.map(|next| Timespec {
            tv_sec: i64::try_from(next.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX),
            // Rounded up, so that a wait never ends just before its time.
            tv_nsec: i64::from(next.saturating_duration_since(now).subsec_nanos().min(998_999_999))
                + 1_000_000,
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let mut is_ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let is_woken = is_ready.next().unwrap_or_default();
        Ok((
            is_woken,
            indexes
                .into_iter()
                .zip(is_ready)
                .filter_map(|(index, is_ready)| is_ready.then_some(index))
                .collect(),
        ))
    }

    /// Runs the pending commands. False when the acceptor must stop.
    fn handle_commands(&mut self) -> bool {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|count| count > 0) {}
        while let Ok(command) = self.commands.try_recv() {
            match command {
                AcceptorCommand::Stop => return false,
                // The caller may wait no longer.
                AcceptorCommand::Answer(answer) => drop(answer.send(())),
                AcceptorCommand::Close { name, closed } => {
                    if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.name == name) {
                        listener.begin_to_close(closed, &self.log);
                    }
                }
                AcceptorCommand::Duplicate(reply) => {
                    let _ = reply.send(self.listeners.iter().map(Listener::duplicate).collect());
                }
                AcceptorCommand::Suspend(reply) => {
                    self.listeners.iter_mut().for_each(|listener| listener.is_suspended = true);
                    let _ = reply.send(());
                }
                AcceptorCommand::Resume => {
                    self.listeners.iter_mut().for_each(|listener| listener.is_suspended = false);
                }
                AcceptorCommand::Release { names, released } => {
                    let is_released = |listener: &mut Listener| names.contains(&listener.name);
                    for listener in self.listeners.extract_if(.., is_released) {
                        listener.close(&self.metrics, &self.log);
                    }
                    let _ = released.send(());
                }
            }
        }
        true
    }

    /// Closes the listeners that have no connection left to accept.
    fn close_finished(&mut self, now: Instant) {
        let (metrics, log) = (&self.metrics, &self.log);
        for index in (0..self.listeners.len()).rev() {
            if self.listeners[index].may_close(now, metrics, log) {
                let closing = self.listeners.swap_remove(index).close(metrics, log);
                // The caller may have been dropped by a second signal.
                let _ = closing.map(|closing| closing.closed.send(()));
            }
        }
    }
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
            socket,
            workers,
            admission,
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

    fn duplicate(&self) -> io::Result<DuplicatedSocket> {
        let socket = self.socket.try_clone()?.into();
        Ok(DuplicatedSocket { name: self.name, socket, is_activated: self.is_activated })
    }

    fn begin_to_close(&mut self, closed: oneshot::Sender<()>, log: &Logger) {
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
    fn accept(&mut self, metrics: &AcceptMetrics, log: &Logger) -> Backlog {
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
                Ok(descriptor) => self.dispatch(TcpStream::from(descriptor), log),
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

    fn accept_one(&self) -> Result<OwnedFd, Errno> {
        let accept = || accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        if !self.admission.uses_reserve() {
            return accept();
        }
        let accepted = descriptors::with_reserve(|| accept().map_err(io::Error::from));
        accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Sends the socket to the worker with the fewest open connections.
    fn dispatch(&mut self, mut stream: TcpStream, log: &Logger) {
        while !self.workers.is_empty() {
            let count = self.workers.len();
            self.next_worker = (self.next_worker + 1) % count;
            let indexes = (0..count).map(|offset| (self.next_worker + offset) % count);
            let Some(chosen) = indexes.min_by_key(|index| self.workers[*index].open()) else { return };
            match self.workers[chosen].send(stream) {
                Ok(()) => return,
                Err(refused) => {
                    stream = refused;
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

    fn end_episode(&mut self, now: Instant, metrics: &AcceptMetrics, log: &Logger) {
        if let Some(episode) = self.pauses.take_ended(now) {
            metrics.episode_ended(self.name);
            let lasted = episode.end.saturating_duration_since(episode.began);
            info!(log, "accepting connections resumes"; "listener" => self.name, "pauses" => episode.count,
                "lasted_ms" => millis(lasted));
        }
    }

    /// Closes the socket, and ends an episode of pauses with it.
    fn close(mut self, metrics: &AcceptMetrics, log: &Logger) -> Option<PendingClose> {
        if let Some(episode) = self.pauses.end(clock::now()) {
            metrics.episode_ended(self.name);
            let lasted = episode.end.saturating_duration_since(episode.began);
            info!(log, "accepting connections ends with the listener, while it pauses"; "listener" => self.name, "pauses" => episode.count,
                "lasted_ms" => millis(lasted));
        }
        self.closing
    }

    /// The next time at which this listener needs attention without a new connection.
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let pause = self.pauses.next_change(now);
        // A listener in a pause cannot close: the end of the pause comes first.
        let closing = self.closing.as_ref().filter(|_| !self.pauses.is_paused(now)).map(|closing| closing.at);
        pause.into_iter().chain(closing).min()
    }

    /// Whether this listener must close and its backlog is empty.
    fn may_close(&mut self, now: Instant, metrics: &AcceptMetrics, log: &Logger) -> bool {
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
