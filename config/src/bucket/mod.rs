//! A bucket: a named route with its own upstream, limits and credentials.
//!
//! What is written and what holds differ here more than elsewhere: a bucket inherits from the server section,
//! its name stands in for its pattern, and its upstream stands under `s3` or `http`. `BucketConfig` holds
//! what came out, so that no reader has to know the rules again.
//!
//! A bucket without an `auth` entry is closed, not open (A4). Both upstream sections are read for every
//! bucket, so that a key under the wrong one is named as such and not as an unknown key.

mod auth;
mod breaker;
mod cors;
mod credential_pool;
mod credentials;
mod endpoint;
mod forwarded;
mod hedging;
mod integrity;
mod name;
mod pattern;
mod policy;
mod rotation;
mod secret;
mod store_tls;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cost::{Costs, OwnCostKeys, OwnCosts};
use crate::form::{Choice, bytes, list, or_unlimited, seconds, shown};
use crate::policy::{ACCESS, Access};
use crate::rate_limit::{RateLimit, RateLimitKeys};
use crate::s3::RegionName;
use crate::section::section;
use crate::server::ServerConfig;
use crate::walk::{Read as _, Section, defaults, key, nested, unset};

pub use auth::AuthMethod;
pub use breaker::{BreakerConfig, BreakerMode};
pub use cors::CorsConfig;
pub use credential_pool::{CredentialPoolConfig, Identity, PooledCredential};
pub use credentials::{ContainerCredentials, Credentials};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use forwarded::ForwardedHeaders;
pub use hedging::HedgingConfig;
pub use integrity::{Checksums, ContentMd5, IntegrityConfig, UploadFraming};
pub use name::{PatternError, is_bucket_name};
pub use pattern::Pattern;
pub use policy::{
    AdaptiveConfig, ConcurrencyConfig, ConnectionPoolConfig, Overload, RetryBudgetConfig, RetryConfig,
};
pub use rotation::{FailoverConfig, HealthCheckConfig, OutlierEjectionConfig, RotationConfig};
pub use secret::Secret;
pub use store_tls::Sni;
pub(crate) use tls::PemIn;
pub use tls::{Pem, PemError, TlsConfig};
pub use upstream::{Addressing, ClientDeadline, UpstreamConfig};

use auth::Method;
use cors::CorsKeys;
pub(crate) use credentials::is_near;
pub(crate) use endpoint::BaseUrl;
use forwarded::FORWARDED_HEADERS;
pub(crate) use pattern::Glob;
use upstream::{HttpKeys, S3Keys};

/// The name of the section of the embedded origin, and of the bucket that it begins with.
pub(crate) const DEMO: &str = "demo";

/// Eight times what SDKs send; sixteen uploads at a time then stay within 64 MiB.
const CHUNK_SIZE: u64 = 1 << 20;
/// The largest body of one S3 request: PutObject, a part of a multipart upload, a copied part (Amazon S3 User Guide, "Amazon S3
/// multipart upload limits").
const REQUEST_SIZE_S3: u64 = 5 << 30;
const REQUEST_SIZE_HTTP: u64 = 100 << 20;
const URI_LENGTH_S3: u64 = 8192;
const URI_LENGTH_HTTP: u64 = 2048;
const REQUEST_TIMEOUT_HTTP: Duration = Duration::from_secs(60);
/// A week: the longest lifetime that S3 allows a SigV4 presigned URL.
const SIGV2_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a bucket's upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// the S3 protocol: requests are signed, errors are XML
    S3,
    /// any HTTP API: errors are JSON
    Http,
}

impl Kind {
    /// The word for it in a configuration, which is also the name of its upstream section.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Http => "http",
        }
    }
}

/// What is done about a request whose path or query looks like an attack on what lies behind the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectionPatterns {
    /// 400
    Block,
    /// a warning in the log; the request passes
    Log,
    /// nothing
    Off,
}

const INJECTION_PATTERNS: Choice<InjectionPatterns> = Choice(&[
    ("block", InjectionPatterns::Block),
    ("log", InjectionPatterns::Log),
    ("off", InjectionPatterns::Off),
]);

const KINDS: Choice<Kind> = Choice(&[("s3", Kind::S3), ("http", Kind::Http)]);

