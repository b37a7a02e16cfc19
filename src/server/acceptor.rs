//! The acceptor: one thread that accepts the connections of all listeners, or lends a listener to the worker threads.
//!
//! It waits in poll(2) for its listening sockets and for commands. A paused listener is not polled, so a shortage
//! never spins (X5). The sockets are polled level-triggered: the next poll finds a connection that was left in the
//! backlog.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use slog::{Logger, error};
use tidegate_actors::clock;

use super::acceptor_handle::{AcceptorCommand, AcceptorHandle};
use super::listener::Listener;
use super::metrics::AcceptMetrics;
use super::pause::PAUSE;
use super::worker_accept::AcceptMode;

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
        let wake = Arc::new(wake);
        for listener in &mut listeners {
            listener.is_suspended = is_suspended;
            listener.share(&wake, &log);
        }
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
        self.listeners.iter_mut().for_each(|listener| listener.lend(clock::now()));
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
            if listener.is_polled(now) {
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
                AcceptorCommand::Stop => {
                    self.listeners.iter_mut().for_each(|listener| listener.take_back(AcceptMode::Closed));
                    return false;
                }
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
                    self.listeners.iter_mut().for_each(Listener::suspend);
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
