//! The cost of each client over the last ten seconds, in a fixed table that no request waits for.
//!
//! A client is found by a keyed hash in a few neighbouring slots, all atomics. If they belong to other clients, the
//! charge weakens the lightest of them, and takes its slot once it is used up (Misra and Gries): heavy clients stay,
//! and many light ones cannot push them out. Costs are in thousandths of a limiter's token. The owner of the table
//! lets them decay; a charge reads no clock.
//!
//! Two threads that claim one slot, or a charge during a claim, can lose a charge. The costs are estimates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_config::Priority;

use crate::shedding::cursor::CLASSES;
use crate::shedding::fair_share::ClassCosts;
use crate::shedding::order;
use crate::types::{ClientId, IpKey, KeyId};

/// Number of clients.
const SLOTS: usize = 1024;
/// Slots in which a client may be.
const PROBES: usize = 8;
/// The time constant of the decay, in seconds.
const DECAY_SECONDS: f64 = 10.0;
/// Thousandths of a token.
const TOKEN: f64 = 1000.0;
/// A slot with less is free.
const COST_MIN: u64 = 100;
/// A tag has this bit, so that it is never 0, and the kind of the client in the bits below.
const USED: u64 = 4;
const KIND_MASK: u64 = 3;

/// One client.
#[derive(Debug, Default)]
struct Slot {
    /// 0 if it is free.
    tag: AtomicU64,
    /// The value of the client's ID. Its kind is in the tag.
    identity: AtomicU64,
    costs: [AtomicU64; CLASSES],
}

impl Slot {
    fn costs(&self) -> [u64; CLASSES] {
        [0, 1, 2].map(|position: usize| self.costs[position].load(Ordering::Relaxed))
    }

    fn total(&self) -> u64 {
        self.costs().iter().fold(0, |sum, cost| sum.saturating_add(*cost))
    }

    fn change(&self, position: usize, to: impl Fn(u64) -> u64) {
        // The closure returns a value always.
        let _ =
            self.costs[position].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |cost| Some(to(cost)));
    }

    fn decay(&self, factor: f64) {
        for at in 0..CLASSES {
            self.change(at, |own| scaled(own, factor));
        }
    }

    fn free(&self) {
        self.tag.store(0, Ordering::Relaxed);
        self.costs.iter().for_each(|cost| cost.store(0, Ordering::Relaxed));
    }
}

/// A client's cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientCost {
    /// The client.
    pub client: ClientId,
    /// Its part of the cost of all clients.
    pub share: f64,
    /// Tokens per second.
    pub per_second: f64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct ClientTable {
    slots: Box<[Slot]>,
    /// The cost of all clients at the last decay.
    total: AtomicU64,
    /// The cost of all clients by class, also of those that are not in the table.
    class_totals: Slot,
    hasher: ahash::RandomState,
}

impl Default for ClientTable {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        let hasher = ahash::RandomState::new();
        Self { slots, total: AtomicU64::new(0), class_totals: Slot::default(), hasher }
    }
}

impl ClientTable {
    /// Adds a cost in tokens to a client.
    pub(crate) fn charge(&self, client: ClientId, class: Priority, tokens: f64) {
        let (position, cost) = (order::position(class), to_thousandths(tokens));
        self.class_totals.costs[position].fetch_add(cost, Ordering::Relaxed);
        let (tag, identity) = self.tag(client);
        // All slots are searched for the client before a free one is claimed: a slot before its own may have become free.
        let claimed = || self.find(0, tag).find(|slot| claim(slot, 0, (tag, identity)));
        if let Some(slot) = self.find(tag, tag).next().or_else(claimed) {
            return slot.change(position, |own| own.saturating_add(cost));
        }
        let totals = self.probed(tag).map(|slot| (slot, slot.total()));
        let Some((slot, total)) = totals.min_by_key(|(_, total)| *total) else { return };
        if total > cost {
            // Weakened in proportion to its classes.
            for at in 0..CLASSES {
                slot.change(at, |own| own - scaled(own, cost as f64 / total as f64).min(own));
            }
            return;
        }
        let before = slot.tag.load(Ordering::Relaxed);
        if claim(slot, before, (tag, identity)) {
            for at in 0..CLASSES {
                slot.costs[at].store(if at == position { cost } else { 0 }, Ordering::Relaxed);
            }
        }
    }

    /// A client's cost in tokens in a class, and whether it has more than half of the cost of all.
    pub(crate) fn cost(&self, client: ClientId, class: Priority) -> (f64, bool) {
        let (tag, _) = self.tag(client);
        let Some(slot) = self.find(tag, tag).next() else { return (0.0, false) };
        let costs = slot.costs();
        let all = costs.iter().fold(0_u64, |sum, cost| sum.saturating_add(*cost));
        let total = self.total.load(Ordering::Relaxed);
        (costs[order::position(class)] as f64 / TOKEN, all > total / 2 && total > 0)
    }

