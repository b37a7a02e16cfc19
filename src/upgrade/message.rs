//! The messages between a predecessor and its successor, as JSON.
//!
//! Unknown fields are ignored, and a field that a later version adds needs a default, so that versions can differ. A change that breaks
//! this raises [`PROTOCOL`].

use serde::{Deserialize, Serialize};
use tidegate_actors::{ActorsState, PredecessorUse};
use zeroize::Zeroize as _;

use crate::process::drain_progress::DrainProgress;

/// Marks the program among others.
pub(crate) const MAGIC: &str = "tidegate-upgrade";
/// The version of the messages.
pub(crate) const PROTOCOL: u32 = 1;
/// The longest first message. It can come from any program.
pub(crate) const HELLO_BYTES_MAX: usize = 4 << 10;
/// The longest message after that. The state of the actors grows with their tables.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What the successor sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(crate) enum SuccessorMessage {
    /// The first message. Before it the predecessor sends nothing.
    Hello { magic: String, protocol: u32, version: String, pid: u32 },
    /// The configuration is loaded, and everything runs except the acceptor. `sockets` are the names of the inherited sockets that it
    /// uses.
    Prepared { sockets: Vec<String> },
    /// The state is imported. It accepts as soon as it may. The pipe that it reads the log of the predecessor from follows as a descriptor.
    Ready,
    /// It ends, for this reason.
    Failed { reason: String },
}

/// What the predecessor sends.
#[derive(Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "lowercase")]
pub(crate) enum PredecessorMessage {
    /// What the successor starts with. The sockets follow as descriptors.
    Inherit(Inherit),
    /// The state of the actors from the time at which no process accepts.
    State { actors: Box<ActorsState> },
    /// The successor serves from now on.
    Accept,
    /// How far the drain of the predecessor is, and what it may still use of each limit.
    Progress { drain: DrainProgress, limits: PredecessorUse },
}

/// What the successor starts with.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Inherit {
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// The variables with secrets, packed, in base64.
    pub(crate) variables: String,
    /// The keys of TLS tickets, in base64.
    #[serde(default)]
    pub(crate) ticket_keys: String,
    /// The names of the sockets, in the order of their descriptors.
    pub(crate) sockets: Vec<String>,
    /// The names of those that a service manager has open too.
    #[serde(default)]
    pub(crate) activated: Vec<String>,
}

impl Drop for Inherit {
    fn drop(&mut self) {
        self.variables.zeroize();
        self.ticket_keys.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// G8: a field of a later version is ignored, and a section that an earlier version lacks is empty
    #[test]
    fn messages_of_other_versions_are_read() {
        let later = json!({ "message": "prepared", "sockets": ["data"], "later": [1, 2] });
        let SuccessorMessage::Prepared { sockets } = serde_json::from_value(later).unwrap() else { panic!() };
        assert_eq!(sockets, ["data"]);
        let earlier =
            json!({ "message": "inherit", "pid": 7, "version": "0.1", "variables": "", "sockets": [] });
        let PredecessorMessage::Inherit(inherit) = serde_json::from_value(earlier).unwrap() else { panic!() };
        assert_eq!((inherit.pid, inherit.ticket_keys.as_str()), (7, ""));
    }
}
