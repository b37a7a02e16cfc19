//! Slots that wait for their clients, and which of them are cut (V10). A pure state machine that the pool owns for
//! each bucket's gate and the monitor for the in-flight slots of the process.
//!
//! A slot is reported after its request has waited for its client for over a second: the client does not read its
//! answer or does not send its body. One client may hold half of the slots in this state, and at least one. Beyond
//! that the slot that has waited longest is cut.
//!
//! A report creates an entry here and a [`ClientWaitTicket`] in the request. Dropping the ticket ends the entry
//! without a message; a cut is a flag in the ticket that its connection reads. Ended entries are removed when their
//! client reports again, or by a sweep.
//! *Restart*: a rebuild keeps the entries of all live tickets. The ticket's owner repeats a report that was lost in a
//! crash, because it sees that it was not counted. The gate and the slots do not depend on this table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::mailbox::ActorMessage;
use crate::types::ClientId;

/// The table is swept when it has at least this many entries and twice as many as the last sweep left.
const SWEEP_MIN: usize = 64;

/// One slot that waits.
#[derive(Debug)]
pub(crate) struct ClientWaitEntry {
    client: ClientId,
    since: Instant,
    is_counted: AtomicBool,
    is_over: AtomicBool,
    cut: OnceLock<WaitCut>,
}

/// What decided that a slot is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitCut {
    /// The waiting slots of the client.
    pub waiting: u32,
    /// The most that it may hold: half of all slots.
    pub limit: u32,
}

/// The slots to cut, and why.
#[derive(Debug)]
pub(crate) struct WaitSurplus {
    entries: Vec<Arc<ClientWaitEntry>>,
    why: WaitCut,
}

impl ClientWaitEntry {
    fn is_active(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && self.cut.get().is_none()
    }
}

/// Reports that a slot waits for its client.
pub(crate) struct ReportClientWait(pub(crate) Arc<ClientWaitEntry>);

impl ActorMessage for ReportClientWait {
    type Reply = ();
    const NAME: &'static str = "client_waits.report";

    fn message_fingerprint(&self) -> u64 {
        self.0.client.fingerprint()
    }
}

/// A request's report that its slot waits for its client. Dropping it ends the report.
#[derive(Debug)]
#[must_use = "dropping the ticket ends the report"]
pub struct ClientWaitTicket(Arc<ClientWaitEntry>);

impl ClientWaitTicket {
    pub(crate) fn new(client: ClientId, since: Instant) -> Self {
        Self(Arc::new(ClientWaitEntry {
            client,
            since,
            is_counted: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            cut: OnceLock::new(),
        }))
    }

    pub(crate) fn client_wait(&self) -> Arc<ClientWaitEntry> {
        Arc::clone(&self.0)
    }

    /// Whether the actor has counted it. A report that is not counted for long was lost; the owner repeats it.
    pub fn is_counted(&self) -> bool {
        self.0.is_counted.load(Ordering::Acquire)
    }

    /// Whether the request must be cut, and why: its client holds too many waiting slots, and this one has waited longest.
    pub fn cut(&self) -> Option<WaitCut> {
        self.0.cut.get().copied()
    }

    #[cfg(test)]
    pub(crate) fn is_cut(&self) -> bool {
        self.cut().is_some()
    }
}

impl Drop for ClientWaitTicket {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// The waiting slots of all clients.
#[derive(Debug, Default)]
pub(crate) struct ClientWaits {
    clients: HashMap<ClientId, Vec<Arc<ClientWaitEntry>>>,
    entries: usize,
    sweep_at: usize,
}

impl ClientWaits {
    /// The slots to cut if this one is counted too; `slots` is the number of all slots.
    pub(crate) fn decide(&self, waiting: &Arc<ClientWaitEntry>, slots: usize) -> WaitSurplus {
        let others = self.clients.get(&waiting.client).into_iter().flatten();
        let mut waiting_slots: Vec<&Arc<ClientWaitEntry>> =
            others.chain([waiting]).filter(|waiting| waiting.is_active()).collect();
        let limit = (slots / 2).max(1);
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let why = WaitCut { waiting: count(waiting_slots.len()), limit: count(limit) };
        let surplus = waiting_slots.len().saturating_sub(limit);
        waiting_slots.sort_by_key(|waiting| waiting.since);
        WaitSurplus { entries: waiting_slots.into_iter().take(surplus).map(Arc::clone).collect(), why }
    }

