//! The process of the successor, from its start to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
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

/// A started program, which may become the successor. Its drop kills the process, unless it has got the permission to accept.
pub(crate) struct SuccessorProcess {
    pid: u32,
    /// None after its end, and once it serves.
    child: Option<Child>,
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
            // A caller that has gone drops the process, which kills it.
            Ok::<_, io::Error>((Self::new(command.spawn()?), own))
        });
        let (process, own) = started.await.map_err(io::Error::other)??;
        Ok((process, Channel::new(own)?))
    }

    fn new(child: Child) -> Self {
        Self { pid: child.id(), child: Some(child) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The process may accept from now on, so nothing kills it any more.
    pub(crate) fn serve(&mut self) -> ServingProcess {
        ServingProcess { pid: self.pid, child: self.child.take() }
    }

    /// Returns how the process has ended by itself, and ends it if it has not. `closes`: it has closed its channel, so its end is near.
    pub(crate) async fn end(mut self, closes: bool) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let own_end = wait(child, if closes { END_TIME } else { Duration::ZERO }).await;
        if own_end.is_none() {
            let _ = child.kill();
            wait(child, END_TIME).await;
        }
        own_end
    }
}

impl Drop for SuccessorProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            let _ = child.kill();
            // The kernel keeps a process while a call of it cannot be interrupted. Without a thread it stays a zombie until this one ends.
            let _ = thread::Builder::new().name("successor-end".to_owned()).spawn(move || child.wait());
        }
    }
}

/// The successor, since it may accept. A drop leaves it as it is.
pub(crate) struct ServingProcess {
    pid: u32,
    child: Option<Child>,
}

impl ServingProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// How it ends, if that is soon: it has closed its channel.
    pub(crate) async fn ends_soon(&mut self) -> Option<ExitStatus> {
        wait(self.child.as_mut()?, END_TIME).await
    }
}

/// Waits for the end of a process at most so long.
async fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let due = clock::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if clock::now() < due => sleep(POLL).await,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::{Pid, test_kill_process};

    use super::*;

    fn sleeping() -> Child {
        Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()
    }

    fn exists(pid: u32) -> bool {
        test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
    }

    /// G8: a started program ends with the task that waits for it, unless it serves
    #[tokio::test]
    async fn a_dropped_process_is_killed_unless_it_serves() {
        let dropped = SuccessorProcess::new(sleeping());
        let pid = dropped.pid();
        drop(dropped);
        let due = clock::now() + Duration::from_secs(30);
        while exists(pid) {
            assert!(clock::now() < due, "it has not ended");
            sleep(POLL).await;
        }
        let mut process = SuccessorProcess::new(sleeping());
        let mut serving = process.serve();
        drop(process);
        assert!(exists(serving.pid()) && serving.ended().is_none());
        serving.child.as_mut().unwrap().kill().unwrap();
        assert_eq!(serving.ends_soon().await.unwrap().signal(), Some(9));
    }
}
