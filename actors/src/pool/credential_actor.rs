//! What the pool's actor is told about credentials, and what it says about them.

use std::time::Instant;

use slog::{error, info, warn};

use crate::actor_shell::MessageHandler;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::credential::{CredentialError, CredentialId};
use crate::pool::credential_selector::CredentialEvent;

/// The upstream has something against a credential.
pub(crate) struct ReportCredentialError {
    pub(crate) credential: CredentialId,
    pub(crate) error: CredentialError,
}

impl ActorMessage for ReportCredentialError {
    type Reply = ();
    const NAME: &'static str = "pool.set_back";

    fn message_fingerprint(&self) -> u64 {
        self.credential.0 as u64
    }
}

impl MessageHandler<ReportCredentialError> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportCredentialError, _: Instant) {}

    fn apply(&mut self, message: ReportCredentialError, (): (), now: Instant) {
        if let Some(roster) = self.state.credential_selector() {
            roster.record_error(message.credential, message.error, now);
        }
        self.log_credential_events();
        self.schedule_wake(now);
    }
}

/// A check of the gateway's own did not find a credential accepted.
pub(crate) struct ReportFailedCheck {
    pub(crate) credential: CredentialId,
    /// Whether the upstream refused it by name; else the check is inconclusive.
    pub(crate) is_refused: bool,
}

impl ActorMessage for ReportFailedCheck {
    type Reply = ();
    const NAME: &'static str = "pool.check_failed";

    fn message_fingerprint(&self) -> u64 {
        self.credential.0 as u64 | u64::from(self.is_refused) << 32
    }
}

impl MessageHandler<ReportFailedCheck> for Pool {
    type Decision = ();

    fn decide(&self, _: &ReportFailedCheck, _: Instant) {}

    fn apply(&mut self, message: ReportFailedCheck, (): (), now: Instant) {
        if let Some(roster) = self.state.credential_selector() {
            roster.record_failed_check(message.credential, message.is_refused, now);
        }
        self.log_credential_events();
        self.schedule_wake(now);
    }
}

impl Pool {
    /// Sees to it that the queue is served when a credential comes back that somebody waits for.
    pub(super) fn schedule_wake(&mut self, now: Instant) {
        if let Some(due) = self.state.next_wake(now) {
            self.wake_timer.schedule(due, now);
        }
    }

    /// Logs what the roster did.
    pub(super) fn log_credential_events(&mut self) {
        let Some(roster) = self.state.credential_selector() else { return };
        let turns = roster.drain_events();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |credential: usize| self.names.credentials.get(credential).map_or("", String::as_str);
        for turn in turns {
            match turn {
                CredentialEvent::Throttled { credential, time } => {
                    warn!(log, "credential throttled"; "bucket" => bucket, "credential" => name(credential),
                        "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                CredentialEvent::Refused { credential, time } => {
                    error!(log, "credential refused by the upstream: replace it"; "bucket" => bucket,
                        "credential" => name(credential), "tried_again_in_s" => time.as_secs());
                }
                CredentialEvent::Returned { credential } => {
                    info!(log, "credential in use again"; "bucket" => bucket, "credential" => name(credential));
                }
            }
        }
    }
}
