//! The addresses of an upstream's name (P8): looked up again when they have aged, all of them used in turn.
//!
//! `Cached` decides, `Name` looks up. One look-up of a name runs at a time, whoever waits for it, and it runs to its end
//! even if they leave. Whoever holds an answer that has aged waits for the new one a moment only: a resolver that hangs must
//! not cost a connection its time while addresses are known. One that fails leaves the last answer in use and is left alone
//! for a while. Without any answer there is nothing to fall back on, and each connection asks afresh.
//!
//! Only names of the configuration are looked up, so the table is bounded by it. Deliberately absent: the record's own time
//! to live, which the system's resolver does not tell.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tidegate_actors::clock;
use tidegate_config::DnsConfig;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::shortage::Shortage;

/// How long somebody waits for a new answer who has an old one.
const STALE_WAIT_MAX: Duration = Duration::from_millis(250);
/// How long a resolver that failed is left alone while an old answer is there.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Finds the addresses of a host.
pub(crate) type DnsLookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// What is known of a name.
#[derive(Debug, Default)]
struct DnsCacheEntry {
    addresses: Vec<IpAddr>,
    /// When to look up again; none before the first answer.
    due: Option<Instant>,
    is_resolving: bool,
    next_index: usize,
}

/// What to do about a name now.
#[derive(Debug, PartialEq, Eq)]
enum CachePlan {
    /// These addresses, in this order.
    Use(Vec<IpAddr>),
    /// A look-up is due; `start` says that nobody has begun it.
    Await { start: bool, has_stale: bool },
}

impl DnsCacheEntry {
    fn plan(&mut self, now: Instant) -> CachePlan {
        if self.due.is_some_and(|due| now < due) {
            return CachePlan::Use(self.rotated());
        }
        let start = !self.is_resolving;
        self.is_resolving = true;
        CachePlan::Await { start, has_stale: !self.addresses.is_empty() }
    }

    /// All addresses, from the next one on.
    fn rotated(&mut self) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        if !addresses.is_empty() {
            addresses.rotate_left(self.next_index % self.addresses.len());
            self.next_index = self.next_index.wrapping_add(1);
        }
        addresses
    }

    fn store(&mut self, mut addresses: Vec<IpAddr>, ttl: Duration, now: Instant) {
        addresses.sort_unstable();
        addresses.dedup();
        self.addresses = addresses;
        self.due = Some(now + ttl);
        self.is_resolving = false;
    }

    fn store_failure(&mut self, now: Instant) {
        self.due = (!self.addresses.is_empty()).then(|| now + FAILURE_PAUSE);
        self.is_resolving = false;
    }
}

/// Why a look-up found nothing.
#[derive(Debug, Clone)]
enum DnsError {
    /// The gateway had too little of something to look it up with.
    Shortage(Shortage),
    Other(String),
}

impl From<io::Error> for DnsError {
    fn from(error: io::Error) -> Self {
        Shortage::of(&error).map_or_else(|| Self::Other(error.to_string()), Self::Shortage)
    }
}

/// A host, by name or by address.
pub(crate) struct HostResolver {
    host: String,
    ttl: Duration,
    timeout: Duration,
    lookup: DnsLookup,
    cache: Mutex<DnsCacheEntry>,
    /// How the last look-up went; changes with each.
    last_result: watch::Sender<Result<(), DnsError>>,
}

impl HostResolver {
    pub(crate) fn new(host: &str, config: &DnsConfig, lookup: DnsLookup) -> Arc<Self> {
        Arc::new(Self {
            host: host.to_owned(),
            ttl: config.ttl,
            timeout: config.timeout,
            lookup,
            cache: Mutex::default(),
            last_result: watch::Sender::new(Ok(())),
        })
    }

    /// Every address, those first whose turn it is.
    pub(crate) async fn addresses(self: &Arc<Self>, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut news = self.last_result.subscribe();
        let addresses = match self.with_cache(|cached| cached.plan(clock::now())) {
            CachePlan::Use(addresses) => addresses,
            CachePlan::Await { start, has_stale } => {
                if start {
                    tokio::spawn(Arc::clone(self).resolve());
                }
                let wait_max = if has_stale { STALE_WAIT_MAX } else { self.timeout };
                let is_resolved = timeout(wait_max, news.changed()).await.is_ok();
                let addresses = self.with_cache(DnsCacheEntry::rotated);
                if addresses.is_empty() {
                    return Err(self.failure(is_resolved));
                }
                addresses
            }
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    fn failure(&self, heard: bool) -> io::Error {
        let why = match (&*self.last_result.borrow(), heard) {
            (Err(DnsError::Shortage(shortage)), true) => return (*shortage).into(),
            (Err(DnsError::Other(why)), true) => why.clone(),
            _ => format!("no answer within {:?}", self.timeout),
        };
        io::Error::new(io::ErrorKind::NotFound, format!("no address for `{}`: {why}", self.host))
    }

    async fn resolve(self: Arc<Self>) {
        let found = timeout(self.timeout, (self.lookup)(self.host.clone())).await;
        let result = match found {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(DnsError::Other("it has none".to_owned())),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DnsError::Other(format!("no answer within {:?}", self.timeout))),
        };
        let now = clock::now();
        let news = result.map(|addresses| self.with_cache(|cached| cached.store(addresses, self.ttl, now)));
        if news.is_err() {
            self.with_cache(|cached| cached.store_failure(now));
        }
        self.last_result.send_modify(|last| *last = news);
    }

    fn with_cache<T>(&self, act: impl FnOnce(&mut DnsCacheEntry) -> T) -> T {
        act(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
