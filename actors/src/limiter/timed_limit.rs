//! A limit with one arrival time: that of the whole gateway, of a bucket or of a key.

use crate::ids::{Id, IdMap};
use crate::limiter::exported_limits::{ExportedLimit, Received};
use crate::limiter::gcra::Gcra;
use crate::limiter::limit_clock::Stop;
use crate::limiter::settings::ConfiguredLimit;
use crate::limiter::tat::Tat;

/// The limit and its arrival time.
#[derive(Debug)]
pub(super) struct TimedLimit {
    pub(super) limit: ConfiguredLimit,
    pub(super) tat: Tat,
    /// The arrival time before the clock stopped; none if it does not stand, or if that time was lost.
    before: Option<Tat>,
}

impl TimedLimit {
    pub(super) fn new(limit: &ConfiguredLimit) -> Self {
        Self { limit: limit.clone(), tat: Tat::default(), before: None }
    }

    pub(super) fn gcra(&self) -> &Gcra {
        &self.limit.gcra
    }

    /// Writes the arrival time after a charge.
    pub(super) fn charge(&mut self, next: Tat, now: u64) {
        self.tat = next;
        self.limit.peak.record(next.ahead(now));
    }

    /// Spends the burst as of now.
    pub(super) fn rebuild(&mut self, now: u64) {
        self.tat = self.gcra().spent(self.tat, now);
        self.before = None;
    }

    /// The clock stops: what a predecessor keeps is left.
    pub(super) fn freeze(&mut self, connections: u64, now: u64) {
        self.before = Some(self.tat);
        self.tat = self.gcra().frozen(self.tat, connections, now);
    }

    /// The clock goes on. A limit that lost its time meanwhile starts with its burst spent.
    pub(super) fn thaw(&mut self, stop: Stop, now: u64) {
        match self.before.take() {
            Some(before) => {
                self.tat = self.gcra().thawed(before, self.tat, (stop.connections, stop.at), now);
            }
            None => self.rebuild(now),
        }
    }

    /// At most this many tokens are left while the clock stands.
    pub(super) fn lower(&mut self, tokens: u64, now: u64) {
        self.tat = self.gcra().lowered(self.tat, tokens, now);
    }

    /// The time as it crosses to a successor. What the predecessor keeps is used.
    pub(super) fn exported(&self, connections: u64, now: u64) -> ExportedLimit {
        let tat = self.gcra().debited(self.tat, connections, now);
        ExportedLimit { pace: self.gcra().pace(), ahead: tat.since(now).uncapped }
    }

    /// Goes on from the time of a predecessor.
    pub(super) fn import(&mut self, exported: &ExportedLimit, received: Received, now: u64) {
        self.tat = self.tat.latest(exported.ahead(self.gcra(), received).after(now));
    }

    /// Replaces the limit. The tokens in use stay in use, see `Pace::convert`.
    fn reconfigure(&mut self, limit: &ConfiguredLimit, lease_left: u64, now: u64) {
        let (old, new) = (self.gcra().pace(), limit.gcra.pace());
        if old != new {
            self.tat = new.convert(old, self.tat, lease_left, now);
        }
        self.limit = limit.clone();
    }
}

/// Replaces a limit that may be absent. A limit that was absent starts with an unused burst.
pub(super) fn reconfigure(
    timed: &mut Option<TimedLimit>,
    limit: Option<&ConfiguredLimit>,
    lease_left: u64,
    now: u64,
) {
    match (timed.as_mut(), limit) {
        (Some(timed), Some(limit)) => timed.reconfigure(limit, lease_left, now),
        (_, limit) => *timed = limit.map(TimedLimit::new),
    }
}

/// Replaces the limits of a table. IDs that `limits` lacks keep theirs: requests of the replaced configuration use them.
pub(super) fn reconfigure_all<I: Id>(
    timed: &mut IdMap<I, Option<TimedLimit>>,
    limits: &IdMap<I, Option<ConfiguredLimit>>,
    lease_left: u64,
    now: u64,
) {
    for (id, limit) in limits.iter() {
        match timed.get_mut(id) {
            Some(timed) => reconfigure(timed, limit.as_ref(), lease_left, now),
            None => timed.insert(id, limit.as_ref().map(TimedLimit::new)),
        }
    }
}

/// The table of the first configuration.
pub(super) fn table<I: Id>(limits: &IdMap<I, Option<ConfiguredLimit>>) -> IdMap<I, Option<TimedLimit>> {
    limits.iter().map(|(id, limit)| (id, limit.as_ref().map(TimedLimit::new))).collect()
}
