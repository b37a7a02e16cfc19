//! The state of one worker thread for one configuration: everything shared, and its own upstream clients and caches.

pub(crate) mod idle_thread;
pub(crate) mod slot;
mod upstream_clients;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, info};
use tidegate_actors::{BucketId, CostSampler, MonitorHandle};
use tidegate_config::{Config, ServerConfig};

use self::upstream_clients::{ClientsByBucket, UpstreamClients};
use crate::auth::{AuthContext, Keyring, SigningKeyCache, TokenCache};
use crate::buffers::body_memory::BodyMemory;
use crate::buffers::client_wait::WaitReceivers;
use crate::buffers::send_progress::{SendLimits, SendWatch};
use crate::buffers::{BufferBudget, Transfers};
use crate::decisions::Recorder;
use crate::live_requests::ThreadRequests;
use crate::process::configurations::WithdrawnKeys;
use crate::process::{Process, Shared};
use crate::server::idle_connections::IdleConnections;
use crate::server::rejected_addresses::RejectedAddresses;
use crate::telemetry::log::AccessLog;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::millis;
use crate::telemetry::redact::Redaction;
use crate::upstream::bucket::Bucket;
use crate::upstream::bucket::client::UpstreamClient;
use crate::upstream::rules::event_streams::EventStreams;
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

/// The state of one worker thread for one configuration.
pub(crate) struct Worker {
    pub(crate) process: Arc<Process>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: ResponseLimits,
    /// The clients of upstreams, by bucket.
    upstream_clients: UpstreamClients,
    /// The connections of the listener that this thread serves.
    pub(crate) client_connections: Arc<IdleConnections>,
    signing_keys: Rc<SigningKeyCache>,
    token_cache: Rc<TokenCache>,
    /// Records the decisions of this thread.
    pub(crate) decisions: Recorder,
    /// The addresses of rejected connections of the admin listener. None on the data listener, where each is a decision.
    pub(crate) rejected_addresses: Option<Rc<RefCell<RejectedAddresses>>>,
    /// The responses and uploads of this thread that wait for their clients.
    pub(crate) send_watch: Rc<SendWatch>,
    /// The large bodies of this thread.
    pub(crate) transfers: Rc<Transfers>,
    pub(crate) cost_sampler: Rc<CostSampler>,
    /// The requests of this thread that are under way.
    live_requests: Rc<ThreadRequests>,
}

impl Worker {
    /// A worker of the data listener.
    pub(crate) fn data(shared: Arc<Shared>) -> Rc<Self> {
        let limits = ResponseLimits::data(&shared.config.server);
        let (connections, recorder) =
            (Arc::clone(&shared.process.client_connections), shared.process.decisions.recorder());
        Self::new(shared, connections, limits, (recorder, None))
    }

    /// The worker of the admin listener.
    pub(crate) fn admin(shared: Arc<Shared>, connections: Arc<IdleConnections>) -> Rc<Self> {
        let limits = ResponseLimits::admin(&shared.config.server);
        let recorder = shared.process.decisions.admin_recorder();
        Self::new(shared, connections, limits, (recorder, Some(Rc::default())))
    }

    fn new(
        shared: Arc<Shared>,
        client_connections: Arc<IdleConnections>,
        limits: ResponseLimits,
        (decisions, rejected_addresses): (Recorder, Option<Rc<RefCell<RejectedAddresses>>>),
    ) -> Rc<Self> {
        let client =
            |bucket: &Arc<Bucket>| (bucket.id, Rc::new(UpstreamClient::new(bucket, &shared.keyring)));
        let upstream_clients = UpstreamClients::first(shared.router.buckets().iter().map(client).collect());
        let send_watch = SendWatch::new(limits.pace, wait_receivers(&shared));
        let transfers =
            Rc::new(Transfers::new(&shared.process.buffer_budget, &shared.process.buffer_metrics));
        let live_requests = shared.process.live_requests.thread();
        Rc::new(Self {
            process: Arc::clone(&shared.process),
            shared,
            limits,
            upstream_clients,
            client_connections,
            signing_keys: Rc::default(),
            token_cache: Rc::default(),
            decisions,
            rejected_addresses,
            send_watch,
            transfers,
            cost_sampler: Rc::new(CostSampler::new(rand::random())),
            live_requests,
        })
    }

    /// The upstream clients for the next configuration. Those of unchanged buckets stay with their idle connections. Requests run
    /// meanwhile.
    async fn upstream_clients_of(&self, shared: &Shared) -> ClientsByBucket {
        let mut clients = Vec::with_capacity(shared.router.buckets().len());
        let mut built = 0;
        for bucket in shared.router.buckets() {
            let own = self.shared.router.get(bucket.id).filter(|own| Arc::ptr_eq(own, bucket));
            let client = match own.and_then(|own| self.upstream_clients.by_bucket().get(own.id)) {
                Some(client) if shared.unchanged.signers => Rc::clone(client),
                Some(client) => Rc::new(client.with_signers_of(bucket, &shared.keyring)),
                None => Rc::new(UpstreamClient::new(bucket, &shared.keyring)),
            };
            let is_new = own.is_none() || !shared.unchanged.signers;
            clients.push((bucket.id, client));
            if is_new {
                built += 1;
                slot::pause_after(built).await;
            }
        }
        clients.into_iter().collect()
    }

