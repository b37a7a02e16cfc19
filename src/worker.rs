//! What one worker thread has at hand: everything shared, and the clients and signers of its own.

use std::rc::Rc;
use std::sync::Arc;

use prometheus::Registry;
use slog::Logger;
use tidegate_actors::Actors;
use tidegate_config::Config;
use tokio::sync::watch;

use crate::auth::jwt::Tokens;
use crate::auth::{Bearers, Keyring, SigningKeys};
use crate::chaos::Chaos;
use crate::gateway::DrainPhase;
use crate::http::send_buffer::ReservedBytes;
use crate::http::send_progress::SendWatch;
use crate::http::tls::Tls;
use crate::router::{Bucket, Router};
use crate::telemetry::log::LogStats;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::redact::Redaction;
use crate::upstream::client::{Client, ConnectionCounts};

/// The gateway as all threads see it.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) keyring: Keyring,
    /// Whose tokens are believed; none where no tokens are.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) actors: Actors,
    pub(crate) metrics: RequestMetrics,
    pub(crate) registry: Registry,
    pub(crate) connections: Vec<ConnectionCounts>,
    pub(crate) log: Logger,
    pub(crate) log_stats: Arc<LogStats>,
    /// What the log hides.
    pub(crate) redaction: Redaction,
    /// How far the gateway has got with stopping.
    pub(crate) drain: watch::Sender<DrainPhase>,
    /// What connections are secured with; none where clients speak cleartext.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) chaos: Chaos,
    /// Of finished answers that wait for their clients.
    pub(crate) send_buffer: ReservedBytes,
}

impl Shared {
    /// Whether the gateway is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow() != DrainPhase::Serving
    }
}

/// One worker thread's.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    clients: Vec<Client>,
    pub(crate) signing_keys: SigningKeys,
    pub(crate) bearers: Bearers,
    /// The answers of this thread that wait for their clients.
    pub(crate) send_watch: Rc<SendWatch>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        let clients = shared
            .router
            .buckets()
            .iter()
            .zip(&shared.connections)
            .map(|(bucket, counts)| Client::new(bucket, &shared.keyring, counts))
            .collect();
        let send_watch = SendWatch::new(&shared);
        let (signing_keys, bearers) = (SigningKeys::default(), Bearers::default());
        Rc::new(Self { shared, clients, signing_keys, bearers, send_watch })
    }

    pub(crate) fn client(&self, bucket: &Bucket) -> &Client {
        &self.clients[bucket.id.index()]
    }
}
