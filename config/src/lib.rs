//! Configuration of tidegate: sections, defaults, sources, checks.
//!
//! `load` turns the sources (file, environment) into a validated `Config`, or into a list of all problems. No other crate reads a
//! key, an environment variable or a default.
//!
//! Each section is a file. A field is declared once, with its key, range, default and documentation; `docs/configuration.md` and
//! `default.toml` are generated from the same declarations (see `schema`).
//!
//! `SourceSet` loads a configuration again, `ConfigDiff` shows what changed, `ContentWatch` finds a changed file. The crate starts no
//! task and applies nothing, and it accepts a configuration without buckets: that belongs to the program that starts a gateway.

mod action_mode;
mod actions;
mod admin;
mod admin_tls;
mod api_key;
mod bucket;
mod client_key;
mod client_secret;
mod concurrency;
mod content_watch;
mod cost;
mod cut_text;
mod dns;
mod document;
mod effective;
mod entry;
mod file_access;
mod file_rules;
mod fingerprint;
mod hint;
mod jwt;
mod log;
mod metrics;
mod monitor;
mod network;
mod origins;
mod policy;
mod priority;
mod problem;
mod rate_limit;
mod reference;
mod regular_file;
mod reload;
mod restart;
mod s3;
mod schema;
mod secret_file;
mod section;
mod section_tree;
mod server;
mod server_tls;
mod service_environment;
mod service_link;
mod sessions;
mod setting;
mod shedding;
mod source;
mod source_set;
mod supervision;
#[cfg(test)]
mod tests;
mod unknown;
mod value_type;
mod walk;
mod warnings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bucket::Inherited;
use schema::{Section, Walk, nested, nested_checked};
use setting::KeyPath;
use source::MergedSources;

pub use action_mode::ActionMode;
pub use actions::{ActionConfig, ActionLevel, ActionsConfig};
pub use admin::AdminConfig;
pub use admin_tls::AdminTlsConfig;
pub use api_key::ApiKey;
pub use bucket::{
    AdaptiveConfig, Addressing, AuthMethod, BreakerConfig, BreakerMode, BucketConfig, Checksums,
    ClientDeadline, ConcurrencyConfig, ConnectionPoolConfig, ContainerCredentials, ContentMd5, CorsConfig,
    CredentialPoolConfig, Credentials, Endpoint, EndpointError, FailoverConfig, ForwardedHeaders,
    HealthCheckConfig, HedgingConfig, Identity, InjectionPatterns, IntegrityConfig, Kind,
    LoadBalancingConfig, OutlierEjectionConfig, Overload, Pattern, PatternError, Pem, PemError,
    PooledCredential, RetryBudgetConfig, RetryConfig, Scheme, Secret, Sni, TlsConfig, UploadFraming,
    UpstreamConfig,
};
pub use client_key::{ClientKey, SignAs};
pub use concurrency::ClientConcurrencyConfig;
pub use content_watch::ContentWatch;
pub use cost::Costs;
pub use dns::DnsConfig;
pub use effective::{
    ConfigDiff, EffectiveConfig, EffectiveKey, EffectiveValue, KeyChange, KeyChangeKind, Literal, NOT_SET,
};
pub use file_access::Exposure;
pub use jwt::{JwksSource, JwtAlgorithm, JwtClaims, JwtConfig};
pub use log::{LogConfig, LogFormat, LogLevel, LogOutput};
pub use metrics::MetricsConfig;
pub use monitor::MonitorConfig;
pub use network::{Network, NetworkError};
pub use origins::Origins;
pub use policy::{Access, PolicyConfig};
pub use priority::{Priority, PriorityConfig};
pub use problem::{Origin, Problem, Problems, Warnings};
pub use rate_limit::{LimitHeaders, LimitMode, OnFailure, RateLimit, RateLimitConfig};
pub use reference::{is_secret_variable, reference_file, reference_page, reference_spellings};
pub use regular_file::open_regular;
pub use reload::ReloadConfig;
pub use restart::restart_reason;
pub use s3::S3Config;
pub use secret_file::{SecretFile, SecretFileError};
pub use server::{ClientAddressHeader, LimitsConfig, ServerConfig};
pub use server_tls::ServerTlsConfig;
pub use service_environment::ServiceEnvironment;
pub use sessions::SessionsConfig;
pub use shedding::{QueueSheddingConfig, SheddingConfig};
pub use source::{Sources, environment};
pub use source_set::SourceSet;
pub use supervision::SupervisionConfig;

