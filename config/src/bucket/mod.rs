//! A bucket: a named route with its own upstream, limits and credentials.
//!
//! A bucket inherits values from the server section, its name is the default of its pattern, and its upstream is in the section `s3` or
//! `http`. `BucketConfig` holds the resolved values, so that no other code applies these rules.
//!
//! A bucket without an `auth` entry refuses every client (A4). Both upstream sections are read for every bucket, so that the error for a
//! key in the wrong section is not "unknown key".

mod auth;
mod breaker;
mod cors;
mod credential_pool;
mod credentials;
mod demo;
mod endpoint;
mod forwarded;
mod hedging;
mod integrity;
mod load_balancing;
mod pattern;
mod policy;
mod secret;
mod store_tls;
mod tls;
mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::cost::{Costs, OwnCostKeys, OwnCosts};
use crate::policy::{ACCESS, Access};
use crate::rate_limit::{RateLimit, RateLimitKeys};
use crate::s3::RegionName;
use crate::schema::{Read as _, Section, key, nested, unset};
use crate::section::section;
use crate::server::ServerConfig;
use crate::value_type::{Choice, bytes, list, or_unlimited, quoted, seconds};

pub use auth::AuthMethod;
pub use breaker::{BreakerConfig, BreakerMode};
pub use cors::CorsConfig;
pub use credential_pool::{CredentialPoolConfig, Identity, PooledCredential};
pub use credentials::{ContainerCredentials, Credentials};
pub(crate) use demo::{DEMO, demo};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use forwarded::ForwardedHeaders;
pub use hedging::HedgingConfig;
pub use integrity::{Checksums, ContentMd5, IntegrityConfig, UploadFraming};
pub use load_balancing::{FailoverConfig, HealthCheckConfig, LoadBalancingConfig, OutlierEjectionConfig};
pub use pattern::{Pattern, PatternError};
pub use policy::{
    AdaptiveConfig, ConcurrencyConfig, ConnectionPoolConfig, Overload, RetryBudgetConfig, RetryConfig,
};
pub use secret::Secret;
pub use store_tls::Sni;
pub use tidegate_s3::addressing::Addressing;
pub(crate) use tls::PemFromFile;
pub use tls::{Pem, PemError, TlsConfig};
pub use upstream::{ClientDeadline, UpstreamConfig};

use auth::Method;
use cors::CorsKeys;
pub(crate) use credentials::is_local;
pub(crate) use endpoint::BaseUrl;
use forwarded::FORWARDED_HEADERS;
pub(crate) use pattern::Glob;
use upstream::{HttpKeys, S3Keys};

/// Eight times the chunk size of SDKs. Sixteen concurrent uploads then need at most 64 MiB.
const CHUNK_SIZE: u64 = 1 << 20;
/// The largest body of one S3 request: PutObject, a part of a multipart upload, a copied part (Amazon S3 User Guide, "Amazon S3
/// multipart upload limits").
const REQUEST_SIZE_S3: u64 = 5 << 30;
const REQUEST_SIZE_HTTP: u64 = 100 << 20;
const URI_LENGTH_S3: u64 = 8192;
const URI_LENGTH_HTTP: u64 = 2048;
const REQUEST_TIMEOUT_HTTP: Duration = Duration::from_secs(60);
/// A week: the maximum lifetime of a SigV4 presigned URL in S3.
const SIGV2_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The protocol of a bucket's upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// the S3 protocol: requests are signed, errors are XML
    S3,
    /// any HTTP API: errors are JSON
    Http,
}

impl Kind {
    /// The word in a configuration, which is also the name of the upstream section.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Http => "http",
        }
    }
}

/// Handling of a request with a path or query that looks like an attack on the systems behind the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectionPatterns {
    /// 400
    Block,
    /// a warning in the log; the request is forwarded
    Log,
    /// no check
    Off,
}

const INJECTION_PATTERNS: Choice<InjectionPatterns> = Choice(&[
    ("block", InjectionPatterns::Block),
    ("log", InjectionPatterns::Log),
    ("off", InjectionPatterns::Off),
]);

const KINDS: Choice<Kind> = Choice(&[("s3", Kind::S3), ("http", Kind::Http)]);

