//! One event of a step as data.

use serde::Deserialize;

use crate::reload::RequestedBy;

/// An event at an upstream, at the log disk of the container, or at the gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// Time from the start of the step.
    pub(crate) at_seconds: f64,
    /// The bucket of the upstream; none for the log disk and the gateway.
    pub(crate) bucket: Option<String>,
    /// The action.
    pub(crate) action: Action,
    /// How often it happens.
    #[serde(default = "once")]
    pub(crate) times: u64,
    /// Time between two of these. It is not scaled.
    #[serde(default)]
    pub(crate) every_seconds: f64,
    /// How a reload or an upgrade is requested.
    #[serde(default)]
    pub(crate) by: RequestedBy,
    /// Requests later than this after the event are also reported as `…_after_ACTION_settled`; not scaled.
    pub(crate) settle_seconds: Option<f64>,
}

fn once() -> u64 {
    1
}

/// Actions on an upstream, the log disk or the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Stop the upstream.
    Kill,
    /// Start the upstream again.
    Restore,
    /// Freeze the upstream: connections stay open and the kernel accepts new ones, but nothing is read or sent.
    Freeze,
    /// Unfreeze the upstream.
    Thaw,
    /// Fill the log disk.
    FillLogDisk,
    /// Empty the log disk.
    EmptyLogDisk,
    /// Lower the gateway's limit of descriptors to those that it has open.
    ExhaustDescriptors,
    /// Restore the limit.
    FreeDescriptors,
    /// Install the next configuration.
    Reload,
    /// Replace the gateway's process.
    Upgrade,
}

impl Action {
    /// The name in statistics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restore => "restore",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::FillLogDisk => "fill_log_disk",
            Self::EmptyLogDisk => "empty_log_disk",
            Self::ExhaustDescriptors => "exhaust_descriptors",
            Self::FreeDescriptors => "free_descriptors",
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
        }
    }

    /// Whether it acts on an upstream.
    pub(crate) fn is_of_upstream(self) -> bool {
        matches!(self, Self::Kill | Self::Restore | Self::Freeze | Self::Thaw)
    }

    /// Whether it acts on the log disk.
    pub(crate) fn is_of_log_disk(self) -> bool {
        matches!(self, Self::FillLogDisk | Self::EmptyLogDisk)
    }
}
