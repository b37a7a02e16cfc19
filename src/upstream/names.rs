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
const STALE_PATIENCE: Duration = Duration::from_millis(250);
/// How long a resolver that failed is left alone while an old answer is there.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Finds the addresses of a host.
pub(crate) type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// What is known of a name.
#[derive(Debug, Default)]
struct Cached {
    addresses: Vec<IpAddr>,
    /// When to look up again; none before the first answer.
    due: Option<Instant>,
    looking: bool,
    turn: usize,
}

/// What to do about a name now.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// These addresses, in this order.
    Use(Vec<IpAddr>),
    /// A look-up is due; `start` says that nobody has begun it.
    Await { start: bool, has_stale: bool },
}

impl Cached {
    fn plan(&mut self, now: Instant) -> Plan {
        if self.due.is_some_and(|due| now < due) {
            return Plan::Use(self.in_turn());
        }
        let start = !self.looking;
        self.looking = true;
        Plan::Await { start, has_stale: !self.addresses.is_empty() }
    }

    /// All addresses, from the next one on.
    fn in_turn(&mut self) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        if !addresses.is_empty() {
            addresses.rotate_left(self.turn % self.addresses.len());
            self.turn = self.turn.wrapping_add(1);
        }
        addresses
    }

    fn found(&mut self, mut addresses: Vec<IpAddr>, ttl: Duration, now: Instant) {
        addresses.sort_unstable();
        addresses.dedup();
        self.addresses = addresses;
        self.due = Some(now + ttl);
        self.looking = false;
    }

    fn failed(&mut self, now: Instant) {
        self.due = (!self.addresses.is_empty()).then(|| now + FAILURE_PAUSE);
        self.looking = false;
    }
}

/// Why a look-up found nothing.
#[derive(Debug, Clone)]
enum LookUpError {
    /// The gateway had too little of something to look it up with.
    Shortage(Shortage),
    Other(String),
}

impl From<io::Error> for LookUpError {
    fn from(error: io::Error) -> Self {
        Shortage::of(&error).map_or_else(|| Self::Other(error.to_string()), Self::Shortage)
    }
}

/// A host, by name or by address.
pub(crate) struct Name {
    host: String,
    ttl: Duration,
    timeout: Duration,
    look_up: LookUp,
    cached: Mutex<Cached>,
    /// How the last look-up went; changes with each.
    news: watch::Sender<Result<(), LookUpError>>,
}

impl Name {
    pub(crate) fn new(host: &str, config: &DnsConfig, look_up: LookUp) -> Arc<Self> {
        Arc::new(Self {
            host: host.to_owned(),
            ttl: config.ttl,
            timeout: config.timeout,
            look_up,
            cached: Mutex::default(),
            news: watch::Sender::new(Ok(())),
        })
    }

    /// Every address, those first whose turn it is.
    pub(crate) async fn addresses(self: &Arc<Self>, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut news = self.news.subscribe();
        let addresses = match self.cached(|cached| cached.plan(clock::now())) {
            Plan::Use(addresses) => addresses,
            Plan::Await { start, has_stale } => {
                if start {
                    tokio::spawn(Arc::clone(self).look());
                }
                let patience = if has_stale { STALE_PATIENCE } else { self.timeout };
                let heard = timeout(patience, news.changed()).await.is_ok();
                let addresses = self.cached(Cached::in_turn);
                if addresses.is_empty() {
                    return Err(self.failure(heard));
                }
                addresses
            }
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    fn failure(&self, heard: bool) -> io::Error {
        let why = match (&*self.news.borrow(), heard) {
            (Err(LookUpError::Shortage(shortage)), true) => return (*shortage).into(),
            (Err(LookUpError::Other(why)), true) => why.clone(),
            _ => format!("no answer within {:?}", self.timeout),
        };
        io::Error::new(io::ErrorKind::NotFound, format!("no address for `{}`: {why}", self.host))
    }

    async fn look(self: Arc<Self>) {
        let found = timeout(self.timeout, (self.look_up)(self.host.clone())).await;
        let result = match found {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(LookUpError::Other("it has none".to_owned())),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(LookUpError::Other(format!("no answer within {:?}", self.timeout))),
        };
        let now = clock::now();
        let news = result.map(|addresses| self.cached(|cached| cached.found(addresses, self.ttl, now)));
        if news.is_err() {
            self.cached(|cached| cached.failed(now));
        }
        self.news.send_modify(|last| *last = news);
    }

    fn cached<T>(&self, act: impl FnOnce(&mut Cached) -> T) -> T {
        act(&mut self.cached.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
