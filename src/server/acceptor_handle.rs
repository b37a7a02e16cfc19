//! The commands of the acceptor thread, and the handle that sends them.
//!
//! An upgrade suspends accepting: connections wait in the backlogs, which both processes share, until one of the processes accepts again.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

/// A duplicate of a listening socket.
pub(crate) struct DuplicatedSocket {
    /// The name of its listener.
    pub(crate) name: &'static str,
    pub(crate) socket: OwnedFd,
    /// A service manager has it open too.
    pub(crate) is_activated: bool,
}

pub(super) enum AcceptorCommand {
    /// Close a listener after its backlog is empty.
    Close {
        name: &'static str,
        closed: oneshot::Sender<()>,
    },
    /// Duplicate the sockets of all listeners.
    Duplicate(oneshot::Sender<io::Result<Vec<DuplicatedSocket>>>),
    /// Accept nothing until the next command to resume.
    Suspend(oneshot::Sender<()>),
    Resume,
    /// Use the sender, to show that the thread works.
    Answer(oneshot::Sender<()>),
    /// Close the descriptors of these listeners, and leave their backlogs to the process that shares them.
    Release {
        names: Vec<&'static str>,
        released: oneshot::Sender<()>,
    },
    Stop,
}

/// Sends commands to the acceptor.
pub(crate) struct AcceptorHandle {
    pub(super) commands: Sender<AcceptorCommand>,
    pub(super) wake: Arc<UnixStream>,
}

impl AcceptorHandle {
    /// Returns when the listener is closed.
    pub(crate) async fn close(&self, name: &'static str) {
        self.run(|closed| AcceptorCommand::Close { name, closed }).await;
    }

    /// Duplicates the listening sockets.
    ///
    /// # Errors There is no free descriptor, or the acceptor has ended.
    pub(crate) async fn duplicate_sockets(&self) -> io::Result<Vec<DuplicatedSocket>> {
        let duplicated = self.run(AcceptorCommand::Duplicate).await;
        duplicated.unwrap_or_else(|| Err(io::Error::other("the acceptor has ended")))
    }

    /// Returns when no listener accepts any more. Connections wait in the backlogs.
    pub(crate) async fn suspend(&self) {
        self.run(AcceptorCommand::Suspend).await;
    }

    /// Accepts again, beginning with the connections that wait.
    pub(crate) fn resume(&self) {
        self.send(AcceptorCommand::Resume);
    }

    /// Returns when this process has closed its descriptors of these listeners.
    pub(crate) async fn release(&self, names: Vec<&'static str>) {
        self.run(|released| AcceptorCommand::Release { names, released }).await;
    }

    /// The thread answers with its next iteration.
    pub(super) fn request_answer(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        self.send(AcceptorCommand::Answer(answer));
        answered
    }

    pub(super) fn stop(&self) {
        self.send(AcceptorCommand::Stop);
    }

    /// Sends a command and waits for its reply. An ended acceptor replies to none: it has no open listener.
    async fn run<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> AcceptorCommand) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        self.send(command(reply));
        replied.await.ok()
    }

    fn send(&self, command: AcceptorCommand) {
        let _ = self.commands.send(command);
        // A full pipe wakes the acceptor as well.
        let _ = (&*self.wake).write(&[0]);
    }
}
