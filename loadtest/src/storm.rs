//! Crashes the gateway's actors one after another and measures the time until requests succeed again.
//!
//! After each crash a probe with a separate connection requests an object until one succeeds. The measured time is from the crash order to
//! that answer. Failed probes count as lost, like any other request.
//!
//! An actor crashes either on the order itself, and then no request may be lost, or on the next message of a request, and then only that
//! request may be lost. The probe is an ordinary request. An actor that requests do not wait for (the monitor, the breaker while it is
//! closed) delays no probe; its crash is visible in its restarts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::client::{BodyCapture, Connection, Request, RequestFault};
use crate::clock::{self, millis};
use crate::pacer::Pacer;
use crate::statistics::{Statistics, percentile};

const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between probes, so that a gateway that refuses immediately is not loaded with probes only.
const PROBE_INTERVAL: Duration = Duration::from_micros(500);

/// A storm in a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StormSpec {
    /// Names of the actors to crash, in order.
    pub(crate) actors: Vec<String>,
    /// Where in an actor: `decide`, `apply`, `timer`, `started`. The place changes after each round of actors.
    pub(crate) places: Vec<String>,
    /// Number of crashes.
    pub(crate) crashes: u64,
    /// The message on which an actor crashes.
    #[serde(default)]
    pub(crate) victim: CrashTarget,
    /// Pause between the recovery and the next crash.
    pub(crate) pause_ms: u64,
    /// The bucket that is probed.
    pub(crate) bucket: String,
    /// Headers of the probe.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

/// The message on which an actor crashes.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CrashTarget {
    /// The order to crash.
    #[default]
    Order,
    /// The next message.
    Next,
}

impl CrashTarget {
    /// The value of the gateway's parameter.
    fn crash_parameter(self) -> &'static str {
        match self {
            Self::Order => "self",
            Self::Next => "next",
        }
    }
}

/// Results of a storm.
#[derive(Debug, Default)]
pub(crate) struct StormReport {
    ordered: u64,
    refused: u64,
    never: u64,
    probes_lost: u64,
    served_again_ms: Vec<f64>,
}

impl StormReport {
    /// Probes without a 2xx.
    pub(crate) fn probes_lost(&self) -> u64 {
        self.probes_lost
    }

    /// Crashes ordered so far.
    pub(crate) fn ordered(&self) -> u64 {
        self.ordered
    }

    fn count(&mut self, followed: bool, probes_lost: u64, elapsed: Duration) {
        self.ordered += 1;
        self.refused += u64::from(!followed);
        self.probes_lost += probes_lost;
        if elapsed < RECOVERY_TIMEOUT {
            self.served_again_ms.push(millis(elapsed));
        } else {
            self.never += 1;
        }
    }

    /// Writes all statistics as `PREFIX.…`.
    pub(crate) fn summarize(&self, prefix: &str, into: &mut Statistics) {
        into.set(format!("{prefix}.crashes"), (self.ordered - self.refused) as f64);
        into.set(format!("{prefix}.orders_refused"), self.refused as f64);
        into.set(format!("{prefix}.never_served_again"), self.never as f64);
        into.set(format!("{prefix}.probes_lost"), self.probes_lost as f64);
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let value = percentile(&self.served_again_ms, share);
            into.set_if_present(format!("{prefix}.serves_again_{name}_ms"), value);
        }
    }
}

/// A client with one connection, which it replaces if it is not usable.
struct ProbeClient {
    address: SocketAddr,
    connection: Option<Connection>,
}

impl ProbeClient {
    fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    async fn succeeds(&mut self, request: &Request, deadline: Instant) -> bool {
        matches!(self.status(request, deadline).await, Ok(200..=299))
    }

    async fn status(&mut self, request: &Request, deadline: Instant) -> Result<u16, RequestFault> {
        let mut connection =
            match self.connection.take().map(|mut connection| (connection.is_usable(), connection)) {
                Some((true, connection)) => connection,
                _ => Connection::open(&self.address.into()).await?,
            };
        let status = connection.exchange(request, deadline).await?.status;
        self.connection = Some(connection);
        Ok(status)
    }
}

/// Runs the storm to its end and updates `report`.
pub(crate) async fn run(
    spec: &StormSpec,
    gateway: SocketAddr,
    admin: SocketAddr,
    report: &RefCell<StormReport>,
) -> io::Result<()> {
    let (mut crash_client, mut probes, mut pacer) =
        (ProbeClient::new(admin), ProbeClient::new(gateway), Pacer::new()?);
    let base = Request::new("GET", gateway, &format!("/{}/probe", spec.bucket), 0, BodyCapture::CountBytes);
    let probe = spec.headers.iter().fold(base, |request, (name, value)| request.with_header(name, value));
    let victim = spec.victim.crash_parameter();
    let targets = spec.places.iter().flat_map(|place| spec.actors.iter().map(move |actor| (actor, place)));
    let rounds = targets.cycle().take(usize::try_from(spec.crashes).unwrap_or(usize::MAX));
    for (actor, place) in rounds {
        let order = Request::new(
            "POST",
            admin,
            &format!("/actors/{actor}/crash?at={place}&victim={victim}"),
            0,
            BodyCapture::CountBytes,
        );
        let begin = clock::now();
        let deadline = begin + RECOVERY_TIMEOUT;
        let followed = crash_client.succeeds(&order, deadline).await;
        let mut lost = 0;
        while clock::now() < deadline && !probes.succeeds(&probe, deadline).await {
            lost += 1;
            pacer.sleep(PROBE_INTERVAL).await?;
        }
        report.borrow_mut().count(followed, lost, clock::now() - begin);
        pacer.sleep(Duration::from_millis(spec.pause_ms)).await?;
    }
    Ok(())
}
