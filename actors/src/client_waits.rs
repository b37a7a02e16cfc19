//! Places that wait for their clients, and which of them are cut (V10). A pure state machine that the pool keeps for each bucket's
//! gate and the monitor for the process's slots.
//!
//! A place is reported only after its request has waited for its client for over a second: an answer is unread, or a body is not
//! sent. One client may hold half of the places in this way, and at least one. Beyond that the place that has waited longest is cut.
//!
//! The report leaves an entry here and a [`WaitTicket`] with the request. Dropping the ticket ends the entry without a message, as
//! a permit's count falls; a cut is a flag in the ticket that its connection reads. Ended entries are removed when their client
//! reports again, or when they outnumber the others.
//! *Restart*: a rebuild keeps the entries of all live tickets. A report that went down with a crash is made again by the
//! ticket's owner, who sees that it was not counted. The gate itself and the slots do not depend on this table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::mailbox::ActorMessage;
use crate::types::ClientId;

/// Entries above this number are swept once they are twice as many as the last sweep left.
const SWEEP_MIN: usize = 64;

/// One place that waits.
#[derive(Debug)]
pub(crate) struct ClientWaitEntry {
    client: ClientId,
    since: Instant,
    is_counted: AtomicBool,
    is_over: AtomicBool,
    is_cut: AtomicBool,
}

impl ClientWaitEntry {
    fn is_active(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && !self.is_cut.load(Ordering::Acquire)
    }
}

/// A place waits for its client.
pub(crate) struct ReportClientWait(pub(crate) Arc<ClientWaitEntry>);

impl ActorMessage for ReportClientWait {
    type Reply = ();
    const NAME: &'static str = "client_waits.report";

    fn message_fingerprint(&self) -> u64 {
        self.0.client.fingerprint()
    }
}

/// A request's report that its place waits for its client. Dropping it ends the report.
#[derive(Debug)]
#[must_use = "a report that is dropped is over"]
pub struct ClientWaitTicket(Arc<ClientWaitEntry>);

impl ClientWaitTicket {
    pub(crate) fn new(client: ClientId, since: Instant) -> Self {
        Self(Arc::new(ClientWaitEntry {
            client,
            since,
            is_counted: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
        }))
    }

    pub(crate) fn client_wait(&self) -> Arc<ClientWaitEntry> {
        Arc::clone(&self.0)
    }

    /// Whether the actor has counted it. A report that is not counted for long was lost and is made again.
    pub fn is_counted(&self) -> bool {
        self.0.is_counted.load(Ordering::Acquire)
    }

    /// Whether the request is to be cut: its client holds too many such places, and this one has waited longest.
    pub fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::Acquire)
    }
}

impl Drop for ClientWaitTicket {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// The places of all clients that wait.
#[derive(Debug, Default)]
pub(crate) struct ClientWaits {
    clients: HashMap<ClientId, Vec<Arc<ClientWaitEntry>>>,
    entries: usize,
    sweep_at: usize,
}

impl ClientWaits {
    /// Which places are cut if this one is counted too, of so many places in all.
    pub(crate) fn decide(&self, waiting: &Arc<ClientWaitEntry>, places: usize) -> Vec<Arc<ClientWaitEntry>> {
        let others = self.clients.get(&waiting.client).into_iter().flatten();
        let mut held: Vec<&Arc<ClientWaitEntry>> =
            others.chain([waiting]).filter(|waiting| waiting.is_active()).collect();
        let surplus = held.len().saturating_sub((places / 2).max(1));
        held.sort_by_key(|waiting| waiting.since);
        held.into_iter().take(surplus).map(Arc::clone).collect()
    }

    /// Counts a place and cuts what `decide` chose.
    pub(crate) fn apply(&mut self, waiting: Arc<ClientWaitEntry>, cut: &[Arc<ClientWaitEntry>]) {
        for surplus in cut {
            surplus.is_cut.store(true, Ordering::Release);
        }
        waiting.is_counted.store(true, Ordering::Release);
        let of_client = self.clients.entry(waiting.client).or_default();
        let before = of_client.len();
        of_client.retain(|waiting| waiting.is_active());
        if waiting.is_active() {
            of_client.push(waiting);
        }
        self.entries = (self.entries + of_client.len()).saturating_sub(before);
        if self.entries >= self.sweep_at.max(SWEEP_MIN) || self.clients.len() >= self.sweep_at.max(SWEEP_MIN)
        {
            self.sweep();
        }
    }

    /// Keeps what is live, whatever a crash left behind.
    pub(crate) fn rebuild(&mut self) {
        self.sweep();
    }

    fn sweep(&mut self) {
        self.clients.retain(|_, of_client| {
            of_client.retain(|waiting| waiting.is_active());
            !of_client.is_empty()
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

    fn report(waits: &mut ClientWaits, number: u32, since: Instant, places: usize) -> ClientWaitTicket {
        let ticket = ClientWaitTicket::new(client(number), since);
        let cut = waits.decide(&ticket.client_wait(), places);
        waits.apply(ticket.client_wait(), &cut);
        ticket
    }

    /// V10: one client may hold half of the places; beyond that the longest waiting one is cut
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
        assert!(fourth.is_cut() && !first.is_cut(), "the newcomer itself has waited longest");
    }

    /// V10: a place that resumed does not count, and at least one may wait
    #[test]
    fn ended_waits_do_not_count() {
        let (mut waits, t0) = (ClientWaits::default(), clock::now());
        drop(report(&mut waits, 1, t0, 1));
        let only = report(&mut waits, 1, t0, 1);
        assert!(!only.is_cut());
        let second = report(&mut waits, 1, t0 + Duration::from_millis(1), 1);
        assert!(only.is_cut() && !second.is_cut());
    }

    /// V10, S5: a rebuild forgets no live place
    #[test]
    fn a_rebuild_keeps_what_is_live() {
        let (mut waits, t0) = (ClientWaits::default(), clock::now());
        let kept = report(&mut waits, 1, t0, 4);
        drop(report(&mut waits, 1, t0, 4));
        waits.rebuild();
        assert_eq!(waits.entries, 1);
        let later = t0 + Duration::from_millis(1);
        let _others = [report(&mut waits, 1, later, 4), report(&mut waits, 1, later, 4)];
        assert!(kept.is_cut());
    }

    proptest! {
        /// V10, P6: no client ever holds more than its half, nobody is cut below it, and the table stays small
        #[test]
        fn never_more_than_half(places in 1_usize..20, steps in prop::collection::vec((0_u32..3, any::<bool>()), 1..400)) {
            let (mut waits, t0) = (ClientWaits::default(), clock::now());
            let mut tickets: Vec<(u32, ClientWaitTicket)> = Vec::new();
            let half = (places / 2).max(1);
            for (at, (number, resumes)) in steps.into_iter().enumerate() {
                if resumes && let Some(place) = tickets.iter().position(|(client, _)| *client == number) {
                    drop(tickets.swap_remove(place));
                    continue;
                }
                let held = |tickets: &[(u32, ClientWaitTicket)]| {
                    tickets.iter().filter(|(client, ticket)| *client == number && !ticket.is_cut()).count()
                };
                let before = held(&tickets);
                let ticket = report(&mut waits, number, t0 + Duration::from_millis(at as u64), places);
                tickets.push((number, ticket));
                prop_assert_eq!(held(&tickets), (before + 1).min(half));
                prop_assert!(waits.entries <= SWEEP_MIN.max(2 * 3 * half + 1), "{} entries", waits.entries);
            }
        }
    }
}
