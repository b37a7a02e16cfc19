//! The HTTP client of one bucket on one worker thread: awc with settings for a gateway.
//!
//! No redirects, no decompression, no default headers, `TCP_NODELAY`, and no timeout of awc: `timeouts.rs` has all of
//! them. The connection limit of awc is the size of the whole pool on every worker, so that awc never queues: the
//! bucket's gate limits the connections in use. Idle connections over `max_idle` are closed when their response ends,
//! see `response_body.rs`.
//!
//! awc uses plain HTTP everywhere. The dialer does TLS, below the connection that handles early responses
//! (`docs/design/connections.md`).

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
use tidegate_config::{Credentials, Endpoint, Kind, Secret};
use tidegate_s3::signer::{Signer, SigningCredentials};

use crate::auth::Keyring;
use crate::upstream::UpstreamRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::connection_key::ConnectionKey;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::dialer::Dialer;

/// How long an idle upstream connection is kept. Shorter than the keep-alive of common servers.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The maximum age of a connection to a DNS name. A busy connection would never follow a changed address.
const DNS_NAME_LIFETIME: Duration = Duration::from_secs(300);

/// Open upstream connections of one bucket, on all workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionCounts {
    open: Arc<AtomicUsize>,
}

impl ConnectionCounts {
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A signer and the credentials that it was made from.
type CachedSigner = Option<(Arc<Credentials>, Rc<Signer>)>;

/// The credentials as a signer reads them.
pub(super) fn signing_credentials(credentials: &Credentials) -> SigningCredentials<'_> {
    SigningCredentials {
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        session_token: credentials.session_token.as_ref().map(Secret::expose),
    }
}

/// The client for the upstream of one bucket on one worker.
pub(crate) struct UpstreamClient {
    http: RefCell<awc::Client>,
    /// Buckets for which awc may keep connections, if buckets have separate connections.
    pooled_buckets: RefCell<HashSet<String>>,
    pooled_buckets_max: usize,
    connector: ConnectorSettings,
    region: String,
    /// The last signer of each credential of the bucket.
    signers: RefCell<Vec<CachedSigner>>,
    /// Signers of keys that sign as themselves.
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
        let with_signer = |(id, pair)| (id, Rc::new(Signer::new(signing_credentials(&pair), region.clone())));
        let client_signers = if bucket.config.kind == Kind::S3 {
            keyring.upstream_credentials().map(with_signer).collect()
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

    /// A new request over one of the connections.
    pub(crate) fn request(&self, method: Method, uri: Uri) -> awc::ClientRequest {
        self.http.borrow().request(method, uri)
    }

    /// Records a bucket that has separate connections. awc never forgets a key and never closes idle connections of a
    /// key that is not used again, and clients can invent names under a glob. So the awc client is replaced when
    /// there are more buckets than `max_idle` connections.
    pub(crate) fn track_bucket(&self, bucket: &str) {
        let mut buckets = self.pooled_buckets.borrow_mut();
        if buckets.contains(bucket) {
            return;
        }
        if buckets.len() >= self.pooled_buckets_max {
            buckets.clear();
            self.close_idle();
        }
        buckets.insert(bucket.to_owned());
    }

    /// Closes the idle connections on this thread and returns their number. awc has no function for that, but drops
    /// them with its client. Connections in use close at the end of their responses.
    pub(crate) fn close_idle(&self) -> usize {
        let open = self.connector.counts.open();
        self.http.replace(self.connector.client());
        open.saturating_sub(self.connector.counts.open())
    }

    /// Whether this client key signs upstream requests itself.
    pub(crate) fn signs_as_client(&self, key: Option<KeyId>) -> bool {
        key.is_some_and(|key| self.client_signers.contains_key(&key))
    }

    /// Whether a request of this client key is signed for the upstream.
    pub(crate) fn signs(&self, key: Option<KeyId>, source: &CredentialSource) -> bool {
        self.signs_as_client(key) || source.signs()
    }

    /// The signer for a request of this client key now. None if the request is not signed.
    pub(crate) fn signer(
        &self,
        key: Option<KeyId>,
        source: &CredentialSource,
        credential: Option<CredentialId>,
    ) -> Result<Option<Rc<Signer>>, UpstreamRejection> {
        if let Some(signer) = key.and_then(|key| self.client_signers.get(&key)) {
            return Ok(Some(Rc::clone(signer)));
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
        let new_signer = Rc::new(Signer::new(signing_credentials(&credentials), self.region.clone()));
        *signer = Some((credentials, Rc::clone(&new_signer)));
        Ok(Some(new_signer))
    }
}

/// A client for the gateway's internal calls, with one connection.
pub(crate) fn internal_client(dialer: impl Into<Arc<Dialer>>, timeout: Duration) -> awc::Client {
    ConnectorSettings { dialer: dialer.into(), counts: ConnectionCounts::default(), timeout, limit: 1 }
        .client()
}

/// A GET to the one endpoint of such a client, with the path of the endpoint.
pub(crate) fn internal_get(http: &awc::Client, endpoint: &Endpoint) -> awc::ClientRequest {
    let Endpoint { host, port, path_prefix, authority, .. } = endpoint;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    // The dialer does TLS where the endpoint has it. With scheme `https`, awc would do TLS itself.
    http.get(format!("http://{host}:{port}{path_prefix}")).insert_header((HOST, authority.as_str()))
}

/// How an awc client connects.
struct ConnectorSettings {
    dialer: Arc<Dialer>,
    counts: ConnectionCounts,
    timeout: Duration,
    /// The maximum number of connections in use.
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
