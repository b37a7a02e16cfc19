//! The upstream of a bucket: endpoints, credentials, timeouts, and the sections that protect it.

use std::time::Duration;

use tidegate_s3::addressing::Addressing;

use super::breaker::BreakerConfig;
use super::credential_pool::{
    CredentialPoolConfig, HeaderKeys, Identity, PairKeys, PooledCredential, credential_map,
};
use super::credentials::{ContainerCredentials, CredentialKeys, Credentials, check_one_source};
use super::endpoint::{BaseUrl, Endpoint, check_endpoints};
use super::hedging::HedgingConfig;
use super::integrity::IntegrityConfig;
use super::load_balancing::{
    FailoverConfig, HealthCheckConfig, LoadBalancingConfig, OutlierEjectionConfig, RequestPath,
};
use super::pattern::{BucketName, Pattern};
use super::policy::{ConcurrencyConfig, ConnectionPoolConfig, RetryConfig};
use super::store_tls::{Sni, StoreTlsKeys, check_virtual};
use super::tls::TlsConfig;
use crate::s3::DEFAULT_REGION;
use crate::schema::{Section, key, nested, nested_checked, shared, unset};
use crate::section::section;
use crate::value_type::{Choice, Word, bytes, list, seconds, whole};

/// Handling of a client's `x-request-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientDeadline {
    /// a deadline; each attempt sends the remaining time to the upstream
    Propagate,
    /// a deadline; the header is not forwarded
    Enforce,
    /// no deadline; the header is forwarded like any other
    Ignore,
}

const CLIENT_DEADLINES: Choice<ClientDeadline> = Choice(&[
    ("tell", ClientDeadline::Propagate),
    ("keep", ClientDeadline::Enforce),
    ("ignore", ClientDeadline::Ignore),
]);
const ADDRESSINGS: Choice<Addressing> =
    Choice(&[("path", Addressing::Path), ("virtual", Addressing::Virtual)]);

/// The upstream of a bucket with all values resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// base URLs, the standby ones last; a loaded configuration has at least one
    pub endpoints: Vec<Endpoint>,
    /// load balancing over the endpoints
    pub load_balancing: LoadBalancingConfig,
    /// name of the bucket at the upstream; `None` is the name that the client used
    pub bucket: Option<String>,
    /// the part of a request that contains the bucket
    pub addressing: Addressing,
    /// region that requests are signed for
    pub region: String,
    /// credentials that sign requests; without these and without a credentials endpoint requests are unsigned
    pub credentials: Option<Credentials>,
    /// endpoint of credentials with an expiry time
    pub container_credentials: Option<ContainerCredentials>,
    /// named credentials; if there are any, neither of the above is set
    pub credentials_by_name: Vec<PooledCredential>,
    /// handling of named credentials that are throttled or refused
    pub credential_pool: CredentialPoolConfig,
    /// path on which the gateway checks a suspected credential of an API
    pub credential_check_path: Option<String>,
    /// trusted certificate authorities
    pub tls: TlsConfig,
    /// the name in the TLS SNI
    pub sni: Sni,
    /// bodies and their digests towards the store
    pub integrity: IntegrityConfig,
    /// time from the end of the request body to the first byte of the response
    pub timeout: Duration,
    /// timeout of DNS lookup and connect
    pub connect_timeout: Duration,
    /// timeout between two bytes of a response
    pub idle_timeout: Duration,
    /// size of a response head in bytes
    pub max_response_header_size: u64,
    /// headers of a response
    pub max_response_headers: usize,
    /// total time to the first byte of the response, with all attempts and waits
    pub request_timeout: Duration,
    /// replaces `timeout` and `request_timeout` for copies and CompleteMultipartUpload; `None` for http
    pub long_operation_timeout: Option<Duration>,
    /// handling of a client's `x-request-timeout`
    pub client_deadline: ClientDeadline,
    /// retries
    pub retry: RetryConfig,
    /// hedged requests
    pub hedging: HedgingConfig,
    /// circuit breaker
    pub circuit_breaker: BreakerConfig,
    /// connections
    pub connection_pool: ConnectionPoolConfig,
    /// concurrent and waiting requests
    pub concurrency: ConcurrencyConfig,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        S3Keys::default().resolve(crate::server::ServerConfig::default().request_timeout)
    }
}

