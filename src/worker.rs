//! The state of one worker thread: everything shared, and its own upstream clients and caches.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use slog::Logger;
use tidegate_actors::{Actors, CostSampler, KeyId, MonitorHandle};
use tidegate_config::{Config, EffectiveConfig, ServerConfig};
use tokio::sync::watch;

use crate::auth::jwt::TokenVerifier;
use crate::auth::{AuthContext, Keyring, Regions, SigningKeyCache, TokenCache};
use crate::buffers::ReservedBytes;
use crate::buffers::body_memory::BodyMemory;
use crate::buffers::client_wait::WaitReceivers;
use crate::buffers::revocation::KeyringNumber;
use crate::buffers::send_progress::{SendLimits, SendWatch};
use crate::buffers::{BufferBudget, BufferMetrics, Transfers};
use crate::chaos::Chaos;
use crate::decisions::{Decisions, Recorder};
use crate::degradation::published::Degradation;
use crate::router::Router;
use crate::server::AcceptMetrics;
use crate::server::idle_closer::IdleCloser;
use crate::server::idle_connections::IdleConnections;
use crate::server::rejected_addresses::RejectedAddresses;
use crate::server::tls::ServerTls;
use crate::shortage::ShortageMetrics;
use crate::telemetry::log::LogStats;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::redact::Redaction;
use crate::upstream::bucket::client::UpstreamClient;
use crate::upstream::bucket::{Bucket, ConfiguredBuckets};
use crate::upstream::exchange::connector::ConnectionCounts;
use crate::upstream::rules::refresh_health::RefreshHealth;
use crate::upstream::{CallResources, RequestHost};

/// The number of worker threads of the data listener: `server.workers`, or one for each core.
pub(crate) fn worker_threads(config: &Config) -> usize {
    match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// How long a connection without a request yet stays open in the phase `Closing`.
pub(crate) const FIRST_REQUEST_TIME: Duration = Duration::from_secs(1);

/// Phase of the shutdown, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainPhase {
    /// No shutdown was requested.
    Serving,
    /// Each response is the last of its connection.
    Draining,
    /// The data listener is closed, and idle connections close.
    Closing,
    /// The drain timeout is over: unfinished requests and answers are cut off.
    CuttingOff,
}

/// The state that all threads share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Every key with its value and its origin, for the admin listener.
    pub(crate) effective: EffectiveConfig,
    pub(crate) router: Router,
    pub(crate) keyring: Keyring,
    /// The regions of clients' signatures and of the gateway's.
    pub(crate) regions: Regions,
    /// The verifier of tokens, if tokens are configured.
    pub(crate) tokens: Option<TokenVerifier>,
    pub(crate) actors: Actors,
    pub(crate) metrics: RequestMetrics,
    /// The open connections to upstreams, by bucket.
    pub(crate) upstream_connections: Vec<ConnectionCounts>,
    /// Whether the set of keys that verify tokens can be fetched; none without a set.
    pub(crate) token_key_health: Option<Arc<RefreshHealth>>,
    /// The causes of degradation.
    pub(crate) degradation: Degradation,
    pub(crate) log: Logger,
    pub(crate) log_stats: Arc<LogStats>,
    /// The decisions of all threads.
    pub(crate) decisions: Arc<Decisions>,
    /// The values that the log redacts.
    pub(crate) redaction: Redaction,
    /// The phase of the drain.
    pub(crate) drain: watch::Sender<DrainPhase>,
    /// The time of the signal to stop.
    pub(crate) drain_began: OnceLock<Instant>,
    /// The TLS certificate of the data listener; `None` for cleartext.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The same of the admin listener.
    pub(crate) admin_tls: Option<Arc<ServerTls>>,
    pub(crate) chaos: Chaos,
    /// The memory for finished responses that wait for their clients.
    pub(crate) send_buffer: ReservedBytes,
    /// The data listener's connections.
    pub(crate) client_connections: Arc<IdleConnections>,
    pub(crate) idle_closer: IdleCloser,
    pub(crate) shortages: ShortageMetrics,
    pub(crate) accepting: AcceptMetrics,
    /// The budget for enlarged socket buffers.
    pub(crate) buffer_budget: Arc<BufferBudget>,
    /// The memory of bodies that are read whole.
    pub(crate) body_memory: Arc<BodyMemory>,
    pub(crate) buffer_metrics: BufferMetrics,
}