/// A bucket with all inherited values resolved. The default is an s3 bucket for any name, without authentication methods and
/// endpoints: it is for tests.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketConfig {
    /// protocol of the upstream
    pub kind: Kind,
    /// the bucket names of requests that this bucket serves
    pub pattern: Pattern,
    /// accepted authentication methods; empty refuses every client
    pub auth: Vec<AuthMethod>,
    /// accepted regions of client signatures; empty is any
    pub client_regions: Vec<String>,
    /// operations of anonymous clients; empty unless `auth` lists anonymous
    pub anonymous: Vec<Access>,
    /// maximum remaining lifetime of a SigV2 presigned URL or form; used only if `auth` lists sigv2
    pub sigv2_max_lifetime: Duration,
    /// handling of paths and queries that look like an attack
    pub injection_patterns: InjectionPatterns,
    /// whether this is the section of the embedded origin: anonymous clients may then list its buckets
    pub is_embedded: bool,
    /// handling of the headers with the client's address, protocol and host
    pub forwarded: ForwardedHeaders,
    /// CORS rules; with `None` the gateway adds no CORS headers
    pub cors: Option<CorsConfig>,
    /// largest request body in bytes; `None` is unlimited
    pub max_request_size: Option<u64>,
    /// largest signed chunk of an upload in bytes
    pub max_chunk_size: u64,
    /// longest request target in bytes
    pub max_uri_length: u64,
    /// rate limit of all requests of this bucket together
    pub rate_limit: Option<RateLimit>,
    /// cost of its requests, in tokens of each rate limit
    pub costs: Costs,
    /// its upstream
    pub upstream: UpstreamConfig,
}

impl Default for BucketConfig {
    fn default() -> Self {
        let inherited = Inherited::of(&ServerConfig::default(), false, Costs::default());
        resolve(Pattern::any(), Keys::default(), &inherited)
    }
}

section! {
    /// The keys of a bucket.
    struct Keys {
        /// protocol of the upstream; the section of the upstream has the same name
        kind: Kind = key("kind", KINDS, Kind::S3);
        /// bucket names that this bucket serves; `*` matches any characters except `:`
        ///
        /// A name may begin with a tenant of a Ceph store, as in `acme:photos`. `*` matches no name with a tenant, `acme:*` matches all
        /// names of one. The gateway keeps state per bucket, not per name, so invented names cost nothing. The pattern also allows names
        /// that the name of a variable cannot contain: `TIDEGATE_BUCKETS__PHOTOS__PATTERN=my-photos`.
        pattern: Option<Pattern> = unset("pattern", Glob, "the bucket's name");
        /// accepted authentication methods; a bucket with an empty list refuses every client
        auth: Vec<AuthMethod> = key("auth", list(Method), Vec::new());
        /// accepted regions of the clients' SigV4 signatures; an empty list accepts any region
        ///
        /// A request signed for another region gets 400 with the region to use: `s3.region` if the list contains it, else the first of
        /// the list. `GetBucketLocation` may always be signed for us-east-1.
        client_regions: Vec<String> = key("client_regions", list(RegionName), Vec::new());
        /// operations of anonymous clients; it needs `anonymous` in `auth`
        anonymous: Option<Vec<Access>> = unset("anonymous", list(ACCESS), "everything");
        /// maximum time until a SigV2 presigned URL or form expires; beyond it 403
        ///
        /// It limits the `Expires` of a URL and the expiration of a form's policy. A SigV2 URL has an expiry time but no start time, so it
        /// is valid until then for everyone who has it. The key needs `sigv2` in `auth`.
        sigv2_max_lifetime: Option<Duration> =
            unset("sigv2_max_lifetime", seconds(1.0..=315_360_000.0), "7d");
        /// handling of paths and queries that look like an attack
        ///
        /// The patterns are `'; DROP TABLE`, `' OR '1'='1`, `<script>`, `javascript:`, a `..` segment, and an encoded NUL, CR or LF in
        /// the path. `block` refuses such requests, including those for the few valid object keys that contain a pattern. `log`
        /// forwards them with a warning in the log. A path that leaves its bucket is refused in every mode.
        injection_patterns: InjectionPatterns =
            key("injection_patterns", INJECTION_PATTERNS, InjectionPatterns::Block);
        /// handling of headers with the client's address, protocol and host, such as `X-Forwarded-For`
        ///
        /// The headers are `X-Forwarded-*`, `Forwarded`, `Via`, `X-Real-IP`, `CF-Connecting-IP`, `True-Client-IP` and similar ones. `drop`
        /// removes them. `set` removes them and sends `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Via` with the
        /// gateway's values; behind trusted proxies (`server.trusted_proxies`) it extends the values of the proxies. `pass` forwards the
        /// client's headers: a client can then claim any address to an upstream that trusts the gateway, and so bypass its policies.
        forwarded: Option<ForwardedHeaders> = unset("forwarded", FORWARDED_HEADERS, "drop, and set for http buckets");
        /// CORS rules: pages of other origins that may use the bucket from a browser
        cors: Option<CorsConfig> = CorsKeys("cors");
        /// maximum size of a request body for this bucket; beyond it 413
        max_request_size: Option<Option<u64>> =
            unset("max_request_size", or_unlimited(0..=1 << 50), "server.limits.max_request_size");
        /// maximum size of one signed chunk of an upload; beyond it 413
        ///
        /// A chunk is held in memory until its signature is verified. An upload holds at most two chunks. SDKs send chunks of 64 KiB to
        /// 1 MiB.
        max_chunk_size: u64 = key("max_chunk_size", bytes(8 << 10..=1 << 30), CHUNK_SIZE);
        /// rate limit of all requests of this bucket together
        rate_limit: Option<RateLimit> = RateLimitKeys("rate_limit");
        /// cost of the bucket's requests, in tokens of each rate limit
        costs: OwnCosts = OwnCostKeys;
        /// the upstream of a bucket of kind `s3`
        s3: S3Keys = nested("s3");
        /// the upstream of a bucket of kind `http`
        http: HttpKeys = nested("http");
    }
}