    /// Counts a slot and cuts those that `decide` chose.
    pub(crate) fn apply(&mut self, waiting: Arc<ClientWaitEntry>, surplus: &WaitSurplus) {
        for entry in &surplus.entries {
            entry.cut.get_or_init(|| surplus.why);
        }
        waiting.is_counted.store(true, Ordering::Release);
        let entries = self.clients.entry(waiting.client).or_default();
        let before = entries.len();
        entries.retain(|waiting| waiting.is_active());
        if waiting.is_active() {
            entries.push(waiting);
        }
        self.entries = (self.entries + entries.len()).saturating_sub(before);
        if self.entries >= self.sweep_at.max(SWEEP_MIN) || self.clients.len() >= self.sweep_at.max(SWEEP_MIN)
        {
            self.sweep();
        }
    }

    /// Keeps the live entries after a crash.
    pub(crate) fn rebuild(&mut self) {
        self.sweep();
    }

    fn sweep(&mut self) {
        self.clients.retain(|_, entries| {
            entries.retain(|waiting| waiting.is_active());
            !entries.is_empty()
        });
        self.entries = self.clients.values().map(Vec::len).sum();
        self.sweep_at = 2 * self.entries;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;
    use crate::types::KeyId;

    fn client(number: u32) -> ClientId {
        ClientId::Key(KeyId::new(number))
    }

    fn report(waits: &mut ClientWaits, number: u32, since: Instant, slots: usize) -> ClientWaitTicket {
        let ticket = ClientWaitTicket::new(client(number), since);
        let cut = waits.decide(&ticket.client_wait(), slots);
        waits.apply(ticket.client_wait(), &cut);
        ticket
    }

    /// V10: one client may hold half of the slots; beyond that the one that has waited longest is cut
    #[test]
    fn half_of_the_slots_may_wait_for_one_client() {
        let (mut waits, t0) = (ClientWaits::default(), clock::now());
        let at = |ms: u64| t0 + Duration::from_millis(ms);
        let first = report(&mut waits, 1, at(50), 4);
        let oldest = report(&mut waits, 1, at(10), 4);
        let other = report(&mut waits, 2, at(0), 4);
        assert!(!first.is_cut() && !oldest.is_cut() && first.is_counted());
        let third = report(&mut waits, 1, at(90), 4);
        assert!(oldest.is_cut() && !first.is_cut() && !third.is_cut() && !other.is_cut());
        let fourth = report(&mut waits, 1, at(40), 4);
        assert!(fourth.is_cut() && !first.is_cut(), "the newly reported slot has waited longest");
    }

    /// V10: a slot that resumed does not count, and at least one may wait
    #[test]
    fn ended_waits_do_not_count() {
        let (mut waits, t0) = (ClientWaits::default(), clock::now());
        drop(report(&mut waits, 1, t0, 1));
        let only = report(&mut waits, 1, t0, 1);
        assert!(!only.is_cut());
        let second = report(&mut waits, 1, t0 + Duration::from_millis(1), 1);
        assert!(only.is_cut() && !second.is_cut());
    }

    /// V10, S5: a rebuild keeps every live slot
    #[test]
    fn a_rebuild_keeps_what_is_live() {
        let (mut waits, t0) = (ClientWaits::default(), clock::now());
        let first = report(&mut waits, 1, t0, 4);
        drop(report(&mut waits, 1, t0, 4));
        waits.rebuild();
        assert_eq!(waits.entries, 1);
        let later = t0 + Duration::from_millis(1);
        let _others = [report(&mut waits, 1, later, 4), report(&mut waits, 1, later, 4)];
        assert!(first.is_cut());
    }

    proptest! {
        /// V10, P6: no client holds more than half, none is cut below that, and the table stays small
        #[test]
        fn never_more_than_half(slots in 1_usize..20, steps in prop::collection::vec((0_u32..3, any::<bool>()), 1..400)) {
            let (mut waits, t0) = (ClientWaits::default(), clock::now());
            let mut tickets: Vec<(u32, ClientWaitTicket)> = Vec::new();
            let half = (slots / 2).max(1);
            for (at, (number, resumes)) in steps.into_iter().enumerate() {
                if resumes && let Some(index) = tickets.iter().position(|(client, _)| *client == number) {
                    drop(tickets.swap_remove(index));
                    continue;
                }
                let uncut = |tickets: &[(u32, ClientWaitTicket)]| {
                    tickets.iter().filter(|(client, ticket)| *client == number && !ticket.is_cut()).count()
                };
                let before = uncut(&tickets);
                let ticket = report(&mut waits, number, t0 + Duration::from_millis(at as u64), slots);
                tickets.push((number, ticket));
                prop_assert_eq!(uncut(&tickets), (before + 1).min(half));
                prop_assert!(waits.entries <= SWEEP_MIN.max(2 * 3 * half + 1), "{} entries", waits.entries);
            }
        }
    }
}
