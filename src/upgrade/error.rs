//! Why an upgrade is refused or fails. In each case the running process goes on.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::message::{MAGIC, PROTOCOL};

/// What the running process is, as far as it decides whether an upgrade may begin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UpgradeConditions {
    pub(crate) pid: u32,
    /// The predecessor of this process has not ended yet.
    pub(crate) predecessor: Option<u32>,
    pub(crate) is_draining: bool,
    pub(crate) has_origin: bool,
}

impl UpgradeConditions {
    /// Why no upgrade may begin.
    pub(crate) fn refusal(self) -> Option<UpgradeError> {
        match self {
            Self { is_draining: true, .. } => Some(UpgradeError::Draining),
            Self { predecessor: Some(pid), .. } => Some(UpgradeError::PredecessorDrains(pid)),
            Self { has_origin: true, .. } => Some(UpgradeError::EmbeddedOrigin),
            Self { pid: 1, .. } => Some(UpgradeError::FirstProcess),
            _ => None,
        }
    }
}

/// What the predecessor waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeStep {
    /// The first message of the new process.
    Hello,
    /// The configuration, the sockets and the actors of the new process.
    Preparation,
    /// A reload of this process, which ends before the hand-over.
    Reload,
    /// The hand-over of the state. No process accepts meanwhile.
    HandOver,
}

impl UpgradeStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "before it reported itself as a tidegate",
            Self::Preparation => "while it loaded its configuration and prepared its start",
            Self::Reload => "while it waited for the end of a reload of this process",
            Self::HandOver => "during the hand-over of the state",
        }
    }
}

/// Why an upgrade was refused or has failed.
#[derive(Debug, Error)]
pub(crate) enum UpgradeError {
    #[error(
        "this process is PID 1, the first process of a container, which ends with it; roll the containers: start one of the new version, \
         then stop this one"
    )]
    FirstProcess,
    #[error(
        "the predecessor of the last upgrade (PID {0}) still drains, and a third process is refused; wait until `predecessors` of \
         /status is empty, or end the predecessor with SIGTERM"
    )]
    PredecessorDrains(u32),
    #[error("an upgrade runs already; wait for its result")]
    Running,
    #[error("this gateway drains or stops, so it starts no successor")]
    Draining,
    #[error(
        "the embedded origin stores its files in this process, and two processes must not write them; configure a bucket, or restart \
         the gateway"
    )]
    EmbeddedOrigin,
    #[error("{} cannot be started: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error(
        "{} is not a tidegate that can take over: it did not send `{MAGIC}` first; put the program of a tidegate there",
        program.display()
    )]
    OtherProgram { program: PathBuf },
    #[error(
        "the new process (version {version}) has protocol {protocol} of upgrades, this one has {PROTOCOL}; restart the gateway, or upgrade \
         over a version that has both"
    )]
    Protocol { protocol: u32, version: String },
    #[error("the new process ended {}{}; its own messages are in the log or on stderr", step.as_str(), ended(*.status))]
    Ended { step: UpgradeStep, status: Option<ExitStatus> },
    #[error("the new process was ended because it hung {}: nothing came within {} s", step.as_str(), limit.as_secs_f64())]
    Hung { step: UpgradeStep, limit: Duration },
    #[error("the new process failed: {0}")]
    Failed(String),
    #[error("the new process sent another message than the protocol has at its place")]
    UnexpectedMessage,
    #[error("the new process sent more descriptors with a message than the protocol has")]
    TooManyDescriptors,
    #[error("the channel to the new process failed: {0}")]
    Channel(#[from] io::Error),
    #[error("the gateway was stopped during the upgrade: the new process was ended, and this one drains")]
    Stopped,
    #[error(
        "the upgrade ended by a defect of tidegate; report it with the panic in the log before this line"
    )]
    Panicked,
}

impl UpgradeError {
    /// Whether nothing was started.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::FirstProcess
                | Self::PredecessorDrains(_)
                | Self::Running
                | Self::Draining
                | Self::EmbeddedOrigin
        )
    }

    /// Adds how the process has ended by itself.
    pub(crate) fn with_status(self, own_end: Option<ExitStatus>) -> Self {
        match (self, own_end) {
            (Self::Ended { step, .. }, status) => Self::Ended { step, status },
            (error, _) => error,
        }
    }
}

/// ` (exit status: 1)`
fn ended(status: Option<ExitStatus>) -> String {
    status.map(|status| format!(" ({status})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G8: PID 1, a third process, the embedded origin and a draining gateway are refused, each with what helps
    #[test]
    fn an_upgrade_is_refused_where_it_cannot_be() {
        let usual = UpgradeConditions { pid: 7, ..UpgradeConditions::default() };
        assert!(usual.refusal().is_none());
        for (conditions, words) in [
            (UpgradeConditions { pid: 1, ..usual }, "roll the containers"),
            (UpgradeConditions { predecessor: Some(6), ..usual }, "PID 6) still drains"),
            (UpgradeConditions { has_origin: true, ..usual }, "embedded origin"),
            (
                UpgradeConditions { is_draining: true, predecessor: Some(6), pid: 1, ..usual },
                "drains or stops",
            ),
        ] {
            let refusal = conditions.refusal().unwrap();
            assert!(refusal.is_refusal() && refusal.to_string().contains(words), "{refusal}");
        }
        assert!(!UpgradeError::Stopped.is_refusal());
    }
}
