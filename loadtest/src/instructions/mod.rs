//! Counts the instructions in user space that the gateway needs for a small request on a kept connection, and compares them with recorded
//! ones.
//!
//! Callgrind counts, so that other programs on the machine have no effect. Each proxy is counted twice: with many requests, and with few
//! requests and a pause for the rest of the time. The difference is the cost of the other requests: start, end, timers and sensors are
//! in both. nginx is counted beside the gateway: its count shows whether the method or the machine has changed.

mod baseline;
mod callgrind;
mod closed_loop;
mod http2_rounds;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use toml::Table;

use crate::certificate::Certificate;
use crate::clock;
use crate::compare::{self, ProxyRoute, ProxyTransport};
use crate::gateway::{BucketSpec, GatewayLocation, configuration, merge, table};
use crate::guards;
use crate::port::ReservedPort;
use crate::process::RunDirectory;
use crate::run::RunError;
use baseline::{Baseline, Judgement};
use callgrind::{CountedProcess, Instructions};
use closed_loop::ClosedLoop;
use http2_rounds::Http2Rounds;

/// Requests of the first count, and before the counted requests of the second.
const WARM_REQUESTS: usize = 1_600;
/// The counted requests.
const REQUESTS: usize = 8_000;
/// The name of the bucket.
const BUCKET: &str = "small";

/// What is counted.
pub(crate) struct Count {
    /// The gateway's binary.
    pub(crate) binary: PathBuf,
    /// Also count the path without guards. The binary has the feature `bench`.
    pub(crate) raw: bool,
    /// Also count requests over HTTP/2 in TLS.
    pub(crate) http2: bool,
    /// The file of recorded counts.
    pub(crate) baseline: PathBuf,
}

/// A program and where it listens.
struct Target {
    command: Command,
    address: SocketAddr,
    /// The TLS configuration of an HTTP/2 client; none for HTTP/1.1 in cleartext.
    tls: Option<Arc<ClientConfig>>,
    _ports: [ReservedPort; 2],
}

/// The load of a count.
enum Rounds {
    Http1(ClosedLoop),
    Http2(Http2Rounds),
}

impl Rounds {
    fn connect(target: &Target) -> io::Result<Self> {
        let path = format!("/{BUCKET}/object");
        Ok(match &target.tls {
            None => Self::Http1(ClosedLoop::connect(target.address, &path)?),
            Some(tls) => Self::Http2(Http2Rounds::connect(target.address, Arc::clone(tls), &path)?),
        })
    }

    fn exchange(&mut self, requests: usize) -> io::Result<()> {
        match self {
            Self::Http1(rounds) => rounds.exchange(requests),
            Self::Http2(rounds) => rounds.exchange(requests),
        }
    }
}

impl Count {
    /// Counts, prints the counts, and returns whether all are within their ranges.
    pub(crate) fn run(&self) -> Result<bool, RunError> {
        let baseline = Baseline::read(&self.baseline)?;
        let directory = RunDirectory::create("instructions")?;
        let upstream = upstream::start()?;
        let certificate = Certificate::create(directory.path())?;
        let (cleartext, tls) = (ProxyTransport::Cleartext, ProxyTransport::Tls(&certificate));
        for (name, transport) in [("nginx", cleartext), ("nginx over HTTP/2", tls)] {
            if self.http2 || !transport.is_tls() {
                let counted = per_request(directory.path(), |home| nginx(home, upstream, transport))?;
                println!("{name}: {}", text(counted));
            }
        }
        let mut counts = Vec::new();
        for (name, is_due, guards, transport) in [
            ("guarded", true, true, cleartext),
            ("raw", self.raw, false, cleartext),
            ("http2", self.http2, true, tls),
        ] {
            if is_due {
                let gateway = |home: &Path| self.gateway(home, upstream, guards, transport);
                let counted = per_request(directory.path(), gateway)?;
                println!("{name}: {}", text(counted));
                counts.push((name, counted.without_memset()));
            }
        }
        directory.discard();
        if let [("guarded", guarded), ("raw", raw), ..] = counts[..] {
            println!("guards over raw: {:+.1} %", 100.0 * (guarded as f64 / raw as f64 - 1.0));
        }
        let Judgement { held, text } = baseline.judge(&counts);
        print!("{text}");
        Ok(held)
    }

