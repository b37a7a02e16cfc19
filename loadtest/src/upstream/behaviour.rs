//! Behaviour of an upstream after it has read a request.

use serde::Deserialize;

use crate::size::Bytes;

/// Behaviours in a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Behaviour {
    /// Answers a GET with `body_bytes` of the pattern, other methods with an empty 200.
    Normal {
        #[serde(default)]
        body_bytes: Bytes,
        /// Answer an upload with its hash.
        #[serde(default)]
        verify: bool,
    },
    /// Answers with headers that show the call: `x-store` is the upstream's own address, `x-store-path` the first segment of the path, and
    /// `x-store-key` the access key ID of the signature.
    Echo {
        #[serde(default)]
        body_bytes: Bytes,
    },
    /// Answers with an event stream: this number of events, one after each interval.
    Events { events: u32, interval_ms: u64 },
    /// Answers after a delay.
    Slow { delay_ms: u64 },
    /// Handles `parallel` requests at once, for `hold_ms` each. The others wait in order without a bound, and requests of disconnected
    /// clients are handled too, as in a real overloaded server.
    Capacity { parallel: usize, hold_ms: u64 },
    /// Sends the first half of a body and then waits until the peer closes.
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
