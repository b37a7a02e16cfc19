//! One bucket's HTTP client on one worker thread: awc with every default that is wrong for a gateway set right.
//!
//! No redirects, no decompression, no timeout of its own (the watch has them all), no default headers, `TCP_NODELAY`.
//! awc's own limit is the pool's whole size on every worker, so that it never queues: the bucket's gate is what bounds
//! connections in use. Idle ones over `max_idle` are closed as their answer ends, see `answer.rs`. awc sees plain HTTP everywhere:
//! TLS is the dialer's, so that it, too, is under the connection that notices early answers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected};
use actix_web::http::header::HOST;
use actix_web::http::{Method, Uri};
use tidegate_actors::{CredentialId, KeyId, clock};
use tidegate_config::{Credentials, Endpoint, Kind};

use crate::auth::Keyring;
use crate::router::Bucket;
use crate::s3::signer::Signer;
use crate::upstream::UpstreamRejection;
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::connection_key::ConnectionKey;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::dialer::Dialer;

/// How long an idle upstream connection is kept; below what common servers keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection to a name lives: a busy one would never see that its name leads elsewhere by now.
const DNS_NAME_LIFETIME: Duration = Duration::from_secs(300);

/// Open upstream connections of one bucket, all workers together.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCounts {
    open: Arc<AtomicUsize>,
}

impl ConnectionCounts {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A signer, and what it was made of.
type CachedSigner = Option<(Arc<Credentials>, Rc<Signer>)>;

/// What a worker calls a bucket's upstream with.
pub(crate) struct UpstreamClient {
    http: RefCell<awc::Client>,
    /// Buckets that awc may keep connections for, where they have connections of their own.
    pooled_buckets: RefCell<HashSet<String>>,
    pooled_buckets_max: usize,
    connector: ConnectorSettings,
    region: String,
    /// The signer made last for each of the bucket's credentials, and for what they were.
    signers: RefCell<Vec<CachedSigner>>,
    /// Of keys that sign as themselves.
    client_signers: HashMap<KeyId, Rc<Signer>>,
}

impl UpstreamClient {
    pub(crate) fn new(bucket: &Bucket, keyring: &Keyring, counts: &ConnectionCounts) -> Self {
        let upstream = &bucket.config.upstream;
        let limit = upstream.connection_pool.size.get().max(upstream.concurrency.max_concurrent.get());
        let connector = ConnectorSettings {
            dialer: Arc::clone(&bucket.dialer),
            counts: counts.clone(),
            timeout: upstream.connect_timeout,
            limit,
        };
        let region = upstream.region.clone();
        let own = |(id, pair)| (id, Rc::new(Signer::new(pair, region.clone())));
        let client_signers = if bucket.config.kind == Kind::S3 {
            keyring.upstream_credentials().map(own).collect()
        } else {
            HashMap::new()
        };
        Self {
            http: RefCell::new(connector.client()),
            pooled_buckets: RefCell::default(),
            pooled_buckets_max: upstream.connection_pool.max_idle.max(1),
            connector,
            region,
            signers: RefCell::new(vec![None; upstream.credentials_by_name.len().max(1)]),
            client_signers,
        }
    }

    /// A request that goes over one of its connections.
    pub(crate) fn request(&self, method: Method, uri: Uri) -> awc::ClientRequest {
        self.http.borrow().request(method, uri)
    }

    /// Notes a bucket that has connections of its own. awc neither forgets a key nor closes the idle connections of
    /// one that is not asked for again, and clients invent names under a glob. So awc is replaced when there are more
    /// buckets than connections that may be idle.
    pub(crate) fn track_bucket(&self, bucket: &str) {
        let mut kept = self.pooled_buckets.borrow_mut();
        if kept.contains(bucket) {
            return;
        }
        if kept.len() >= self.pooled_buckets_max {
            kept.clear();
            self.close_idle();
        }
        kept.insert(bucket.to_owned());
    }

