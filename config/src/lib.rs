//! Configuration of tidegate: sections, defaults, sources, checks.
//!
//! `load` turns sources (file, environment) into a `Config` whose types exclude nonsense, or into everything
//! that is wrong with them. Nothing downstream reads a key, an environment variable or a default again.
//!
//! Each section is a file; its fields are declared once with their key, range, default and documentation, and
//! the table of `docs/configuration.md` and `default.toml` are made from the same declarations (see `walk`).
//!
//! Deliberately absent: watching the file, and any opinion on whether a gateway without buckets makes sense;
//! both belong to the program that starts one.

mod admin;
mod api_key;
mod bucket;
mod client_key;
mod concurrency;
mod cost;
mod dns;
mod document;
mod file_access;
mod form;
mod hint;
mod jwt;
mod log;
mod monitor;
mod network;
mod policy;
mod priority;
mod problem;
mod rate_limit;
mod reference;
mod regular_file;
mod s3;
mod secret_file;
mod section;
mod server;
mod server_tls;
mod service_link;
mod sessions;
mod setting;
mod source;
mod supervision;
#[cfg(test)]
mod tests;
mod unknown;
mod walk;
mod warnings;

use std::collections::BTreeMap;

use bucket::Inherited;
use source::Layers;
use walk::{Section, Walk, nested, nested_checked};

pub use admin::AdminConfig;
pub use api_key::ApiKey;
pub use bucket::{
    AdaptiveConfig, Addressing, AuthMethod, BreakerConfig, BreakerMode, BucketConfig, Checksums,
    ClientDeadline, ConcurrencyConfig, ConnectionPoolConfig, ContainerCredentials, ContentMd5, CorsConfig,
    CredentialPoolConfig, Credentials, Endpoint, EndpointError, FailoverConfig, ForwardedHeaders,
    HealthCheckConfig, HedgingConfig, Identity, InjectionPatterns, IntegrityConfig, Kind,
    OutlierEjectionConfig, Overload, Pattern, PatternError, Pem, PemError, PooledCredential,
    RetryBudgetConfig, RetryConfig, RotationConfig, Scheme, Secret, Sni, TlsConfig, UploadFraming,
    UpstreamConfig, is_bucket_name,
};
pub use client_key::{ClientKey, SignAs};
pub use concurrency::ClientConcurrencyConfig;
pub use cost::Costs;
pub use dns::DnsConfig;
pub use file_access::Exposure;
pub use jwt::{JwksSource, JwtAlgorithm, JwtClaims, JwtConfig};
pub use log::{LogConfig, LogFormat, LogLevel, LogOutput};
pub use monitor::MonitorConfig;
pub use network::{Network, NetworkError};
pub use policy::{Access, PolicyConfig};
pub use priority::{Priority, PriorityConfig};
pub use problem::{Origin, Problem, Problems, Warnings};
pub use rate_limit::{LimitHeaders, LimitMode, OnFailure, RateLimit, RateLimitConfig};
pub use reference::{is_secret_variable, reference_file, reference_spellings, reference_table};
pub use regular_file::open_regular;
pub use s3::S3Config;
pub use secret_file::{SecretFile, SecretFileError};
pub use server::{ClientAddressHeader, LimitsConfig, ServerConfig};
pub use server_tls::ServerTlsConfig;
pub use sessions::SessionsConfig;
pub use source::{Sources, environment};
pub use supervision::SupervisionConfig;

/// A whole configuration, checked.
///
/// Take it apart without `..`: a section that nobody uses should not compile.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// the data listener
    pub server: ServerConfig,
    /// the admin listener
    pub admin: AdminConfig,
    /// the log
    pub log: LogConfig,
    /// supervision of the actors
    pub supervision: SupervisionConfig,
    /// rate limits of the whole gateway
    pub rate_limit: RateLimitConfig,
    /// bounds on the requests in flight of one client
    pub concurrency: ClientConcurrencyConfig,
    /// the resource monitor
    pub monitor: MonitorConfig,
    /// looking up the names of upstreams
    pub dns: DnsConfig,
    /// the session cache
    pub sessions: SessionsConfig,
    /// the S3 API as clients see it
    pub s3: S3Config,
    /// the buckets by name
    pub buckets: BTreeMap<String, BucketConfig>,
    /// what client keys may do, by name
    pub policies: BTreeMap<String, PolicyConfig>,
    /// the client keys by name
    pub keys: BTreeMap<String, ClientKey>,
    /// the API keys by name
    pub api_keys: BTreeMap<String, ApiKey>,
    /// whose tokens are believed; `None` is nobody's
    pub jwt: Option<JwtConfig>,
    /// whether anything guards the raw path; false is for measuring what the guards cost
    #[cfg(feature = "bench")]
    pub guards: bool,
}