    /// The worker of the thread for the next configuration. What belongs to the thread stays. Cached keys and tokens stay if nothing
    /// that they depend on has changed.
    fn successor(&self, shared: Arc<Shared>, clients: ClientsByBucket) -> Rc<Self> {
        let server = &shared.config.server;
        let limits =
            if self.serves_data() { ResponseLimits::data(server) } else { ResponseLimits::admin(server) };
        self.send_watch.configure(limits.pace, wait_receivers(&shared));
        let unchanged = shared.unchanged;
        Rc::new(Self {
            process: Arc::clone(&self.process),
            limits,
            upstream_clients: self.upstream_clients.next(clients),
            client_connections: Arc::clone(&self.client_connections),
            signing_keys: if unchanged.signing_keys { Rc::clone(&self.signing_keys) } else { Rc::default() },
            token_cache: if unchanged.tokens { Rc::clone(&self.token_cache) } else { Rc::default() },
            decisions: self.decisions.reconfigured(&shared.names),
            rejected_addresses: self.rejected_addresses.clone(),
            send_watch: Rc::clone(&self.send_watch),
            transfers: Rc::clone(&self.transfers),
            cost_sampler: Rc::clone(&self.cost_sampler),
            live_requests: Rc::clone(&self.live_requests),
            shared,
        })
    }

    /// Whether it serves the data listener.
    pub(crate) fn serves_data(&self) -> bool {
        self.rejected_addresses.is_none()
    }

    /// The idle connections to upstreams of all threads.
    pub(crate) fn idle_upstreams(&self) -> usize {
        let buckets = self.shared.router.buckets().iter();
        buckets.map(|bucket| bucket.connections.idle()).sum()
    }

    /// Closes this thread's idle connections to upstreams; returns their number.
    pub(crate) fn close_idle_upstreams(&self) -> usize {
        let buckets = self.shared.router.buckets().iter();
        let with_idle = buckets.filter(|bucket| bucket.connections.idle() > 0);
        with_idle.map(|bucket| self.client(bucket).close_idle()).sum()
    }

    /// Closes this thread's idle connections to upstreams that are too old or closed by the upstream.
    pub(crate) fn sweep_idle_upstreams(&self, now: Instant) {
        let buckets = self.shared.router.buckets().iter();
        for bucket in buckets.filter(|bucket| bucket.connections.idle() > 0) {
            self.client(bucket).sweep_idle(now);
        }
    }

    /// Closes this thread's idle connections to endpoints that drain. Calls under way keep theirs, which close at their ends.
    pub(crate) fn close_draining_upstreams(&self, now: Instant) {
        for bucket in self.shared.router.buckets() {
            for endpoint in bucket.pool.draining_endpoints(now) {
                self.client(bucket).close_idle_of(endpoint);
            }
        }
    }

    /// What authentication reads.
    pub(crate) fn auth_context(&self) -> AuthContext<'_> {
        let shared = &self.shared;
        AuthContext {
            keyring: &shared.keyring,
            regions: &shared.regions,
            tokens: shared.tokens.as_ref().map(|tokens| &tokens.verifier),
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
        CallResources { clients: self.upstream_clients.by_bucket(), transfers: &self.transfers, monitor }
    }

    /// Cuts the streams of this thread that belong to keys which a reload has withdrawn.
    pub(crate) fn cut_withdrawn(&self, withdrawn: &WithdrawnKeys) {
        let WithdrawnKeys { keys, by, grace } = withdrawn;
        let cut = self.transfers.revocable.cut_withdrawn(keys, *by, *grace);
        if cut > 0 {
            info!(self.process.log, "streams of withdrawn keys are cut"; "streams" => cut, "grace_ms" => millis(*grace));
        }
    }

    pub(crate) fn client(&self, bucket: &Bucket) -> &UpstreamClient {
        &self.upstream_clients.by_bucket()[bucket.id]
    }
}

impl RequestHost for Worker {
    fn bucket(&self, id: BucketId) -> &Bucket {
        self.shared.router.bucket(id)
    }

    fn log(&self) -> &Logger {
        &self.process.log
    }

    fn access_log(&self) -> &AccessLog {
        &self.process.access_log
    }

    fn monitor(&self) -> &MonitorHandle {
        &self.shared.actors.monitor
    }

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
        &self.process.metrics
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
        &self.process.buffer_budget
    }

    fn body_memory(&self) -> &Arc<BodyMemory> {
        &self.process.body_memory
    }

    fn live_requests(&self) -> &ThreadRequests {
        &self.live_requests
    }

    fn event_streams(&self) -> &EventStreams {
        &self.process.event_streams
    }

    fn unfinished_reason(&self) -> &'static str {
        self.process.unfinished_reason()
    }
}