impl Shared {
    /// Whether the gateway drains or stops.
    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow() != DrainPhase::Serving
    }

    /// The reason of a request that ends without its complete response, if nothing else is known: the client has
    /// closed its connection, unless the gateway has.
    pub(crate) fn unfinished_reason(&self) -> &'static str {
        if *self.drain.borrow() == DrainPhase::CuttingOff { "drain_timeout" } else { "client_gone" }
    }
}

impl ConfiguredBuckets for Shared {
    fn buckets(&self) -> &[Bucket] {
        self.router.buckets()
    }

    fn log(&self) -> &Logger {
        &self.log
    }

    fn monitor(&self) -> &MonitorHandle {
        &self.actors.monitor
    }
}

/// The actors that count waits for clients.
fn wait_receivers(shared: &Shared) -> WaitReceivers {
    let pools = shared.router.buckets().iter().map(|bucket| (bucket.id, bucket.pool.clone())).collect();
    WaitReceivers { monitor: shared.actors.monitor.clone(), pools }
}

/// The limits of a listener's responses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseLimits {
    pub(crate) pace: SendLimits,
    /// The memory for finished responses that wait for the client of one connection.
    pub(crate) send_buffer: u64,
}

impl ResponseLimits {
    fn data(server: &ServerConfig) -> Self {
        Self { pace: SendLimits::of(server), send_buffer: server.send_buffer_per_connection }
    }

    fn admin(server: &ServerConfig) -> Self {
        Self { pace: SendLimits::admin(server), send_buffer: 0 }
    }
}

/// The state of one worker thread.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: ResponseLimits,
    /// The clients of upstreams, by bucket.
    upstream_clients: Vec<UpstreamClient>,
    /// The connections of the listener that this thread serves.
    pub(crate) client_connections: Arc<IdleConnections>,
    signing_keys: SigningKeyCache,
    token_cache: TokenCache,
    /// Records the decisions of this thread.
    pub(crate) decisions: Recorder,
    /// The addresses of rejected connections of the admin listener. None on the data listener, where each is a decision.
    pub(crate) rejected_addresses: Option<RefCell<RejectedAddresses>>,
    /// The responses and uploads of this thread that wait for their clients.
    pub(crate) send_watch: Rc<SendWatch>,
    /// The large bodies of this thread.
    pub(crate) transfers: Rc<Transfers>,
    pub(crate) cost_sampler: CostSampler,
}

impl Worker {
    /// A worker of the data listener.
    pub(crate) fn data(shared: Arc<Shared>) -> Rc<Self> {
        let limits = ResponseLimits::data(&shared.config.server);
        let (connections, recorder) = (Arc::clone(&shared.client_connections), shared.decisions.recorder());
        Self::new(shared, connections, limits, (recorder, None))
    }

    /// The worker of the admin listener.
    pub(crate) fn admin(shared: Arc<Shared>, connections: Arc<IdleConnections>) -> Rc<Self> {
        let limits = ResponseLimits::admin(&shared.config.server);
        let recorder = shared.decisions.admin_recorder();
        Self::new(shared, connections, limits, (recorder, Some(RefCell::default())))
    }

    fn new(
        shared: Arc<Shared>,
        client_connections: Arc<IdleConnections>,
        limits: ResponseLimits,
        (decisions, rejected_addresses): (Recorder, Option<RefCell<RejectedAddresses>>),
    ) -> Rc<Self> {
        let upstream_clients = shared
            .router
            .buckets()
            .iter()
            .zip(&shared.upstream_connections)
            .map(|(bucket, counts)| UpstreamClient::new(bucket, &shared.keyring, counts))
            .collect();
        let send_watch = SendWatch::new(limits.pace, wait_receivers(&shared));
        let (signing_keys, token_cache) = (SigningKeyCache::default(), TokenCache::default());
        let transfers = Rc::new(Transfers::new(&shared.buffer_budget, &shared.buffer_metrics));
        Rc::new(Self {
            shared,
            limits,
            upstream_clients,
            client_connections,
            signing_keys,
            token_cache,
            decisions,
            rejected_addresses,
            send_watch,
            transfers,
            cost_sampler: CostSampler::new(rand::random()),
        })
    }