/// A whole configuration, checked.
///
/// Destructure it without `..`: a section without a user must not compile.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// the data listener
    pub server: ServerConfig,
    /// the admin listener
    pub admin: AdminConfig,
    /// reloads of the configuration
    pub reload: ReloadConfig,
    /// the log
    pub log: LogConfig,
    /// the metrics
    pub metrics: MetricsConfig,
    /// supervision of the actors
    pub supervision: SupervisionConfig,
    /// rate limits of the whole gateway
    pub rate_limit: RateLimitConfig,
    /// process-wide limits on the concurrent requests of one client
    pub concurrency: ClientConcurrencyConfig,
    /// the resource monitor
    pub monitor: MonitorConfig,
    /// the actions of the resource levels
    pub actions: ActionsConfig,
    /// shedding by the wait inside the gateway
    pub shedding: SheddingConfig,
    /// DNS lookups of upstream names
    pub dns: DnsConfig,
    /// the session cache
    pub sessions: SessionsConfig,
    /// the S3 API towards clients
    pub s3: S3Config,
    /// the buckets by name
    pub buckets: BTreeMap<String, BucketConfig>,
    /// the policies by name
    pub policies: BTreeMap<String, PolicyConfig>,
    /// the client keys by name
    pub keys: BTreeMap<String, ClientKey>,
    /// the API keys by name
    pub api_keys: BTreeMap<String, ApiKey>,
    /// how tokens are verified; `None` accepts no token
    pub jwt: Option<JwtConfig>,
    /// the origin of each key that a source sets
    pub origins: Origins,
    /// whether the guards of the request path run; false measures their cost
    #[cfg(feature = "bench")]
    pub guards: bool,
}

/// A configuration and its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// the configuration
    pub config: Config,
    /// the warnings that `tidegate check` prints
    pub warnings: Warnings,
    /// every key with its value and its origin
    pub effective: EffectiveConfig,
    /// the file of the configuration and the files that it names, for a [`ContentWatch`]
    pub files: Vec<PathBuf>,
}

/// Reads and checks a configuration. All problems are returned at once.
///
/// # Errors
/// A source cannot be read, or a setting is invalid.
pub fn load(sources: Sources) -> Result<Config, Problems> {
    load_with_warnings(sources).map(|loaded| loaded.config)
}

/// The same, with the warnings (G12).
///
/// # Errors
/// A source cannot be read, or a setting is invalid.
pub fn load_with_warnings(sources: Sources) -> Result<Loaded, Problems> {
    load_merged(sources.merge())
}

/// The same for a running gateway.
fn load_again(sources: Sources) -> Result<Loaded, Problems> {
    let mut merged = sources.merge();
    file_rules::add_problems(&mut merged);
    load_merged(merged)
}

/// The sections `server` and `admin` for a client of a running gateway. Problems of other keys than those of `admin` do not matter to it,
/// so a shell without the secrets of the gateway is enough.
fn load_for_client(sources: Sources) -> Result<Config, Problems> {
    let MergedSources { mut settings, problems, .. } = sources.merge();
    let is_of_client = |key: &str| key == "admin" || key.starts_with("admin.");
    // A variable of another key does not matter, the file that a variable names does.
    let is_of_source = |problem: &Problem| match &problem.source {
        Origin::Variable(name) => name == source::FILE_VARIABLE || is_of_client(&problem.key),
        _ => true,
    };
    Problems::none_or(problems.into_iter().filter(is_of_source).collect())?;
    settings
        .retain(|path, _| path.segments().first().is_some_and(|name| name == "server" || name == "admin"));
    let mut walk = Walk::over(settings);
    let config = Config::read(&mut walk.root());
    let mut problems = unknown::find(&walk);
    problems.append(&mut walk.problems);
    problems.retain(|problem| is_of_client(&problem.key));
    Problems::none_or(problems)?;
    Ok(config)
}

fn load_merged(merged: MergedSources) -> Result<Loaded, Problems> {
    let MergedSources { settings, problems, notes, file } = merged;
    // an incomplete file would cause problems that do not exist
    Problems::none_or(problems)?;
    let origins = Origins::of(&settings);
    let named_files: Vec<PathBuf> = content_watch::named_files(&settings).collect();
    let mut walk = Walk::over(settings);
    let config = Config { origins, ..Config::read(&mut walk.root()) };
    let mut problems = unknown::find(&walk);
    problems.append(&mut walk.problems);
    Problems::none_or(problems)?;
    let (path, exposure) = file.map(|file| (file.path, file.exposure)).unzip();
    let files = path.iter().cloned().chain(named_files).collect();
    walk.warnings.extend(warnings::of_exposed_file(&walk, path.zip(exposure.flatten())));
    warnings::find(&mut walk.root(), &config);
    let effective = EffectiveConfig::of(&walk);
    Ok(Loaded { config, warnings: Warnings::new(walk.warnings, notes), effective, files })
}

