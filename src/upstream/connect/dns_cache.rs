//! DNS cache of one upstream name (P8). Expired answers are looked up again, and all addresses are used in turn.
//!
//! `DnsCacheEntry` decides, `HostResolver` resolves. One lookup of a name runs at a time for all waiting connections,
//! and it completes even if they are gone. With an expired answer, a connection waits only a moment for the new one:
//! a resolver that hangs must not delay connections while addresses are known. After a failed lookup the last answer
//! stays in use, and the next lookup waits. Without any answer each connection starts a lookup.
//!
//! Only configured names are resolved, so the number of entries is bounded. The TTL of the DNS record is not used:
//! the system resolver does not return it.
//!
//! Design: `docs/design/connections.md`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use thiserror::Error;
use tidegate_actors::clock;
use tidegate_config::DnsConfig;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::shortage::Shortage;

/// How long a connection with an expired answer waits for the new one.
const STALE_WAIT_MAX: Duration = Duration::from_millis(250);
/// The pause after a failed lookup while an old answer is in use.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Resolves the addresses of a host.
pub(crate) type DnsLookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The cached answer of a name.
#[derive(Debug, Default)]
struct DnsCacheEntry {
    addresses: Vec<IpAddr>,
    /// When to look up again. None before the first answer.
    due: Option<Instant>,
    is_resolving: bool,
    next_index: usize,
    /// The first failed lookup since the last answer.
    failing_since: Option<Instant>,
    /// Failed lookups since the last answer.
    failures: u32,
    /// When the last answer arrived.
    answered: Option<Instant>,
    /// Connections that used an answer after a failed lookup.
    stale_uses: u64,
}

/// A name that cannot be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailingLookup {
    pub(crate) host: String,
    /// When the last answer arrived, which is used; none if there is no answer.
    pub(crate) answered: Option<Instant>,
    /// How long an answer is cached.
    pub(crate) ttl: Duration,
    /// The first failed lookup.
    pub(crate) since: Instant,
    /// Failed lookups since then.
    pub(crate) failures: u32,
    pub(crate) error: String,
}

/// What to do for a connection now.
#[derive(Debug, PartialEq, Eq)]
enum CachePlan {
    /// Use these addresses, in this order.
    Use(Vec<IpAddr>),
    /// Wait for a lookup. `start` is set if none is running.
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

    /// All addresses, starting with the next one.
    fn rotated(&mut self) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        self.stale_uses += u64::from(self.failing_since.is_some() && !addresses.is_empty());
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
        self.answered = Some(now);
        self.failing_since = None;
        self.failures = 0;
        self.is_resolving = false;
    }

    fn store_failure(&mut self, now: Instant) {
        self.due = (!self.addresses.is_empty()).then(|| now + FAILURE_PAUSE);
        self.failing_since = Some(self.failing_since.unwrap_or(now));
        self.failures = self.failures.saturating_add(1);
        self.is_resolving = false;
    }
}

/// Why a lookup failed.
#[derive(Debug, Clone)]
enum DnsError {
    /// The gateway lacked descriptors or memory for the lookup.
    Shortage(Shortage),
    Other(String),
}

impl From<io::Error> for DnsError {
    fn from(error: io::Error) -> Self {
        Shortage::of(&error).map_or_else(|| Self::Other(error.to_string()), Self::Shortage)
    }
}

/// A name has no address, so no connection can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no address for `{host}`: {why}")]
pub(crate) struct NoAddress {
    host: String,
    why: String,
}

impl NoAddress {
    /// The cause of a failed connection, if it is this one.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Resolves one host, which is a name or an address.
pub(crate) struct HostResolver {
    host: String,
    ttl: Duration,
    timeout: Duration,
    lookup: DnsLookup,
    cache: Mutex<DnsCacheEntry>,
    /// The result of the last lookup. Notifies after each lookup.
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

    /// All addresses, in rotated order.
    pub(crate) async fn addresses(self: &Arc<Self>, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut result_changes = self.last_result.subscribe();
        let addresses = match self.with_cache(|cached| cached.plan(clock::now())) {
            CachePlan::Use(addresses) => addresses,
            CachePlan::Await { start, has_stale } => {
                if start {
                    tokio::spawn(Arc::clone(self).resolve());
                }
                let wait_max = if has_stale { STALE_WAIT_MAX } else { self.timeout };
                let is_resolved = timeout(wait_max, result_changes.changed()).await.is_ok();
                let addresses = self.with_cache(DnsCacheEntry::rotated);
                if addresses.is_empty() {
                    return Err(self.failure(is_resolved));
                }
                addresses
            }
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    /// Why the name cannot be looked up, if it cannot.
    pub(crate) fn failing_lookup(&self) -> Option<FailingLookup> {
        let (since, failures, answered) =
            self.with_cache(|cached| (cached.failing_since, cached.failures, cached.answered));
        let error = match &*self.last_result.borrow() {
            Ok(()) => String::new(),
            Err(DnsError::Shortage(shortage)) => shortage.to_string(),
            Err(DnsError::Other(why)) => why.clone(),
        };
        let (host, ttl) = (self.host.clone(), self.ttl);
        since.map(|since| FailingLookup { host, answered, ttl, since, failures, error })
    }

    /// The number of connections that used an answer after a failed lookup.
    pub(crate) fn stale_uses(&self) -> u64 {
        self.with_cache(|cached| cached.stale_uses)
    }

    fn failure(&self, is_resolved: bool) -> io::Error {
        let why = match (&*self.last_result.borrow(), is_resolved) {
            (Err(DnsError::Shortage(shortage)), true) => return (*shortage).into(),
            (Err(DnsError::Other(why)), true) => why.clone(),
            _ => format!("no answer within {:?}", self.timeout),
        };
        io::Error::new(io::ErrorKind::NotFound, NoAddress { host: self.host.clone(), why })
    }

    async fn resolve(self: Arc<Self>) {
        let lookup_result = timeout(self.timeout, (self.lookup)(self.host.clone())).await;
        let result = match lookup_result {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                Err(DnsError::Other("it has no addresses".to_owned()))
            }
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DnsError::Other(format!("no answer within {:?}", self.timeout))),
        };
        let now = clock::now();
        let stored = result.map(|addresses| self.with_cache(|cached| cached.store(addresses, self.ttl, now)));
        if stored.is_err() {
            self.with_cache(|cached| cached.store_failure(now));
        }
        self.last_result.send_modify(|last| *last = stored);
    }

    fn with_cache<T>(&self, act: impl FnOnce(&mut DnsCacheEntry) -> T) -> T {
        act(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[path = "dns_cache_tests.rs"]
mod tests;
