//! The hand-over of the limits to the successor of an upgrade (G8).
//!
//! The predecessor keeps of each cell one token for each of its connections, at most half of the free ones, and no token becomes
//! free there any more. The times that it exports count these as used. So both together never admit more than one process would,
//! counted from the hand-over on. Leases were charged when they were granted, so they cross with the times.

use std::time::{Duration, Instant};

use crate::actor_shell::MessageHandler;
use crate::clock::{self, MonotonicClock};
use crate::ids::Ids;
use crate::limiter::actor::Limiter;
use crate::limiter::exported_limits::{ExportedLimits, LimitTimes};
use crate::limiter::handle::LimiterHandle;
use crate::limiter::reconfigure::{ApplyChanges, LimiterChange};
use crate::mailbox::ActorMessage;

/// How long the export may take. A full table takes some ten milliseconds.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for the times as they cross to a successor, and freezes the limits.
pub(crate) struct ExportLimits {
    connections: u64,
}

impl ActorMessage for ExportLimits {
    type Reply = LimitTimes;
    const NAME: &'static str = "limiter.export";
    const CAN_BE_POISON: bool = false;

    fn message_fingerprint(&self) -> u64 {
        0
    }
}

impl MessageHandler<ExportLimits> for Limiter {
    type Decision = LimitTimes;

    fn decide(&self, message: &ExportLimits, now: Instant) -> LimitTimes {
        self.export(message.connections, now)
    }

    fn apply(&mut self, message: ExportLimits, times: LimitTimes, now: Instant) -> LimitTimes {
        self.freeze(message.connections, now);
        times
    }
}

impl Limiter {
    pub(super) fn export(&self, connections: u64, now: Instant) -> LimitTimes {
        let mut times = LimitTimes { is_lost: self.is_frozen, ..LimitTimes::lost(now) };
        self.state.export(&mut times, connections, now);
        self.per_key.export(&mut times, connections, now);
        times.per_subject = self.per_subject.subjects.export(connections, now);
        times.failed_auth = self.failures.clients.export(connections, now);
        times
    }

    pub(super) fn freeze(&mut self, connections: u64, now: Instant) {
        (self.is_frozen, self.tokens_left_max) = (true, connections);
        self.state.freeze(connections, now);
        self.per_key.freeze(connections, now);
        self.per_subject.subjects.freeze(connections, now);
        self.failures.clients.freeze(connections, now);
    }

    pub(super) fn thaw(&mut self, now: Instant) {
        self.is_frozen = false;
        self.state.thaw(now);
        self.per_key.thaw(now);
        self.per_subject.subjects.thaw(now);
        self.failures.clients.thaw(now);
        // A client that has been locked out for want of the successor's part is free again.
        self.auth_lockout.update(|client| self.failures.wait(client, now), now);
    }

    pub(super) fn lower(&mut self, tokens: u64) {
        if tokens >= self.tokens_left_max {
            return;
        }
        self.tokens_left_max = tokens;
        self.state.lower(tokens);
        self.per_key.lower(tokens);
        self.per_subject.subjects.lower(tokens);
        self.failures.clients.lower(tokens);
    }

    pub(super) fn import(&mut self, times: &LimitTimes, now: Instant) {
        self.state.import(times, now);
        self.per_key.import(times, now);
        self.per_subject.import(times, now);
        self.failures.import(times, now);
        // A limit that is lower than that of the predecessor locks out at once.
        let waits = self.failures.waits(now);
        waits.for_each(|(client, wait)| self.auth_lockout.lock_out(client, now + wait, now));
    }
}

impl LimiterHandle {
    /// The state for a successor. From now on this process has only what `connections` may still use.
    pub(crate) async fn export(
        &self,
        ids: &Ids,
        connections: usize,
        clock: &MonotonicClock,
    ) -> ExportedLimits {
        let connections = u64::try_from(connections).unwrap_or(u64::MAX);
        let asked = self.mailbox.ask_again(|| ExportLimits { connections }, EXPORT_TIMEOUT).await;
        let times = asked.unwrap_or_else(|_| {
            // The successor starts with every burst spent, and gets all of the rate.
            self.send_change(LimiterChange::Freeze);
            LimitTimes::lost(clock::now())
        });
        let mut exported = ExportedLimits::new(times, ids, clock);
        exported.subject_seeds = self.limits.limits_subjects.then(|| self.limits.hasher.seeds());
        exported.set_lockouts(self.limits.auth_lockout.all(clock::now()), clock);
        exported
    }

    /// Goes on from the state of a predecessor. The actor has it before it handles a message that is sent afterwards.
    pub(crate) fn import(&self, exported: ExportedLimits, ids: &Ids, clock: &MonotonicClock, now: Instant) {
        if let Some(limit) = &self.limits.settings.failed_auth {
            let last = now + Duration::from_nanos(limit.gcra.tolerance);
            for (client, until) in exported.lockouts(clock) {
                self.limits.auth_lockout.lock_out(client, until.min(last), now);
            }
        }
        let knows_subjects = exported.subject_seeds.is_some_and(|seeds| self.limits.hasher.adopt(seeds));
        let times = exported.times(ids, knows_subjects, clock, now);
        self.send_change(LimiterChange::Import(Box::new(times)));
    }

    /// Takes back what `export` left to a successor.
    pub(crate) fn resume(&self) {
        self.send_change(LimiterChange::Thaw);
    }

    /// After `export`: each cell has at most this many tokens left.
    pub(crate) fn lower(&self, tokens: usize) {
        self.send_change(LimiterChange::Lower { tokens: u64::try_from(tokens).unwrap_or(u64::MAX) });
    }

    fn send_change(&self, change: LimiterChange) {
        self.changes.push(change);
        self.mailbox.notify(ApplyChanges);
    }
}
