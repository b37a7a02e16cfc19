//! How hard the supervisor tries, and how long callers wait for an actor.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::form::{millis, nonzero_size, seconds, whole};
use crate::section::section;
use crate::walk::key;

section! {
    /// Supervision of the actors.
    pub struct SupervisionConfig {
        /// restarts of one actor within the window before it counts as failed and backs off
        ///
        /// Raise it only for drills; a higher figure hides an actor that cannot stand.
        pub max_restarts: u32 = key("max_restarts", whole(0..=1_000_000), 5);
        /// length of the window in which restarts are counted
        pub window: Duration = key("window_seconds", seconds(0.001..=86_400.0), Duration::from_secs(10));
        /// messages that may wait for one actor; beyond it callers are answered `busy` at once
        ///
        /// Raise it if the status shows rejections while waits in the mailbox stay short.
        pub mailbox_capacity: NonZeroUsize =
            key("mailbox_capacity", whole(1..=1_000_000), nonzero_size(4096));
        /// how long a request waits for an actor's answer before it is refused
        pub ask_timeout: Duration = key("ask_timeout_ms", millis(1..=60_000), Duration::from_secs(1));
    }
}