/// The values that a bucket inherits from the sections of the whole gateway.
pub(crate) struct Inherited {
    request_timeout: Option<Duration>,
    request_timeout_s3: Duration,
    max_request_size: Option<Option<u64>>,
    max_uri_length: Option<u64>,
    costs: Costs,
}

impl Inherited {
    /// A value that is set in the server section applies to buckets of both kinds. Defaults differ by kind.
    pub(crate) fn of(server: &ServerConfig, is_timeout_set: bool, costs: Costs) -> Self {
        Self {
            request_timeout: is_timeout_set.then_some(server.request_timeout),
            request_timeout_s3: server.request_timeout,
            max_request_size: server.limits.max_request_size,
            max_uri_length: server.limits.max_uri_length,
            costs,
        }
    }

    fn request_timeout(&self, kind: Kind) -> Duration {
        self.request_timeout.unwrap_or(match kind {
            Kind::S3 => self.request_timeout_s3,
            Kind::Http => REQUEST_TIMEOUT_HTTP,
        })
    }
}

/// Reads the map of buckets.
pub(crate) fn read(section: &mut Section<'_>, inherited: &Inherited) -> BTreeMap<String, BucketConfig> {
    let mut buckets: BTreeMap<String, BucketConfig> = BTreeMap::new();
    // the names of buckets by their patterns, because there may be thousands
    let mut patterns: HashMap<Pattern, String> = HashMap::new();
    for name in section.names() {
        let bucket = read_one(section, &name, inherited);
        if let Some(duplicate) = patterns.get(&bucket.pattern) {
            let pattern = quoted(bucket.pattern.as_str());
            let message = format!("has the same pattern {pattern} as {}", section.full_key(duplicate));
            section.refuse(&name, message, Some("give one of them another pattern".to_owned()));
        }
        patterns.entry(bucket.pattern.clone()).or_insert_with(|| name.clone());
        buckets.insert(name, bucket);
    }
    buckets
}

