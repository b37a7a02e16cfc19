//! The time of an upgrade in which this process accepts nothing and has only its part of the limits (G8).

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::actors_handover::resume_limits;
use crate::process::configurations::Configurations;
use crate::server::AcceptorHandle;

/// Accepting is suspended, and the limits are lowered. Its drop undoes both: a panic or a cancelled task leaves neither behind.
pub(super) struct Suspension {
    configurations: Arc<Configurations>,
    acceptor: Arc<AcceptorHandle>,
    /// Dropped after the rest is undone.
    _lock: OwnedMutexGuard<()>,
    /// The successor serves, so nothing is undone.
    is_final: bool,
}

impl Suspension {
    /// Must exist before anything is suspended. Waits for an order that is under way.
    pub(super) async fn new(configurations: &Arc<Configurations>, acceptor: &Arc<AcceptorHandle>) -> Self {
        let lock = Arc::clone(&configurations.current().process.hand_over_lock);
        Self {
            _lock: lock.lock_owned().await,
            configurations: Arc::clone(configurations),
            acceptor: Arc::clone(acceptor),
            is_final: false,
        }
    }

    /// The successor may accept.
    pub(super) fn stay(mut self) {
        self.is_final = true;
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        if !self.is_final {
            let shared = self.configurations.current();
            shared.process.serve_again();
            resume_limits(&shared);
            self.acceptor.resume();
        }
    }
}
