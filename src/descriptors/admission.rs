//! Whether a listener accepts one more connection, as far as descriptors go.
//!
//! Over its budget a listener has the connections close that have been idle longest, and accepts in their place. Where too few are
//! idle, the connections that wait stay in the backlog, and the acceptor asks again after its pause.

use std::sync::Arc;
use std::time::Duration;

use tidegate_actors::clock;

use super::DescriptorBudget;
use crate::http::idle_connections::IdleConnections;
use crate::server::{Admission, Admit, Cause, ConnectionLimit};
use crate::worker::Shared;

/// Connections that may be open beyond the budget while idle ones close in their place.
const OVERSHOOT: usize = 4;
/// Over the budget one in so many connections closes at a time, so that not every accept looks for idle ones.
const BATCH_SHARE: usize = 64;

/// Admits the connections of one listener.
pub(crate) struct DescriptorAdmission {
    limit: ConnectionLimit,
    budget: DescriptorBudget,
    connections: Arc<IdleConnections>,
    kind: Kind,
}

/// The listener.
enum Kind {
    Data(Arc<Shared>),
    Admin,
}

impl DescriptorAdmission {
    pub(crate) fn data(limit: ConnectionLimit, budget: DescriptorBudget, shared: &Arc<Shared>) -> Self {
        let connections = Arc::clone(&shared.clients);
        Self { limit, budget, connections, kind: Kind::Data(Arc::clone(shared)) }
    }

    pub(crate) fn admin(
        limit: ConnectionLimit,
        budget: DescriptorBudget,
        connections: Arc<IdleConnections>,
    ) -> Self {
        Self { limit, budget, connections, kind: Kind::Admin }
    }

    /// Has idle connections close so that one more fits; false where too few are idle.
    fn make_room(&self, open: usize, max: usize) -> bool {
        let over = open + 1 - max;
        let count = over + max / BATCH_SHARE;
        let closing = self.connections.close_oldest(count, Duration::ZERO, clock::now());
        if let Kind::Data(shared) = &self.kind {
            shared.idle_relief.closed_for_others(closing.told);
        }
        closing.all >= over && over <= OVERSHOOT
    }
}

impl Admission for DescriptorAdmission {
    fn admit(&self) -> Admit {
        let open = self.limit.open();
        if open >= self.limit.max {
            return Admit::Pause(Cause::TooManyConnections);
        }
        let max = match self.kind {
            Kind::Data(_) => self.budget.clients_max(),
            Kind::Admin => self.budget.admin_max(),
        };
        if open < max || self.make_room(open, max) {
            Admit::Accept
        } else {
            Admit::Pause(Cause::OutOfDescriptors)
        }
    }

    fn uses_reserve(&self) -> bool {
        matches!(self.kind, Kind::Admin)
    }
}
