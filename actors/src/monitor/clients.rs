//! What one client may hold of the process: slots that wait for it, requests in flight, and forms whose fields are being read. The
//! state machines are `client_waits.rs` and `client_counts.rs`.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::ClientConcurrencyConfig;

use crate::client_counts::{ClientCounts, ClientTicket, CountRefusal};
use crate::client_waits::{ClientWaits, ReportWaiting, WaitTicket, Waiting};
use crate::host::Serve;
use crate::mailbox::Request;
use crate::monitor::actor::Monitor;
use crate::monitor::handle::{MonitorHandle, MonitorRejection};
use crate::types::ClientId;

/// The tables of the monitor actor.
#[derive(Debug)]
pub(crate) struct Clients {
    slots: usize,
    waits: ClientWaits,
    requests: ClientCounts,
    forms: ClientCounts,
}

impl Clients {
    pub(crate) fn new(config: &ClientConcurrencyConfig, slots: usize) -> Self {
        let forms_max = config.max_pending_forms.get();
        Self {
            slots,
            waits: ClientWaits::default(),
            requests: ClientCounts::new(usize::MAX, config.max_per_client),
            forms: ClientCounts::new(forms_max, (forms_max / 2).max(1)),
        }
    }

    pub(crate) fn rebuild(&mut self) {
        self.waits.rebuild();
        self.requests.rebuild();
        self.forms.rebuild();
    }
}

/// What is counted by client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Requests in flight.
    Requests,
    /// Forms whose fields are being read.
    Forms,
}

/// May this client have one more?
pub(crate) struct Count {
    counted: Counted,
    client: ClientId,
}

impl Request for Count {
    type Reply = Result<ClientTicket, CountRefusal>;
    const NAME: &'static str = "monitor.count";

    fn likeness(&self) -> u64 {
        self.client.likeness().rotate_left(1) ^ u64::from(self.counted == Counted::Forms)
    }
}

impl Serve<Count> for Monitor {
    type Decision = Result<(), CountRefusal>;

    fn decide(&self, message: &Count, _: Instant) -> Result<(), CountRefusal> {
        match message.counted {
            Counted::Requests => self.clients.requests.decide(message.client),
            Counted::Forms => self.clients.forms.decide(message.client),
        }
    }

    fn apply(
        &mut self,
        message: Count,
        decided: Result<(), CountRefusal>,
        _: Instant,
    ) -> Result<ClientTicket, CountRefusal> {
        decided.map(|()| match message.counted {
            Counted::Requests => self.clients.requests.apply(message.client),
            Counted::Forms => self.clients.forms.apply(message.client),
        })
    }
}

impl Serve<ReportWaiting> for Monitor {
    type Decision = Vec<Arc<Waiting>>;

    fn decide(&self, ReportWaiting(waiting): &ReportWaiting, _: Instant) -> Vec<Arc<Waiting>> {
        self.clients.waits.decide(waiting, self.clients.slots)
    }

    fn apply(&mut self, ReportWaiting(waiting): ReportWaiting, cut: Vec<Arc<Waiting>>, _: Instant) {
        self.clients.waits.apply(waiting, &cut);
    }
}

impl MonitorHandle {
    /// Reports that a slot's request has waited for its client since then. The slot prepaid the message.
    pub fn waits_for_client(&self, client: ClientId, since: Instant) -> WaitTicket {
        let ticket = WaitTicket::new(client, since);
        self.mailbox.tell(ReportWaiting(ticket.waiting()));
        ticket
    }

    /// Counts a request in flight of this client, where `concurrency.max_per_client` is set. Otherwise nobody is asked.
    ///
    /// # Errors
    /// The client has as many in flight as it may, or the actor gave no answer.
    pub async fn enter_client(&self, client: ClientId) -> Result<Option<ClientTicket>, MonitorRejection> {
        if self.per_client_max == 0 {
            return Ok(None);
        }
        let counted = self.count(Counted::Requests, client).await?;
        counted.map(Some).map_err(|refusal| {
            self.metrics.client_full.inc();
            let (CountRefusal::OfClient { held, limit } | CountRefusal::Total { held, limit }) = refusal;
            MonitorRejection::ClientFull { in_flight: held, limit }
        })
    }

    /// Counts a form whose fields are about to be read.
    ///
    /// # Errors
    /// This client, or all together, have as many as they may, or the actor gave no answer.
    pub async fn enter_form(&self, client: ClientId) -> Result<ClientTicket, MonitorRejection> {
        self.count(Counted::Forms, client).await?.map_err(|refusal| {
            self.metrics.forms_full.inc();
            let (CountRefusal::OfClient { held, limit } | CountRefusal::Total { held, limit }) = refusal;
            let is_clients = matches!(refusal, CountRefusal::OfClient { .. });
            MonitorRejection::FormsFull { pending: held, limit, is_clients }
        })
    }

    async fn count(
        &self,
        counted: Counted,
        client: ClientId,
    ) -> Result<Result<ClientTicket, CountRefusal>, MonitorRejection> {
        self.mailbox.ask(Count { counted, client }).await.map_err(MonitorRejection::Unavailable)
    }
}
