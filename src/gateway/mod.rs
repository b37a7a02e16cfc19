//! Starts, runs, drains and stops the gateway (G4).
//!
//! Actors are prepared first and start on the worker threads. Actors of the request path run on the workers' own arbiters, because a
//! message to another thread costs more than the actor's decision. `buckets.rs` builds the buckets, `drain.rs` stops the gateway. The
//! worker threads stop last, because the actors stop with them.

mod bucket_tasks;
mod buckets;
mod drain;
mod event_loop_lag;
mod jwks_fetcher;
mod reload;
mod reload_check;
mod reload_requests;
mod reload_watch;
mod replaced;
mod shared_parts;
mod start_error;
pub mod startup_check;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Registry;
use slog::{Logger, info};
use tidegate_actors::{ActorSystem, Ids, Launch, Launches, clock};
use tidegate_config::{Config, EffectiveConfig, SourceSet};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::admin::reload::ReloadRequests;
use crate::admin::status::possible::possible;
use crate::admin::status::refresh;
use crate::buffers::ReservedBytes;
use crate::buffers::send_progress::SendLimits;
use crate::buffers::{BufferBudget, BufferMetrics};
use crate::chaos::Chaos;
use crate::decisions::Decisions;
use crate::degradation::published::Degradation;
use crate::descriptors::DescriptorBudget;
use crate::descriptors::admission::DescriptorAdmission;
use crate::listener;
use crate::pressure;
use crate::process::configurations::{Configurations, ThreadCommand};
use crate::process::retirement::Retirement;
use crate::process::{DrainPhase, Process, Shared};
use crate::server::connection_reserve::{ConnectionReserve, RESERVED};
use crate::server::idle_closer::IdleCloser;
use crate::server::idle_connections::IdleConnections;
use crate::server::tls::{CertificateReload, ServerTls};
use crate::server::tls_tickets::TicketKeys;
use crate::server::{
    AcceptMetrics, ConnectionHandler, ConnectionLimit, Listener, Server, WorkerThread, WorkerThreads,
};
use crate::shortage::{ShortageMetrics, log_episodes};
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::exposition::Exposition;
use crate::telemetry::metrics::{RequestMetrics, TlsMetrics};
use crate::worker::slot::WorkerSlot;
use crate::worker::{Worker, worker_threads};
use reload::Reloader;
use reload_requests::ReloadSender;
use reload_watch::WatchedFiles;
use shared_parts::SharedParts;

pub use reload::Reload;
pub use start_error::StartError;

/// Connections per data worker. A worker cannot serve that many: the in-flight limit and the descriptor limit are reached first.
const CONNECTIONS_PER_WORKER: usize = 25_000;
/// Send buffer of an admin connection. A client that does not read holds no more than this in the kernel. With less than a few
/// segments of loopback (64 KiB) a large scrape waits for delayed acknowledgements.
const ADMIN_SEND_BYTES: usize = 256 << 10;
/// Threads per data worker for blocking calls: file reads, DNS lookups.
const DATA_BLOCKING_THREADS: usize = 4;
const ADMIN_BLOCKING_THREADS: usize = 1;
/// The names of the listeners in the log.
const DATA: &str = "data";
const ADMIN: &str = "admin";

/// Starts gateways.
pub struct Gateway;

/// A running gateway.
pub struct RunningGateway {
    /// Address of the data listener.
    pub address: SocketAddr,
    /// Address of the admin listener.
    pub admin_address: SocketAddr,
    configurations: Arc<Configurations>,
    server: Server,
    /// Open connections of the data listener, by worker.
    open: Vec<Arc<AtomicUsize>>,
    reload: Reload,
    background_tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Checks the files that the configuration names as a start does.
    ///
    /// # Errors
    /// A file cannot be used: a certificate, its key, authorities, or keys of tokens.
    pub fn check(config: &Config) -> Result<(), StartError> {
        startup_check::check(config)
    }