    fn gateway(
        &self,
        home: &Path,
        upstream: SocketAddr,
        has_guards: bool,
        transport: ProxyTransport<'_>,
    ) -> io::Result<Target> {
        let ports = [ReservedPort::reserve()?, ReservedPort::reserve()?];
        let address = ports[0].address();
        let log = home.join("access.log");
        let location =
            GatewayLocation { port: address.port(), admin_port: ports[1].address().port(), log: &log };
        let of_bucket = guards::bucket(false);
        let bucket = BucketSpec { name: BUCKET, endpoints: vec![upstream], settings: &of_bucket };
        let mut settings = guards::gateway();
        merge(&mut settings, &steady());
        if let ProxyTransport::Tls(certificate) = transport {
            merge(&mut settings, &certificate.settings());
        }
        if !has_guards {
            settings.insert("guards".to_owned(), false.into());
        }
        let file = home.join("tidegate.toml");
        std::fs::write(&file, configuration(&location, &[bucket], &settings).to_string())?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(file);
        Ok(Target { command, address, tls: http2_client(transport)?, _ports: ports })
    }
}

/// One worker, so that the rounds of the load are those of the thread; and one sample of the resources, because the number of samples
/// depends on the speed of the machine.
fn steady() -> Table {
    table([
        ("server", table([("workers", 1.into())]).into()),
        ("monitor", table([("interval_ms", 60_000.into())]).into()),
    ])
}

/// The client's side of the transport.
fn http2_client(transport: ProxyTransport<'_>) -> io::Result<Option<Arc<ClientConfig>>> {
    match transport {
        ProxyTransport::Cleartext => Ok(None),
        ProxyTransport::Tls(certificate) => certificate.client("h2").map(Some),
    }
}

fn nginx(home: &Path, endpoint: SocketAddr, transport: ProxyTransport<'_>) -> io::Result<Target> {
    let ports = [ReservedPort::reserve()?, ReservedPort::reserve()?];
    let address = ports[0].address();
    let route = ProxyRoute { name: BUCKET, endpoint };
    let (program, arguments) = compare::single_nginx(home, address, &route, transport)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(Target { command, address, tls: http2_client(transport)?, _ports: ports })
}

impl Instructions {
    fn without_memset(self) -> u64 {
        self.total - self.of_memset
    }
}

fn text(counted: Instructions) -> String {
    format!("{} instructions per request, {} without memset", counted.total, counted.without_memset())
}

/// The instructions of one request.
fn per_request(
    directory: &Path,
    mut target: impl FnMut(&Path) -> io::Result<Target>,
) -> Result<Instructions, RunError> {
    let mut count = |name: &str, requests: Option<Duration>| {
        let home = directory.join(name);
        std::fs::create_dir_all(&home)?;
        count_once(&target(&home)?, &home, requests)
    };
    let (many, took) = count("many", None)?;
    let (few, _) = count("few", Some(took))?;
    let each = |many: u64, few: u64| many.saturating_sub(few) / REQUESTS as u64;
    Ok(Instructions { total: each(many.total, few.total), of_memset: each(many.of_memset, few.of_memset) })
}

/// Counts a run, with a pause in place of the counted requests if one is given. Returns the time of the counted requests too.
fn count_once(
    target: &Target,
    home: &Path,
    pause: Option<Duration>,
) -> Result<(Instructions, Duration), RunError> {
    let process = CountedProcess::start(&target.command, target.address, home)?;
    let mut load = Rounds::connect(target)?;
    load.exchange(WARM_REQUESTS)?;
    let began = clock::now();
    match pause {
        Some(pause) => std::thread::sleep(pause),
        None => load.exchange(REQUESTS)?,
    }
    let took = clock::now().saturating_duration_since(began);
    drop(load);
    Ok((process.finish()?, took))
}
