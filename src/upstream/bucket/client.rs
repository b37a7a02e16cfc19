//! The HTTP client of one bucket on one worker thread: its connections and its signers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem::replace;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::body::BoxBody;
use tidegate_actors::{CredentialId, EndpointId, KeyId, clock};
use tidegate_config::{Credentials, Kind, Secret};
use tidegate_s3::signer::Signer;
use tidegate_s3::signer::SigningCredentials;

use crate::auth::Keyring;
use crate::upstream::UpstreamRejection;
use crate::upstream::bucket::Bucket;
use crate::upstream::credentials::CredentialSource;
use crate::upstream::exchange::connector::ConnectorSettings;
use crate::upstream::exchange::sent_request::{OutboundRequest, PooledConnections, SentRequest};

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

/// The connections of one worker thread to the upstream of one bucket.
struct ClientConnections {
    /// Those of each endpoint.
    open: RefCell<Vec<PooledConnections>>,
    /// Buckets for which awc may keep connections, if buckets have separate connections.
    pooled_buckets: RefCell<HashSet<String>>,
    pooled_buckets_max: usize,
    connector: ConnectorSettings,
}

/// The client for the upstream of one bucket on one worker.
pub(crate) struct UpstreamClient {
    connections: Rc<ClientConnections>,
    region: String,
    /// The last signer of each credential of the bucket.
    signers: RefCell<Vec<CachedSigner>>,
    /// Signers of keys that sign as themselves.
    client_signers: HashMap<KeyId, Rc<Signer>>,
}

impl UpstreamClient {
    pub(crate) fn new(bucket: &Bucket, keyring: &Keyring) -> Self {
        let upstream = &bucket.config.upstream;
        let limit = upstream.connection_pool.size.get().max(upstream.concurrency.max_concurrent.get());
        let connector = ConnectorSettings {
            dialer: Arc::clone(&bucket.dialer),
            counts: bucket.connections.clone(),
            timeout: upstream.connect_timeout,
            limit,
        };
        let connections = ClientConnections {
            open: RefCell::new(upstream.endpoints.iter().map(|_| connector.connections()).collect()),
            pooled_buckets: RefCell::default(),
            pooled_buckets_max: upstream.connection_pool.max_idle.max(1),
            connector,
        };
        Self::of_connections(Rc::new(connections), bucket, keyring)
    }

    /// A client with the same connections that signs for the keys of another keyring.
    pub(crate) fn with_signers_of(&self, bucket: &Bucket, keyring: &Keyring) -> Self {
        Self::of_connections(Rc::clone(&self.connections), bucket, keyring)
    }

    fn of_connections(connections: Rc<ClientConnections>, bucket: &Bucket, keyring: &Keyring) -> Self {
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
    pub(crate) fn send(&self, endpoint: EndpointId, request: OutboundRequest, body: BoxBody) -> SentRequest {
        self.connections.open.borrow()[endpoint.0].send(request, body)
    }

    /// Records a bucket that has separate connections. awc never forgets a key and never closes idle connections of a
    /// key that is not used again, and clients can invent names under a glob. So awc's pool is replaced when
    /// there are more buckets than `max_idle` connections.
    pub(crate) fn track_bucket(&self, bucket: &str) {
        let mut buckets = self.connections.pooled_buckets.borrow_mut();
        if buckets.contains(bucket) {
            return;
        }
        if buckets.len() >= self.connections.pooled_buckets_max {
            buckets.clear();
            self.close_idle();
        }
        buckets.insert(bucket.to_owned());
    }

    /// Closes the idle connections on this thread and returns their number. awc has no function for that, but drops
    /// them with its pool. Connections in use close at the end of their responses.
    pub(crate) fn close_idle(&self) -> usize {
        let ClientConnections { open, connector, .. } = &*self.connections;
        let before = connector.counts.open();
        let closed: Vec<_> =
            open.borrow_mut().iter_mut().map(|of| replace(of, connector.connections())).collect();
        drop(closed);
        before.saturating_sub(connector.counts.open())
    }

    /// Closes the idle connections to one endpoint on this thread.
    pub(crate) fn close_idle_of(&self, endpoint: EndpointId) {
        let ClientConnections { open, connector, .. } = &*self.connections;
        let closed = open.borrow_mut().get_mut(endpoint.0).map(|of| replace(of, connector.connections()));
        drop(closed);
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