    /// Binds both listeners, starts the actors and the workers. Must run inside an actix system. A reload reads `sources`
    /// again; `files` are those that were read.
    ///
    /// # Errors
    /// An address cannot be bound, or a resource that the configuration names is not available.
    pub fn start(
        config: Config,
        (effective, sources, files): (EffectiveConfig, SourceSet, Vec<PathBuf>),
        log: Logger,
        log_control: &LogControl,
    ) -> Result<RunningGateway, StartError> {
        DescriptorBudget::new(&config).check_start(&config)?;
        let sockets = listen_both(&config)?;
        let (address, admin) = (sockets.0.local_addr()?, sockets.1.local_addr()?);

        let tls = ListenerTls::load(&config, TicketKeys::generate())?;
        let registry = Exposition::registry(&config.metrics.namespace)?;
        let ids = Ids::new(&config);
        let decisions = Decisions::new(&config, &ids, worker_threads(&config), &log);
        let names = decisions.current_names();
        let ActorSystem { actors, launches, .. } =
            tidegate_actors::prepare(&config, &registry, &log, decisions.actor_events(&names))?;
        actors.monitor.watch_log(Arc::new(log_control.clone()));
        names.set_actors(&actors);
        let process = Arc::new(process_state(&config, &registry, (tls, decisions), (&log, log_control))?);
        let mut background_tasks = Vec::new();
        let tls_metrics = TlsMetrics::register(&registry)?;
        let certificates = reload_certificates(&process, &tls_metrics, &mut background_tasks);
        let (retirement, retired) = Retirement::first();
        let parts = SharedParts { process, ids, config, effective, actors, names };
        let shared = parts.build(None, retirement)?;
        let (reload, requests) = ReloadSender::new();
        let (server, open, threads) = serve(&shared, launches, sockets, Arc::new(reload.clone()))?;
        info!(log, "listening"; "address" => address.to_string(), "admin" => admin.to_string(),
            "buckets" => shared.router.buckets().len(), "version" => env!("CARGO_PKG_VERSION"));
        background_tasks.push(actix_rt::spawn(log_episodes(log.clone())));
        background_tasks.push(pressure::start_without_clients(&shared.actors.monitor));
        let configurations = Arc::new(Configurations::new(shared, threads));
        background_tasks.push(actix_rt::spawn(refresh::run(Arc::clone(&configurations))));
        let config = configurations.current().config.reload.clone();
        let (watched, settings) = watch::channel(WatchedFiles { config, files });
        background_tasks.push(reload_watch::start(settings, reload.clone()));
        let reloader = Reloader::new(&configurations, sources, requests, (retired, watched), log_control);
        background_tasks.push(actix_rt::spawn(reloader.run()));
        let reload = Reload { certificates, configuration: reload };
        Ok(RunningGateway {
            address,
            admin_address: admin,
            configurations,
            server,
            open,
            reload,
            background_tasks,
        })
    }
}

/// The certificates of both listeners, with the keys of their session tickets.
struct ListenerTls {
    data: Option<Arc<ServerTls>>,
    admin: Option<Arc<ServerTls>>,
    ticket_keys: Arc<TicketKeys>,
}

impl ListenerTls {
    fn load(config: &Config, ticket_keys: TicketKeys) -> Result<Self, StartError> {
        let ticket_keys = Arc::new(ticket_keys);
        let data = ServerTls::load(&config.server.tls, &ticket_keys)?;
        let admin = ServerTls::load_admin(&config.admin.tls, &ticket_keys)?;
        Ok(Self { data, admin, ticket_keys })
    }
}

/// Builds the state of the process.
fn process_state(
    config: &Config,
    registry: &Registry,
    (tls, decisions): (ListenerTls, Arc<Decisions>),
    (log, log_control): (&Logger, &LogControl),
) -> Result<Process, StartError> {
    let metrics = RequestMetrics::register(registry, config, log)?;
    let buffer_metrics = BufferMetrics::register(registry)?;
    let log_stats = log_control.stats();
    log_stats.register(registry)?;
    Ok(Process {
        accepting: AcceptMetrics::register(registry)?,
        degradation: Degradation::new(registry, metrics.refusals(), possible(config))?,
        metrics,
        log: log.clone(),
        log_stats,
        decisions,
        drain: watch::Sender::new(DrainPhase::Serving),
        drain_began: OnceLock::new(),
        tls: tls.data,
        admin_tls: tls.admin,
        ticket_keys: tls.ticket_keys,
        chaos: Chaos::default(),
        send_buffer: ReservedBytes::default(),
        buffer_budget: BufferBudget::new(config.server.buffer_budget),
        body_memory: Arc::default(),
        buffer_metrics,
        client_connections: IdleConnections::data(clock::now()),
        idle_closer: IdleCloser::register(registry)?,
        shortages: ShortageMetrics::register(registry)?,
    })
}

/// Starts the tasks that reload the certificates of the data listener and of the admin listener. Each notification reloads one of them.
fn reload_certificates(
    process: &Process,
    metrics: &TlsMetrics,
    background_tasks: &mut Vec<JoinHandle<()>>,
) -> Vec<Arc<Notify>> {
    let (both, log) = ([&process.tls, &process.admin_tls], &process.log);
    let mut reloads = Vec::new();
    for tls in both.into_iter().flatten() {
        let requests = Arc::<Notify>::default();
        reloads.push(Arc::clone(&requests));
        let renewal = CertificateReload::new(tls, requests, log.clone(), metrics.clone());
        background_tasks.push(actix_rt::spawn(renewal.run()));
    }
    reloads
}

