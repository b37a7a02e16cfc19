//! Local ports of connections to upstreams, by destination.
//!
//! A connection has a local port of its own among all connections to the same address and port. If the gateway closes it first, the kernel
//! keeps the port for another minute (TIME_WAIT, RFC 9293 3.6; `TCP_TIMEWAIT_LEN` of Linux). So the gateway can run out of ports for
//! a destination with few connections open. The ports belong to the network namespace of the process, so the table is global.
//! The dialer counts a port for each attempt to connect; the monitor reads the busiest destination.
//!
//! Fixed memory: at most `DESTINATIONS_MAX` addresses. Further ones are not counted until another address has no port left.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// Addresses that are counted at the same time.
const DESTINATIONS_MAX: usize = 256;
/// The time for which the kernel keeps a port after the gateway closed its connection.
pub(crate) const TIME_WAIT: Duration = Duration::from_secs(60);
/// One more than the seconds of `TIME_WAIT`: the present second is not over.
const SECONDS: usize = 61;

static PORTS: Mutex<PortCounts> = Mutex::new(PortCounts::new());

fn ports() -> MutexGuard<'static, PortCounts> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The local port of one connection. Dropping it releases the port.
#[derive(Debug)]
pub struct LocalPort {
    /// None if the table has no place for its destination.
    destination: Option<SocketAddr>,
    in_time_wait: bool,
}

impl LocalPort {
    /// Counts a port for a connection to this address.
    pub fn open(destination: SocketAddr) -> Self {
        let is_counted = ports().open(destination, clock::now());
        Self { destination: is_counted.then_some(destination), in_time_wait: false }
    }

    /// The gateway closes the connection first: the kernel keeps the port for `TIME_WAIT` after the drop.
    pub fn keep_in_time_wait(&mut self) {
        self.in_time_wait = true;
    }
}

impl Drop for LocalPort {
    fn drop(&mut self) {
        if let Some(destination) = self.destination {
            ports().close(destination, self.in_time_wait, clock::now());
        }
    }
}

/// The destination with the most local ports, and their number. Ports of closed connections count for `kept`, at most `TIME_WAIT`.
pub(crate) fn busiest(kept: impl Fn(SocketAddr) -> Duration, now: Instant) -> Option<(SocketAddr, u64)> {
    ports().busiest(kept, now)
}

/// The counts of all destinations.
#[derive(Debug)]
struct PortCounts {
    destinations: Vec<Destination>,
    /// The start of the first second.
    origin: Option<Instant>,
}

/// The ports for one destination.
#[derive(Debug)]
struct Destination {
    address: SocketAddr,
    open: u32,
    /// Connections that the gateway closed first, by the second modulo `SECONDS`.
    closed: [u32; SECONDS],
    /// The second up to which `closed` is current.
    second: u64,
}

impl PortCounts {
    const fn new() -> Self {
        Self { destinations: Vec::new(), origin: None }
    }

    fn second(&mut self, now: Instant) -> u64 {
        now.saturating_duration_since(*self.origin.get_or_insert(now)).as_secs()
    }

    /// Counts a port. False if there is no place for the address.
    fn open(&mut self, address: SocketAddr, now: Instant) -> bool {
        let second = self.second(now);
        let has_place = self.destinations.len() < DESTINATIONS_MAX;
        let known = self.destinations.iter().position(|each| each.address == address);
        let at = known.or_else(|| {
            let is_unused = |each: &mut Destination| {
                each.advance(second);
                each.open == 0 && each.closed == [0; SECONDS]
            };
            if has_place {
                self.destinations.push(Destination::new(address, second));
                return Some(self.destinations.len() - 1);
            }
            let unused = self.destinations.iter_mut().position(is_unused)?;
            self.destinations[unused] = Destination::new(address, second);
            Some(unused)
        });
        let Some(destination) = at.and_then(|at| self.destinations.get_mut(at)) else { return false };
        destination.open = destination.open.saturating_add(1);
        true
    }

    fn close(&mut self, address: SocketAddr, in_time_wait: bool, now: Instant) {
        let second = self.second(now);
        let Some(destination) = self.destinations.iter_mut().find(|each| each.address == address) else {
            return;
        };
        destination.open = destination.open.saturating_sub(1);
        if in_time_wait {
            destination.advance(second);
            let slot = &mut destination.closed[slot_of(destination.second)];
            *slot = slot.saturating_add(1);
        }
    }

    fn busiest(&mut self, kept: impl Fn(SocketAddr) -> Duration, now: Instant) -> Option<(SocketAddr, u64)> {
        let second = self.second(now);
        let counts = self.destinations.iter_mut().map(|each| {
            each.advance(second);
            (each.address, each.ports(kept(each.address)))
        });
        counts.max_by_key(|(_, ports)| *ports).filter(|(_, ports)| *ports > 0)
    }
}

/// The slot of a second in `Destination::closed`.
fn slot_of(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

impl Destination {
    fn new(address: SocketAddr, second: u64) -> Self {
        Self { address, open: 0, closed: [0; SECONDS], second }
    }

    /// Drops the counts of seconds that are too old.
    fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second).min(SECONDS as u64);
        for step in 1..=passed {
            self.closed[slot_of(self.second + step)] = 0;
        }
        self.second = self.second.max(second);
    }

    /// Open ports, and those closed in the last `kept`.
    fn ports(&self, kept: Duration) -> u64 {
        let seconds = kept.min(TIME_WAIT).as_secs().saturating_add(1);
        let ages = (0..seconds).map_while(|age| self.second.checked_sub(age));
        let closed = ages.map(|second| u64::from(self.closed[slot_of(second)])).sum::<u64>();
        closed.saturating_add(self.open.into())
    }
}

#[cfg(test)]
#[path = "ephemeral_ports_tests.rs"]
mod tests;
