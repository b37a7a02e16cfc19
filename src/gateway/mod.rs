//! Starts, runs, drains and stops the gateway (G4).
//!
//! Actors are prepared first and start on the worker threads. Actors of the request path run on the workers' own arbiters, because a
//! message to another thread costs more than the actor's decision. `buckets.rs` builds the buckets, `drain.rs` stops the gateway. The
//! worker threads stop last, because the actors stop with them.

mod actors_handover;
mod bucket_tasks;
mod buckets;
mod drain;
mod drain_tracker;
mod event_loop_lag;
mod handed_over;
mod jwks_fetcher;
mod listening_sockets;
mod liveness;
mod process_state;
mod reload;
mod reload_check;
mod reload_requests;
mod reload_watch;
mod replaced;
mod shared_parts;
mod start_error;
pub mod startup_check;
mod suspension;
mod take_over;
mod upgrade;
mod upgrade_requests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use slog::{Logger, info};
use tidegate_actors::{ActorSystem, Ids, Launch, Launches, clock};
use tidegate_config::{Config, EffectiveConfig, SourceSet};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::admin::reload::ReloadRequests;
use crate::admin::status::refresh;
use crate::admin::upgrade::UpgradeRequests;
use crate::decisions::Decisions;
use crate::descriptors::admission::DescriptorAdmission;
use crate::descriptors::{DescriptorBudget, DescriptorShares};
use crate::listener;
use crate::pressure;
use crate::process::configurations::{Configurations, ThreadCommand};
use crate::process::retirement::Retirement;
use crate::process::{Process, Shared};
use crate::server::connection_reserve::{ConnectionReserve, RESERVED};
use crate::server::idle_connections::IdleConnections;
use crate::server::inherited::{ADMIN, DATA, InheritedSockets};
use crate::server::tls::CertificateReload;
use crate::server::tls_tickets::TicketKeys;
use crate::server::{ConnectionHandler, ConnectionLimit, Listener, Server, WorkerThread, WorkerThreads};
use crate::shortage::log_episodes;
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::TlsMetrics;
use crate::telemetry::metrics::exposition::Exposition;
use crate::upgrade::{Inheritance, UpgradeContext};
use crate::worker::slot::WorkerSlot;
use crate::worker::{Worker, worker_threads};
use handed_over::PredecessorDrain;
use listening_sockets::{ListeningSockets, SharedSocket};
use process_state::{ListenerTls, process_state};
use reload::Reloader;
use reload_requests::ReloadSender;
use shared_parts::SharedParts;
use upgrade::{ServingSuccessor, Upgrader};
use upgrade_requests::UpgradeSender;

pub use drain::{DrainRequested, StopCause, StopResult};
pub use reload::Reload;
pub use start_error::StartError;
pub use upgrade_requests::Upgrade;