    /// Whether it serves the data listener.
    pub(crate) fn serves_data(&self) -> bool {
        self.rejected_addresses.is_none()
    }

    /// The idle connections to upstreams of all threads.
    pub(crate) fn idle_upstreams(&self) -> usize {
        let buckets = self.shared.router.buckets().iter().zip(&self.shared.upstream_connections);
        buckets.map(|(bucket, counts)| counts.open().saturating_sub(bucket.pool.in_flight())).sum()
    }

    /// Closes this thread's idle connections to upstreams; returns their number.
    pub(crate) fn close_idle_upstreams(&self) -> usize {
        let buckets = self
            .shared
            .router
            .buckets()
            .iter()
            .zip(&self.shared.upstream_connections)
            .zip(&self.upstream_clients);
        let with_idle = buckets.filter(|((bucket, counts), _)| counts.open() > bucket.pool.in_flight());
        with_idle.map(|(_, client)| client.close_idle()).sum()
    }

    /// What authentication reads.
    pub(crate) fn auth_context(&self) -> AuthContext<'_> {
        let shared = &self.shared;
        AuthContext {
            keyring: &shared.keyring,
            regions: &shared.regions,
            tokens: shared.tokens.as_ref(),
            sessions: &shared.actors.sessions,
            cache_ttl: shared.config.sessions.ttl,
            base_domains: &shared.config.server.base_domains,
            redaction: &shared.redaction,
            signing_keys: &self.signing_keys,
            token_cache: &self.token_cache,
        }
    }

    /// What upstream calls use.
    pub(crate) fn call_resources(&self) -> CallResources<'_> {
        let monitor = &self.shared.actors.monitor;
        CallResources { clients: &self.upstream_clients, transfers: &self.transfers, monitor }
    }

    /// Removes the signing keys of withdrawn client keys, and all tokens if their rules have changed, from the caches of this thread.
    #[expect(dead_code, reason = "called by a reload")]
    pub(crate) fn purge_caches(&self, withdrawn: &[KeyId], purges_tokens: bool) {
        self.signing_keys.purge(withdrawn);
        if purges_tokens {
            self.token_cache.purge();
        }
    }

    /// Cuts the streams of this thread that belong to keys which the keyring `by` has withdrawn `grace` ago. Returns their number.
    #[expect(dead_code, reason = "called by a reload")]
    pub(crate) fn cut_withdrawn(&self, keys: &[KeyId], by: KeyringNumber, grace: Duration) -> usize {
        self.transfers.revocable.cut_withdrawn(keys, by, grace)
    }

    pub(crate) fn client(&self, bucket: &Bucket) -> &UpstreamClient {
        &self.upstream_clients[bucket.id.index()]
    }
}

impl ConfiguredBuckets for Worker {
    fn buckets(&self) -> &[Bucket] {
        self.shared.router.buckets()
    }

    fn log(&self) -> &Logger {
        &self.shared.log
    }

    fn monitor(&self) -> &MonitorHandle {
        &self.shared.actors.monitor
    }
}

impl RequestHost for Worker {
    fn config(&self) -> &Config {
        &self.shared.config
    }

    fn keyring(&self) -> &Keyring {
        &self.shared.keyring
    }

    fn redaction(&self) -> &Redaction {
        &self.shared.redaction
    }

    fn metrics(&self) -> &RequestMetrics {
        &self.shared.metrics
    }

    fn decisions(&self) -> &Recorder {
        &self.decisions
    }

    fn send_watch(&self) -> &Rc<SendWatch> {
        &self.send_watch
    }

    fn transfers(&self) -> &Rc<Transfers> {
        &self.transfers
    }

    fn buffer_budget(&self) -> &Arc<BufferBudget> {
        &self.shared.buffer_budget
    }

    fn body_memory(&self) -> &Arc<BodyMemory> {
        &self.shared.body_memory
    }

    fn connections(&self) -> &[ConnectionCounts] {
        &self.shared.upstream_connections
    }

    fn unfinished_reason(&self) -> &'static str {
        self.shared.unfinished_reason()
    }
}
