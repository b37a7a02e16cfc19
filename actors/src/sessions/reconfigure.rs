//! A reload: the session cache's change to a new configuration (G3).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::SessionsConfig;

use crate::change_queue::ChangeQueue;
use crate::mailbox::Mailbox;
use crate::sessions::actor::Sessions;
use crate::types::{ConfigNumber, KeyId};
use crate::wake_up::WakeUp;

/// A change of the session cache.
#[derive(Debug)]
pub(crate) enum SessionsChange {
    /// The capacity and the TTL of a new configuration.
    Reconfigure { capacity: NonZeroUsize, ttl: Duration },
    /// Removes the entries of keys, and if `all_tokens` those of all tokens. Configurations before `number` must neither
    /// insert nor find such entries afterwards.
    Purge { keys: Vec<KeyId>, all_tokens: bool, number: ConfigNumber },
    /// No configuration before `oldest` is in use any more.
    Retire { oldest: ConfigNumber },
}

/// Wakes the session cache to apply the changes that wait.
pub(crate) struct ApplyChanges;

impl WakeUp for ApplyChanges {
    type Actor = Sessions;
    const NAME: &'static str = "sessions.apply_changes";

    fn wake(sessions: &mut Sessions, _: Instant) {
        sessions.apply_changes();
    }
}

/// The sender of changes to the session cache.
#[derive(Clone)]
pub(super) struct SessionsChanges {
    pub(super) mailbox: Mailbox<Sessions>,
    pub(super) queue: Arc<ChangeQueue<SessionsChange>>,
}

impl SessionsChanges {
    pub(super) fn send(&self, change: SessionsChange) {
        self.queue.push(change);
        self.mailbox.notify(ApplyChanges);
    }
}

/// The settings of a new configuration. They have no effect until `commit`.
#[must_use = "the new settings have no effect until `commit`"]
pub struct SessionsReconfigure {
    changes: SessionsChanges,
    capacity: NonZeroUsize,
    ttl: Duration,
}

impl SessionsReconfigure {
    pub(super) fn new(changes: SessionsChanges, config: &SessionsConfig) -> Self {
        Self { changes, capacity: config.capacity, ttl: config.ttl }
    }

    /// Puts the new settings into effect.
    pub fn commit(self) {
        let Self { changes, capacity, ttl } = self;
        changes.send(SessionsChange::Reconfigure { capacity, ttl });
    }
}