    /// Closes the connections that are idle on this thread; returns how many that were. awc has no call for that, but drops them with
    /// its client. Those in use go on, and close with their answers.
    pub(crate) fn close_idle(&self) -> usize {
        let open = self.connector.counts.open();
        self.http.replace(self.connector.client());
        open.saturating_sub(self.connector.counts.open())
    }

    /// Whether this client key signs as itself.
    pub(crate) fn signs_as_client(&self, key: Option<KeyId>) -> bool {
        key.is_some_and(|key| self.client_signers.contains_key(&key))
    }

    /// Whether a request of this client key's is signed at all.
    pub(crate) fn signs(&self, key: Option<KeyId>, source: &CredentialSource) -> bool {
        self.signs_as_client(key) || source.signs()
    }

    /// Who signs a request of this client key's at this moment; none if it goes up unsigned.
    pub(crate) fn signer(
        &self,
        key: Option<KeyId>,
        source: &CredentialSource,
        credential: Option<CredentialId>,
    ) -> Result<Option<Rc<Signer>>, UpstreamRejection> {
        if let Some(own) = key.and_then(|key| self.client_signers.get(&key)) {
            return Ok(Some(Rc::clone(own)));
        }
        let Some(credentials) = source.of_credential(credential).current(clock::wall())? else {
            return Ok(None);
        };
        let signer = &mut self.signers.borrow_mut()[credential.map_or(0, |credential| credential.0)];
        if let Some((of, signer)) = signer
            && Arc::ptr_eq(of, &credentials)
        {
            return Ok(Some(Rc::clone(signer)));
        }
        let made = Rc::new(Signer::new(Credentials::clone(&credentials), self.region.clone()));
        *signer = Some((credentials, Rc::clone(&made)));
        Ok(Some(made))
    }
}

/// A client of the gateway's own, for a single caller.
pub(crate) fn internal_client(dialer: impl Into<Arc<Dialer>>, timeout: Duration) -> awc::Client {
    ConnectorSettings { dialer: dialer.into(), counts: ConnectionCounts::default(), timeout, limit: 1 }
        .client()
}

/// A question to the one endpoint of such a client, with its path.
pub(crate) fn internal_get(http: &awc::Client, endpoint: &Endpoint) -> awc::ClientRequest {
    let Endpoint { host, port, path_prefix, authority, .. } = endpoint;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    // The dialer knows which of its endpoints speak TLS; the scheme here is for awc, which would do it itself.
    http.get(format!("http://{host}:{port}{path_prefix}")).insert_header((HOST, authority.as_str()))
}

/// How an awc client connects.
struct ConnectorSettings {
    dialer: Arc<Dialer>,
    counts: ConnectionCounts,
    timeout: Duration,
    /// Connections in use at a time.
    limit: usize,
}

impl ConnectorSettings {
    fn client(&self) -> awc::Client {
        let lifetime = if self.dialer.has_dns_names() { DNS_NAME_LIFETIME } else { Duration::MAX / 4 };
        let (dialer, open) = (Arc::clone(&self.dialer), Arc::clone(&self.counts.open));
        let connect = fn_service(move |info: ConnectInfo<Uri>| {
            let (dialer, open) = (Arc::clone(&dialer), Arc::clone(&open));
            async move {
                let ConnectionKey { tls_bucket, .. } = ConnectionKey::of(info.request());
                let dialled = dialer.dial(info.hostname(), info.port(), tls_bucket).await;
                let stream = dialled.map_err(ConnectError::Io)?;
                Ok(Connected::new(
                    info.request().clone(),
                    UpstreamConnection::new(stream, open, dialer.buffer_retention()),
                ))
            }
        });
        let connector = awc::Connector::new()
            .connector(connect)
            .timeout(self.timeout)
            .limit(self.limit)
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(lifetime)
            .disconnect_timeout(Duration::ZERO);
        awc::ClientBuilder::new()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish()
    }
}