/// A bucket with everything it inherits resolved. The default is a closed s3 bucket for any name, without
/// endpoints: a start for tests.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketConfig {
    /// what the upstream speaks
    pub kind: Kind,
    /// the bucket names of requests that this bucket serves
    pub pattern: Pattern,
    /// how clients may prove who they are; empty refuses everybody
    pub auth: Vec<AuthMethod>,
    /// regions that signatures of clients may name; empty is any
    pub client_regions: Vec<String>,
    /// what clients may do without proof; nothing, unless `auth` lists anonymous
    pub anonymous: Vec<Access>,
    /// how far ahead a SigV2 presigned URL or form may expire; used only where `auth` lists sigv2
    pub sigv2_max_lifetime: Duration,
    /// what is done about paths and queries that look like an attack
    pub injection_patterns: InjectionPatterns,
    /// whether this is the section of the embedded origin, whichever name its buckets have: anonymous clients may list them
    pub is_embedded: bool,
    /// what becomes of the headers that name the client's address, protocol and host
    pub forwarded: ForwardedHeaders,
    /// which pages of other origins may use the bucket; `None` is none, and says nothing about it
    pub cors: Option<CorsConfig>,
    /// largest request body in bytes; `None` is unlimited
    pub max_request_size: Option<u64>,
    /// largest signed chunk of an upload in bytes
    pub max_chunk_size: u64,
    /// longest request target in bytes
    pub max_uri_length: u64,
    /// limit for this bucket's requests together
    pub rate_limit: Option<RateLimit>,
    /// what its requests cost of this limit and all others
    pub costs: Costs,
    /// where its requests go
    pub upstream: UpstreamConfig,
}

impl Default for BucketConfig {
    fn default() -> Self {
        let inherited = Inherited::of(&ServerConfig::default(), false, Costs::default());
        resolve(Pattern::any(), Keys::default(), &inherited)
    }
}

section! {
    /// A bucket as it is written.
    struct Keys {
        /// what the upstream speaks; the upstream's section is called the same
        kind: Kind = key("kind", KINDS, Kind::S3);
        /// bucket names that are served; `*` stands for any run of characters but `:`
        ///
        /// A name may have a tenant of a Ceph store before it, `acme:photos`. `*` matches no name with a tenant, `acme:*` all of one.
        /// State is kept per bucket, not per name, so invented names cost nothing. It also lets a variable name
        /// what a shell cannot spell: `TIDEGATE_BUCKETS__PHOTOS__PATTERN=my-photos`.
        pattern: Option<Pattern> = unset("pattern", Glob, "the bucket's name");
        /// how clients may prove who they are; a bucket without an entry refuses everybody
        auth: Vec<AuthMethod> = key("auth", list(Method), Vec::new());
        /// regions that SigV4 signatures of clients may name; empty accepts any region
        ///
        /// A request that is signed for a region outside the list is answered 400 with the region to use: `s3.region` if the list
        /// contains it, else the first of the list. `GetBucketLocation` may always be signed for us-east-1.
        client_regions: Vec<String> = key("client_regions", list(RegionName), Vec::new());
        /// operations that anonymous clients may use; needs `anonymous` in `auth`
        anonymous: Option<Vec<Access>> = unset("anonymous", list(ACCESS), "everything");
        /// how far in the future the `Expires` of a SigV2 presigned URL, or the expiration of a SigV2 form's policy, may lie;
        /// beyond it 403
        ///
        /// A SigV2 URL names only its end, so it is valid until then for everybody who learns it. It has an effect where `auth` lists sigv2.
        sigv2_max_lifetime: Option<Duration> =
            unset("sigv2_max_lifetime", seconds(1.0..=315_360_000.0), "7d");
        /// paths and queries that look like an attack: `'; DROP TABLE`, `' OR '1'='1`, `<script>`, `javascript:`, a `..`
        /// segment or an encoded NUL, CR or LF in the path
        ///
        /// `block` refuses the few legal keys that hold one of these, and no others; `log` passes them on with a warning.
        /// A path that climbs out of its bucket is refused in every mode.
        injection_patterns: InjectionPatterns =
            key("injection_patterns", INJECTION_PATTERNS, InjectionPatterns::Block);
        /// headers that name the client's address, protocol and host (`X-Forwarded-*`, `Forwarded`, `Via`, `X-Real-IP`,
        /// `CF-Connecting-IP`, `True-Client-IP` and their like): `drop` ends them at the gateway; `set` also sends
        /// `X-Forwarded-For`, `-Proto`, `-Host` and `Via` as the gateway found them; `pass` sends the client's own
        ///
        /// Behind trusted proxies (`server.trusted_proxies`) `set` continues what they wrote. With `pass` any client can name an address
        /// to an upstream that believes the gateway, and so pass its policies.
        forwarded: Option<ForwardedHeaders> = unset("forwarded", FORWARDED_HEADERS, "drop, and set for http buckets");
        /// pages of other origins that may use the bucket from a browser
        cors: Option<CorsConfig> = CorsKeys("cors");
        /// largest body of a request to this bucket, counted as it streams; beyond it 413
        max_request_size: Option<Option<u64>> =
            unset("max_request_size", or_unlimited(0..=1 << 50), "server.limits.max_request_size");
        /// largest signed chunk of an upload; it is held in memory until its signature is verified; beyond it 413
        ///
        /// An upload holds at most twice as much. SDKs send chunks of 64 KiB to 1 MiB.
        max_chunk_size: u64 = key("max_chunk_size", bytes(8 << 10..=1 << 30), CHUNK_SIZE);
        /// limit for this bucket's requests together
        rate_limit: Option<RateLimit> = RateLimitKeys("rate_limit");
        /// what its requests cost, of this limit and all others
        costs: OwnCosts = OwnCostKeys;
        /// the upstream of a bucket of kind `s3`
        s3: S3Keys = nested("s3");
        /// the upstream of a bucket of kind `http`
        http: HttpKeys = nested("http");
    }
}

