//! Restart budget of the supervisor, mailbox size and timeout of calls to actors.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::schema::key;
use crate::section::section;
use crate::value_type::{millis, nonzero_size, seconds, whole};

section! {
    /// Supervision of the actors.
    pub struct SupervisionConfig {
        /// restarts of one actor within `window_seconds` before it counts as failed and restarts with a backoff
        ///
        /// Raise it only for drills: a high value hides an actor that crashes again and again.
        pub max_restarts: u32 = key("max_restarts", whole(0..=1_000_000), 5);
        /// length of the window in which restarts are counted
        pub window: Duration = key("window_seconds", seconds(0.001..=86_400.0), Duration::from_secs(10));
        /// messages that may wait in one actor's mailbox; callers beyond it get `busy` at once
        ///
        /// Raise it if the status shows rejections while the waits in the mailbox stay short.
        pub mailbox_capacity: NonZeroUsize =
            key("mailbox_capacity", whole(1..=1_000_000), nonzero_size(4096));
        /// how long a request waits for the reply of an actor before it is refused
        pub ask_timeout: Duration = key("ask_timeout_ms", millis(1..=60_000), Duration::from_secs(1));
    }
}
