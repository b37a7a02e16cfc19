//! Start, run, drain, stop (G4).
//!
//! Actors are prepared first and given their thread as the workers come up: the request-path actors live on the workers'
//! own arbiters, because a message to a thread of its own costs more than everything it decides. Draining
//! waits for the slots before it stops the workers, for with them go the actors.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use prometheus::Registry;
use slog::{Logger, info, warn};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tidegate_actors::{BreakerHandle, BucketId, Launches, PoolHandle, Prepared, clock};
use tidegate_config::{BucketConfig, Config};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::jwt::{TokenKeysError, Tokens};
use crate::auth::{Keyring, Proofs};
use crate::chaos::Chaos;
use crate::http::send_buffer::ReservedBytes;
use crate::http::tls::{PairError, Renewal, Tls};
use crate::http::{admin, admin_guard, listener};
use crate::preflight;
use crate::router::{Bucket, Router};
use crate::telemetry::metrics::{RequestMetrics, TlsMetrics};
use crate::telemetry::redact::Redaction;
use crate::upstream::credentials::Source;
use crate::upstream::credentials::sources::{SourceError, Sources};
use crate::upstream::destination::Destination;
use crate::upstream::dial::Dialer;
use crate::upstream::headers::ClientHeaders;
use crate::upstream::tls::TlsError;
use crate::upstream::{credential_check, health, reachability};
use crate::worker::{Shared, Worker};

const BACKLOG: i32 = 4096;
/// Far above what a worker can serve; the in-flight cap and the descriptor watch come first.
const CONNECTIONS_PER_WORKER: usize = 25_000;
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// After the drain nothing is left that a worker would wait for.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The configuration key of the port.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Two metrics of the same name: a defect of tidegate itself.
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An endpoint's address is no authority.
    #[error("buckets.{bucket}: `{endpoint}` cannot be called: {source}")]
    Endpoint {
        /// The bucket.
        bucket: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        source: actix_web::http::uri::InvalidUri,
    },
    /// An endpoint cannot be spoken to over TLS.
    #[error("buckets.{bucket}: {source}")]
    Tls {
        /// The bucket.
        bucket: String,
        /// Why.
        source: TlsError,
    },
    /// A bucket's credentials cannot be used.
    #[error("buckets.{bucket}: {source}")]
    Credentials {
        /// The bucket.
        bucket: String,
        /// Why.
        source: SourceError,
    },
    /// The certificate for clients or its key cannot be used.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// Tokens could not be verified.
    #[error("jwt.{0}")]
    Tokens(#[from] TokenKeysError),
    /// More buckets than there are IDs.
    #[error("buckets: there are more than 65535")]
    TooManyBuckets,
    /// A thread or socket could not be had.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Starts gateways.
pub struct Gateway;

/// A running gateway.
pub struct Running {
    /// Where the data listener is.
    pub address: SocketAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    shared: Arc<Shared>,
    data: ServerHandle,
    side: ServerHandle,
    tasks: Vec<JoinHandle<io::Result<()>>>,
    chores: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// What a start would refuse of the files that the configuration names, beyond what reading it has found.
    ///
    /// # Errors
    /// A file cannot be used: a certificate, its key, authorities, or keys of tokens.
    pub fn check(config: &Config) -> Result<(), StartError> {
        preflight::refuse(config)
    }

    /// Binds both listeners, starts the actors and the workers. Must run inside an actix system.
    ///
    /// # Errors
    /// An address is taken, or something the configuration names cannot be had.
    pub fn start(config: Config, log: Logger) -> Result<Running, StartError> {
        let data_address = SocketAddr::new(config.server.address, config.server.port);
        let admin_address = SocketAddr::new(config.admin.address, config.admin.port);
        let stall = config.server.write_stall_timeout;
        let data_listener = listen("server.port", data_address, stall)?;
        let admin_listener = listen("admin.port", admin_address, stall)?;
        let address = data_listener.local_addr()?;
        let admin = admin_listener.local_addr()?;

        let tls = Tls::load(&config.server.tls)?;
        let registry = Registry::new();
        let Prepared { actors, pools, breakers, launches } =
            tidegate_actors::prepare(&config, &registry, &log)?;
        let metrics = RequestMetrics::register(&registry)?;
        let mut chores = Vec::new();
        let tls_metrics = TlsMetrics::register(&registry)?;
        if let Some(tls) = &tls {
            let renewal = Renewal::new(tls, config.server.tls.reload_interval, log.clone(), tls_metrics)?;
            chores.push(actix_rt::spawn(renewal.run()));
        }
        let (tokens, renewal) = Tokens::new(&config)?.unzip();
        chores.extend(renewal.flatten().map(|renewal| actix_rt::spawn(renewal.run(log.clone()))));
        let parts = BucketParts { config: &config, tokens: tokens.as_ref(), metrics: &metrics, log: &log };
        let buckets = parts.buckets(pools.into_iter().zip(breakers), &mut chores)?;
        let shared = Arc::new(Shared {
            connections: buckets.iter().map(|_| Default::default()).collect(),
            router: Router::new(buckets),
            keyring: Keyring::new(&config),
            tokens,
            actors,
            metrics,
            registry,
            log: log.clone(),
            redaction: Redaction::of(&config),
            draining: watch::Sender::new(false),
            tls,
            chaos: Chaos::default(),
            send_buffer: ReservedBytes::default(),
            config,
        });
        let data = data_server(&shared, data_listener, launches)?;
        let side = admin_server(&shared, admin_listener)?;
        chores.extend(health::begin(&shared));
        chores.extend(reachability::begin(&shared));
        chores.extend(credential_check::begin(&shared));
        info!(log, "listening"; "address" => address.to_string(), "admin" => admin.to_string(),
            "buckets" => shared.router.buckets().len(), "version" => env!("CARGO_PKG_VERSION"));
        let (data_handle, side_handle) = (data.handle(), side.handle());
        let tasks = vec![actix_rt::spawn(data), actix_rt::spawn(side)];
        Ok(Running { address, admin, shared, data: data_handle, side: side_handle, tasks, chores })
    }
}

/// What buckets are built from.
struct BucketParts<'a> {
    config: &'a Config,
    tokens: Option<&'a Tokens>,
    metrics: &'a RequestMetrics,
    log: &'a Logger,
}