/// A configuration, and what in it has probably not the effect that its writer expects.
#[derive(Debug)]
pub struct Loaded {
    /// the configuration
    pub config: Config,
    /// what `tidegate check` warns of
    pub warnings: Warnings,
}

/// Reads and checks a configuration. Everything that is wrong comes back at once.
///
/// # Errors
/// A source cannot be read, or a setting cannot stand.
pub fn load(sources: Sources) -> Result<Config, Problems> {
    load_with_warnings(sources).map(|loaded| loaded.config)
}

/// The same, with the warnings (G12).
///
/// # Errors
/// A source cannot be read, or a setting cannot stand.
pub fn load_with_warnings(sources: Sources) -> Result<Loaded, Problems> {
    let Layers { settings, problems, notes, exposure } = sources.merge();
    // half a file would bring a crowd of problems that are none
    Problems::none_or(problems)?;
    let mut walk = Walk::over(settings);
    let config = Config::read(&mut walk.root());
    let mut problems = unknown::find(&walk);
    problems.append(&mut walk.problems);
    Problems::none_or(problems)?;
    walk.warnings.extend(warnings::of_exposed_file(&walk, exposure));
    warnings::find(&mut walk.root(), &config);
    Ok(Loaded { config, warnings: Warnings::new(walk.warnings, notes) })
}

impl Default for Config {
    fn default() -> Self {
        Self::read(&mut Walk::default().root())
    }
}

impl Config {
    fn read(root: &mut Section<'_>) -> Self {
        #[cfg(feature = "bench")]
        let guards =
            root.take(&[" false takes every guard off the path"], walk::key("guards", form::Flag, true));
        let server: ServerConfig =
            root.take(&[" the data listener"], nested_checked("server", ServerConfig::checked));
        let admin: AdminConfig = root.take(
            &[" the admin listener: probes, status, metrics"],
            nested_checked("admin", AdminConfig::checked),
        );
        check_listeners(root, &server, &admin);
        let log = root.take(&[" the log"], nested("log"));
        let supervision = root.take(&[" supervision of the actors"], nested("supervision"));
        let rate_limit: RateLimitConfig =
            root.take(&[" rate limits of the whole gateway"], nested("rate_limit"));
        let concurrency =
            root.take(&[" bounds on the requests in flight of one client"], nested("concurrency"));
        let is_timeout_set = root.child("server").is_set("request_timeout");
        let inherited = Inherited::of(&server, is_timeout_set, rate_limit.cost);
        let monitor =
            root.take(&[" the resource monitor"], nested_checked("monitor", MonitorConfig::checked));
        let dns = root.take(&[" looking up the names of upstreams"], nested("dns"));
        let sessions = root.take(&[" the session cache"], nested("sessions"));
        let s3 = root.take(&[" the S3 API as clients see it"], nested("s3"));
        let buckets = bucket::read(&mut root.child("buckets"), &inherited);
        let policies = policy::read(&mut root.child("policies"), &buckets);
        let keys = client_key::read(&mut root.child("keys"), &policies);
        let api_keys = api_key::read(&mut root.child("api_keys"), &policies);
        cost::check(root, &rate_limit, &buckets, &keys, &api_keys);
        let jwt =
            root.take(&[" tokens (JWT) of clients: whose are believed, and what they allow"], jwt::JwtKeys);
        let has_jwt = jwt::is_set(&root.child("jwt"));
        jwt::check_buckets(&mut root.child("buckets"), &buckets, has_jwt);
        Self {
            log,
            supervision,
            rate_limit,
            concurrency,
            monitor,
            dns,
            sessions,
            s3,
            buckets,
            policies,
            keys,
            api_keys,
            jwt,
            server,
            admin,
            #[cfg(feature = "bench")]
            guards,
        }
    }

    /// Adds the section `demo`, for every bucket on an S3 server of this machine, open to everybody.
    pub fn add_demo(&mut self, endpoint_port: u16, access_key_id: impl Into<String>, secret: Secret) {
        let credentials = Credentials {
            access_key_id: access_key_id.into(),
            secret_access_key: secret,
            session_token: None,
        };
        let bucket =
            bucket::demo(&self.server, self.rate_limit.cost, Endpoint::loopback(endpoint_port), credentials);
        self.buckets.insert(bucket::DEMO.to_owned(), bucket);
    }
}

/// Two listeners on one port would fail at the second bind with a message about neither key.
fn check_listeners(root: &mut Section<'_>, server: &ServerConfig, admin: &AdminConfig) {
    let overlap =
        server.address == admin.address || server.address.is_unspecified() || admin.address.is_unspecified();
    if overlap && server.port == admin.port && server.port != 0 {
        let message = format!("{} is the port of the data listener too", admin.port);
        let mut section = root.child("admin");
        section.refuse("port", message, Some("set admin.port or server.port to another".to_owned()));
    }
}