section! {
    /// The keys of upstreams of both kinds.
    pub(super) struct CommonKeys {
        /// timeout from the end of the request body to the first byte of the response; beyond it 504
        ///
        /// Watch `tidegate_errors_total` with reason `timeout_first_byte`.
        timeout: Duration = key("timeout", seconds(0.001..=86_400.0), Duration::from_secs(20));
        /// timeout of DNS lookup, connect and TLS handshake
        connect_timeout: Duration = key("connect_timeout", seconds(0.001..=3_600.0), Duration::from_secs(5));
        /// timeout between two bytes of a response; it applies to long streams too
        idle_timeout: Duration = key("idle_timeout", seconds(0.001..=86_400.0), Duration::from_secs(30));
        /// maximum size of the head of a response, interim responses included; beyond it 502
        max_response_header_size: u64 =
            key("max_response_header_size", bytes(1024..=1 << 20), 128 << 10);
        /// maximum number of headers of a response; beyond it 502
        max_response_headers: usize = key("max_response_headers", whole(1..=256), 96);
        /// handling of the client's `x-request-timeout` (`2.5`, `250ms`)
        ///
        /// With `tell` and `keep` it is a deadline for the first byte, within the timeouts of the bucket. `tell` sends the remaining time
        /// to the upstream, `keep` does not forward the header. `ignore` forwards it like any other header, without a deadline.
        client_deadline: ClientDeadline = key("client_deadline", CLIENT_DEADLINES, ClientDeadline::Propagate);
        /// retries of replayable requests
        retry: RetryConfig = nested_checked("retry", RetryConfig::checked);
        /// hedged requests for slow reads
        hedging: HedgingConfig = nested_checked("hedging", HedgingConfig::checked);
        /// circuit breaker: stops requests to a failing upstream
        circuit_breaker: BreakerConfig = nested_checked("circuit_breaker", BreakerConfig::checked);
        /// outlier ejection: stops requests to endpoints that fail while others do not
        outlier_ejection: OutlierEjectionConfig =
            nested_checked("outlier_ejection", OutlierEjectionConfig::checked);
        /// active health checks of endpoints
        health_check: HealthCheckConfig = nested_checked("health_check", HealthCheckConfig::checked);
        /// time over which a returning endpoint's share of requests grows to its full share; 0: at once
        slow_start: Duration = key("slow_start_seconds", seconds(0.0..=3_600.0), Duration::from_secs(10));
        /// failover to standby endpoints
        failover: FailoverConfig = nested_checked("failover", FailoverConfig::checked);
        /// handling of named credentials that the upstream throttles or refuses
        credential_pool: CredentialPoolConfig =
            nested_checked("credential_pool", CredentialPoolConfig::checked);
        /// connection pool of the upstream
        connection_pool: ConnectionPoolConfig = nested("connection_pool");
        /// concurrent and waiting requests of the upstream
        concurrency: ConcurrencyConfig = nested_checked("concurrency", ConcurrencyConfig::checked);
    }
}

impl UpstreamConfig {
    /// Whether the gateway can check itself if the upstream accepts a named credential: a store always, an API with
    /// `credential_check_path`.
    pub fn checks_credentials(&self) -> bool {
        let is_headers =
            self.credentials_by_name.iter().any(|one| matches!(one.identity, Identity::Header { .. }));
        !self.credentials_by_name.is_empty() && (!is_headers || self.credential_check_path.is_some())
    }
}

section! {
    /// The keys of the upstream of an s3 bucket.
    pub(super) struct S3Keys {
        /// base URLs of the upstream; the path of a URL is prepended to the path of each request
        ///
        /// For s3 buckets the whole path is signed: `https://host/storage/v1/s3`.
        endpoints: Option<Vec<Endpoint>> = unset("endpoints", list(BaseUrl), "required");
        /// name of the bucket at the store; it may begin with a tenant of Ceph, as in `acme:photos`
        bucket: Option<String> = unset("bucket", BucketName, "the name the client used");
        /// part of a request to the store that contains the bucket: `path`, or `virtual` for the Host
        ///
        /// The gateway connects to the endpoint's own name in both cases; `tls.sni` selects the name for which its certificate must be
        /// valid. `virtual` needs endpoints without a path, and names without a tenant.
        addressing: Addressing = key("addressing", ADDRESSINGS, Addressing::Path);
        /// region in the signatures of requests to the store
        region: String = key("region", Word("text"), DEFAULT_REGION.to_owned());
        credentials: CredentialKeys = shared();
        /// named key pairs, instead of a single one; each request uses the least loaded usable pair
        by_name: Vec<PooledCredential> = credential_map::<PairKeys>("credentials");
        integrity: IntegrityConfig = shared();
        /// total time to the first byte of the response to server-side copies and CompleteMultipartUpload
        ///
        /// It applies if it is longer than the timeout of other requests. A store may copy a large object for minutes before it responds.
        /// Watch `tidegate_errors_total` with reason `timeout_long_operation`.
        long_operation_timeout: Duration =
            key("long_operation_timeout", seconds(0.001..=86_400.0), Duration::from_secs(300));
        /// TLS towards https endpoints: trusted authorities and SNI
        tls: StoreTlsKeys = nested("tls");
        common: CommonKeys = shared();
    }
}

