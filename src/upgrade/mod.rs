//! The upgrade of a running process: what passes between the predecessor and its successor (G8).
//!
//! The predecessor starts the program file again, and both exchange messages over a pair of Unix sockets, which is the successor's
//! standard input.
//! `message.rs` has the messages, `channel.rs` their framing with file descriptors, `program.rs` what is started, `child.rs` the process
//! of the successor, `error.rs` why an upgrade is refused or fails, `successor.rs` the successor's side. The order of the messages on
//! the side of the predecessor is in `src/gateway/upgrade.rs`. The reasons are in `docs/design/upgrade.md`.

pub(crate) mod channel;
pub(crate) mod child;
pub(crate) mod error;
pub(crate) mod message;
mod program;
mod successor;
mod variables;

use zeroize::Zeroizing;

pub use program::UpgradeProgram;
pub use successor::{FailureReport, Inheritance, SuccessorError};
pub use variables::{Variables, pack_variables, unpack_variables};

/// What a process needs for its own upgrade.
pub struct UpgradeContext {
    /// The program that is started.
    pub program: UpgradeProgram,
    /// The variables with secrets, which are not in the environment, packed.
    pub secrets: Zeroizing<Vec<u8>>,
    /// The embedded origin runs in this process. Its files have one writer, so there is no upgrade.
    pub has_origin: bool,
}
