//! `tidegate drain`: drains a bucket or an endpoint of a running gateway, and waits until no request is left (G4, G8).

pub(crate) mod target;

use clap::Args;

use crate::drain_command::target::TargetChoice;

/// What is drained, and how it is shown.
#[derive(Args)]
pub(crate) struct DrainChoice {
    #[command(flatten)]
    pub(crate) target: TargetChoice,
    /// Admin listener, as http://127.0.0.1:8090; by default that of the configuration.
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}