/// What a bucket takes over from the sections of the whole gateway.
pub(crate) struct Inherited {
    request_timeout: Option<Duration>,
    request_timeout_s3: Duration,
    max_request_size: Option<Option<u64>>,
    max_uri_length: Option<u64>,
    costs: Costs,
}

impl Inherited {
    /// A value of the server section that is set applies to buckets of both kinds. Defaults differ by kind.
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
    for name in section.names() {
        let bucket = read_one(section, &name, inherited);
        let twin = buckets.iter().find(|(_, other)| other.pattern == bucket.pattern);
        if let Some((twin, _)) = twin {
            let pattern = shown(bucket.pattern.as_str());
            let message = format!("has the pattern {pattern}, and so has {}", section.spell(twin));
            section.refuse(&name, message, Some("give one of them another pattern".to_owned()));
        }
        buckets.insert(name, bucket);
    }
    buckets
}

fn read_one(buckets: &mut Section<'_>, name: &str, inherited: &Inherited) -> BucketConfig {
    let named = Pattern::exact(name).unwrap_or_else(|error| {
        let hint =
            (error == PatternError::Wildcard).then(|| "give the bucket a name and a pattern".to_owned());
        buckets.refuse(name, format!("is no bucket name: {error}"), hint);
        Pattern::any()
    });
    let mut section = buckets.child(name);
    section.introduce(&[" a bucket; clients reach it under its name or the names its pattern matches"]);
    let mut keys = Keys::read(&mut section);
    let idle = match keys.kind {
        Kind::S3 => Kind::Http,
        Kind::Http => Kind::S3,
    };
    if section.origin_within(idle.as_str()).is_some() {
        let hint = format!(
            "use {}, or set {} to {}",
            section.spell(keys.kind.as_str()),
            section.spell("kind"),
            idle.as_str()
        );
        let message = format!("is not read, this bucket is of kind {}", keys.kind.as_str());
        section.refuse(idle.as_str(), message, Some(hint));
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
    resolve(named, keys, inherited)
}

/// A list of methods that has no effect would be believed in.
fn check_auth(section: &mut Section<'_>, keys: &Keys) {
    if keys.anonymous.is_some() && !keys.auth.contains(&AuthMethod::Anonymous) {
        let auth = section.spell("auth");
        let hint = format!("add anonymous to {auth}, or take this away");
        section.refuse("anonymous", format!("has no effect: {auth} does not list anonymous"), Some(hint));
    }
    if !keys.client_regions.is_empty() && !keys.auth.contains(&AuthMethod::Sigv4) {
        let auth = section.spell("auth");
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
        costs: costs.over(inherited.costs),
        upstream,
    }
}

/// The section of the embedded origin, for every bucket on it: signed towards the origin, open to every client that reaches the
/// listener, for reading and listing alone where that may be another machine.
pub(crate) fn demo(
    server: &ServerConfig,
    costs: Costs,
    endpoint: Endpoint,
    credentials: Credentials,
) -> BucketConfig {
    let inherited = Inherited::of(server, true, costs);
    let mut bucket = resolve(Pattern::any(), defaults(), &inherited);
    bucket.is_embedded = true;
    bucket.auth = vec![AuthMethod::Anonymous];
    bucket.anonymous = match server.address.is_loopback() {
        true => Access::ALL.to_vec(),
        false => vec![Access::Read, Access::List],
    };
    bucket.upstream.endpoints = vec![endpoint];
    bucket.upstream.credentials = Some(credentials);
    bucket
}
