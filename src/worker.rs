//! What one worker thread has at hand: everything shared, and the clients and signers of its own.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus::Registry;
use slog::Logger;
use tidegate_actors::Actors;
use tidegate_config::Config;
use tokio::sync::watch;

use crate::auth::jwt::TokenVerifier;
use crate::auth::{Keyring, Regions, SigningKeyCache, TokenCache};
use crate::buffers::{BufferBudget, BufferMetrics, Transfers};
use crate::chaos::Chaos;
use crate::descriptors::idle::IdleCloser;
use crate::gateway::DrainPhase;
use crate::http::idle_connections::IdleConnections;
use crate::http::send_buffer::ReservedBytes;
use crate::http::send_progress::SendWatch;
use crate::http::tls::ServerTls;
use crate::router::{Bucket, Router};
use crate::server::AcceptMetrics;
use crate::shortage::ShortageMetrics;
use crate::telemetry::log::LogStats;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::redact::Redaction;
use crate::upstream::client::{ConnectionCounts, UpstreamClient};

/// Worker threads of the data listener: `server.workers`, or one for each core.
pub(crate) fn worker_threads(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// The gateway as all threads see it.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) keyring: Keyring,
    /// Of clients' signatures, and the gateway's own.
    pub(crate) regions: Regions,
    /// Whose tokens are believed; none where no tokens are.
    pub(crate) tokens: Option<TokenVerifier>,
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
    /// When the signal to stop came.
    pub(crate) drain_began: OnceLock<Instant>,
    /// What connections are secured with; none where clients speak cleartext.
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) chaos: Chaos,
    /// Of finished answers that wait for their clients.
    pub(crate) send_buffer: ReservedBytes,
    /// The data listener's connections.
    pub(crate) clients: Arc<IdleConnections>,
    pub(crate) idle_relief: IdleCloser,
    pub(crate) shortages: ShortageMetrics,
    pub(crate) accepting: AcceptMetrics,
    /// Of socket buffers that have grown.
    pub(crate) buffer_budget: Arc<BufferBudget>,
    pub(crate) buffer_metrics: BufferMetrics,
}

impl Shared {
    /// Whether the gateway is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow() != DrainPhase::Serving
    }

    /// The reason of a request that ends without its whole answer, where nothing else is known: the client has closed
    /// its connection, unless the gateway has.
    pub(crate) fn unfinished_reason(&self) -> &'static str {
        if *self.drain.borrow() == DrainPhase::CuttingOff { "drain_timeout" } else { "client_gone" }
    }
}

/// One worker thread's.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    clients: Vec<UpstreamClient>,
    /// The connections of the listener that this thread serves.
    pub(crate) connections: Arc<IdleConnections>,
    pub(crate) signing_keys: SigningKeyCache,
    pub(crate) token_cache: TokenCache,
    /// The answers of this thread that wait for their clients.
    pub(crate) send_watch: Rc<SendWatch>,
    /// The large bodies of this thread.
    pub(crate) transfers: Rc<Transfers>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, connections: Arc<IdleConnections>) -> Rc<Self> {
        let clients = shared
            .router
            .buckets()
            .iter()
            .zip(&shared.connections)
            .map(|(bucket, counts)| UpstreamClient::new(bucket, &shared.keyring, counts))
            .collect();
        let send_watch = SendWatch::new(&shared);
        let (signing_keys, token_cache) = (SigningKeyCache::default(), TokenCache::default());
        let transfers = Rc::new(Transfers::new(&shared.buffer_budget, &shared.buffer_metrics));
        Rc::new(Self { shared, clients, connections, signing_keys, token_cache, send_watch, transfers })
    }

    /// Closes this thread's idle connections to upstreams; returns how many that were.
    pub(crate) fn close_idle_upstreams(&self) -> usize {
        let buckets = self.shared.router.buckets().iter().zip(&self.shared.connections).zip(&self.clients);
        let with_idle = buckets.filter(|((bucket, counts), _)| counts.open() > bucket.pool.in_flight());
        with_idle.map(|(_, client)| client.close_idle()).sum()
    }

    pub(crate) fn client(&self, bucket: &Bucket) -> &UpstreamClient {
        &self.clients[bucket.id.index()]
    }
}
