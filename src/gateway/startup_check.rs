//! Checks the requirements of a configuration on this machine before anything starts (G12).
//!
//! `check` opens the files that a start opens, and fails like the start. `add_warnings` adds problems that do not
//! prevent a start. [`add_dns_warnings`] calls the resolver, which can take seconds, so only `tidegate check` uses
//! it: a failed resolver must not prevent a start.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use tidegate_actors::{clock, system_memory_limit};
use tidegate_config::{Config, Endpoint, Identity, JwksSource, LogOutput, Warnings, key_name};

use super::{StartError, jwks_fetcher};
use crate::descriptors::DescriptorShares;
use crate::server::tls::ServerTls;
use crate::server::tls_tickets::TicketKeys;
use crate::upstream::connect::dialer::Dialer;

/// The most names that are resolved at a time, each on its own thread.
const LOOKUPS_MAX: usize = 64;

/// Opens everything that a start opens.
///
/// # Errors A limit of descriptors is too low for one request, the certificate of a listener and its key do not match,
/// keys of tokens are not usable, or an upstream's authorities cannot be read.
pub(crate) fn check(config: &Config) -> Result<(), StartError> {
    DescriptorShares::new(config).check_without_start(config, hard_descriptor_limit())?;
    let ticket_keys = Arc::new(TicketKeys::generate());
    ServerTls::load(&config.server.tls, &ticket_keys)?;
    ServerTls::load_admin(&config.admin.tls, &ticket_keys)?;
    jwks_fetcher::token_verifier(config)?;
    for (name, bucket) in &config.buckets {
        let upstream = &bucket.upstream;
        Dialer::new(&upstream.endpoints, upstream, &config.dns)
            .map_err(|source| StartError::Tls { bucket: name.clone(), source })?;
    }
    Ok(())
}

/// Warns of a log file that cannot be written, expired keys, limits of memory and descriptors that do not fit this
/// machine, and the embedded bucket `demo` on an address that other machines can reach.
pub fn add_warnings(config: &Config, warnings: &mut Warnings) {
    let address = config.server.address;
    if cfg!(feature = "origin") && config.buckets.is_empty() && !address.to_canonical().is_loopback() {
        let message = format!(
            "{address} is not a loopback address, and no bucket is configured: the embedded bucket `demo` starts, and \
             everybody can read and write it without authentication"
        );
        let hint = "configure a bucket, or set server.address to 127.0.0.1".to_owned();
        warnings.add("server.address", message, Some(hint));
    }
    if let LogOutput::File(path) = &config.log.output
        && let Err(error) = check_writable(path)
    {
        let message = format!("{} cannot be written: {error}", path.display());
        warnings.add("log.output", message, Some("the gateway does not start without its log".to_owned()));
    }
    let now = clock::wall();
    for (name, _) in config.keys.iter().filter(|(_, key)| key.expires.is_some_and(|end| end <= now)) {
        let message = "has passed: the key is refused";
        warnings.add(
            key_name(&["keys", name, "expires"]),
            message,
            Some("remove the key, or renew it".to_owned()),
        );
    }
    add_memory_warnings(config, warnings);
    if let Some((message, hint)) = DescriptorShares::new(config).shortfall(hard_descriptor_limit()) {
        warnings.add("monitor.descriptor_limit", message, Some(hint));
    } else if let Some(limit) =
        config.monitor.descriptor_limit.filter(|limit| *limit > hard_descriptor_limit())
    {
        let message = format!(
            "{limit} has no effect: the limit of open files is {}, which is lower",
            hard_descriptor_limit()
        );
        let hint = "lower it, or raise the limit of open files (ulimit -n, LimitNOFILE= in systemd, --ulimit nofile in Docker)";
        warnings.add("monitor.descriptor_limit", message, Some(hint.to_owned()));
    }
}

