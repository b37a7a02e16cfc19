//! Shedding: a controller refuses the requests at the bottom of the order while requests wait too long.

use std::time::Duration;

use crate::action_mode::{ActionMode, MODES};
use crate::schema::{key, unset};
use crate::section::section;
use crate::value_type::millis;

section! {
    /// Shedding by the wait inside the gateway.
    #[derive(Copy, Eq)]
    pub struct SheddingConfig {
        /// refuses the lowest classes and the heaviest clients while the gateway itself is slow: `enforce`, `shadow` or `off`
        ///
        /// The wait is the longest of the mean lag of each worker thread's event loop and of the mean wait in the mailboxes of
        /// actors. `shadow` counts and records the requests that it would refuse. Watch `tidegate_shedding_cursor`.
        pub mode: ActionMode = key("mode", MODES, ActionMode::Enforce);
        /// acceptable wait inside the gateway; a longer wait moves the cursor up
        pub target_wait: Duration = key("target_wait_ms", millis(1..=60_000), Duration::from_millis(20));
    }
}

section! {
    /// Shedding by the wait in a bucket's queue.
    #[derive(Copy, Eq)]
    pub struct QueueSheddingConfig {
        /// refuses the lowest classes and the heaviest clients of the bucket while its queue is slow: `enforce`, `shadow` or `off`
        ///
        /// A request is refused before it enters the queue, so a request of a higher class waits less. `shadow` counts and records
        /// the requests that it would refuse. Watch `tidegate_shedding_cursor`.
        pub mode: ActionMode = key("mode", MODES, ActionMode::Enforce);
        /// acceptable wait in the queue; a longer expected wait of a new request moves the cursor up
        pub target_wait: Option<Duration> =
            unset("target_wait_ms", millis(1..=600_000), "half of `queue_timeout_ms`");
    }
}

impl QueueSheddingConfig {
    /// Sets the unset target to half of the queue's timeout. A queue may be long on purpose: its timeout is the longest
    /// acceptable wait, and beyond half of it requests begin to time out.
    pub(crate) fn resolved(self, queue_timeout: Duration) -> Self {
        let half = (queue_timeout / 2).max(Duration::from_millis(1));
        Self { target_wait: Some(self.target_wait.unwrap_or(half)), ..self }
    }
}
