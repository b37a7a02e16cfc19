//! A bounded table of arrival times: clients beyond the maximum share one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::limiter::gcra::Gcra;
use crate::limiter::limit_clock::Stop;
use crate::limiter::pace_history::{Cell, PaceChange, PaceHistory};
use crate::limiter::settings::ConfiguredLimit;
use crate::limiter::tat::Tat;

/// Old clients that each new client checks for idleness: one makes room for it, the other lets the table shrink.
const SWEPT_PER_INSERT: usize = 2;

/// The slot of a client's arrival time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TatSlot<K> {
    Own(K),
    New(K),
    Overflow,
}

/// The clients of one limit.
#[derive(Debug)]
pub(super) struct TatTable<K> {
    clients: HashMap<K, Cell, ahash::RandomState>,
    history: PaceHistory,
    /// The clients in the order in which they are checked for idleness.
    pub(super) sweep: VecDeque<K>,
    clients_max: usize,
    overflow: Tat,
    /// Arrival time of clients that are not in the table: 0, or a spent burst after a rebuild. Its uncapped time is that of removed
    /// clients too, and so is that of `overflow`.
    floor: Tat,
    /// The times before the clock stopped; none if it does not stand, or if they were lost.
    before: Option<Box<TableTimes<K>>>,
}

/// The arrival times of a table, as times or as how far they are ahead.
#[derive(Debug, Clone)]
pub(super) struct TableTimes<K> {
    pub(super) clients: Vec<(K, Tat)>,
    pub(super) overflow: Tat,
    pub(super) floor: Tat,
}

impl<K: Copy + Eq + Hash> TatTable<K> {
    pub(super) fn new(clients_max: usize) -> Self {
        let (clients, sweep, history) = (HashMap::default(), VecDeque::new(), PaceHistory::default());
        let (overflow, floor) = (Tat::default(), Tat::default());
        Self { clients, history, sweep, clients_max, overflow, floor, before: None }
    }

    /// A client's slot and arrival time.
    pub(super) fn slot(&self, client: K, now: u64) -> (TatSlot<K>, Tat) {
        match self.clients.get(&client) {
            Some(cell) => (TatSlot::Own(client), self.history.tat(*cell)),
            // The client may have used the shared budget until now. A full budget in addition would exceed its limit.
            None if self.has_capacity(now) => (TatSlot::New(client), self.floor.latest(self.overflow)),
            None => (TatSlot::Overflow, self.overflow),
        }
    }

    /// Whether other clients may have used the budget of this slot.
    pub(super) fn is_shared(&self, slot: TatSlot<K>, now: u64) -> bool {
        match slot {
            TatSlot::Own(_) => false,
            TatSlot::New(_) => self.overflow.at > self.floor.at.max(now),
            TatSlot::Overflow => true,
        }
    }

    /// Writes a client's arrival time to its slot.
    pub(super) fn write(&mut self, slot: TatSlot<K>, tat: Tat, now: u64) {
        match slot {
            TatSlot::Own(client) => {
                self.clients.insert(client, self.history.cell(tat));
            }
            TatSlot::New(client) => {
                self.sweep_two(now);
                self.clients.insert(client, self.history.cell(tat));
                self.sweep.push_back(client);
            }
            TatSlot::Overflow => {
                self.sweep_two(now);
                self.overflow = tat;
            }
        }
    }

    /// Removes all clients. Every client starts with its burst spent.
    pub(super) fn rebuild(&mut self, now: u64, limit: Option<&ConfiguredLimit>) {
        let times = self.own().map(|(_, tat)| tat).chain([self.overflow, self.floor]);
        let latest = times.fold(Tat::default(), Tat::latest);
        let spent = limit.map_or(latest, |limit| limit.gcra.spent(latest, now));
        (self.overflow, self.floor) = (spent, spent);
        self.clients.clear();
        self.history.clear();
        self.sweep.clear();
        self.before = None;
    }

    /// Replaces all times.
    fn update_all(&mut self, next: impl Fn(Tat) -> Tat) {
        for cell in self.clients.values_mut() {
            *cell = self.history.cell(next(self.history.tat(*cell)));
        }
        self.history.clear();
        (self.overflow, self.floor) = (next(self.overflow), next(self.floor));
    }

    /// The times that cross to a successor, as how far they are ahead. What the predecessor keeps is used. A client with its whole
    /// budget does not differ from one that is not in the table.
    pub(super) fn exported(&self, gcra: &Gcra, connections: u64, now: u64) -> TableTimes<K> {
        let ahead = |tat: Tat| gcra.debited(tat, connections, now).since(now);
        let in_use = self.own().filter(|(_, tat)| tat.uncapped > now.max(self.floor.uncapped));
        TableTimes {
            clients: in_use.map(|(client, tat)| (client, ahead(tat))).collect(),
            overflow: ahead(self.overflow),
            floor: ahead(self.floor),
        }
    }

    /// Goes on from the times of a predecessor, which are this far ahead of now.
    pub(super) fn import(&mut self, times: TableTimes<K>, now: u64) {
        self.overflow = self.overflow.latest(times.overflow.after(now));
        self.floor = self.floor.latest(times.floor.after(now));
        for (client, ahead) in times.clients {
            let cell = self.clients.entry(client).or_insert_with(|| {
                self.sweep.push_back(client);
                self.history.cell(Tat::default())
            });
            *cell = self.history.cell(self.history.tat(*cell).latest(ahead.after(now)));
        }
    }

