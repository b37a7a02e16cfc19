//! The proxies of a comparison and their shared upstreams.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::haproxy;
use super::nginx::{self, NginxProcesses};
use crate::certificate::Certificate;
use crate::gateway::{BucketSpec, Gateway, GatewayConfiguration, merge};
use crate::guards;
use crate::port::ReservedPort;
use crate::process::Process;
use crate::run::RunError;
use crate::size::Bytes;
use crate::upstream::{Behaviour, Upstream, Upstreams};

/// The upstream of limited capacity.
pub(super) const CAPPED: &str = "capped";

/// A path prefix and its upstream.
pub(crate) struct ProxyRoute {
    pub(crate) name: &'static str,
    pub(crate) endpoint: SocketAddr,
}

impl ProxyRoute {
    pub(super) fn is_capped(&self) -> bool {
        self.name == CAPPED
    }
}

/// How clients connect to the proxies.
#[derive(Clone, Copy)]
pub(crate) enum ProxyTransport<'a> {
    Cleartext,
    /// TLS with this certificate, HTTP/2 and HTTP/1.1.
    Tls(&'a Certificate),
}

impl ProxyTransport<'_> {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The folder of the proxies' files.
    pub(super) fn folder(self) -> &'static str {
        if self.is_tls() { "tls" } else { "cleartext" }
    }
}

/// The upstreams.
pub(super) struct SharedUpstreams {
    upstreams: Upstreams,
}

impl SharedUpstreams {
    /// Starts upstreams for 1 KiB and 64 KiB objects, an upload sink, and one that handles ten requests at once in 20 ms each.
    pub(super) fn start() -> io::Result<Self> {
        let normal = |bytes| Behaviour::Normal { body_bytes: Bytes(bytes), verify: false };
        let all = [
            ("small", normal(1 << 10)),
            ("large", normal(64 << 10)),
            ("sink", normal(0)),
            (CAPPED, Behaviour::Capacity { parallel: 10, hold_ms: 20 }),
        ];
        let upstreams = Upstreams::start(&all.map(|(name, behaviour)| (name.to_owned(), behaviour)))?;
        Ok(Self { upstreams })
    }

    pub(super) fn upstream(&self, name: &str) -> Result<&Upstream, RunError> {
        self.upstreams.get(name).ok_or_else(|| RunError::Upstream(name.to_owned()))
    }

    fn routes(&self) -> Result<Vec<ProxyRoute>, RunError> {
        let names = ["small", "large", "sink", CAPPED];
        names
            .into_iter()
            .map(|name| Ok(ProxyRoute { name, endpoint: self.upstream(name)?.address }))
            .collect()
    }
}

enum ProxyProcess {
    Tidegate(Gateway),
    Other { process: Process, _port: ReservedPort },
}

/// One proxy, running.
pub(super) struct ComparedProxy {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    running: ProxyProcess,
}

impl ComparedProxy {
    /// Starts tidegate and the installed other proxies.
    pub(super) fn start_all(
        binary: &Path,
        directory: &Path,
        upstreams: &SharedUpstreams,
        transport: ProxyTransport<'_>,
    ) -> Result<Vec<Self>, RunError> {
        let routes = upstreams.routes()?;
        let mut peers = vec![Self::tidegate(binary, directory, &routes, transport)?];
        for (name, configure) in
            [("nginx", nginx::with_workers as Configure), ("haproxy", haproxy::configure)]
        {
            match on_path(name) {
                Some(program) => {
                    let arguments = |home: &Path, address| configure(home, address, &routes, transport);
                    peers.push(Self::other(name, program, directory, arguments)?);
                }
                None => eprintln!("{name} is not on the PATH and is not compared"),
            }
        }
        Ok(peers)
    }

    /// The root of its process tree.
    pub(super) fn id(&self) -> u32 {
        match &self.running {
            ProxyProcess::Tidegate(gateway) => gateway.id().get(),
            ProxyProcess::Other { process, .. } => process.id().get(),
        }
    }

    fn tidegate(
        binary: &Path,
        directory: &Path,
        routes: &[ProxyRoute],
        transport: ProxyTransport<'_>,
    ) -> Result<Self, RunError> {
        let settings: Vec<_> = routes.iter().map(|route| guards::bucket(route.is_capped())).collect();
        let buckets: Vec<_> = routes
            .iter()
            .zip(&settings)
            .map(|(route, settings)| BucketSpec {
                name: route.name,
                endpoints: vec![route.endpoint],
                settings,
            })
            .collect();
        let mut settings = guards::gateway();
        if let ProxyTransport::Tls(certificate) = transport {
            merge(&mut settings, &certificate.settings());
        }
        let configuration = GatewayConfiguration { buckets, settings, ..GatewayConfiguration::default() };
        let gateway = Gateway::start(binary, directory, configuration, None)?;
        Ok(Self { name: "tidegate", address: gateway.address, running: ProxyProcess::Tidegate(gateway) })
    }

    fn other(
        name: &'static str,
        program: PathBuf,
        directory: &Path,
        arguments: impl Fn(&Path, SocketAddr) -> io::Result<Vec<String>>,
    ) -> Result<Self, RunError> {
        let port = ReservedPort::reserve()?;
        let address = port.address();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let mut command = Command::new(program);
        command.args(arguments(&directory, address)?);
        let mut process = Process::start(command, &directory).map_err(crate::gateway::GatewayError::from)?;
        process.wait_for(address).map_err(crate::gateway::GatewayError::from)?;
        Ok(Self { name, address, running: ProxyProcess::Other { process, _port: port } })
    }
}

/// Writes a configuration into a directory and returns the arguments that use it.
type Configure = fn(&Path, SocketAddr, &[ProxyRoute], ProxyTransport<'_>) -> io::Result<Vec<String>>;

/// nginx with one route and one process. Returns the program and its arguments.
pub(crate) fn single_nginx(
    directory: &Path,
    address: SocketAddr,
    route: &ProxyRoute,
    transport: ProxyTransport<'_>,
) -> io::Result<(PathBuf, Vec<String>)> {
    let program = on_path("nginx").ok_or_else(|| io::Error::other("nginx is not on the PATH"))?;
    let routes = std::slice::from_ref(route);
    let arguments = nginx::configure(directory, address, routes, transport, NginxProcesses::Single)?;
    Ok((program, arguments))
}

/// Folders with servers that are often not on a user's PATH.
const EXTRA_PATHS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(EXTRA_PATHS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
