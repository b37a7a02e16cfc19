//! The process of the successor, from its start to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tidegate_actors::clock;
use tokio::time::sleep;

use super::channel::Channel;
use super::program::{UPGRADE_ON_STDIN, UpgradeProgram};
use crate::service_manager::ServiceManager;

/// How often to check whether the process has ended.
const POLL: Duration = Duration::from_millis(5);
/// The longest wait for the end of a process that has closed its channel, and for that of a killed one.
const END_TIME: Duration = Duration::from_secs(1);

/// A started program, which may become the successor.
pub(crate) struct SuccessorProcess {
    child: Child,
}

impl SuccessorProcess {
    /// Starts the program. Its standard input is the other end of the channel.
    ///
    /// # Errors The program cannot be executed, or there is no free descriptor.
    pub(crate) async fn start(program: UpgradeProgram) -> io::Result<(Self, Channel)> {
        // The start waits until the new process has executed the program, which a slow disk delays.
        let started = tokio::task::spawn_blocking(move || {
            let (own, other) = UnixStream::pair()?;
            let mut command = Command::new(&program.path);
            command.args(&program.arguments).arg(UPGRADE_ON_STDIN);
            ServiceManager::prepare_successor(&mut command);
            // The command holds this end until it is dropped.
            command.stdin(Stdio::from(OwnedFd::from(other)));
            Ok::<_, io::Error>((command.spawn()?, own))
        });
        let (child, own) = started.await.map_err(io::Error::other)??;
        Ok((Self { child }, Channel::new(own)?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the process has ended by itself, and ends it if it has not. `closes`: it has closed its channel, so its end is near.
    pub(crate) async fn end(mut self, closes: bool) -> Option<ExitStatus> {
        let own_end = self.wait(if closes { END_TIME } else { Duration::ZERO }).await;
        if own_end.is_none() {
            let _ = self.child.kill();
            if self.wait(END_TIME).await.is_none() {
                // The kernel keeps a process while a call of it cannot be interrupted.
                tokio::task::spawn_blocking(move || self.child.wait());
            }
        }
        own_end
    }

    /// Waits for the end at most so long.
    async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let due = clock::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if clock::now() < due => sleep(POLL).await,
                _ => return None,
            }
        }
    }
}
