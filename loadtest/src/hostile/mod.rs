//! Hostile and idle clients during the load of a step: slow readers, slow forms, one-byte chunks, idle connections, and floods of
//! connections, headers and HTTP/2 frames.
//!
//! They run on a separate thread and runtime, so that they share CPU time with the measured load but never its event loop. Each client has
//! a separate address (127.GROUP.0.CLIENT), because the gateway's limits per client count addresses. A connection that the gateway ends is
//! opened again after a pause.

mod attack;
mod frames;
mod response_scan;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::clock;
use crate::container::BrokenConnection;
use crate::destination::Destination;
use crate::statistics::Statistics;

use attack::Attack;
use response_scan::ResponseScan;

/// Maximum of recorded broken connections per group, which are matched with the gateway's log.
const BROKEN_MAX: usize = 10_000;

/// One group of hostile clients in a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostileSpec {
    /// The third part of the names of its statistics, after the step and `hostile`.
    pub(crate) name: String,
    /// The bucket that is attacked.
    pub(crate) bucket: String,
    /// Number of clients, each with a separate address.
    pub(crate) clients: u8,
    /// Connections of each client.
    #[serde(default = "one")]
    pub(crate) connections: usize,
    /// Pause between the end of a connection and its next start, in seconds.
    #[serde(default = "one_second")]
    pub(crate) pause_seconds: f64,
    /// Time between the starts of two connections of one client, in seconds.
    #[serde(default)]
    pub(crate) stagger_seconds: f64,
    /// The attack.
    pub(crate) attack: Attack,
}

fn one() -> usize {
    1
}

fn one_second() -> f64 {
    1.0
}

/// Counts of a group.
#[derive(Debug, Default, Clone)]
pub(crate) struct AttackCounts {
    opened: u64,
    not_opened: u64,
    ended: u64,
    sent_bytes: u64,
    received_bytes: u64,
    /// Answers other than 2xx, and those of them without a reason. HTTP/1.1 only.
    refused: u64,
    without_reason: u64,
    /// Connections that ended before their answer was complete. HTTP/1.1 only, at most `BROKEN_MAX`.
    broken: Vec<(Instant, IpAddr)>,
}

/// Address and TLS of the attacked gateway.
pub(crate) struct AttackTarget {
    pub(crate) address: SocketAddr,
    /// TLS for HTTP/1.1 and for HTTP/2; none if the gateway has no TLS.
    pub(crate) tls: Option<[Arc<ClientConfig>; 2]>,
}

/// The running groups of a step. The drop ends them.
pub(crate) struct HostileClients {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Vec<AttackCounts>>>,
    names: Vec<String>,
}

impl HostileClients {
    /// Starts all groups; none if the step has none.
    pub(crate) fn start(groups: &[HostileSpec], target: AttackTarget) -> io::Result<Option<Self>> {
        if groups.is_empty() {
            return Ok(None);
        }
        let names = groups.iter().map(|group| group.name.clone()).collect();
        let (stop, stopped) = oneshot::channel();
        let groups = groups.to_vec();
        let thread = std::thread::Builder::new().name("hostile".to_owned());
        let thread = thread.spawn(move || run(&groups, &target, stopped))?;
        Ok(Some(Self { stop, thread, names }))
    }

    /// Ends all connections, writes the counts as `PREFIX.hostile.NAME.…`, and returns the broken connections.
    pub(crate) fn finish(self, prefix: &str, into: &mut Statistics) -> io::Result<Vec<BrokenConnection>> {
        drop(self.stop);
        let counts = self.thread.join().map_err(|_| io::Error::other("the hostile clients panicked"))??;
        let mut broken = Vec::new();
        for (name, counts) in self.names.iter().zip(counts) {
            let AttackCounts { opened, not_opened, ended, sent_bytes, received_bytes, .. } = counts;
            let all = [
                ("opened", opened),
                ("not_opened", not_opened),
                ("ended", ended),
                ("sent_bytes", sent_bytes),
                ("received_bytes", received_bytes),
                ("refused", counts.refused),
                ("without_reason", counts.without_reason),
                ("broken", counts.broken.len() as u64),
            ];
            for (what, count) in all {
                into.set(format!("{prefix}.hostile.{name}.{what}"), count as f64);
            }
            let here = |(at, client)| BrokenConnection { step: prefix.to_owned(), at, client };
            broken.extend(counts.broken.into_iter().map(here));
        }
        Ok(broken)
    }
}

