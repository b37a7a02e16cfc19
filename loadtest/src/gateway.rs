//! The gateway under test: writes its configuration and starts its process.
//!
//! The runner uses the configuration keys, the command line and HTTP only. It links no crate of the gateway, so that it measures the
//! program that users run.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use thiserror::Error;
use toml::{Table, Value};

use crate::configuration::{ConfigurationFile, OverlaySpec, Placeholders, RepeatedSpec};
use crate::container::Container;
use crate::port::ReservedPort;
use crate::process::{Process, ProcessError, ServingId};

/// Why the gateway could not be started.
#[derive(Debug, Error)]
pub(crate) enum GatewayError {
    /// The configuration cannot be written.
    #[error("cannot write the gateway's configuration: {0}")]
    Write(#[from] io::Error),
    /// The process does not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A bucket to be configured.
pub(crate) struct BucketSpec<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its upstreams.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Settings that are merged over the defaults.
    pub(crate) settings: &'a Table,
}

/// Where a gateway listens and logs.
pub(crate) struct GatewayLocation<'a> {
    /// Data listener.
    pub(crate) port: u16,
    /// Admin listener.
    pub(crate) admin_port: u16,
    /// Access log.
    pub(crate) log: &'a Path,
}

/// The configurations of a gateway.
#[derive(Default)]
pub(crate) struct GatewayConfiguration<'a> {
    pub(crate) buckets: Vec<BucketSpec<'a>>,
    /// Settings that are merged over those of the runner and the buckets.
    pub(crate) settings: Table,
    /// Repeated sections.
    pub(crate) repeated: &'a [RepeatedSpec],
    /// Overlays, used in rotation.
    pub(crate) overlays: &'a [OverlaySpec],
    pub(crate) placeholders: Placeholders,
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Process,
    /// The file of its configuration.
    pub(crate) configuration: Arc<ConfigurationFile>,
    /// Data listener.
    pub(crate) address: SocketAddr,
    /// Admin listener.
    pub(crate) admin: SocketAddr,
    /// Access log.
    pub(crate) log: PathBuf,
    _ports: [ReservedPort; 2],
}

impl Gateway {
    /// Starts `binary` with a configuration on free ports. Its files are in `directory`, its log is on the container's disk if
    /// there is one.
    pub(crate) fn start(
        binary: &Path,
        directory: &Path,
        of: GatewayConfiguration<'_>,
        container: Option<&Container>,
    ) -> Result<Self, GatewayError> {
        let log = container.map_or(directory, Container::log_directory).join("access.log");
        let (port, admin_port) = (ReservedPort::reserve()?, ReservedPort::reserve()?);
        let (address, admin) = (port.address(), admin_port.address());
        let location = GatewayLocation { port: address.port(), admin_port: admin.port(), log: &log };
        let mut base = configuration(&location, &of.buckets, &of.settings);
        of.repeated.iter().for_each(|repeated| repeated.add_to(&mut base));
        let path = directory.join("tidegate.toml");
        let configuration = ConfigurationFile::new(path, base, of.overlays.to_vec(), of.placeholders);
        configuration.write(1)?;
        let mut command =
            container.map_or_else(|| Command::new(binary), |container| container.command(binary));
        command.arg("--config").arg(configuration.path()).current_dir(directory);
        let mut process = Process::start(command, directory)?;
        process.wait_for(address)?;
        process.wait_for(admin)?;
        let (configuration, ports) = (Arc::new(configuration), [port, admin_port]);
        Ok(Self { process, configuration, address, admin, log, _ports: ports })
    }

    /// Its process ID. It changes with an upgrade.
    pub(crate) fn id(&self) -> &ServingId {
        self.process.id()
    }

    /// Whether the process is running.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// The configuration: listeners, log, an open s3 bucket without credentials per upstream, and `settings` merged over all of it.
pub(crate) fn configuration(
    location: &GatewayLocation<'_>,
    buckets: &[BucketSpec<'_>],
    settings: &Table,
) -> Table {
    let mut all = table([
        ("server", listener(location.port)),
        ("admin", listener(location.admin_port)),
        (
            "log",
            table([
                ("format", "json".into()),
                ("output", location.log.to_string_lossy().into_owned().into()),
            ])
            .into(),
        ),
    ]);
    let mut by_name = Table::new();
    for bucket in buckets {
        let url = |endpoint: &SocketAddr| format!("http://{endpoint}").into();
        let endpoints = Value::Array(bucket.endpoints.iter().map(url).collect());
        let mut section = table([
            ("kind", "s3".into()),
            ("auth", Value::Array(vec!["anonymous".into()])),
            ("s3", table([("endpoints", endpoints)]).into()),
        ]);
        merge(&mut section, bucket.settings);
        by_name.insert(bucket.name.to_owned(), section.into());
    }
    all.insert("buckets".to_owned(), by_name.into());
    merge(&mut all, settings);
    all
}

fn listener(port: u16) -> Value {
    table([("address", "127.0.0.1".into()), ("port", i64::from(port).into())]).into()
}

/// A TOML table from pairs.
pub(crate) fn table<const N: usize>(pairs: [(&str, Value); N]) -> Table {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Merges `over` into `base`, key by key.
pub(crate) fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_merged_over_the_runners_key_by_key() {
        let settings: Table = toml::from_str("[server]\nworkers = 1\n[buckets.a.s3]\ntimeout = 1").unwrap();
        let of_bucket: Table = toml::from_str("max_request_size = 'unlimited'\n[s3]\nregion = 'x'").unwrap();
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 9));
        let buckets = [BucketSpec { name: "a", endpoints: vec![endpoint], settings: &of_bucket }];
        let location = GatewayLocation { port: 1, admin_port: 2, log: Path::new("access.log") };
        let all = configuration(&location, &buckets, &settings);
        assert_eq!(all["server"]["port"].as_integer(), Some(1));
        assert_eq!(all["server"]["workers"].as_integer(), Some(1));
        let bucket = &all["buckets"]["a"];
        assert_eq!(bucket["max_request_size"].as_str(), Some("unlimited"));
        assert_eq!(bucket["s3"]["endpoints"][0].as_str(), Some("http://127.0.0.1:9"));
        assert_eq!(bucket["s3"]["region"].as_str(), Some("x"));
        assert_eq!(bucket["s3"]["timeout"].as_integer(), Some(1));
        assert_eq!(bucket["auth"][0].as_str(), Some("anonymous"));
    }
}