/// Connections per data worker. A worker cannot serve that many: the in-flight limit and the descriptor limit are reached first.
const CONNECTIONS_PER_WORKER: usize = 25_000;
/// Threads per data worker for blocking calls: file reads, DNS lookups.
const DATA_BLOCKING_THREADS: usize = 4;
const ADMIN_BLOCKING_THREADS: usize = 1;

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
    upgrade: Upgrade,
    /// The names of the inherited sockets.
    inherited: Option<String>,
    /// The sockets that a predecessor still uses.
    shared_sockets: Vec<SharedSocket>,
    log_control: LogControl,
    after: PredecessorDrain,
    /// The successor that serves.
    successor: Option<ServingSuccessor>,
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

    /// Binds both listeners or uses inherited sockets, starts the actors and the workers. Must run inside an actix system. A reload
    /// reads `sources` again; `files` are those that were read. With a predecessor it accepts nothing until
    /// [`RunningGateway::take_over`].
    ///
    /// # Errors
    /// An address cannot be bound, or a resource that the configuration names is not available.
    pub fn start(
        config: Config,
        (effective, sources, files): (EffectiveConfig, SourceSet, Vec<PathBuf>),
        (log, log_control): (Logger, &LogControl),
        sockets: InheritedSockets,
        (context, predecessor): (UpgradeContext, Option<&Inheritance>),
    ) -> Result<RunningGateway, StartError> {
        let is_successor = predecessor.is_some();
        DescriptorShares::new(&config).check_start(&config)?;
        let sockets = ListeningSockets::open(&config, sockets, is_successor, &log)?;
        let (address, admin_address) = (sockets.data.address, sockets.admin.address);
        let inherited = sockets.inherited();

        let ticket_keys =
            predecessor.map_or_else(TicketKeys::generate, |predecessor| predecessor.ticket_keys(&log));
        let tls = ListenerTls::load(&config, ticket_keys)?;
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
        let (upgrade, upgrades) = UpgradeSender::new();
        let served = Served::start(
            &shared,
            launches,
            (sockets, is_successor),
            (Arc::new(reload.clone()), Arc::new(upgrade.clone())),
        )?;
        let Served { server, open, admin_open, commands, shared_sockets, descriptors } = served;
        background_tasks.push(actix_rt::spawn(log_episodes(log.clone())));
        background_tasks.push(pressure::start_without_clients(&shared.actors.monitor));
        let configurations = Arc::new(Configurations::new(shared, commands));
        background_tasks.push(actix_rt::spawn(refresh::run(Arc::clone(&configurations))));
        let outside = (descriptors, log_control.clone());
        let (reloader, watched) =
            Reloader::new(&configurations, (sources, files), (requests, retired), outside);
        background_tasks.push(reload_watch::start(watched, reload.clone()));
        background_tasks.push(actix_rt::spawn(reloader.run()));
        let (sender, done) = oneshot::channel();
        let upgrader = Upgrader {
            configurations: Arc::clone(&configurations),
            acceptor: server.acceptor(),
            open: open.clone(),
            context,
            log_control: log_control.clone(),
        };
        background_tasks.push(actix_rt::spawn(upgrader.run(upgrades, sender)));
        let running = RunningGateway {
            address,
            admin_address,
            configurations,
            server,
            open,
            reload: Reload { certificates, configuration: reload },
            upgrade: Upgrade(upgrade),
            inherited,
            shared_sockets,
            log_control: log_control.clone(),
            after: PredecessorDrain::new(done, admin_open),
            successor: None,
            background_tasks,
        };
        if !is_successor {
            running.log_listening();
        }
        Ok(running)
    }
}

impl RunningGateway {
    fn log_listening(&self) {
        let shared = self.configurations.current();
        info!(shared.process.log, "listening"; "address" => self.address.to_string(),
            "admin" => self.admin_address.to_string(), "inherited" => &self.inherited, "buckets" => shared.router.buckets().len(),
            "version" => env!("CARGO_PKG_VERSION"));
    }
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

/// The running server.
struct Served {
    server: Server,
    /// Open data connections, by worker.
    open: Vec<Arc<AtomicUsize>>,
    admin_open: Arc<AtomicUsize>,
    /// The senders of commands to the threads.
    commands: Vec<UnboundedSender<ThreadCommand>>,
    shared_sockets: Vec<SharedSocket>,
    descriptors: Arc<DescriptorBudget>,
}

impl Served {
    /// Starts the worker threads with the actors, and the acceptor.
    fn start(
        shared: &Arc<Shared>,
        mut launches: Launches,
        (sockets, is_suspended): (ListeningSockets, bool),
        requests: (Arc<dyn ReloadRequests>, Arc<dyn UpgradeRequests>),
    ) -> Result<Self, StartError> {
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
            listener::admin_handler(slot, for_handler, requests)
        };
        let thread = threads.start("admin".to_owned(), ADMIN_BLOCKING_THREADS, build)?;

        let budget = Arc::new(DescriptorBudget::new(&shared.config));
        budget.log_limits(&process.log);
        let limit = ConnectionLimit { open: vec![thread.open()], max: admin_max + RESERVED };
        let admission =
            DescriptorAdmission::admin(limit, Arc::clone(&budget), admins, (reserve, streams_max));
        let admin_open = thread.open();
        let ListeningSockets { data, admin, shared: shared_sockets } = sockets;
        let admin = Listener::new(ADMIN, admin.socket, vec![thread.sender()], Box::new(admission))
            .activated(admin.is_activated);
        let limit = ConnectionLimit { open: open.clone(), max: count * CONNECTIONS_PER_WORKER };
        let admission = DescriptorAdmission::data(limit, Arc::clone(&budget), process);
        let data =
            Listener::new(DATA, data.socket, senders, Box::new(admission)).activated(data.is_activated);

        let server =
            Server::start(vec![admin, data], is_suspended, threads, process.accepting.clone(), &process.log)?;
        Ok(Self { server, open, admin_open, commands, shared_sockets, descriptors: budget })
    }
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
