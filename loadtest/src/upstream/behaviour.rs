//! What an upstream does with a request once it has read it.

use serde::Deserialize;

use crate::size::Bytes;

/// The ways to behave, as a scenario spells them.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Behaviour {
    /// Answers a GET with so many bytes of the pattern, anything else with an empty 200.
    Normal {
        #[serde(default)]
        body_bytes: Bytes,
        /// Hash what is uploaded and answer with the hash.
        #[serde(default)]
        verify: bool,
    },
    /// Answers after a while.
    Slow { delay_ms: u64 },
    /// Works on so many requests at once, each for so long; the others wait in order, however many they are, and
    /// work is done even for a client that has left: what a real overloaded server does.
    Capacity { parallel: usize, hold_ms: u64 },
    /// Answers with the first half of so many bytes, and waits for the other side to leave.
    Stall { body_bytes: Bytes },
    /// Reads the request and never answers.
    Hang,
    /// Answers 503.
    Unavailable,
    /// Reads the request and resets the connection.
    Reset,
    /// Does not listen.
    Refused,
}