/// Binds the sockets of the data listener and of the admin listener.
fn listen_both(config: &Config) -> Result<(TcpListener, TcpListener), StartError> {
    let (server, admin) = (&config.server, &config.admin);
    let data_address = SocketAddr::new(server.address, server.port);
    let data_socket = listen("server.port", data_address, server.write_stall_timeout, None)?;
    let (admin_address, stall) =
        (SocketAddr::new(admin.address, admin.port), SendLimits::admin(server).stall());
    let admin_socket = listen("admin.port", admin_address, stall, Some(ADMIN_SEND_BYTES))?;
    Ok((data_socket, admin_socket))
}

fn listen(
    key: &'static str,
    address: SocketAddr,
    stall: Duration,
    send_bytes: Option<usize>,
) -> Result<TcpListener, StartError> {
    crate::server::listen(address, stall, send_bytes).map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}

/// The running server, the counts of open data connections, and the senders of commands to the threads.
type Served = (Server, Vec<Arc<AtomicUsize>>, Vec<UnboundedSender<ThreadCommand>>);

/// Starts the worker threads with the actors, and the acceptor.
fn serve(
    shared: &Arc<Shared>,
    mut launches: Launches,
    (data, admin): (TcpListener, TcpListener),
    reloads: Arc<dyn ReloadRequests>,
) -> Result<Served, StartError> {
    let (count, process) = (worker_threads(&shared.config), &shared.process);
    launches.start_own_threads()?;
    let mut threads = WorkerThreads::new();
    let (mut senders, mut open, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for (index, launches) in launches.distribute(count).into_iter().enumerate() {
        let (sender, receiver) = unbounded_channel();
        commands.push(sender);
        let worker = DataThread { index, launches, shared: Arc::clone(shared), commands: receiver };
        let thread = match process.tls.clone() {
            None => worker.start(&mut threads, listener::cleartext_handler),
            Some(tls) => worker.start(&mut threads, |slot| listener::tls_handler(slot, tls)),
        }?;
        senders.push(thread.sender());
        open.push(thread.open());
    }
    let admins = IdleConnections::admin(clock::now());
    let admin_max = shared.config.admin.max_connections.get();
    let streams_max = shared.config.admin.max_stream_clients;
    let reserve = ConnectionReserve::new(admin_max, streams_max);
    let (for_admin, connections, for_handler) =
        (Arc::clone(shared), Arc::clone(&admins), Arc::clone(&reserve));
    let (sender, receiver) = unbounded_channel();
    commands.push(sender);
    let build = move || {
        let slot = WorkerSlot::start(Worker::admin(for_admin, connections), receiver);
        pressure::start(&slot);
        listener::admin_handler(slot, for_handler, reloads)
    };
    let thread = threads.start("admin".to_owned(), ADMIN_BLOCKING_THREADS, build)?;

    let budget = Arc::new(DescriptorBudget::new(&shared.config));
    budget.log_limits(&process.log);
    let limit = ConnectionLimit { open: vec![thread.open()], max: admin_max + RESERVED };
    let admission = DescriptorAdmission::admin(limit, Arc::clone(&budget), admins, (reserve, streams_max));
    let admin = Listener::new(ADMIN, admin, vec![thread.sender()], Box::new(admission));
    let limit = ConnectionLimit { open: open.clone(), max: count * CONNECTIONS_PER_WORKER };
    let admission = DescriptorAdmission::data(limit, budget, process);
    let data = Listener::new(DATA, data, senders, Box::new(admission));

    let server = Server::start(vec![admin, data], threads, process.accepting.clone(), &process.log)?;
    Ok((server, open, commands))
}

/// A worker thread of the data listener before its start.
struct DataThread {
    index: usize,
    /// Its share of the actors.
    launches: Vec<Launch>,
    shared: Arc<Shared>,
    commands: UnboundedReceiver<ThreadCommand>,
}

impl DataThread {
    fn start<S: ConnectionHandler, F: Future<Output = io::Result<S>> + 'static>(
        self,
        threads: &mut WorkerThreads,
        service: impl FnOnce(Rc<WorkerSlot>) -> F + Send + 'static,
    ) -> io::Result<&WorkerThread> {
        let Self { index, launches, shared, commands } = self;
        threads.start(format!("data worker {index}"), DATA_BLOCKING_THREADS, move || {
            launches.into_iter().for_each(Launch::start);
            let slot = WorkerSlot::start(Worker::data(shared), commands);
            pressure::start(&slot);
            event_loop_lag::start(&slot, index);
            service(slot)
        })
    }
}