section! {
    /// The keys of the upstream of an http bucket.
    pub(super) struct HttpKeys {
        /// base URLs of the upstream; the path of a URL is prepended to the path of each request
        ///
        /// For s3 buckets the whole path is signed: `https://host/storage/v1/s3`.
        endpoints: Option<Vec<Endpoint>> = unset("endpoints", list(BaseUrl), "required");
        /// named credentials of the API; each request uses the least loaded usable one
        by_name: Vec<PooledCredential> = credential_map::<HeaderKeys>("credentials");
        /// path that needs a valid credential; the gateway requests it before it pauses a suspected credential
        ///
        /// The gateway sends a GET with the credential and one without. A path that answers 2xx without a credential proves nothing.
        credential_check_path: Option<String> = unset(
            "credential_check_path",
            RequestPath,
            "no check: responses to different clients must agree",
        );
        /// TLS towards https endpoints: trusted authorities
        tls: TlsConfig = nested("tls");
        common: CommonKeys = shared();
    }
}

impl S3Keys {
    /// Takes over the values that depend on other keys.
    pub(super) fn adopt(&mut self, upstream: &UpstreamConfig) {
        self.long_operation_timeout = upstream.long_operation_timeout.unwrap_or(self.long_operation_timeout);
        self.common.concurrency = upstream.concurrency.clone();
    }

    /// Adjusts defaults to the keys that are set, then rejects contradictions.
    ///
    /// `served` are the bucket names that clients use.
    pub(super) fn check(&mut self, section: &mut Section<'_>, total: (&str, Duration), served: &Pattern) {
        self.common.adjust_pool(section);
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
        self.common.adjust_gate(section);
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
    /// Takes over the values that depend on other keys.
    pub(super) fn adopt(&mut self, upstream: &UpstreamConfig) {
        self.common.concurrency = upstream.concurrency.clone();
    }

    /// Adjusts defaults to the keys that are set, then rejects contradictions.
    pub(super) fn check(&mut self, section: &mut Section<'_>, total: (&str, Duration)) {
        self.common.adjust_pool(section);
        check_endpoints(section, self.endpoints.as_deref(), &self.common.failover.endpoints);
        self.common.check(section, total);
        self.tls.check(&mut section.child("tls"));
        if self.by_name.is_empty() && self.credential_check_path.is_some() {
            let hint = format!("set {}, or remove this key", section.full_key("credentials"));
            section.refuse("credential_check_path", "has no effect without credentials", Some(hint));
        }
        self.common.adjust_gate(section);
    }

    pub(super) fn resolve(self, request_timeout: Duration) -> UpstreamConfig {
        let Self { endpoints, by_name, credential_check_path, tls, common } = self;
        let common = common.resolve(endpoints.unwrap_or_default(), tls, request_timeout);
        UpstreamConfig { credentials_by_name: by_name, credential_check_path, ..common }
    }
}

impl CommonKeys {
    /// Raises the unset pool size to the concurrency limit, so that a default never lowers it. `section` is the upstream's.
    fn adjust_pool(&mut self, section: &mut Section<'_>) {
        if !section.child("connection_pool").is_set("size") {
            self.connection_pool.size = self.connection_pool.size.max(self.concurrency.max_concurrent);
        }
        self.connection_pool.check(&mut section.child("connection_pool"));
    }

    /// Lowers the unset concurrency limit to the pool size, which limits the requests too, but not below the adaptive minimum.
    fn adjust_gate(&mut self, section: &mut Section<'_>) {
        let concurrency = &mut self.concurrency;
        if self.connection_pool.size < concurrency.max_concurrent
            && !section.child("concurrency").is_set("max_concurrent")
        {
            let is_min_set = section.within(&["concurrency", "adaptive"]).is_set("min");
            let least = if is_min_set { concurrency.adaptive.min } else { self.connection_pool.size };
            concurrency.max_concurrent = self.connection_pool.size.max(least);
            concurrency.adaptive.min = concurrency.adaptive.min.min(concurrency.max_concurrent);
        }
    }

    /// Rejects contradictions. `total` is the key of the total request timeout, and its value.
    fn check(&self, section: &mut Section<'_>, total: (&str, Duration)) {
        let timeout = section.full_key("timeout");
        self.circuit_breaker.check_slow(&mut section.child("circuit_breaker"), &timeout, self.timeout);
        self.circuit_breaker.check_hold(&mut section.child("circuit_breaker"), total.0, total.1);
        self.concurrency.check_deadline(&mut section.child("concurrency"), total.0, total.1);
        let slots = (&self.concurrency, &self.connection_pool);
        self.hedging.check(section, &self.retry, slots, self.timeout);
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
            max_response_header_size,
            max_response_headers,
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
        let load_balancing = LoadBalancingConfig::new(&failover, outlier_ejection, health_check, slow_start);
        endpoints.extend(failover.endpoints);
        UpstreamConfig {
            endpoints,
            load_balancing,
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
            max_response_header_size,
            max_response_headers,
            request_timeout,
            long_operation_timeout: None,
            client_deadline,
            retry,
            hedging,
            circuit_breaker,
            connection_pool,
            concurrency: ConcurrencyConfig {
                queue_timeout: concurrency.queue_timeout.min(request_timeout),
                shedding: concurrency.shedding.resolved(concurrency.queue_timeout.min(request_timeout)),
                ..concurrency
            },
        }
    }
}
