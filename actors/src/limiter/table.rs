//! A bounded table of arrival times: clients beyond the maximum share one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::limiter::gcra::{Gcra, Tat};
use crate::limiter::limit_clock::Stop;
use crate::limiter::settings::ConfiguredLimit;

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
    clients: HashMap<K, Tat, ahash::RandomState>,
    /// The clients in the order in which they are checked for idleness.
    pub(super) sweep: VecDeque<K>,
    clients_max: usize,
    overflow: Tat,
    /// Arrival time of clients that are not in the table: 0, or a spent burst after a rebuild.
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
        let (clients, sweep) = (HashMap::default(), VecDeque::new());
        Self { clients, sweep, clients_max, overflow: 0, floor: 0, before: None }
    }

    /// A client's slot and arrival time.
    pub(super) fn slot(&self, client: K, now: u64) -> (TatSlot<K>, Tat) {
        match self.clients.get(&client) {
            Some(tat) => (TatSlot::Own(client), *tat),
            // The client may have used the shared budget until now. A full budget in addition would exceed its limit.
            None if self.has_capacity(now) => (TatSlot::New(client), self.floor.max(self.overflow)),
            None => (TatSlot::Overflow, self.overflow),
        }
    }

    /// Whether other clients may have used the budget of this slot.
    pub(super) fn is_shared(&self, slot: TatSlot<K>, now: u64) -> bool {
        match slot {
            TatSlot::Own(_) => false,
            TatSlot::New(_) => self.overflow > self.floor.max(now),
            TatSlot::Overflow => true,
        }
    }

    /// Writes a client's arrival time to its slot.
    pub(super) fn write(&mut self, slot: TatSlot<K>, tat: Tat, now: u64) {
        match slot {
            TatSlot::Own(client) => {
                self.clients.insert(client, tat);
            }
            TatSlot::New(client) => {
                self.sweep_two(now);
                self.clients.insert(client, tat);
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
        let spent = now.saturating_add(limit.map_or(0, |limit| limit.gcra.tolerance));
        self.clients.clear();
        self.sweep.clear();
        self.overflow = spent;
        self.floor = spent;
        self.before = None;
    }

    fn times_mut(&mut self) -> impl Iterator<Item = &mut Tat> {
        self.clients.values_mut().chain([&mut self.overflow, &mut self.floor])
    }

    /// The times that cross to a successor, as how far they are ahead. What the predecessor keeps is used. A client with its whole
    /// budget does not differ from one that is not in the table.
    pub(super) fn exported(&self, gcra: &Gcra, connections: u64, now: u64) -> TableTimes<K> {
        let ahead = |tat: Tat| gcra.debited(tat, connections, now).saturating_sub(now);
        let in_use = self.clients.iter().filter(|(_, tat)| **tat > now.max(self.floor));
        TableTimes {
            clients: in_use.map(|(client, tat)| (*client, ahead(*tat))).collect(),
            overflow: ahead(self.overflow),
            floor: ahead(self.floor),
        }
    }

    /// Goes on from the times of a predecessor, which are this far ahead of now.
    pub(super) fn import(&mut self, times: TableTimes<K>, now: u64) {
        let time = |ahead: u64| now.saturating_add(ahead);
        self.overflow = self.overflow.max(time(times.overflow));
        self.floor = self.floor.max(time(times.floor));
        for (client, ahead) in times.clients {
            let tat = self.clients.entry(client).or_insert_with(|| {
                self.sweep.push_back(client);
                0
            });
            *tat = (*tat).max(time(ahead));
        }
    }

    /// The clock stops: what a predecessor keeps is left. No client is idle from now on, so none is removed.
    pub(super) fn freeze(&mut self, gcra: &Gcra, connections: u64, now: u64) {
        let (overflow, floor) = (self.overflow, self.floor);
        self.before = Some(Box::new(TableTimes { clients: self.own().collect(), overflow, floor }));
        self.times_mut().for_each(|tat| *tat = gcra.frozen(*tat, connections, now));
    }

    /// The clock goes on. If the times before were lost, all clients start with their bursts spent.
    pub(super) fn thaw(&mut self, limit: &ConfiguredLimit, stop: Stop, now: u64) {
        let Some(before) = self.before.take() else { return self.rebuild(now, Some(limit)) };
        let gcra = &limit.gcra;
        let thawed = |before, tat| gcra.thawed(before, tat, (stop.connections, stop.at), now);
        let known: HashMap<K, Tat, ahash::RandomState> = before.clients.into_iter().collect();
        let new = before.floor.max(before.overflow);
        for (client, tat) in &mut self.clients {
            *tat = thawed(known.get(client).copied().unwrap_or(new), *tat);
        }
        self.overflow = thawed(before.overflow, self.overflow);
        self.floor = before.floor;
    }

    /// At most this many tokens are left to each client while the clock stands.
    pub(super) fn lower(&mut self, gcra: &Gcra, tokens: u64, now: u64) {
        self.times_mut().for_each(|tat| *tat = gcra.lowered(*tat, tokens, now));
    }

    /// Replaces the limit of all clients. Without an old or a new limit all clients start with an unused burst.
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
        self.times_mut().for_each(|tat| *tat = new.gcra.convert(old.gcra.pace(), *tat, lease_left, now));
    }

    /// Changes the maximum number of clients. Clients beyond a lower one keep their slots until they are idle.
    pub(super) fn set_capacity(&mut self, clients_max: usize, now: u64) {
        self.clients_max = clients_max;
        if self.clients.len() > clients_max && self.floor <= now {
            self.clients.retain(|_, tat| *tat > now);
            self.sweep.retain(|client| self.clients.contains_key(client));
        }
    }

    /// The clients with their own slot, and their arrival times.
    pub(super) fn own(&self) -> impl Iterator<Item = (K, Tat)> {
        self.clients.iter().map(|(client, tat)| (*client, *tat))
    }

    /// Number of clients with their own slot.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether a slot is free, or will be after the two oldest clients are checked.
    fn has_capacity(&self, now: u64) -> bool {
        let idle = |client: &&K| self.clients.get(*client).is_some_and(|tat| self.is_idle(*tat, now));
        let freed = || self.sweep.iter().take(SWEPT_PER_INSERT).filter(idle).count();
        self.clients.len() < self.clients_max || self.clients.len() - freed() < self.clients_max
    }

    /// Whether the client's whole budget is free. Removing a client sets it to the floor, so none is removed before
    /// the floor has passed.
    fn is_idle(&self, tat: Tat, now: u64) -> bool {
        tat <= now && self.floor <= now
    }

    /// Checks the two oldest clients and removes the idle ones.
    fn sweep_two(&mut self, now: u64) {
        for _ in 0..SWEPT_PER_INSERT {
            let Some(client) = self.sweep.pop_front() else { return };
            if self.clients.get(&client).is_some_and(|tat| self.is_idle(*tat, now)) {
                self.clients.remove(&client);
            } else {
                self.sweep.push_back(client);
            }
        }
    }
}