fn run(
    groups: &[HostileSpec],
    target: &AttackTarget,
    stopped: oneshot::Receiver<()>,
) -> io::Result<Vec<AttackCounts>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counts: Vec<Rc<RefCell<AttackCounts>>> = groups.iter().map(|_| Rc::default()).collect();
    let clients = LocalSet::new();
    for ((group, counts), number) in groups.iter().zip(&counts).zip(10..) {
        for client in 1..=group.clients {
            let destination = group.destination(target, Ipv4Addr::new(127, number, 0, client));
            for connection in 0..group.connections {
                let stagger = Duration::from_secs_f64(group.stagger_seconds * connection as f64);
                let (group, destination) = (group.clone(), destination.clone());
                let counts = Rc::clone(counts);
                clients.spawn_local(async move {
                    tokio::time::sleep(stagger).await;
                    group.repeat_attack(&destination, &counts).await;
                });
            }
        }
    }
    // The drop of the sender ends the step, so an error is expected.
    let _ = clients.block_on(&runtime, stopped);
    drop(clients);
    Ok(counts.iter().map(|counts| counts.borrow().clone()).collect())
}

impl AttackCounts {
    /// Counts the answer on an ended connection.
    fn count_response(&mut self, answer: &ResponseScan, client: Option<IpAddr>) {
        self.refused += u64::from(answer.is_refusal());
        self.without_reason += u64::from(answer.is_refusal() && !answer.has_reason());
        if let Some(client) = client.filter(|_| answer.is_broken() && self.broken.len() < BROKEN_MAX) {
            self.broken.push((clock::now(), client));
        }
    }
}

impl HostileSpec {
    fn destination(&self, target: &AttackTarget, source: Ipv4Addr) -> Destination {
        let [http1, http2] = target.tls.clone().map_or([None, None], |both| both.map(Some));
        let tls = if self.attack.is_http2() { http2 } else { http1 };
        let receive_buffer_bytes = match self.attack {
            Attack::SlowReader { receive_buffer_bytes, .. } => Some(receive_buffer_bytes),
            _ => None,
        };
        Destination { address: target.address, source: Some(IpAddr::V4(source)), tls, receive_buffer_bytes }
    }

    async fn repeat_attack(&self, destination: &Destination, counts: &RefCell<AttackCounts>) {
        loop {
            match destination.connect().await {
                Ok(wire) => {
                    counts.borrow_mut().opened += 1;
                    let script = self.attack.script(&self.bucket, destination.address);
                    let answer = attack::play(wire, script, counts).await;
                    counts.borrow_mut().count_response(&answer, destination.source);
                    counts.borrow_mut().ended += 1;
                }
                Err(_) => counts.borrow_mut().not_opened += 1,
            }
            tokio::time::sleep(Duration::from_secs_f64(self.pause_seconds)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn group(text: &str) -> HostileSpec {
        let common = "name = 'x'\nbucket = 'b'\nclients = 2\nconnections = 2\npause_seconds = 0.01\n";
        toml::from_str(&format!("{common}attack = {{ {text} }}")).unwrap()
    }

    /// Runs a group until its first bytes. Returns the clients' addresses, those bytes and the statistics.
    async fn seen(text: &str) -> (Vec<IpAddr>, Vec<u8>, Statistics) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = AttackTarget { address: listener.local_addr().unwrap(), tls: None };
        let hostile = HostileClients::start(&[group(text)], target).unwrap().unwrap();
        let (mut sources, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let (mut stream, peer) = listener.accept().await.unwrap();
            sources.push(peer.ip());
            bytes = vec![0; 64 << 10];
            let mut length = 0;
            while length < 100 {
                length += stream.read(&mut bytes[length..]).await.unwrap();
            }
            bytes.truncate(length);
            stream.shutdown().await.unwrap();
        }
        let mut statistics = Statistics::default();
        hostile.finish("s", &mut statistics).unwrap();
        (sources, bytes, statistics)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn clients_have_separate_addresses_and_reconnect_after_a_cut() {
        let (sources, bytes, statistics) = seen("kind = 'slow_form', bytes_per_second = 240").await;
        let both: [IpAddr; 2] = [[127, 10, 0, 1].into(), [127, 10, 0, 2].into()];
        assert!(sources.iter().all(|source| both.contains(source)), "{sources:?}");
        assert!(both.iter().all(|source| sources.contains(source)), "{sources:?}");
        assert!(bytes.starts_with(b"POST /b HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&bytes));
        assert!(statistics.value("s.hostile.x.opened").unwrap() >= 6.0);
        assert!(statistics.value("s.hostile.x.sent_bytes").unwrap() >= 600.0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_are_http_2() {
        let (_, bytes, _) = seen("kind = 'http2_rapid_reset', per_second = 1000").await;
        let rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        // SETTINGS with one setting on stream 0
        assert_eq!(rest[..9], [0, 0, 6, 4, 0, 0, 0, 0, 0]);
    }
}