impl BucketParts<'_> {
    /// The configured buckets, each with the handles of its pool and breaker. The tasks that renew credentials are added to `chores`.
    fn buckets(
        &self,
        handles: impl Iterator<Item = (PoolHandle, BreakerHandle)>,
        chores: &mut Vec<JoinHandle<()>>,
    ) -> Result<Vec<Bucket>, StartError> {
        let mut buckets = Vec::new();
        for (index, ((name, bucket), (pool, breaker))) in self.config.buckets.iter().zip(handles).enumerate()
        {
            let id = BucketId::new(u16::try_from(index).map_err(|_| StartError::TooManyBuckets)?);
            let tls = |source| StartError::Tls { bucket: name.clone(), source };
            let upstream = &bucket.upstream;
            let dialer = Dialer::new(&upstream.endpoints, upstream, &self.config.dns);
            let (config, kind, log) = (self.config, bucket.kind, self.log);
            let mut sources = Sources { name, kind, upstream, config, log, chores };
            let credentials =
                sources.make().map_err(|source| StartError::Credentials { bucket: name.clone(), source })?;
            let proofs = Proofs::of(&bucket.auth, self.tokens.map(|tokens| &tokens.places));
            buckets.push(Bucket {
                id,
                name: name.clone(),
                config: bucket.clone(),
                client_headers: client_headers(bucket, &proofs, &credentials),
                proofs,
                destinations: destinations(name, bucket)?,
                dialer: Arc::new(dialer.map_err(tls)?),
                credentials,
                pool,
                breaker,
                metrics: self.metrics.bucket(name),
            });
        }
        Ok(buckets)
    }
}

