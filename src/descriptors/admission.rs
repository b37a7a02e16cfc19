//! Whether a listener accepts one more connection, as far as descriptors go.
//!
//! Over its budget a listener has the connections close that have been idle longest, and accepts in their place. Where too few are
//! idle, the connections that wait stay in the backlog, and the acceptor asks again after its pause.

use std::sync::Arc;
use std::time::Duration;

use tidegate_actors::clock;

use super::DescriptorBudget;
use crate::http::idle_connections::{IDLE_MIN, IdleConnections};
use crate::server::{Admission, AdmissionDecision, ConnectionLimit, PauseCause};
use crate::worker::Shared;

/// Of the budget, what may be open beyond it while idle connections close in its place; and four more.
const OVERSHOOT_SHARE: usize = 64;
const OVERSHOOT_MIN: usize = 4;
/// Over the budget one in so many connections closes at a time, so that not every accept looks for idle ones.
const BATCH_SHARE: usize = 32;
/// How long the acceptor waits for idle connections that close. They take less than a millisecond, but with HTTP/2.
const CLOSE_WAITS: u32 = 5;
const CLOSE_WAIT: Duration = Duration::from_millis(1);

/// Admits the connections of one listener.
pub(crate) struct DescriptorAdmission {
    limit: ConnectionLimit,
    budget: Arc<DescriptorBudget>,
    connections: Arc<IdleConnections>,
    kind: ListenerKind,
}

/// The listener.
enum ListenerKind {
    Data(Arc<Shared>),
    Admin,
}

impl DescriptorAdmission {
    pub(crate) fn data(limit: ConnectionLimit, budget: Arc<DescriptorBudget>, shared: &Arc<Shared>) -> Self {
        let connections = Arc::clone(&shared.clients);
        Self { limit, budget, connections, kind: ListenerKind::Data(Arc::clone(shared)) }
    }

    pub(crate) fn admin(
        limit: ConnectionLimit,
        budget: Arc<DescriptorBudget>,
        connections: Arc<IdleConnections>,
    ) -> Self {
        Self { limit, budget, connections, kind: ListenerKind::Admin }
    }

    /// Has idle connections close so that one more fits; false where too few are idle.
    fn close_idle_for_new(&self, open: usize, max: usize) -> bool {
        let over = open + 1 - max;
        let count = over + max / BATCH_SHARE;
        let closing = self.connections.close_oldest(count, IDLE_MIN, clock::now());
        if let ListenerKind::Data(shared) = &self.kind {
            shared.idle_relief.count_closed_for_new(closing.newly_closing);
        }
        closing.all >= over && self.wait_until_below(max + OVERSHOOT_MIN + max / OVERSHOOT_SHARE)
    }

    /// Whether fewer connections than that are open, or are so soon.
    fn wait_until_below(&self, most: usize) -> bool {
        for _ in 0..CLOSE_WAITS {
            if self.limit.open() < most {
                return true;
            }
            std::thread::sleep(CLOSE_WAIT);
        }
        false
    }
}

impl Admission for DescriptorAdmission {
    fn admit(&self) -> AdmissionDecision {
        let open = self.limit.open();
        let share = match self.kind {
            ListenerKind::Data(_) => self.budget.clients_max(),
            ListenerKind::Admin => self.budget.admin_max(),
        };
        let max = share.min(self.limit.max);
        if open < max || self.close_idle_for_new(open, max) {
            AdmissionDecision::Accept
        } else if share < self.limit.max {
            AdmissionDecision::Pause(PauseCause::OutOfDescriptors)
        } else {
            AdmissionDecision::Pause(PauseCause::TooManyConnections)
        }
    }

    fn uses_reserve(&self) -> bool {
        matches!(self.kind, ListenerKind::Admin)
    }
}