/// The name of a key as a file spells it: `buckets."acme:photos".auth`.
pub fn key_name(segments: &[&str]) -> String {
    KeyPath::new(segments.iter().copied()).to_string()
}

impl Default for Config {
    fn default() -> Self {
        Self::read(&mut Walk::default().root())
    }
}

impl Config {
    fn read(root: &mut Section<'_>) -> Self {
        #[cfg(feature = "bench")]
        let guards = root.read_field(
            &[" false turns off all guards of the request path"],
            schema::key("guards", value_type::Flag, true),
        );
        let server: ServerConfig = root.read_field(
            &[" the data listener: address, timeouts, limits"],
            nested_checked("server", ServerConfig::checked),
        );
        let admin: AdminConfig = root.read_field(
            &[" the admin listener: probes, status, metrics"],
            nested_checked("admin", AdminConfig::checked),
        );
        check_listeners(root, &server, &admin);
        let reload = root.read_field(&[" reloads of the configuration"], nested("reload"));
        let log = root.read_field(&[" the log"], nested("log"));
        let metrics = root.read_field(&[" the metrics that Prometheus scrapes"], nested("metrics"));
        let supervision = root.read_field(&[" supervision of the actors"], nested("supervision"));
        let rate_limit: RateLimitConfig =
            root.read_field(&[" rate limits of the whole gateway"], nested("rate_limit"));
        let concurrency = root.read_field(
            &[" process-wide limits on the concurrent requests of one client"],
            nested("concurrency"),
        );
        let is_timeout_set = root.child("server").is_set("request_timeout");
        let inherited = Inherited::of(&server, is_timeout_set, rate_limit.cost);
        let monitor =
            root.read_field(&[" the resource monitor"], nested_checked("monitor", MonitorConfig::checked));
        let actions = root.read_field(&[" the actions of the resource levels"], nested("actions"));
        let shedding = root.read_field(&[" shedding by the wait inside the gateway"], nested("shedding"));
        let dns = root.read_field(&[" DNS lookups of upstream names"], nested("dns"));
        let sessions = root.read_field(&[" the session cache"], nested("sessions"));
        let s3 = root.read_field(&[" the S3 API towards clients"], nested("s3"));
        let buckets = bucket::read(&mut root.child("buckets"), &inherited);
        let policies = policy::read(&mut root.child("policies"), &buckets);
        let keys = client_key::read(&mut root.child("keys"), &policies);
        let api_keys = api_key::read(&mut root.child("api_keys"), &policies);
        cost::check(root, &rate_limit, &buckets, &keys, &api_keys);
        let jwt = root.read_field(
            &[" tokens (JWT) of clients; the section is off until one of its keys without a default is set"],
            jwt::JwtKeys,
        );
        let has_jwt = jwt::is_set(&root.child("jwt"));
        jwt::check_buckets(&mut root.child("buckets"), &buckets, has_jwt);
        Self {
            reload,
            log,
            metrics,
            supervision,
            rate_limit,
            concurrency,
            monitor,
            actions,
            shedding,
            dns,
            sessions,
            s3,
            buckets,
            policies,
            keys,
            api_keys,
            jwt,
            origins: Origins::default(),
            server,
            admin,
            #[cfg(feature = "bench")]
            guards,
        }
    }

    /// Adds the section `demo`: every bucket of an S3 server on this machine, open to all clients.
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

    /// Keeps the section `demo` of the configuration in use, if no bucket is configured.
    pub fn keep_demo(&mut self, in_use: &Self) {
        if self.buckets.is_empty()
            && let Some(demo) = in_use.buckets.get(bucket::DEMO)
        {
            self.buckets.insert(bucket::DEMO.to_owned(), demo.clone());
        }
    }
}

/// Rejects one port for both listeners: the error of the second `bind` would name neither key.
fn check_listeners(root: &mut Section<'_>, server: &ServerConfig, admin: &AdminConfig) {
    let overlap =
        server.address == admin.address || server.address.is_unspecified() || admin.address.is_unspecified();
    if overlap && server.port == admin.port && server.port != 0 {
        let message = format!("{} is also the port of the data listener", admin.port);
        let mut section = root.child("admin");
        section.refuse("port", message, Some("set admin.port or server.port to another".to_owned()));
    }
}
