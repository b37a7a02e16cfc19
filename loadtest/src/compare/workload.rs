//! The workloads of a comparison, and the measurement of one workload with one proxy.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::task::LocalSet;

use super::Round;
use super::peer::{CAPPED, ComparedProxy, SharedUpstreams};
use crate::certificate::{Certificate, NAME};
use crate::client::{BodyCapture, Request};
use crate::destination::Destination;
use crate::http2_load::{self, Http2Load};
use crate::load::{self, Load, LoadShape};
use crate::recorder::Recorder;
use crate::run::{RunError, unless_interrupted};
use crate::schedule::Schedule;
use crate::statistics::Statistics;
use crate::usage;

const WARM_SECONDS: f64 = 0.5;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Rate of the load.
pub(super) enum LoadRate {
    /// Open loop with this rate per second.
    PerSecond(f64),
    /// Closed loop.
    Closed,
}

/// How the clients of a workload connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientProtocol {
    /// HTTP/1.1 in cleartext, on kept connections.
    Http1,
    /// HTTP/1.1 in cleartext, with a connection for each request.
    Http1Connections,
    /// HTTP/1.1 over TLS, on kept connections.
    Https,
    /// HTTP/1.1 over TLS, with a connection and a full handshake for each request.
    HttpsHandshakes,
    /// HTTP/2 over TLS, with this many concurrent requests on each connection.
    Http2 { streams: usize },
}

impl ClientProtocol {
    pub(super) fn is_tls(self) -> bool {
        !matches!(self, Self::Http1 | Self::Http1Connections)
    }
}

/// The TLS configurations of the clients.
pub(super) struct TlsClients {
    https: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl TlsClients {
    pub(super) fn of(certificate: &Certificate) -> io::Result<Self> {
        let https = certificate.client_without_resumption("http/1.1")?;
        Ok(Self { https, http2: certificate.client_without_resumption("h2")? })
    }

    fn config(&self, protocol: ClientProtocol) -> Option<Arc<ClientConfig>> {
        match protocol {
            ClientProtocol::Http1 | ClientProtocol::Http1Connections => None,
            ClientProtocol::Https | ClientProtocol::HttpsHandshakes => Some(Arc::clone(&self.https)),
            ClientProtocol::Http2 { .. } => Some(Arc::clone(&self.http2)),
        }
    }
}

/// One workload.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) protocol: ClientProtocol,
    route: &'static str,
    upload_bytes: u64,
    pace: LoadRate,
    connections: usize,
}

/// Downloads of 1 KiB in a closed loop.
const SMALL: Workload = Workload {
    name: "saturated",
    about: "1 KiB objects, 64 connections, closed loop",
    protocol: ClientProtocol::Http1,
    route: "small",
    upload_bytes: 0,
    pace: LoadRate::Closed,
    connections: 64,
};

/// All workloads, in the order of the report.
pub(super) const ALL: [Workload; 9] = [
    Workload {
        name: "steady",
        about: "1 KiB objects, open loop at 2,000/s",
        pace: LoadRate::PerSecond(2_000.0),
        ..SMALL
    },
    SMALL,
    Workload { name: "large", about: "64 KiB objects, 64 connections, closed loop", route: "large", ..SMALL },
    Workload {
        name: "upload",
        about: "1 MiB uploads, 16 connections, closed loop",
        route: "sink",
        upload_bytes: 1 << 20,
        connections: 16,
        ..SMALL
    },
    Workload {
        name: "overload",
        about: "1,500/s to an upstream that can do 500/s (10 at a time, 20 ms each)",
        route: CAPPED,
        pace: LoadRate::PerSecond(1_500.0),
        connections: 4_000,
        ..SMALL
    },
    Workload {
        name: "connections",
        about: "1 KiB objects, a connection for each, 32 at a time, closed loop",
        protocol: ClientProtocol::Http1Connections,
        connections: 32,
        ..SMALL
    },
    Workload {
        name: "https",
        about: "1 KiB objects over TLS, 64 kept connections, closed loop",
        protocol: ClientProtocol::Https,
        ..SMALL
    },
    Workload {
        name: "handshakes",
        about: "1 KiB objects over TLS, a connection with a full handshake for each, 32 at a time, closed loop",
        protocol: ClientProtocol::HttpsHandshakes,
        connections: 32,
        ..SMALL
    },
    Workload {
        name: "http2",
        about: "1 KiB objects over HTTP/2, 4 connections with 32 streams each, closed loop",
        protocol: ClientProtocol::Http2 { streams: 32 },
        connections: 4,
        ..SMALL
    },
];

