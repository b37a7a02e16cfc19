//! Places in the gate that wait for their clients: the pool's part of `client_waits.rs`.

use std::sync::Arc;
use std::time::Instant;

use crate::client_waits::{ReportWaiting, WaitTicket, Waiting};
use crate::host::Serve;
use crate::pool::actor::Pool;
use crate::pool::handle::PoolHandle;
use crate::types::ClientId;

impl Serve<ReportWaiting> for Pool {
    type Decision = Vec<Arc<Waiting>>;

    fn decide(&self, ReportWaiting(waiting): &ReportWaiting, _: Instant) -> Vec<Arc<Waiting>> {
        self.waits.decide(waiting, self.state.limit())
    }

    fn apply(&mut self, ReportWaiting(waiting): ReportWaiting, cut: Vec<Arc<Waiting>>, _: Instant) {
        self.waits.apply(waiting, &cut);
    }
}

impl PoolHandle {
    /// Reports that a permit's request has waited for its client since then. The permit prepaid the message.
    pub fn waits_for_client(&self, client: ClientId, since: Instant) -> WaitTicket {
        let ticket = WaitTicket::new(client, since);
        self.mailbox.tell(ReportWaiting(ticket.waiting()));
        ticket
    }
}
