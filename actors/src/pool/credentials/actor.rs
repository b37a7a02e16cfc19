//! The actor's messages about credentials, and its log lines about them.

use std::time::Instant;

use slog::{error, info, warn};

use crate::actor_shell::MessageHandler;
use crate::events::ActorChange;
use crate::mailbox::ActorMessage;
use crate::pool::actor::Pool;
use crate::pool::credentials::credential::{CredentialError, CredentialId};
use crate::pool::credentials::selector::CredentialEvent;

/// The upstream throttled a credential or may have refused it.
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
        if let Some(selector) = self.state.credential_selector() {
            selector.record_error(message.credential, message.error, now);
        }
        self.log_credential_events();
        self.schedule_wake(now);
    }
}

/// A credential check of the gateway ended without acceptance.
pub(crate) struct ReportFailedCheck {
    pub(crate) credential: CredentialId,
    /// Whether the upstream refused the credential by name; otherwise the check was inconclusive.
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
        if let Some(selector) = self.state.credential_selector() {
            selector.record_failed_check(message.credential, message.is_refused, now);
        }
        self.log_credential_events();
        self.schedule_wake(now);
    }
}

impl Pool {
    /// Schedules a wake-up for the time at which a credential returns that waiters need.
    pub(in crate::pool) fn schedule_wake(&mut self, now: Instant) {
        if let Some(due) = self.state.next_wake(now) {
            self.wake_timer.schedule(due, now);
        }
    }

    /// Logs the events of the credential selector.
    pub(in crate::pool) fn log_credential_events(&mut self) {
        let Some(selector) = self.state.credential_selector() else { return };
        let events = selector.drain_events();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |credential: usize| self.names.credentials.get(credential).map_or("", String::as_str);
        for event in events {
            match event {
                CredentialEvent::Throttled { credential, time } => {
                    self.events.emit(ActorChange::CredentialThrottled { credential, time });
                    warn!(log, "credential throttled"; "bucket" => bucket, "credential" => name(credential),
                        "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                CredentialEvent::Refused { credential, proof, time } => {
                    self.events.emit(ActorChange::CredentialRefused { credential, proof, time });
                    error!(log, "credential refused by the upstream: replace it"; "bucket" => bucket,
                        "credential" => name(credential), "tried_again_in_s" => time.as_secs());
                }
                CredentialEvent::Returned { credential } => {
                    self.events.emit(ActorChange::CredentialReturned { credential });
                    info!(log, "credential returned to rotation"; "bucket" => bucket, "credential" => name(credential));
                }
            }
        }
    }
}
