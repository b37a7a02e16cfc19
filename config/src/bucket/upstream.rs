//! Where a bucket's requests go, as whom, and how long it waits for them.

use std::time::Duration;

use super::breaker::BreakerConfig;
use super::credential_pool::{
    CredentialPoolConfig, HeaderKeys, Identity, PairKeys, PooledCredential, pool_of,
};
use super::credentials::{ContainerCredentials, CredentialKeys, Credentials, check_one_source};
use super::endpoint::{BaseUrl, Endpoint, check_endpoints};
use super::hedging::HedgingConfig;
use super::integrity::IntegrityConfig;
use super::pattern::{BucketName, Pattern};
use super::policy::{ConcurrencyConfig, ConnectionPoolConfig, RetryConfig};
use super::rotation::{FailoverConfig, HealthCheckConfig, OutlierEjectionConfig, PathOnly, RotationConfig};
use super::store_tls::{Sni, StoreTlsKeys, check_virtual};
use super::tls::TlsConfig;
use crate::form::{Choice, Word, list, seconds};
use crate::s3::DEFAULT_REGION;
use crate::section::section;
use crate::walk::{Section, key, nested, nested_checked, shared, unset};

/// Where a request names its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// in the path's first segment
    Path,
    /// in the `Host`
    Virtual,
}

/// What a client's `x-request-timeout` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientDeadline {
    /// a deadline, and each attempt tells the upstream what is left of it
    Tell,
    /// a deadline, which the upstream is not told
    Keep,
    /// a header like any other
    Ignore,
}

const CLIENT_DEADLINES: Choice<ClientDeadline> = Choice(&[
    ("tell", ClientDeadline::Tell),
    ("keep", ClientDeadline::Keep),
    ("ignore", ClientDeadline::Ignore),
]);
const ADDRESSINGS: Choice<Addressing> =
    Choice(&[("path", Addressing::Path), ("virtual", Addressing::Virtual)]);

/// A bucket's upstream with everything resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// base URLs, those that stand by last; a loaded configuration has at least one
    pub endpoints: Vec<Endpoint>,
    /// which of them are called
    pub rotation: RotationConfig,
    /// the bucket's name at the upstream; `None` keeps the name the client used
    pub bucket: Option<String>,
    /// where a request names its bucket
    pub addressing: Addressing,
    /// region that requests are signed for
    pub region: String,
    /// as whom requests are signed; with neither these nor an endpoint they are sent unsigned
    pub credentials: Option<Credentials>,
    /// where credentials that expire are asked for
    pub container_credentials: Option<ContainerCredentials>,
    /// as whom requests go on where there are several to choose from; then neither of the above is set
    pub credentials_by_name: Vec<PooledCredential>,
    /// what is done about those that are throttled or refused
    pub credential_pool: CredentialPoolConfig,
    /// what an API is asked for to check a doubted credential
    pub credential_check_path: Option<String>,
    /// whom https endpoints are believed
    pub tls: TlsConfig,
    /// which name TLS asks for
    pub sni: Sni,
    /// how bodies and their digests go on
    pub integrity: IntegrityConfig,
    /// from the end of the request's body to the first byte of the answer
    pub timeout: Duration,
    /// looking up the name and connecting
    pub connect_timeout: Duration,
    /// between two bytes of an answer
    pub idle_timeout: Duration,
    /// total time to the first byte of the answer, all attempts and waits together
    pub request_timeout: Duration,
    /// both at once for copies and CompleteMultipartUpload; `None` where there are none
    pub long_operation_timeout: Option<Duration>,
    /// what a client's time of its own is
    pub client_deadline: ClientDeadline,
    /// retries
    pub retry: RetryConfig,
    /// second requests for slow reads
    pub hedging: HedgingConfig,
    /// circuit breaker
    pub circuit_breaker: BreakerConfig,
    /// connections
    pub connection_pool: ConnectionPoolConfig,
    /// requests under way and waiting
    pub concurrency: ConcurrencyConfig,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        S3Keys::default().resolve(crate::server::ServerConfig::default().request_timeout)
    }
}

