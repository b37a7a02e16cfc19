//! A reload: the limiter's change to the limits of a new configuration (G3).
//!
//! Arrival times stay with their IDs, and tokens in use stay in use. Limits of IDs that the new configuration lacks stay
//! until they are forgotten, because requests of replaced configurations are charged to them.

use std::sync::Arc;
use std::time::Instant;

use crate::change_queue::ChangeQueue;
use crate::limiter::LimiterMetrics;
use crate::limiter::actor::Limiter;
use crate::limiter::exported_limits::LimitTimes;
use crate::limiter::settings::LimiterSettings;
use crate::mailbox::Mailbox;
use crate::types::{BucketId, KeyId};
use crate::wake_up::WakeUp;

/// A change of the limiter.
#[derive(Debug)]
pub(crate) enum LimiterChange {
    /// The limits of a new configuration.
    Reconfigure { settings: Arc<LimiterSettings>, metrics: Arc<LimiterMetrics> },
    /// Buckets and keys that no configuration has any more, in the order of their IDs.
    Forget { buckets: Vec<BucketId>, keys: Vec<KeyId> },
    /// The times of a predecessor.
    Import(Box<LimitTimes>),
    /// A successor has all limits: the export of the times has failed.
    Freeze,
    /// A hand-over has failed.
    Thaw,
    /// After a hand-over at most this many tokens are left to each cell.
    Lower { tokens: u64 },
}

/// Wakes the limiter to apply the changes that wait.
pub(crate) struct ApplyChanges;

impl WakeUp for ApplyChanges {
    type Actor = Limiter;
    const NAME: &'static str = "limiter.apply_changes";

    fn wake(limiter: &mut Limiter, now: Instant) {
        limiter.apply_changes(now);
    }
}

/// The limits of a new configuration. They have no effect until `commit`.
#[must_use = "the new limits have no effect until `commit`"]
pub struct LimiterReconfigure {
    pub(super) mailbox: Mailbox<Limiter>,
    pub(super) changes: Arc<ChangeQueue<LimiterChange>>,
    pub(super) settings: Arc<LimiterSettings>,
    pub(super) metrics: Arc<LimiterMetrics>,
}

impl LimiterReconfigure {
    /// Puts the new limits into effect. The actor applies them before each message that is sent from now on.
    pub fn commit(self) {
        let Self { mailbox, changes, settings, metrics } = self;
        metrics.publish();
        changes.push(LimiterChange::Reconfigure { settings, metrics });
        mailbox.notify(ApplyChanges);
    }
}
