//! Arrival times of clients, bounded: those beyond the bound share one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::limiter::gcra::Tat;

/// Clients that each new one has looked at: one makes room for it, the other lets the table shrink.
const SWEPT_PER_INSERT: usize = 2;

/// Where a client's arrival time is kept.
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
    /// The clients in the order in which they are looked at for idleness.
    pub(super) sweep: VecDeque<K>,
    clients_max: usize,
    overflow: Tat,
    /// What a client has used up that is not in the table: nothing, or all since a rebuild.
    floor: Tat,
}

impl<K: Copy + Eq + Hash> TatTable<K> {
    pub(super) fn new(clients_max: usize) -> Self {
        Self { clients: HashMap::default(), sweep: VecDeque::new(), clients_max, overflow: 0, floor: 0 }
    }

    /// A client's place and arrival time.
    pub(super) fn slot(&self, client: K, now: u64) -> (TatSlot<K>, Tat) {
        match self.clients.get(&client) {
            Some(tat) => (TatSlot::Own(client), *tat),
            // It may have lived on the shared budget until now; a fresh one on top would be more than its limit.
            None if self.has_capacity(now) => (TatSlot::New(client), self.floor.max(self.overflow)),
            None => (TatSlot::Overflow, self.overflow),
        }
    }

    /// Whether what is used up at this place may have been used up by others.
    pub(super) fn is_shared(&self, slot: TatSlot<K>, now: u64) -> bool {
        match slot {
            TatSlot::Own(_) => false,
            TatSlot::New(_) => self.overflow > self.floor.max(now),
            TatSlot::Overflow => true,
        }
    }

    /// Writes a client's arrival time to its place.
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

    /// Forgets all clients; who comes from now on has used up what `spent` says.
    pub(super) fn rebuild(&mut self, spent: Tat) {
        self.clients.clear();
        self.sweep.clear();
        self.overflow = spent;
        self.floor = spent;
    }

    /// Clients with a place of their own.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is a place, or will be once the two oldest clients were looked at.
    fn has_capacity(&self, now: u64) -> bool {
        let idle = |client: &K| self.clients.get(client).is_some_and(|tat| self.is_idle(*tat, now));
        self.clients.len() < self.clients_max || self.sweep.iter().take(SWEPT_PER_INSERT).any(idle)
    }

    /// Forgetting sets a client to the floor, so after a rebuild nobody is forgotten before the floor has passed.
    fn is_idle(&self, tat: Tat, now: u64) -> bool {
        tat <= now && self.floor <= now
    }

    /// Looks at the two oldest clients; an idle one, whose whole budget is there again, is forgotten.
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
