//! What one client may hold of the process: slots that wait for it, requests in flight, and forms with fields being
//! read. The state machines are `src/client_waits.rs` and `src/client_counts.rs`.

use std::time::Instant;

use crate::actor_shell::MessageHandler;
use crate::client_counts::{ClientCounts, ClientTicket, CountRefusal};
use crate::client_waits::{ClientWaitTicket, ClientWaits, ReportClientWait, WaitSurplus};
use crate::mailbox::ActorMessage;
use crate::monitor::actions::InForce;
use crate::monitor::actor::Monitor;
use crate::monitor::handle::{MonitorHandle, MonitorRejection};
use crate::monitor::settings::MonitorSettings;
use crate::types::ClientId;

/// The per-client tables of the monitor actor.
#[derive(Debug)]
pub(crate) struct ClientTables {
    slots: usize,
    waits: ClientWaits,
    requests: ClientCounts,
    forms: ClientCounts,
}

impl ClientTables {
    pub(crate) fn new(settings: &MonitorSettings) -> Self {
        let (forms_max, per_client) = forms_max(settings);
        Self {
            slots: settings.slots,
            waits: ClientWaits::default(),
            requests: ClientCounts::new(usize::MAX, settings.per_client_max()),
            forms: ClientCounts::new(forms_max, per_client),
        }
    }

    /// Continues with other limits. All counts stay. Requests that began while there was no limit are not counted.
    pub(super) fn reconfigure(&mut self, settings: &MonitorSettings) {
        let (forms_max, per_client) = forms_max(settings);
        self.slots = settings.slots;
        self.requests.set_limits(usize::MAX, settings.per_client_max());
        self.forms.set_limits(forms_max, per_client);
    }

    pub(crate) fn rebuild(&mut self) {
        self.waits.rebuild();
        self.requests.rebuild();
        self.forms.rebuild();
    }
}

/// The most forms of all clients, and of one.
fn forms_max(settings: &MonitorSettings) -> (usize, usize) {
    let forms_max = settings.clients.max_pending_forms.get();
    (forms_max, (forms_max / 2).max(1))
}

/// The kinds of counts per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCountKind {
    /// Requests in flight.
    Requests,
    /// Forms with fields that are being read.
    Forms,
}

/// Asks for one more ticket for a client.
pub(crate) struct AcquireClientTicket {
    kind: ClientCountKind,
    client: ClientId,
}

impl ActorMessage for AcquireClientTicket {
    type Reply = Result<ClientTicket, CountRefusal>;
    const NAME: &'static str = "monitor.count";

    fn message_fingerprint(&self) -> u64 {
        self.client.fingerprint().rotate_left(1) ^ u64::from(self.kind == ClientCountKind::Forms)
    }
}

impl MessageHandler<AcquireClientTicket> for Monitor {
    type Decision = Result<(), CountRefusal>;

    fn decide(&self, message: &AcquireClientTicket, _: Instant) -> Result<(), CountRefusal> {
        match message.kind {
            ClientCountKind::Requests => self.client_tables.requests.decide(message.client),
            ClientCountKind::Forms => self.client_tables.forms.decide(message.client),
        }
    }

    fn apply(
        &mut self,
        message: AcquireClientTicket,
        decided: Result<(), CountRefusal>,
        _: Instant,
    ) -> Result<ClientTicket, CountRefusal> {
        decided.map(|()| match message.kind {
            ClientCountKind::Requests => {
                let ticket = self.client_tables.requests.apply(message.client);
                self.shared().client_peak.record(ticket.held());
                ticket
            }
            ClientCountKind::Forms => self.client_tables.forms.apply(message.client),
        })
    }
}

impl MessageHandler<ReportClientWait> for Monitor {
    type Decision = WaitSurplus;

    fn decide(&self, ReportClientWait(waiting): &ReportClientWait, _: Instant) -> WaitSurplus {
        self.client_tables.waits.decide(waiting, self.client_tables.slots)
    }

    fn apply(&mut self, ReportClientWait(waiting): ReportClientWait, cut: WaitSurplus, _: Instant) {
        self.client_tables.waits.apply(waiting, &cut);
    }
}

/// A request that passed the limit of its client.
#[derive(Debug)]
pub enum ClientAdmission {
    /// There is no limit.
    Unlimited,
    /// It is counted.
    Counted(ClientTicket),
    /// It is beyond the limit, which is in shadow mode. It is not counted, as if it had been refused.
    Shadowed(MonitorRejection),
}

impl MonitorHandle {
    /// Reports that a slot's request has waited for its client since `since`. The slot prepaid the message.
    pub fn report_client_wait(&self, client: ClientId, since: Instant) -> ClientWaitTicket {
        let ticket = ClientWaitTicket::new(client, since);
        self.mailbox.notify(ReportClientWait(ticket.client_wait()));
        ticket
    }

    /// Counts a request in flight of this client, where `concurrency.max_per_client` is set. Otherwise it sends no
    /// message.
    ///
    /// The client has the maximum in flight, or the actor gave no reply. In shadow mode neither refuses.
    pub async fn acquire_client_ticket(&self, client: ClientId) -> Result<ClientAdmission, MonitorRejection> {
        let Some(in_force) = self.per_client() else { return Ok(ClientAdmission::Unlimited) };
        let result = match self.acquire_ticket(ClientCountKind::Requests, client).await {
            Err(_) if in_force == InForce::Shadow => return Ok(ClientAdmission::Unlimited),
            asked => asked?,
        };
        let (held, limit) = match result {
            Ok(ticket) => return Ok(ClientAdmission::Counted(ticket)),
            Err(CountRefusal::PerClient { held, limit } | CountRefusal::Total { held, limit }) => {
                (held, limit)
            }
        };
        let rejection = MonitorRejection::ClientFull { in_flight: held, limit };
        match in_force {
            InForce::Shadow => {
                self.metrics.client_shadowed.inc();
                Ok(ClientAdmission::Shadowed(rejection))
            }
            InForce::Enforced => {
                self.metrics.client_full.inc();
                Err(rejection)
            }
        }
    }

    /// Counts a form with fields that are about to be read.
    ///
    /// This client or all clients together have the maximum, or the actor gave no reply.
    pub async fn acquire_form_ticket(&self, client: ClientId) -> Result<ClientTicket, MonitorRejection> {
        self.acquire_ticket(ClientCountKind::Forms, client).await?.map_err(|refusal| {
            self.metrics.forms_full.inc();
            let (CountRefusal::PerClient { held, limit } | CountRefusal::Total { held, limit }) = refusal;
            let is_clients = matches!(refusal, CountRefusal::PerClient { .. });
            MonitorRejection::FormsFull { pending: held, limit, is_clients }
        })
    }

    async fn acquire_ticket(
        &self,
        kind: ClientCountKind,
        client: ClientId,
    ) -> Result<Result<ClientTicket, CountRefusal>, MonitorRejection> {
        self.mailbox.ask(AcquireClientTicket { kind, client }).await.map_err(MonitorRejection::Unavailable)
    }
}
