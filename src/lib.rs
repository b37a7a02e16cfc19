//! tidegate: a gateway for S3 buckets and HTTP APIs that stays available.
//!
//! `Gateway::start` is the composition root for the binary and the tests: actors, listeners, and the order in which
//! they start and stop. All decisions under load are in `tidegate-actors`; this crate composes the actors and
//! implements HTTP.

mod admin;
mod auth;
mod body_framing;
mod boxed;
mod buffers;
mod chaos;
mod client_address;
mod decisions;
mod degradation;
mod descriptors;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz_input;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod http;
mod interim;
mod listener;
mod live_requests;
#[cfg(feature = "origin")]
pub mod origin;
mod plots;
mod pressure;
mod process;
pub mod replay;
mod request_head;
mod router;
#[cfg(test)]
#[path = "../tests/support/scratch.rs"]
mod scratch;
mod server;
mod service_manager;
mod shortage;
#[cfg(feature = "bench")]
pub mod signature_bench;
pub mod telemetry;
#[cfg(test)]
mod test_headers;
mod upgrade;
mod upstream;
mod worker;

pub use admin::config::{change as config_change, document as config_document};
pub use admin::problem::problem as config_problem;
pub use descriptors::DescriptorLimitError;
pub use descriptors::raise_limit as raise_descriptor_limit;
pub use gateway::{
    DrainRequested, Gateway, Reload, RunningGateway, StartError, StopCause, StopResult, Upgrade,
    startup_check,
};
pub use server::inherited::InheritedSockets;
pub use service_manager::{ActivatedSockets, ActivationError, ServiceManager};
pub use upgrade::{
    FailureReport, Inheritance, SuccessorError, UpgradeContext, UpgradeProgram, Variables, pack_variables,
    unpack_variables,
};
