//! Admission of connections within the descriptor budget of a listener.
//!
//! A listener over its budget closes the connections that have been idle longest and accepts new ones instead. If too few are idle, new
//! connections stay in the backlog, and the acceptor tries again after its pause. The admin listener first accepts as many more as its
//! reserve has.

use std::sync::Arc;
use std::time::Duration;

use tidegate_actors::clock;

use super::DescriptorBudget;
use crate::process::Process;
use crate::server::connection_reserve::{ConnectionReserve, RESERVED};
use crate::server::idle_connections::{IDLE_MIN, IdleConnections};
use crate::server::{Admission, AdmissionDecision, ConnectionLimit, PauseCause};

/// While idle connections close, 1/64 of the budget and four more may be open beyond it.
const OVERSHOOT_SHARE: usize = 64;
const OVERSHOOT_MIN: usize = 4;
/// Over the budget 1/32 of the connections close at once, so that not every accept searches for idle ones.
const BATCH_SHARE: usize = 32;
/// How often the acceptor checks whether idle connections have closed. HTTP/1 connections close within a millisecond.
const CLOSE_WAITS: u32 = 5;
const CLOSE_WAIT: Duration = Duration::from_millis(1);

/// Admission for one listener.
pub(crate) struct DescriptorAdmission {
    limit: ConnectionLimit,
    budget: Arc<DescriptorBudget>,
    connections: Arc<IdleConnections>,
    kind: ListenerKind,
}

/// Which listener it is.
enum ListenerKind {
    Data(Arc<Process>),
    Admin {
        reserve: Arc<ConnectionReserve>,
        /// `admin.max_stream_clients`
        streams_max: usize,
    },
}

impl DescriptorAdmission {
    pub(crate) fn data(
        limit: ConnectionLimit,
        budget: Arc<DescriptorBudget>,
        process: &Arc<Process>,
    ) -> Self {
        let connections = Arc::clone(&process.client_connections);
        Self { limit, budget, connections, kind: ListenerKind::Data(Arc::clone(process)) }
    }

    /// `limit` is the maximum with the reserve and without event streams.
    pub(crate) fn admin(
        limit: ConnectionLimit,
        budget: Arc<DescriptorBudget>,
        connections: Arc<IdleConnections>,
        (reserve, streams_max): (Arc<ConnectionReserve>, usize),
    ) -> Self {
        Self { limit, budget, connections, kind: ListenerKind::Admin { reserve, streams_max } }
    }

    /// Closes idle connections so that one more fits. False if too few are idle.
    fn close_idle_for_new(&self, open: usize, max: usize) -> bool {
        let over = open + 1 - max;
        let count = over + max / BATCH_SHARE;
        let closing = self.connections.close_oldest(count, IDLE_MIN, clock::now());
        let overshoot = match &self.kind {
            ListenerKind::Data(process) => {
                process.idle_closer.count_closed_for_new(closing.newly_closing);
                OVERSHOOT_MIN + max / OVERSHOOT_SHARE
            }
            // Beyond the maximum a connection belongs to the reserve.
            ListenerKind::Admin { .. } => 0,
        };
        closing.all >= over && self.wait_until_below(max + overshoot)
    }

    /// Open connections. Event streams have a share of their own.
    fn open(&self) -> usize {
        let streams = match &self.kind {
            ListenerKind::Data(_) => 0,
            ListenerKind::Admin { reserve, .. } => reserve.streams(),
        };
        self.limit.open().saturating_sub(streams)
    }

    /// Waits until fewer connections than `limit` are open, at most `CLOSE_WAITS` times `CLOSE_WAIT`.
    fn wait_until_below(&self, limit: usize) -> bool {
        for _ in 0..CLOSE_WAITS {
            if self.open() < limit {
                return true;
            }
            std::thread::sleep(CLOSE_WAIT);
        }
        false
    }
}

impl Admission for DescriptorAdmission {
    fn admit(&self) -> AdmissionDecision {
        let open = self.open();
        let share = match self.kind {
            ListenerKind::Data(_) => self.budget.clients_max(),
            ListenerKind::Admin { .. } => self.budget.admin_max(),
        };
        let max = share.min(self.limit.max);
        let ordinary_max = match &self.kind {
            ListenerKind::Data(_) => max,
            ListenerKind::Admin { reserve, streams_max } => {
                let ordinary_max = max.saturating_sub(RESERVED).max(1);
                reserve.set_max(ordinary_max, self.budget.streams_max().min(*streams_max));
                ordinary_max
            }
        };
        if open < ordinary_max || self.close_idle_for_new(open, ordinary_max) || open < max {
            AdmissionDecision::Accept
        } else if share < self.limit.max {
            AdmissionDecision::Pause(PauseCause::OutOfDescriptors)
        } else {
            AdmissionDecision::Pause(PauseCause::TooManyConnections)
        }
    }

    /// Connections of the admin listener have kinds that only the acceptor counts.
    fn has_room(&self, connections: usize) -> bool {
        let ListenerKind::Data(_) = self.kind else { return false };
        self.open() + connections <= self.budget.recent_clients_max(clock::now()).min(self.limit.max)
    }

    fn uses_reserve(&self) -> bool {
        matches!(self.kind, ListenerKind::Admin { .. })
    }
}
