//! Counts per client (V10): requests in flight where `concurrency.max_per_client` is set, and POST forms with fields
//! being read. A pure state machine that the monitor owns.
//!
//! A count rises only here, when a ticket is built, and falls in the ticket's `Drop`. Entries of clients without
//! tickets are swept, so the number of live tickets bounds the table.
//! *Restart*: the live tickets are the counts; a rebuild keeps them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::types::ClientId;

/// The table is swept when it has at least this many entries and twice as many as the last sweep left.
const SWEEP_MIN: usize = 64;

/// One counted request or form. Dropping it counts down.
#[derive(Debug)]
#[must_use = "dropping the ticket releases it"]
pub struct ClientTicket {
    client_count: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl ClientTicket {
    /// Live tickets of its client, itself included.
    pub(crate) fn held(&self) -> usize {
        self.client_count.load(Ordering::Acquire)
    }
}

impl Drop for ClientTicket {
    fn drop(&mut self) {
        self.client_count.fetch_sub(1, Ordering::AcqRel);
        self.total.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The maximum that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountRefusal {
    /// That of the client.
    PerClient { held: usize, limit: usize },
    /// That of all clients together.
    Total { held: usize, limit: usize },
}

/// The counts of all clients.
#[derive(Debug)]
pub(crate) struct ClientCounts {
    total: Arc<AtomicUsize>,
    total_max: usize,
    per_client_max: usize,
    clients: HashMap<ClientId, Arc<AtomicUsize>>,
    sweep_at: usize,
}

impl ClientCounts {
    pub(crate) fn new(total_max: usize, per_client_max: usize) -> Self {
        Self { total: Arc::default(), total_max, per_client_max, clients: HashMap::new(), sweep_at: 0 }
    }

    /// Sets both maximums. Tickets stay counted.
    pub(crate) fn set_limits(&mut self, total_max: usize, per_client_max: usize) {
        (self.total_max, self.per_client_max) = (total_max, per_client_max);
    }

    /// Checks whether the client may have one more.
    pub(crate) fn decide(&self, client: ClientId) -> Result<(), CountRefusal> {
        let held = self.clients.get(&client).map_or(0, |count| count.load(Ordering::Acquire));
        if held >= self.per_client_max {
            return Err(CountRefusal::PerClient { held, limit: self.per_client_max });
        }
        let held = self.total.load(Ordering::Acquire);
        if held >= self.total_max {
            return Err(CountRefusal::Total { held, limit: self.total_max });
        }
        Ok(())
    }

    /// Counts one more for the client.
    pub(crate) fn apply(&mut self, client: ClientId) -> ClientTicket {
        let client_count = Arc::clone(self.clients.entry(client).or_default());
        client_count.fetch_add(1, Ordering::AcqRel);
        self.total.fetch_add(1, Ordering::AcqRel);
        if self.clients.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep();
        }
        ClientTicket { client_count, total: Arc::clone(&self.total) }
    }

    /// Keeps the live entries after a crash.
    pub(crate) fn rebuild(&mut self) {
        self.sweep();
    }

    fn sweep(&mut self) {
        self.clients.retain(|_, count| count.load(Ordering::Acquire) > 0);
        self.sweep_at = 2 * self.clients.len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::KeyId;

    fn client(number: u32) -> ClientId {
        ClientId::Key(KeyId::new(number))
    }

    proptest! {
        /// V10, P6: counts never exceed a maximum and reach it, rebuilds lose nothing, and idle clients leave no
        /// entries
        #[test]
        fn both_bounds_hold(
            (total_max, per_client_max) in (1_usize..20, 1_usize..8),
            steps in prop::collection::vec((0_u32..200, 0_u8..4), 1..500),
        ) {
            let mut counts = ClientCounts::new(total_max, per_client_max);
            let mut tickets: Vec<(u32, ClientTicket)> = Vec::new();
            for (number, step) in steps {
                let number = if number < 150 { number % 4 } else { number };
                match step {
                    0 if let Some(index) = tickets.iter().position(|(owner, _)| *owner == number) => {
                        drop(tickets.swap_remove(index));
                    }
                    1 => counts.rebuild(),
                    _ => {
                        let held = tickets.iter().filter(|(owner, _)| *owner == number).count();
                        let expected = if held >= per_client_max {
                            Err(CountRefusal::PerClient { held, limit: per_client_max })
                        } else if tickets.len() >= total_max {
                            Err(CountRefusal::Total { held: tickets.len(), limit: total_max })
                        } else {
                            Ok(())
                        };
                        let decided = counts.decide(client(number));
                        prop_assert_eq!(decided, expected);
                        if decided.is_ok() {
                            tickets.push((number, counts.apply(client(number))));
                        }
                    }
                }
                prop_assert!(counts.clients.len() <= SWEEP_MIN.max(2 * total_max));
            }
            drop(tickets);
            counts.rebuild();
            prop_assert_eq!((counts.clients.len(), counts.total.load(Ordering::Acquire)), (0, 0));
        }
    }
}
