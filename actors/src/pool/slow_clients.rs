//! The pool's part of `actors/src/client_waits.rs`: permits of requests that wait for their clients.

use std::time::Instant;

use crate::actor_shell::MessageHandler;
use crate::client_waits::{ClientWaitTicket, ReportClientWait, WaitSurplus};
use crate::pool::actor::Pool;
use crate::pool::handle::PoolHandle;
use crate::types::ClientId;

impl MessageHandler<ReportClientWait> for Pool {
    type Decision = WaitSurplus;

    fn decide(&self, ReportClientWait(waiting): &ReportClientWait, _: Instant) -> WaitSurplus {
        self.client_waits.decide(waiting, self.state.limit())
    }

    fn apply(&mut self, ReportClientWait(waiting): ReportClientWait, cut: WaitSurplus, _: Instant) {
        self.client_waits.apply(waiting, &cut);
    }
}

impl PoolHandle {
    /// Reports that a permit's request has waited for its client since `since`. The permit prepaid the message.
    pub fn report_client_wait(&self, client: ClientId, since: Instant) -> ClientWaitTicket {
        let ticket = ClientWaitTicket::new(client, since);
        self.mailbox.notify(ReportClientWait(ticket.client_wait()));
        ticket
    }
}