/// Accepted connections inherit `stall` (T4): a client that takes no byte for so long is cut off by the kernel, which
/// alone sees what lies unread in its buffers.
fn listen(key: &'static str, address: SocketAddr, stall: Duration) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(stall))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| StartError::Listen { key, address, source })
}

fn client_headers(bucket: &BucketConfig, proofs: &Proofs, credentials: &Source) -> Arc<ClientHeaders> {
    let of_proofs = proofs.headers();
    let injected = credentials.injected().into_iter().flat_map(|injected| injected.names());
    Arc::new(ClientHeaders::of(bucket, of_proofs.iter().chain(injected)))
}

fn destinations(name: &str, bucket: &BucketConfig) -> Result<Vec<Destination>, StartError> {
    let parse = |endpoint: &tidegate_config::Endpoint| {
        Destination::of(endpoint).map_err(|source| StartError::Endpoint {
            bucket: name.to_owned(),
            endpoint: endpoint.url(),
            source,
        })
    };
    bucket.upstream.endpoints.iter().map(parse).collect()
}

fn data_server(
    shared: &Arc<Shared>,
    listener: TcpListener,
    launches: Launches,
) -> Result<Server, StartError> {
    let server = &shared.config.server;
    let workers = if server.workers == 0 {
        std::thread::available_parallelism().map_or(1, usize::from)
    } else {
        server.workers
    };
    let mut launches = launches;
    launches.start_own_threads()?;
    let launches = Arc::new(Mutex::new(launches.deal(workers)));
    let for_workers = Arc::clone(shared);
    let server = Server::build()
        .workers(workers)
        .worker_max_blocking_threads(4)
        .max_concurrent_connections(CONNECTIONS_PER_WORKER)
        .shutdown_timeout(1)
        .disable_signals();
    let worker = move || {
        // The factory runs on the worker's own thread: here its share of the actors comes to life.
        let hand = launches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        hand.into_iter().flatten().for_each(tidegate_actors::Launch::start);
        Worker::new(Arc::clone(&for_workers))
    };
    let server = match shared.tls.clone() {
        None => server.listen("data", listener, move || listener::plain(&worker()))?,
        Some(tls) => server.listen("data", listener, move || listener::secured(&worker(), &tls))?,
    };
    Ok(server.run())
}

fn admin_server(shared: &Arc<Shared>, listener: TcpListener) -> Result<Server, StartError> {
    let shared = Arc::clone(shared);
    let server = HttpServer::new(move || {
        let worker = Data::new(Worker::new(Arc::clone(&shared)));
        App::new().wrap(from_fn(admin_guard::guard)).app_data(worker).configure(admin::routes)
    })
    .workers(1)
    .worker_max_blocking_threads(1)
    .shutdown_timeout(1)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

impl Running {
    /// Ready turns false, new connections are not taken, requests in flight finish within the drain time, actors and
    /// workers stop. Returns how many requests were cut off.
    pub async fn stop(self) -> usize {
        let Self { shared, data, side, tasks, chores, .. } = self;
        chores.iter().for_each(JoinHandle::abort);
        let began = clock::now();
        shared.draining.send_replace(true);
        info!(shared.log, "draining"; "in_flight" => shared.actors.monitor.in_flight());
        data.pause().await;
        let cut_off = drained(&shared, began + shared.config.server.drain_timeout).await;
        if cut_off > 0 {
            warn!(shared.log, "drain time is up"; "cut_off" => cut_off);
        }
        let graceful = cut_off == 0;
        let stop = async {
            data.stop(graceful).await;
            side.stop(false).await;
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(STOP_TIMEOUT + Duration::from_secs(1), stop).await;
        let took = clock::now().saturating_duration_since(began);
        info!(shared.log, "stopped"; "took_ms" => u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        cut_off
    }
}

/// Waits until nothing is in flight, or the deadline; returns what still is.
async fn drained(shared: &Shared, deadline: Instant) -> usize {
    loop {
        let in_flight = shared.actors.monitor.in_flight();
        if in_flight == 0 || clock::now() >= deadline {
            return in_flight;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}