impl Workload {
    pub(super) fn is_overload(&self) -> bool {
        self.route == CAPPED
    }

    /// Offers the load for `seconds` after a short warm-up.
    pub(super) fn measure(
        &self,
        upstreams: &SharedUpstreams,
        peer: &ComparedProxy,
        clients: &TlsClients,
        seconds: f64,
    ) -> Result<Round, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let offer = |seconds: f64| -> Result<Rc<RefCell<Recorder>>, RunError> {
            let recorder = Rc::new(RefCell::new(Recorder::new()));
            let offered = self.offer(peer, clients, seconds, Rc::clone(&recorder));
            LocalSet::new().block_on(&runtime, unless_interrupted(offered))??;
            Ok(recorder)
        };
        offer(WARM_SECONDS)?;
        let upstream = upstreams.upstream(self.route)?;
        upstream.counters.reset();
        let processes = usage::tree(peer.id());
        let window = usage::CpuWindow::begin(usage::tree(std::process::id()));
        let cpu_begin = usage::cpu_seconds(&processes);
        let recorder = offer(seconds)?;
        let cpu_seconds = usage::cpu_seconds(&processes) - cpu_begin;
        let other_cores = window.other_cores();
        let mut all = Statistics::default();
        let recorder = recorder.borrow();
        recorder.summarize("x", &mut all);
        let mut statistics = Statistics::default();
        for (name, value) in all.iter() {
            statistics.set(name.trim_start_matches("x."), value);
        }
        statistics.set("cpu_us", cpu_seconds * 1e6 / recorder.done().max(1) as f64);
        statistics.set("upstream_peak", upstream.counters.peak() as f64);
        statistics.set("rss_mib", usage::rss_mib(&processes));
        let (workload, proxy) = (self.name.to_owned(), peer.name.to_owned());
        Ok(Round { workload, proxy, other_cores, counts: true, statistics })
    }

    async fn offer(
        &self,
        peer: &ComparedProxy,
        clients: &TlsClients,
        seconds: f64,
        recorder: Rc<RefCell<Recorder>>,
    ) -> io::Result<()> {
        let destination = Destination { tls: clients.config(self.protocol), ..peer.address.into() };
        let ClientProtocol::Http2 { streams } = self.protocol else {
            return load::run_load(self.load(peer, destination, seconds), recorder).await;
        };
        let target = format!("https://{NAME}/{}/object", self.route).parse().map_err(io::Error::other)?;
        let (connections, timeout) = (self.connections, REQUEST_TIMEOUT);
        http2_load::run(Http2Load { destination, target, connections, streams, seconds, timeout }, recorder)
            .await
    }

    fn load(&self, peer: &ComparedProxy, destination: Destination, seconds: f64) -> Load {
        let method = if self.upload_bytes > 0 { "PUT" } else { "GET" };
        let path = format!("/{}/object", self.route);
        let mut request =
            Request::new(method, peer.address, &path, self.upload_bytes, BodyCapture::CountBytes);
        let new_connections =
            matches!(self.protocol, ClientProtocol::Http1Connections | ClientProtocol::HttpsHandshakes);
        if new_connections {
            request = request.with_header("connection", "close");
        }
        Load {
            destination,
            requests: request.into(),
            shape: match self.pace {
                LoadRate::PerSecond(rate) => LoadShape::Open(Schedule::constant(rate, seconds)),
                LoadRate::Closed => LoadShape::Seconds(seconds),
            },
            connections: self.connections,
            timeout: REQUEST_TIMEOUT,
            expected: None,
            recovery_allowance: None,
            pause: Duration::ZERO,
            pause_after_refusal: Duration::ZERO,
            hang_up_after: None,
            new_connections,
            checks: Rc::default(),
        }
    }
}