fn read_one(buckets: &mut Section<'_>, name: &str, inherited: &Inherited) -> BucketConfig {
    let named = Pattern::exact(name).unwrap_or_else(|error| {
        let hint =
            (error == PatternError::Wildcard).then(|| "use a plain name, and set the pattern".to_owned());
        buckets.refuse(name, format!("is not a bucket name: {error}"), hint);
        Pattern::any()
    });
    let mut section = buckets.child(name);
    section.document(&[" a bucket; clients use its name, or a name that its pattern matches"]);
    let mut keys = Keys::read(&mut section);
    let other = match keys.kind {
        Kind::S3 => Kind::Http,
        Kind::Http => Kind::S3,
    };
    if section.is_set_within(other.as_str()) {
        let hint = format!(
            "use {}, or set {} to {}",
            section.full_key(keys.kind.as_str()),
            section.full_key("kind"),
            other.as_str()
        );
        let message = format!("has no effect: this bucket is of kind {}", keys.kind.as_str());
        section.refuse(other.as_str(), message, Some(hint));
    }
    check_auth(&mut section, &keys);
    let total = ("server.request_timeout", inherited.request_timeout(keys.kind));
    match keys.kind {
        Kind::S3 => {
            let served = keys.pattern.as_ref().unwrap_or(&named);
            keys.s3.check(&mut section.child("s3"), total, served);
        }
        Kind::Http => keys.http.check(&mut section.child("http"), total),
    }
    section.exclude(other.as_str());
    let mut effective = keys.clone();
    let bucket = resolve(named, keys, inherited);
    effective.adopt(&bucket);
    effective.write(&mut section);
    bucket
}

impl Keys {
    /// Takes over the values that depend on other keys.
    fn adopt(&mut self, bucket: &BucketConfig) {
        self.pattern = Some(bucket.pattern.clone());
        if bucket.auth.contains(&AuthMethod::Anonymous) {
            self.anonymous = Some(bucket.anonymous.clone());
        }
        self.sigv2_max_lifetime = Some(bucket.sigv2_max_lifetime);
        self.forwarded = Some(bucket.forwarded);
        self.max_request_size = Some(bucket.max_request_size);
        self.costs = bucket.costs.into();
        match bucket.kind {
            Kind::S3 => self.s3.adopt(&bucket.upstream),
            Kind::Http => self.http.adopt(&bucket.upstream),
        }
    }
}

/// Rejects keys for authentication methods that `auth` does not list.
fn check_auth(section: &mut Section<'_>, keys: &Keys) {
    if keys.anonymous.is_some() && !keys.auth.contains(&AuthMethod::Anonymous) {
        let auth = section.full_key("auth");
        let hint = format!("add anonymous to {auth}, or remove this key");
        section.refuse("anonymous", format!("has no effect: {auth} does not list anonymous"), Some(hint));
    }
    if !keys.client_regions.is_empty() && !keys.auth.contains(&AuthMethod::Sigv4) {
        let auth = section.full_key("auth");
        let hint = format!("add sigv4 to {auth}, or remove this key");
        section.refuse("client_regions", format!("has no effect: {auth} does not list sigv4"), Some(hint));
    }
    auth::check_signatures(section, keys.kind, &keys.auth);
}

fn resolve(named: Pattern, keys: Keys, inherited: &Inherited) -> BucketConfig {
    let Keys {
        kind,
        pattern,
        auth,
        client_regions,
        anonymous,
        sigv2_max_lifetime,
        injection_patterns,
        forwarded,
        cors,
        max_request_size,
        max_chunk_size,
        rate_limit,
        costs,
        s3,
        http,
    } = keys;
    let request_timeout = inherited.request_timeout(kind);
    let (upstream, request_size, uri_length) = match kind {
        Kind::S3 => (s3.resolve(request_timeout), REQUEST_SIZE_S3, URI_LENGTH_S3),
        Kind::Http => (http.resolve(request_timeout), REQUEST_SIZE_HTTP, URI_LENGTH_HTTP),
    };
    let anonymous = match auth.contains(&AuthMethod::Anonymous) {
        true => anonymous.unwrap_or_else(|| Access::ALL.to_vec()),
        false => Vec::new(),
    };
    BucketConfig {
        kind,
        pattern: pattern.unwrap_or(named),
        auth,
        client_regions,
        anonymous,
        sigv2_max_lifetime: sigv2_max_lifetime.unwrap_or(SIGV2_LIFETIME),
        injection_patterns,
        is_embedded: false,
        forwarded: forwarded.unwrap_or(ForwardedHeaders::of(kind)),
        cors,
        max_request_size: max_request_size.or(inherited.max_request_size).unwrap_or(Some(request_size)),
        max_chunk_size,
        max_uri_length: inherited.max_uri_length.unwrap_or(uri_length),
        rate_limit,
        costs: costs.with_defaults(inherited.costs),
        upstream,
    }
}