/// The limit to which the start raises the soft limit.
fn hard_descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Warns of a memory limit above that of the system, and of a budget of socket buffers above the memory limit.
fn add_memory_warnings(config: &Config, warnings: &mut Warnings) {
    let (system, configured) = (system_memory_limit(), config.monitor.memory_limit_bytes);
    if let (Some(system), Some(limit)) = (system, configured)
        && limit > system
    {
        let message = format!(
            "{limit} bytes are more than the {system} that the cgroup or the host gives: the kernel kills the process before \
             the level rises"
        );
        warnings.add("monitor.memory_limit_bytes", message, Some("lower it, or leave it out".to_owned()));
    }
    let limit = [system, configured].into_iter().flatten().min();
    if let (Some(limit), Some(budget)) = (limit, config.server.buffer_budget)
        && budget > limit
    {
        let message = format!("{budget} bytes are more than the memory limit ({limit})");
        let hint = "lower it, or leave it out: the default is a quarter of the memory limit".to_owned();
        warnings.add("server.buffer_budget", message, Some(hint));
    }
}

/// Checks whether a start can append to the file, without creating it.
fn check_writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
            OpenOptions::new().append(true).open(path).map(drop)
        }
        // Opening a pipe could block until it has a reader.
        Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(access(parent.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK)?)
        }
        Err(error) => Err(error),
    }
}

/// Warns of upstream names that do not resolve within `dns.timeout`.
pub fn add_dns_warnings(config: &Config, warnings: &mut Warnings) {
    let mut hosts: BTreeMap<&str, String> = BTreeMap::new();
    for (key, endpoint) in endpoints(config).into_iter().filter(|(_, endpoint)| !endpoint.is_address()) {
        hosts.entry(&endpoint.host).or_insert(key);
    }
    let hosts: Vec<(&str, String)> = hosts.into_iter().collect();
    for some in hosts.chunks(LOOKUPS_MAX) {
        for ((host, key), why) in some.iter().zip(resolve_all(some, config.dns.timeout)) {
            let Some(why) = why else { continue };
            let hint = "its requests fail until it does; check the name, and the resolver of this machine";
            warnings.add(key.clone(), format!("{host} does not resolve: {why}"), Some(hint.to_owned()));
        }
    }
}

/// Every URL that the gateway calls, with its key.
fn endpoints(config: &Config) -> Vec<(String, &Endpoint)> {
    let mut all = Vec::new();
    for (name, bucket) in &config.buckets {
        let section = key_name(&["buckets", name, bucket.kind.as_str()]);
        let upstream = &bucket.upstream;
        all.extend(upstream.endpoints.iter().map(|endpoint| (format!("{section}.endpoints"), endpoint)));
        let container = upstream.container_credentials.iter();
        all.extend(container.map(|one| (format!("{section}.container_credentials.url"), &one.url)));
        for one in &upstream.credentials_by_name {
            if let Identity::Container(container) = &one.identity {
                let credential = key_name(&["credentials", &one.name, "container_credentials", "url"]);
                let key = format!("{section}.{credential}");
                all.push((key, &container.url));
            }
        }
    }
    if let Some(JwksSource::Url(url)) = config.jwt.as_ref().and_then(|jwt| jwt.jwks.as_ref()) {
        all.push(("jwt.jwks_url".to_owned(), url));
    }
    all
}

/// The resolver's error for each name; `None` for names that resolve.
fn resolve_all(hosts: &[(&str, String)], timeout: Duration) -> Vec<Option<String>> {
    let (sender, receiver) = mpsc::channel();
    let mut results = vec![Some(format!("no DNS response within {} s", timeout.as_secs_f64())); hosts.len()];
    for (at, (host, _)) in hosts.iter().enumerate() {
        let (host, sender) = ((*host).to_owned(), sender.clone());
        let lookup = move || {
            let result = (host.as_str(), 0).to_socket_addrs();
            let why = match result.map(|mut addresses| addresses.next()) {
                Ok(Some(_)) => None,
                Ok(None) => Some("it has no address".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            // The receiver may have timed out.
            let _ = sender.send((at, why));
        };
        if let Err(error) = thread::Builder::new().name("lookup".to_owned()).spawn(lookup) {
            results[at] = Some(error.to_string());
        }
    }
    drop(sender);
    let deadline = clock::now() + timeout;
    while let Ok((at, why)) = receiver.recv_timeout(deadline.saturating_duration_since(clock::now())) {
        results[at] = why;
    }
    results
}