section! {
    /// What upstreams of either kind have.
    pub(super) struct CommonKeys {
        /// from the end of the request's body to the first byte of the answer; beyond it 504
        ///
        /// `errors_total` with reason `timeout` counts who met it.
        timeout: Duration = key("timeout", seconds(0.001..=86_400.0), Duration::from_secs(20));
        /// looking up the upstream's name and connecting
        connect_timeout: Duration = key("connect_timeout", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// between two bytes of an answer; governs long streams once they have begun
        idle_timeout: Duration = key("idle_timeout", seconds(0.001..=86_400.0), Duration::from_secs(30));
        /// what a client's `x-request-timeout` is (`2.5`, `250ms`): a deadline for the first byte, within those here, of which
        /// the upstream is told what is left (`tell`) or nothing (`keep`), or a header that passes like any other (`ignore`)
        client_deadline: ClientDeadline = key("client_deadline", CLIENT_DEADLINES, ClientDeadline::Tell);
        /// retries of requests that can be repeated
        retry: RetryConfig = nested_checked("retry", RetryConfig::checked);
        /// second requests for slow reads
        hedging: HedgingConfig = nested_checked("hedging", HedgingConfig::checked);
        /// stops requests to an upstream that fails
        circuit_breaker: BreakerConfig = nested_checked("circuit_breaker", BreakerConfig::checked);
        /// leaves out endpoints that fail while others do not
        outlier_ejection: OutlierEjectionConfig =
            nested_checked("outlier_ejection", OutlierEjectionConfig::checked);
        /// asks endpoints whether they are well
        health_check: HealthCheckConfig = nested_checked("health_check", HealthCheckConfig::checked);
        /// over which time an endpoint that comes back gets its full share of requests again; 0 gives it at once
        slow_start: Duration = key("slow_start_seconds", seconds(0.0..=3_600.0), Duration::from_secs(10));
        /// endpoints that stand by
        failover: FailoverConfig = nested_checked("failover", FailoverConfig::checked);
        /// what is done about credentials that the upstream throttles or refuses, where there are several
        credential_pool: CredentialPoolConfig =
            nested_checked("credential_pool", CredentialPoolConfig::checked);
        /// connections to the upstream
        connection_pool: ConnectionPoolConfig = nested("connection_pool");
        /// requests under way to the upstream, and those that wait
        concurrency: ConcurrencyConfig = nested_checked("concurrency", ConcurrencyConfig::checked);
    }
}

impl UpstreamConfig {
    /// Whether the gateway can check by itself if the upstream takes one of several credentials: a store always, an API at
    /// `credential_check_path`.
    pub fn checks_credentials(&self) -> bool {
        let is_headers =
            self.credentials_by_name.iter().any(|one| matches!(one.identity, Identity::Header { .. }));
        !self.credentials_by_name.is_empty() && (!is_headers || self.credential_check_path.is_some())
    }
}

section! {
    /// The upstream of a bucket of kind s3, as it is written.
    pub(super) struct S3Keys {
        /// base URLs of the store; a path in them (`https://host/storage/v1/s3`) stands before each request's and is signed
        endpoints: Option<Vec<Endpoint>> = unset("endpoints", list(BaseUrl), "required");
        /// the bucket's name at the upstream; it may have a tenant of Ceph before it, `acme:photos`
        bucket: Option<String> = unset("bucket", BucketName, "the name the client used");
        /// where requests name the bucket to the store: `path`, or `virtual` for the Host
        ///
        /// Connections go to the endpoint's own name either way; `tls.sni` says which name its certificate must hold. `virtual` takes
        /// endpoints without a path, and names without a tenant.
        addressing: Addressing = key("addressing", ADDRESSINGS, Addressing::Path);
        /// region that requests are signed for
        region: String = key("region", Word("text"), DEFAULT_REGION.to_owned());
        credentials: CredentialKeys = shared();
        /// several key pairs by name, in place of the one above: a request goes on as the least loaded that may be used
        by_name: Vec<PooledCredential> = pool_of::<PairKeys>("credentials");
        integrity: IntegrityConfig = shared();
        /// total time to the first byte of the answer of server-side copies and CompleteMultipartUpload, where it is more
        /// than that of other requests
        ///
        /// A store copies large objects for minutes before it answers.
        long_operation_timeout: Duration =
            key("long_operation_timeout", seconds(0.001..=86_400.0), Duration::from_secs(300));
        /// certificates of https endpoints: trusted authorities, and the name that must match
        tls: StoreTlsKeys = nested("tls");
        common: CommonKeys = shared();
    }
}

section! {
    /// The upstream of a bucket of kind http, as it is written.
    pub(super) struct HttpKeys {
        /// base URLs of the API; a path in them stands before each request's
        endpoints: Option<Vec<Endpoint>> = unset("endpoints", list(BaseUrl), "required");
        /// credentials of the API by name: a request goes on with the least loaded that may be used
        by_name: Vec<PooledCredential> = pool_of::<HeaderKeys>("credentials");
        /// path that only a valid credential may read: asked for with GET, with and without the credential, before a doubted one is left out
        ///
        /// A path that is answered 2xx without a credential proves nothing.
        credential_check_path: Option<String> = unset(
            "credential_check_path",
            PathOnly,
            "no check: answers to different clients must agree",
        );
        /// certificates of https endpoints: trusted authorities
        tls: TlsConfig = nested("tls");
        common: CommonKeys = shared();
    }
}

impl S3Keys {
    /// Fits defaults to what is set, then refuses what the keys of this section cannot say together.
    ///
    /// `served` are the bucket names that clients use.
    pub(super) fn check(&mut self, section: &mut Section<'_>, total: (&str, Duration), served: &Pattern) {
        self.common.fit(section);
        check_endpoints(section, self.endpoints.as_deref(), &self.common.failover.endpoints);
        self.common.check(section, total);
        self.tls.trust.check(&mut section.child("tls"));
        self.credentials.check(section);
        check_one_source(section);
        self.integrity.check(section);
        let endpoints = self.endpoints.iter().flatten().chain(&self.common.failover.endpoints);
        match self.addressing {
            Addressing::Path => self.tls.check_path_addressing(section),
            Addressing::Virtual => check_virtual(section, endpoints, (self.bucket.as_deref(), served)),
        }
    }

    pub(super) fn resolve(self, request_timeout: Duration) -> UpstreamConfig {
        let Self {
            endpoints,
            bucket,
            addressing,
            region,
            credentials,
            by_name,
            integrity,
            long_operation_timeout,
            tls,
            common,
        } = self;
        let (credentials, container_credentials) = credentials.resolve();
        let common = common.resolve(endpoints.unwrap_or_default(), tls.trust, request_timeout);
        UpstreamConfig {
            bucket,
            addressing,
            region,
            credentials,
            container_credentials,
            credentials_by_name: by_name,
            integrity,
            sni: tls.sni,
            // A long operation never has less time than any other.
            long_operation_timeout: Some(long_operation_timeout.max(common.timeout)),
            ..common
        }
    }
}

impl HttpKeys {
    /// Fits defaults to what is set, then refuses what the keys of this section cannot say together.
    pub(super) fn check(&mut self, section: &mut Section<'_>, total: (&str, Duration)) {
        self.common.fit(section);
        check_endpoints(section, self.endpoints.as_deref(), &self.common.failover.endpoints);
        self.common.check(section, total);
        self.tls.check(&mut section.child("tls"));
        if self.by_name.is_empty() && self.credential_check_path.is_some() {
            let hint = format!("set {}, or leave it out", section.spell("credentials"));
            section.refuse("credential_check_path", "has no effect without credentials", Some(hint));
        }
    }

    pub(super) fn resolve(self, request_timeout: Duration) -> UpstreamConfig {
        let Self { endpoints, by_name, credential_check_path, tls, common } = self;
        let common = common.resolve(endpoints.unwrap_or_default(), tls, request_timeout);
        UpstreamConfig { credentials_by_name: by_name, credential_check_path, ..common }
    }
}

impl CommonKeys {
    /// Fits the unset size of the pool to the gate, so that a default never narrows it. `section` is the upstream's.
    fn fit(&mut self, section: &mut Section<'_>) {
        if !section.child("connection_pool").is_set("size") {
            self.connection_pool.size = self.connection_pool.size.max(self.concurrency.max_concurrent);
        }
        self.connection_pool.check(&mut section.child("connection_pool"));
    }

    /// `total` is the key of the total request timeout, and its value.
    fn check(&self, section: &mut Section<'_>, total: (&str, Duration)) {
        let timeout = section.spell("timeout");
        self.circuit_breaker.check_slow(&mut section.child("circuit_breaker"), &timeout, self.timeout);
        self.circuit_breaker.check_hold(&mut section.child("circuit_breaker"), total.0, total.1);
        self.concurrency.check_deadline(&mut section.child("concurrency"), total.0, total.1);
        let places = (&self.concurrency, &self.connection_pool);
        self.hedging.check(section, &self.retry, places, self.timeout);
    }

    fn resolve(
        self,
        mut endpoints: Vec<Endpoint>,
        tls: TlsConfig,
        request_timeout: Duration,
    ) -> UpstreamConfig {
        let Self {
            timeout,
            connect_timeout,
            idle_timeout,
            client_deadline,
            retry,
            hedging,
            circuit_breaker,
            outlier_ejection,
            health_check,
            slow_start,
            failover,
            credential_pool,
            connection_pool,
            concurrency,
        } = self;
        let rotation = RotationConfig::new(&failover, outlier_ejection, health_check, slow_start);
        endpoints.extend(failover.endpoints);
        UpstreamConfig {
            endpoints,
            rotation,
            bucket: None,
            addressing: Addressing::Path,
            region: DEFAULT_REGION.to_owned(),
            credentials: None,
            container_credentials: None,
            credentials_by_name: Vec::new(),
            credential_pool,
            credential_check_path: None,
            integrity: IntegrityConfig::default(),
            tls,
            sni: Sni::Endpoint,
            timeout,
            connect_timeout,
            idle_timeout,
            request_timeout,
            long_operation_timeout: None,
            client_deadline,
            retry,
            hedging,
            circuit_breaker,
            connection_pool,
            concurrency: ConcurrencyConfig {
                queue_timeout: concurrency.queue_timeout.min(request_timeout),
                ..concurrency
            },
        }
    }
}
