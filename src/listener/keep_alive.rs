//! How long a connection without a request stays open: `server.keep_alive`, or less while the action `keep_alive` is in force.

use std::sync::Arc;
use std::time::Duration;

use tidegate_actors::{Action, OverloadActions};

use crate::worker::Worker;

/// The idle time of a connection that becomes idle while the action is in force.
const SHORTENED: Duration = Duration::from_secs(5);

/// The idle time of the connections of a listener.
#[derive(Clone)]
pub(crate) struct KeepAlive {
    configured: Duration,
    /// `None` on the admin listener, and if the loop runs in memory.
    actions: Option<Arc<OverloadActions>>,
}

impl KeepAlive {
    pub(crate) fn of(worker: &Worker) -> Self {
        let shared = &worker.shared;
        let actions = worker.serves_data().then(|| Arc::clone(shared.actors.monitor.actions()));
        Self { configured: shared.config.server.keep_alive, actions }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn fixed(configured: Duration) -> Self {
        Self { configured, actions: None }
    }

    /// The idle time of a connection that becomes idle now.
    pub(crate) fn idle_time(&self) -> Duration {
        let is_short = self.configured > SHORTENED
            && self.actions.as_ref().is_some_and(|actions| actions.applies(Action::KeepAlive));
        if is_short { SHORTENED } else { self.configured }
    }
}
