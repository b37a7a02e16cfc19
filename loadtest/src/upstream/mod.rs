//! The upstreams of a scenario: small servers in this process, each with one behaviour.
//!
//! They share a separate thread, so that serving does not delay the load. They can be killed and restored on the same port. The port is
//! below the range of ephemeral ports, so that no other connection can occupy it meanwhile. They do not implement S3, because the tested
//! properties do not depend on stored objects.

mod behaviour;
mod server;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

pub(crate) use behaviour::Behaviour;
use server::Server;

use crate::clock;
use crate::port::ReservedPort;

/// Counters of one upstream.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounters {
    requests: AtomicU64,
    active: AtomicU64,
    peak: AtomicU64,
    rate: Mutex<RequestRate>,
}

/// Number of tenths of a second over which a rate is measured.
const TENTHS: usize = 10;

/// Requests in each of the last ten tenths of a second, and the maximum of their sum.
#[derive(Debug, Default)]
struct RequestRate {
    origin: Option<Instant>,
    newest: u128,
    tenths: [u64; TENTHS],
    peak: u64,
}

impl RequestRate {
    fn count(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let tenth = now.saturating_duration_since(origin).as_millis() / 100;
        for passed in (self.newest + 1..=tenth).rev().take(TENTHS) {
            self.tenths[(passed % TENTHS as u128) as usize] = 0;
        }
        self.newest = tenth;
        self.tenths[(tenth % TENTHS as u128) as usize] += 1;
        self.peak = self.peak.max(self.tenths.iter().sum());
    }
}

impl UpstreamCounters {
    fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let active = self.active.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(active, Ordering::Relaxed);
        self.rate().count(clock::now());
        ActiveRequest(Arc::clone(self))
    }

    /// Requests since the last reset.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Maximum of concurrent requests since the last reset.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Maximum of requests in any second since the last reset.
    pub(crate) fn peak_per_second(&self) -> u64 {
        self.rate().peak
    }

    fn rate(&self) -> MutexGuard<'_, RequestRate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets the counters.
    pub(crate) fn reset(&self) {
        *self.rate() = RequestRate::default();
        self.requests.store(0, Ordering::Relaxed);
        self.peak.store(self.active.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A request in progress at the upstream. Its drop ends it.
struct ActiveRequest(Arc<UpstreamCounters>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Command {
    Kill(usize),
    Restore(usize),
    Freeze(usize, bool),
    Stop,
}

struct CommandRequest {
    command: Command,
    done: oneshot::Sender<io::Result<()>>,
}

/// Handle of one upstream.
pub(crate) struct Upstream {
    index: usize,
    /// Its address, also for an upstream that does not listen.
    pub(crate) address: SocketAddr,
    /// Its counters.
    pub(crate) counters: Arc<UpstreamCounters>,
}

/// All upstreams of a run, by name. The drop stops them.
pub(crate) struct Upstreams {
    by_name: BTreeMap<String, Upstream>,
    commands: mpsc::Sender<CommandRequest>,
    thread: Option<JoinHandle<()>>,
}

impl Upstreams {
    /// Starts all upstreams.
    pub(crate) fn start(behaviours: &[(String, Behaviour)]) -> io::Result<Self> {
        let mut by_name = BTreeMap::new();
        let mut servers = Vec::new();
        for (index, (name, behaviour)) in behaviours.iter().enumerate() {
            let port = ReservedPort::reserve()?;
            let address = port.address();
            let counters = Arc::new(UpstreamCounters::default());
            servers.push(Server::new(port, behaviour.clone(), Arc::clone(&counters)));
            by_name.insert(name.clone(), Upstream { index, address, counters });
        }
        let (commands, receiver) = mpsc::channel(16);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("upstreams".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, serve(servers, receiver, ready));
        })?;
        let upstreams = Self { by_name, commands, thread: Some(thread) };
        is_ready.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(upstreams)
    }

    /// The upstream called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Upstream> {
        self.by_name.get(name)
    }

    /// All upstreams.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Upstream)> {
        self.by_name.iter().map(|(name, upstream)| (name.as_str(), upstream))
    }

    /// Closes its listener and all connections, as the end of a process does.
    pub(crate) async fn kill(&self, upstream: &Upstream) -> io::Result<()> {
        self.order(Command::Kill(upstream.index)).await
    }

    /// Listens again on the same port.
    pub(crate) async fn restore(&self, upstream: &Upstream) -> io::Result<()> {
        self.order(Command::Restore(upstream.index)).await
    }

    /// Freezes or unfreezes it.
    pub(crate) async fn freeze(&self, upstream: &Upstream, frozen: bool) -> io::Result<()> {
        self.order(Command::Freeze(upstream.index, frozen)).await
    }

    async fn order(&self, command: Command) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.commands.send(CommandRequest { command, done }).await.map_err(|_| ended())?;
        is_done.await.map_err(|_| ended())?
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        // The drop of the sender ends the thread too, so a full channel is no problem.
        let _ = self.commands.try_send(CommandRequest { command: Command::Stop, done });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    mut servers: Vec<Server>,
    mut receiver: mpsc::Receiver<CommandRequest>,
    ready: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let started = servers.iter_mut().try_for_each(Server::listen);
    if ready.send(started).is_err() {
        return;
    }
    while let Some(CommandRequest { command, done }) = receiver.recv().await {
        let result = match command {
            Command::Kill(index) => {
                servers[index].close().await;
                Ok(())
            }
            Command::Restore(index) => servers[index].listen(),
            Command::Freeze(index, frozen) => {
                servers[index].freeze(frozen);
                Ok(())
            }
            Command::Stop => return,
        };
        // An error means that the run was cancelled.
        let _ = done.send(result);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_peak_is_that_of_the_busiest_second() {
        let t0 = clock::now();
        let mut rate = RequestRate::default();
        for at_ms in [0, 500, 950, 1000, 1040, 5000, 5900, 6050] {
            rate.count(t0 + Duration::from_millis(at_ms));
        }
        assert_eq!(rate.peak, 4, "500 to 1040 ms");
    }
}