    /// Lets all costs decay by this time, and frees the slots of clients without any.
    pub(crate) fn decay(&self, period: Duration) {
        let factor = (-period.as_secs_f64() / DECAY_SECONDS).exp();
        let mut total = 0_u64;
        for slot in &self.slots {
            if slot.tag.load(Ordering::Relaxed) == 0 {
                continue;
            }
            slot.decay(factor);
            let left = slot.total();
            if left < COST_MIN {
                slot.free();
            } else {
                total = total.saturating_add(left);
            }
        }
        self.total.store(total, Ordering::Relaxed);
        self.class_totals.decay(factor);
    }

    /// Forgets all clients.
    pub(crate) fn clear(&self) {
        for slot in self.slots.iter().chain([&self.class_totals]) {
            slot.free();
        }
        self.total.store(0, Ordering::Relaxed);
    }

    /// The costs of the clients of each class. One charge stands for `weight` requests.
    pub(crate) fn class_costs(&self, weight: f64) -> [ClassCosts; CLASSES] {
        let mut classes = self.class_totals.costs().map(|total| {
            let total = if total < COST_MIN { 0.0 } else { total as f64 / TOKEN };
            ClassCosts { costs: Vec::new(), total, weight }
        });
        for slot in self.slots.iter().filter(|slot| slot.tag.load(Ordering::Relaxed) != 0) {
            for (class, cost) in classes.iter_mut().zip(slot.costs()) {
                if cost >= COST_MIN {
                    class.costs.push(cost as f64 / TOKEN);
                }
            }
        }
        classes
    }

    /// The heaviest clients, the heaviest first.
    pub(crate) fn heaviest(&self, most: usize) -> Vec<ClientCost> {
        let mut clients: Vec<(ClientId, u64)> =
            self.slots.iter().filter_map(|slot| Some((self.client(slot)?, slot.total()))).collect();
        let total: f64 = clients.iter().map(|(_, cost)| *cost as f64).sum();
        clients.sort_unstable_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        clients.truncate(most);
        let cost = |(client, cost): (ClientId, u64)| ClientCost {
            client,
            share: cost as f64 / total.max(1.0),
            per_second: cost as f64 / TOKEN / DECAY_SECONDS,
        };
        clients.into_iter().map(cost).collect()
    }

    /// With this hash of clients. The table must be empty.
    pub(crate) fn with_hasher(self, hasher: ahash::RandomState) -> Self {
        Self { hasher, ..self }
    }

    /// The hash of a client in a period, in 0.0..1.0.
    pub(crate) fn period_hash(&self, client: ClientId, period: u64) -> f64 {
        let hash = self.hasher.hash_one((client, period));
        f64::from(u32::try_from(hash >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
    }

    fn tag(&self, client: ClientId) -> (u64, u64) {
        let (kind, identity) = match client {
            ClientId::Key(key) => (0, key.index() as u64),
            ClientId::Subject(hash) => (1, hash),
            ClientId::Address(IpKey::V4(bits)) => (2, u64::from(bits)),
            ClientId::Address(IpKey::V6Net(bits)) => (3, bits),
        };
        let hash = self.hasher.hash_one((kind, identity));
        ((hash & !(USED | KIND_MASK)) | USED | kind, identity)
    }

    /// The client of a slot; none if it is free, or if another thread is claiming it.
    fn client(&self, slot: &Slot) -> Option<ClientId> {
        let (tag, identity) = (slot.tag.load(Ordering::Acquire), slot.identity.load(Ordering::Relaxed));
        let client = match tag & KIND_MASK {
            _ if tag == 0 => return None,
            0 => ClientId::Key(KeyId::new(u32::try_from(identity).ok()?)),
            1 => ClientId::Subject(identity),
            2 => ClientId::Address(IpKey::V4(u32::try_from(identity).ok()?)),
            _ => ClientId::Address(IpKey::V6Net(identity)),
        };
        (self.tag(client).0 == tag).then_some(client)
    }

    /// The slots with the tag `found`, of those in which the client of `tag` may be.
    fn find(&self, found: u64, tag: u64) -> impl Iterator<Item = &Slot> {
        self.probed(tag).filter(move |slot| slot.tag.load(Ordering::Relaxed) == found)
    }

    fn probed(&self, tag: u64) -> impl Iterator<Item = &Slot> {
        let first = usize::try_from(tag >> 32).unwrap_or_default();
        (0..PROBES).filter_map(move |step| self.slots.get((first + step) % SLOTS))
    }
}

/// Claims a slot that has this tag. False if another thread was faster.
fn claim(slot: &Slot, before: u64, (tag, identity): (u64, u64)) -> bool {
    let claimed = slot.tag.compare_exchange(before, tag, Ordering::AcqRel, Ordering::Relaxed);
    match claimed {
        Ok(_) => slot.identity.store(identity, Ordering::Relaxed),
        // Another thread claimed it for the same client.
        Err(found) => return found == tag,
    }
    true
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from f64 saturate")]
fn to_thousandths(tokens: f64) -> u64 {
    (tokens * TOKEN) as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts from f64 saturate")]
fn scaled(cost: u64, factor: f64) -> u64 {
    (cost as f64 * factor) as u64
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
