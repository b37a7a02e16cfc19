//! Upgrades the gateway by `tidegate upgrade` or SIGUSR2, and follows the serving process (G8).
//!
//! An upgrade is done when a child of the process serves and the process itself has ended with exit code 0. Before that another upgrade
//! would be refused. The successor then is a child of the load generator, which adopts orphans.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions, waitpid};

use crate::configuration::SharedTimeline;
use crate::process::{self, ServingId};
use crate::reload::{on_thread, send_signal};
use crate::run::RunError;
use crate::{clock, usage};

/// The longest time of an upgrade, from the request to the end of the predecessor.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// The gateway that is upgraded.
pub(crate) struct UpgradeTarget {
    pub(crate) process: ServingId,
    pub(crate) binary: PathBuf,
    pub(crate) configuration: PathBuf,
}

/// The successor that the load generator has adopted.
fn adopted_successor() -> Option<u32> {
    let is_successor = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == b"--upgrade-on-stdin")
    };
    usage::tree(std::process::id()).into_iter().skip(1).find(is_successor)
}

impl UpgradeTarget {
    /// Upgrades it. Returns the time from the request to the end of the predecessor.
    pub(crate) async fn upgrade(
        &self,
        by_signal: bool,
        timeline: &SharedTimeline,
    ) -> Result<Duration, RunError> {
        process::reap_orphans()?;
        let predecessor = self.process.get();
        let begin = clock::now();
        timeline.borrow_mut().begin_upgrade(begin);
        if by_signal {
            send_signal(&self.process, Signal::USR2)?;
        } else {
            self.by_command().await?;
        }
        let deadline = begin + UPGRADE_TIMEOUT;
        let mut successor = None;
        loop {
            successor = on_thread(move || Ok(usage::tree(predecessor))).await?.get(1).copied().or(successor);
            let pid = process::pid(predecessor);
            let ended = waitpid(pid, WaitOptions::NOHANG).map_err(std::io::Error::from)?;
            // A predecessor without connections ends at once, and its child may not have been seen before.
            if ended.is_some() && successor.is_none() {
                successor = on_thread(|| Ok(adopted_successor())).await?;
            }
            match (ended, successor) {
                (Some((_, status)), Some(successor)) if status.exit_status() == Some(0) => {
                    self.process.follow(successor);
                    break;
                }
                (Some((_, status)), _) => {
                    let text =
                        format!("process {predecessor} ended ({status:?}), its child is {successor:?}");
                    return Err(RunError::Change(text));
                }
                (None, _) if clock::now() > deadline => {
                    let text = format!("process {predecessor} has not ended, its child is {successor:?}");
                    return Err(RunError::Change(text));
                }
                (None, _) => tokio::time::sleep(POLL).await,
            }
        }
        let end = clock::now();
        timeline.borrow_mut().end_upgrade(end);
        Ok(end - begin)
    }

    /// Runs `tidegate upgrade`, which ends when the successor serves.
    async fn by_command(&self) -> Result<(), RunError> {
        let mut command = Command::new(&self.binary);
        command.arg("upgrade").arg("--config").arg(&self.configuration);
        let output = on_thread(move || command.output()).await?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Err(RunError::Change(format!("tidegate upgrade: {}: {text}", output.status)))
    }
}
