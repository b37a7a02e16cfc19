//! A limit of each client: an address, or the subject of a token. The limit, its clock and the table of arrival times.

use std::hash::Hash;
use std::time::Instant;

use crate::limiter::exported_limits::{CellKey, ExportedTable, Received};
use crate::limiter::gcra::Gcra;
use crate::limiter::limit_clock::{LimitClock, Stop};
use crate::limiter::settings::ConfiguredLimit;
use crate::limiter::table::{TatSlot, TatTable};
use crate::limiter::tat::Tat;

/// The limit and the clients; without a limit there are none.
#[derive(Debug)]
pub(super) struct ClientLimits<K> {
    clock: LimitClock,
    limit: Option<ConfiguredLimit>,
    pub(super) table: TatTable<K>,
}

/// One client under its limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitedClient<'a, K> {
    pub(super) gcra: &'a Gcra,
    pub(super) slot: TatSlot<K>,
    pub(super) tat: Tat,
    /// The time of the clock, in nanoseconds.
    pub(super) now: u64,
}

impl<K: Copy + Eq + Hash> ClientLimits<K> {
    pub(super) fn new(limit: Option<&ConfiguredLimit>, clients_max: usize, now: Instant) -> Self {
        Self { clock: LimitClock::new(now), limit: limit.cloned(), table: TatTable::new(clients_max) }
    }

    /// Replaces the limit. Used tokens stay used. Returns whether times have changed. `lease_left`: see `Pace::convert`.
    pub(super) fn reconfigure(
        &mut self,
        limit: Option<&ConfiguredLimit>,
        clients_max: usize,
        lease_left: u64,
        now: Instant,
    ) -> bool {
        let now = self.clock.nanos(now);
        let is_changed = match (&self.limit, limit) {
            (Some(old), Some(new)) => !old.gcra.has_pace_of(&new.gcra),
            (old, new) => old.is_some() || new.is_some(),
        };
        self.table.reconfigure(self.limit.as_ref(), limit, lease_left, now);
        self.table.set_capacity(clients_max, now);
        self.limit = limit.cloned();
        is_changed
    }

    /// A client and its limit; none without a limit.
    pub(super) fn client(&self, client: K, now: Instant) -> Option<LimitedClient<'_, K>> {
        let (ConfiguredLimit { gcra, .. }, now) = (self.limit.as_ref()?, self.clock.nanos(now));
        let (slot, tat) = self.table.slot(client, now);
        Some(LimitedClient { gcra, slot, tat, now })
    }

    /// The clients with their own slot.
    pub(super) fn own(&self, now: Instant) -> impl Iterator<Item = (K, LimitedClient<'_, K>)> {
        let now = self.clock.nanos(now);
        let clients =
            self.limit.iter().flat_map(|limit| self.table.own().map(move |cell| (&limit.gcra, cell)));
        clients
            .map(move |(gcra, (key, tat))| (key, LimitedClient { gcra, slot: TatSlot::Own(key), tat, now }))
    }

    /// Writes the arrival time after a charge.
    pub(super) fn charge(&mut self, slot: TatSlot<K>, next: Tat, now: Instant) {
        let now = self.clock.nanos(now);
        self.table.write(slot, next, now);
        self.limit.iter().for_each(|limit| limit.peak.record(next.ahead(now)));
    }

    /// Spends every client's burst as of now.
    pub(super) fn rebuild(&mut self, now: Instant) {
        self.table.rebuild(self.clock.nanos(now), self.limit.as_ref());
    }

    /// The times as they cross to a successor. What this process keeps is used.
    pub(super) fn export(&self, connections: u64, now: Instant) -> Option<ExportedTable>
    where
        K: Into<CellKey>,
    {
        let ConfiguredLimit { gcra, .. } = self.limit.as_ref()?;
        Some(ExportedTable::new(gcra, self.table.exported(gcra, connections, self.clock.nanos(now))))
    }

    /// Goes on from the times of a predecessor.
    pub(super) fn import(&mut self, exported: Option<&ExportedTable>, received: Received, now: Instant)
    where
        K: From<CellKey>,
    {
        if let (Some(limit), Some(exported)) = (&self.limit, exported) {
            self.table.import(exported.times(&limit.gcra, received), self.clock.nanos(now));
        }
    }

    /// Keeps what a hand-over leaves to this process: no token becomes free from now on.
    pub(super) fn freeze(&mut self, connections: u64, now: Instant) {
        if let (Some(now), Some(limit)) = (self.clock.stop(connections, now), &self.limit) {
            self.table.freeze(&limit.gcra, connections, now);
        }
    }

    /// Ends `freeze`: the hand-over has failed.
    pub(super) fn thaw(&mut self, now: Instant) {
        if let (Some((stop, now)), Some(limit)) = (self.clock.resume(now), &self.limit) {
            self.table.thaw(limit, stop, now);
        }
    }

    /// Lowers what is left after `freeze`.
    pub(super) fn lower(&mut self, tokens: u64) {
        if let (Some(Stop { at, .. }), Some(limit)) = (self.clock.stopped(), &self.limit) {
            self.table.lower(&limit.gcra, tokens, at);
        }
    }
}
