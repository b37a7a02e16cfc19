//! What the pool's actor is told about credentials, and what it says about them.

use std::time::Instant;

use slog::{error, info, warn};

use crate::host::Serve;
use crate::mailbox::Request;
use crate::pool::actor::Pool;
use crate::pool::credential::{CredentialId, Setback};
use crate::pool::roster::RosterTurn;

/// The upstream has something against a credential.
pub(crate) struct SetBack {
    pub(crate) credential: CredentialId,
    pub(crate) setback: Setback,
}

impl Request for SetBack {
    type Reply = ();
    const NAME: &'static str = "pool.set_back";

    fn likeness(&self) -> u64 {
        self.credential.0 as u64
    }
}

impl Serve<SetBack> for Pool {
    type Decision = ();

    fn decide(&self, _: &SetBack, _: Instant) {}

    fn apply(&mut self, message: SetBack, (): (), now: Instant) {
        if let Some(roster) = self.state.roster() {
            roster.set_back(message.credential, message.setback, now);
        }
        self.report_credentials();
        self.wait_for_credentials(now);
    }
}

/// A check of the gateway's own did not find a credential accepted.
pub(crate) struct CheckFailed {
    pub(crate) credential: CredentialId,
    /// Whether the upstream refused it by name; else the check is inconclusive.
    pub(crate) is_refused: bool,
}

impl Request for CheckFailed {
    type Reply = ();
    const NAME: &'static str = "pool.check_failed";

    fn likeness(&self) -> u64 {
        self.credential.0 as u64 | u64::from(self.is_refused) << 32
    }
}

impl Serve<CheckFailed> for Pool {
    type Decision = ();

    fn decide(&self, _: &CheckFailed, _: Instant) {}

    fn apply(&mut self, message: CheckFailed, (): (), now: Instant) {
        if let Some(roster) = self.state.roster() {
            roster.check_failed(message.credential, message.is_refused, now);
        }
        self.report_credentials();
        self.wait_for_credentials(now);
    }
}

impl Pool {
    /// Sees to it that the queue is served when a credential comes back that somebody waits for.
    pub(super) fn wait_for_credentials(&mut self, now: Instant) {
        if let Some(due) = self.state.due(now) {
            self.alarm.set(due, now);
        }
    }

    /// Logs what the roster did.
    pub(super) fn report_credentials(&mut self) {
        let Some(roster) = self.state.roster() else { return };
        let turns = roster.take_turns();
        let (log, bucket) = (&self.log, self.names.bucket.as_str());
        let name = |credential: usize| self.names.credentials.get(credential).map_or("", String::as_str);
        for turn in turns {
            match turn {
                RosterTurn::Cooled { credential, time } => {
                    warn!(log, "credential throttled"; "bucket" => bucket, "credential" => name(credential),
                        "for_ms" => u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                }
                RosterTurn::Refused { credential, time } => {
                    error!(log, "credential refused by the upstream: replace it"; "bucket" => bucket,
                        "credential" => name(credential), "tried_again_in_s" => time.as_secs());
                }
                RosterTurn::CameBack { credential } => {
                    info!(log, "credential in use again"; "bucket" => bucket, "credential" => name(credential));
                }
            }
        }
    }
}
