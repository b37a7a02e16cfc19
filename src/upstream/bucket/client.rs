//! The HTTP client of one bucket on one worker thread: its connections and its signers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_actors::{CredentialId, EndpointId, KeyId, clock};
use tidegate_config::{Credentials, Kind, Secret};
use tidegate_s3::signer::Signer;
use tidegate_s3::signer::SigningCredentials;

use crate::auth::Keyring;
use crate::upstream::UpstreamRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::connect::dialer::Dialer;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::exchange::connection::ConnectionCounts;
use crate::upstream::exchange::pool::{EndpointPool, PoolSettings};
use crate::upstream::exchange::request_writer::OutboundBody;
use crate::upstream::exchange::response_head::ResponseHeadLimits;
use crate::upstream::exchange::sent_request::{ExchangeObservers, OutboundRequest, SentRequest};

/// The maximum age of a connection to a DNS name. A busy connection would never follow a changed address.
const DNS_NAME_LIFETIME: Duration = Duration::from_secs(300);

/// A signer and the credentials that it was made from.
type CachedSigner = Option<(Arc<Credentials>, Rc<Signer>)>;

/// The credentials as a signer reads them.
pub(crate) fn signing_credentials(credentials: &Credentials) -> SigningCredentials<'_> {
    SigningCredentials {
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        session_token: credentials.session_token.as_ref().map(Secret::expose),
    }
}

/// The connections of one worker thread to the endpoints of one bucket, in the order of the configuration.
type ClientConnections = Rc<[Rc<EndpointPool>]>;

/// The connections of a worker thread to the endpoint with this number.
fn endpoint_pool(
    dialer: &Arc<Dialer>,
    endpoint: usize,
    settings: PoolSettings,
    counts: ConnectionCounts,
) -> Rc<EndpointPool> {
    let dialer = Arc::clone(dialer);
    EndpointPool::new(settings, counts, move |tls_bucket| {
        let dialer = Arc::clone(&dialer);
        Box::pin(async move { dialer.connect_endpoint(endpoint, &tls_bucket).await })
    })
}

/// The client for the upstream of one bucket on one worker.
pub(crate) struct UpstreamClient {
    connections: ClientConnections,
    region: String,
    /// The last signer of each credential of the bucket.
    signers: RefCell<Vec<CachedSigner>>,
    /// Signers of keys that sign as themselves.
    client_signers: HashMap<KeyId, Rc<Signer>>,
}

impl UpstreamClient {
    pub(crate) fn new(bucket: &Bucket, keyring: &Keyring) -> Self {
        let upstream = &bucket.config.upstream;
        let pool = &upstream.connection_pool;
        let settings = PoolSettings {
            idle_max: pool.max_idle,
            idle_timeout: pool.idle_timeout,
            lifetime: bucket.dialer.has_dns_names().then_some(DNS_NAME_LIFETIME),
            connect_timeout: upstream.connect_timeout,
            head_limits: ResponseHeadLimits {
                bytes_max: usize::try_from(upstream.max_response_header_size).unwrap_or(usize::MAX),
                fields_max: upstream.max_response_headers,
            },
            retention: bucket.dialer.buffer_retention(),
        };
        let of_endpoint =
            |endpoint| endpoint_pool(&bucket.dialer, endpoint, settings.clone(), bucket.connections.clone());
        Self::of_connections((0..upstream.endpoints.len()).map(of_endpoint).collect(), bucket, keyring)
    }

    /// A client with the same connections that signs for the keys of another keyring.
    pub(crate) fn with_signers_of(&self, bucket: &Bucket, keyring: &Keyring) -> Self {
        Self::of_connections(Rc::clone(&self.connections), bucket, keyring)
    }

    fn of_connections(connections: ClientConnections, bucket: &Bucket, keyring: &Keyring) -> Self {
        let upstream = &bucket.config.upstream;
        let region = upstream.region.clone();
        let with_signer = |(id, pair)| (id, Rc::new(Signer::new(signing_credentials(&pair), region.clone())));
        let client_signers = if bucket.config.kind == Kind::S3 {
            keyring.upstream_credentials().map(with_signer).collect()
        } else {
            HashMap::new()
        };
        let signers = RefCell::new(vec![None; upstream.credentials_by_name.len().max(1)]);
        Self { connections, region, signers, client_signers }
    }

    /// Sends a request over one of the connections, once the call is polled.
    pub(crate) fn send(
        &self,
        endpoint: EndpointId,
        request: OutboundRequest,
        body: OutboundBody,
        observers: ExchangeObservers,
    ) -> SentRequest {
        SentRequest::new(&self.connections[endpoint.0], request, body, observers)
    }

    /// Closes the idle connections on this thread and returns their number. Connections in use close at the end of
    /// their responses.
    pub(crate) fn close_idle(&self) -> usize {
        self.connections.iter().map(|pool| pool.close_idle()).sum()
    }

    /// Closes the idle connections to one endpoint on this thread.
    pub(crate) fn close_idle_of(&self, endpoint: EndpointId) {
        if let Some(pool) = self.connections.get(endpoint.0) {
            pool.close_idle();
        }
    }

    /// Closes the idle connections on this thread that are too old or closed by the upstream.
    pub(crate) fn sweep_idle(&self, now: Instant) {
        for pool in self.connections.iter() {
            pool.sweep(now);
        }
    }

    /// Whether this client key signs upstream requests itself.
    pub(crate) fn signs_as_client(&self, key: Option<KeyId>) -> bool {
        key.is_some_and(|key| self.client_signers.contains_key(&key))
    }

    /// Whether a request of this client key is signed for the upstream.
    pub(crate) fn is_signed(&self, key: Option<KeyId>, source: &CredentialSource) -> bool {
        self.signs_as_client(key) || source.is_signing()
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
