//! Wrong tokens of the admin listener, counted by client address.
//!
//! An address that sends more than [`FAILURES_MAX`] wrong tokens within [`WINDOW`] gets 429 for further wrong ones until
//! the window ends. A correct token is always accepted, so an attacker cannot lock out an operator at the same address:
//! tokens are too long to guess, and the limit bounds the cost of attempts in log lines and replies. IPv6 clients count by
//! their /64. The table has a fixed maximum; when it is full, the entry that ends first is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The wrong tokens of one window that get 401.
const FAILURES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES_MAX: usize = 256;

/// What a wrong token leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FailureDecision {
    /// It gets 401.
    Refuse,
    /// It gets 429 with the time until the window ends.
    Limit {
        left: Duration,
        /// Whether it is the first one of the window.
        is_first: bool,
    },
}

/// The wrong tokens of one address.
#[derive(Debug)]
struct Failures {
    count: u32,
    window_end: Instant,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct TokenFailures {
    by_address: HashMap<IpAddr, Failures>,
}

impl TokenFailures {
    /// Counts a wrong token.
    pub(super) fn record(&mut self, address: IpAddr, now: Instant) -> FailureDecision {
        let address = subject(address);
        if !self.by_address.contains_key(&address) && self.by_address.len() >= ADDRESSES_MAX {
            self.make_room(now);
        }
        let new = Failures { count: 0, window_end: now + WINDOW };
        let failures = self.by_address.entry(address).or_insert(new);
        if failures.window_end <= now {
            *failures = Failures { count: 0, window_end: now + WINDOW };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count <= FAILURES_MAX {
            return FailureDecision::Refuse;
        }
        let left = failures.window_end.saturating_duration_since(now);
        FailureDecision::Limit { left, is_first: failures.count == FAILURES_MAX + 1 }
    }

    fn make_room(&mut self, now: Instant) {
        self.by_address.retain(|_, failures| failures.window_end > now);
        if self.by_address.len() >= ADDRESSES_MAX {
            let first = self.by_address.iter().min_by_key(|(_, failures)| failures.window_end);
            if let Some(address) = first.map(|(address, _)| *address) {
                self.by_address.remove(&address);
            }
        }
    }
}

/// The address that is counted: an IPv6 client has a whole /64.
fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// O5: an address is limited from its eleventh wrong token until its window ends; other addresses are not
    #[test]
    fn the_limit_counts_by_address_and_ends() {
        let (mut failures, start) = (TokenFailures::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..10 {
            assert_eq!(failures.record(v4(1), at(second)), FailureDecision::Refuse);
        }
        let limit = |left, is_first| FailureDecision::Limit { left: Duration::from_secs(left), is_first };
        assert_eq!(failures.record(v4(1), at(20)), limit(40, true));
        assert_eq!(failures.record(v4(1), at(59)), limit(1, false));
        assert_eq!(failures.record(v4(2), at(59)), FailureDecision::Refuse);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(failures.record(mapped, at(59)), limit(1, false));
        assert_eq!(failures.record(v4(1), at(60)), FailureDecision::Refuse, "a new window");
    }

    /// O5: the addresses of one IPv6 network count together, and the table keeps its maximum
    #[test]
    fn many_addresses_do_not_grow_the_table() {
        let (mut failures, start) = (TokenFailures::default(), clock::now());
        let v6 = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        for host in 0..10 {
            assert_eq!(failures.record(v6(0, host), start), FailureDecision::Refuse);
        }
        assert!(matches!(failures.record(v6(0, 99), start), FailureDecision::Limit { .. }));
        for network in 1..2000 {
            assert_eq!(
                failures.record(v6(network, 0), start + Duration::from_secs(1)),
                FailureDecision::Refuse
            );
        }
        assert_eq!(failures.by_address.len(), ADDRESSES_MAX);
    }
}