    /// The clock stops: what a predecessor keeps is left. No client is idle from now on, so none is removed.
    pub(super) fn freeze(&mut self, gcra: &Gcra, connections: u64, now: u64) {
        let (overflow, floor) = (self.overflow, self.floor);
        self.before = Some(Box::new(TableTimes { clients: self.own().collect(), overflow, floor }));
        self.update_all(|tat| gcra.frozen(tat, connections, now));
    }

    /// The clock goes on. If the times before were lost, all clients start with their bursts spent.
    pub(super) fn thaw(&mut self, limit: &ConfiguredLimit, stop: Stop, now: u64) {
        let Some(before) = self.before.take() else { return self.rebuild(now, Some(limit)) };
        let gcra = &limit.gcra;
        let thawed = |before, tat| gcra.thawed(before, tat, (stop.connections, stop.at), now);
        let known: HashMap<K, Tat, ahash::RandomState> = before.clients.into_iter().collect();
        let new = before.floor.latest(before.overflow);
        for (client, cell) in &mut self.clients {
            let before = known.get(client).copied().unwrap_or(new);
            *cell = self.history.cell(thawed(before, self.history.tat(*cell)));
        }
        self.overflow = thawed(before.overflow, self.overflow);
        self.floor = before.floor;
    }

    /// At most this many tokens are left to each client while the clock stands.
    pub(super) fn lower(&mut self, gcra: &Gcra, tokens: u64, now: u64) {
        self.update_all(|tat| gcra.lowered(tat, tokens, now));
    }

    /// Replaces the limit of all clients, without a walk over them: each is converted when it is used next. Without an old or a new
    /// limit all clients start with an unused burst.
    pub(super) fn reconfigure(
        &mut self,
        old: Option<&ConfiguredLimit>,
        new: Option<&ConfiguredLimit>,
        lease_left: u64,
        now: u64,
    ) {
        let Some((old, new)) = old.zip(new) else {
            *self = Self::new(self.clients_max);
            return;
        };
        if old.gcra.has_pace_of(&new.gcra) {
            return;
        }
        if self.history.is_full() {
            self.update_all(|tat| tat);
        }
        let change = PaceChange { at: now, lease_left, old: old.gcra.pace(), new: new.gcra.pace() };
        self.history.push(change);
        (self.overflow, self.floor) = (change.convert(self.overflow), change.convert(self.floor));
    }

    /// Changes the maximum number of clients. Clients beyond a lower one keep their slots until they are idle.
    pub(super) fn set_capacity(&mut self, clients_max: usize, now: u64) {
        let is_lower = clients_max < self.clients_max;
        self.clients_max = clients_max;
        if is_lower && self.clients.len() > clients_max && self.floor.at <= now {
            let Self { clients, history, .. } = self;
            let mut uncapped = 0;
            clients.retain(|_, cell| {
                let tat = history.tat(*cell);
                let is_idle = tat.at <= now;
                uncapped = uncapped.max(if is_idle { tat.uncapped } else { 0 });
                !is_idle
            });
            self.keep_uncapped(uncapped);
            self.sweep.retain(|client| self.clients.contains_key(client));
        }
    }

    /// The clients with their own slot, and their arrival times.
    pub(super) fn own(&self) -> impl Iterator<Item = (K, Tat)> {
        self.clients.iter().map(|(client, cell)| (*client, self.history.tat(*cell)))
    }

    /// Number of clients with their own slot.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether a slot is free, or will be after the two oldest clients are checked.
    fn has_capacity(&self, now: u64) -> bool {
        let idle = |client: &&K| self.clients.get(*client).is_some_and(|cell| self.is_idle(*cell, now));
        let freed = || self.sweep.iter().take(SWEPT_PER_INSERT).filter(idle).count();
        self.clients.len() < self.clients_max || self.clients.len() - freed() < self.clients_max
    }

    /// Whether the client's whole budget is free. Removing a client sets it to the floor, so none is removed before
    /// the floor has passed. Tokens beyond a lowered burst keep a client only while slots are free.
    fn is_idle(&self, cell: Cell, now: u64) -> bool {
        let (tat, is_full) = (self.history.tat(cell), self.clients.len() >= self.clients_max);
        let has_passed = is_full || tat.uncapped <= now.max(self.floor.uncapped);
        self.floor.at <= now && tat.at <= now && has_passed
    }

    /// Keeps the tokens of a removed client in the times that it has from now on.
    fn keep_uncapped(&mut self, uncapped: u64) {
        for tat in [&mut self.floor, &mut self.overflow] {
            tat.uncapped = tat.uncapped.max(uncapped);
        }
    }

    /// Checks the two oldest clients and removes the idle ones.
    fn sweep_two(&mut self, now: u64) {
        for _ in 0..SWEPT_PER_INSERT {
            let Some(client) = self.sweep.pop_front() else { return };
            match self.clients.get(&client).copied().filter(|cell| self.is_idle(*cell, now)) {
                Some(cell) => {
                    self.clients.remove(&client);
                    self.keep_uncapped(self.history.tat(cell).uncapped);
                }
                None => self.sweep.push_back(client),
            }
        }
    }
}
