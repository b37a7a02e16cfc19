//! Addresses of rejected connections on the admin listener, for one log line of each address and minute.
//!
//! A client without a token could otherwise fill the log. The table has a fixed maximum; when it is full, the entry that ends first is
//! dropped. IPv6 clients count by their /64.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tidegate_actors::IpKey;

const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES_MAX: usize = 256;

/// The table: the end of each address's minute.
#[derive(Debug, Default)]
pub(crate) struct RejectedAddresses(HashMap<IpKey, Instant>);

impl RejectedAddresses {
    /// Whether this is the first rejected connection of the address within its minute.
    pub(crate) fn is_first(&mut self, address: IpAddr, now: Instant) -> bool {
        let key = IpKey::from(address);
        if self.0.get(&key).is_some_and(|end| *end > now) {
            return false;
        }
        if !self.0.contains_key(&key) && self.0.len() >= ADDRESSES_MAX {
            self.make_room(now);
        }
        self.0.insert(key, now + WINDOW);
        true
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, end| *end > now);
        if self.0.len() >= ADDRESSES_MAX {
            let first = self.0.iter().min_by_key(|(_, end)| **end).map(|(key, _)| *key);
            if let Some(key) = first {
                self.0.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_actors::clock;

    use super::*;

    /// X3: an address is first once a minute; an IPv6 network counts as one address, and the table keeps its maximum
    #[test]
    fn an_address_is_first_once_a_minute() {
        let (mut addresses, start) = (RejectedAddresses::default(), clock::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(addresses.is_first(one, at(0)) && addresses.is_first(other, at(30)));
        assert!(!addresses.is_first(one, at(59)) && !addresses.is_first(other, at(89)));
        assert!(addresses.is_first(one, at(60)) && !addresses.is_first(one, at(119)));
        let v6 = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        assert!(addresses.is_first(v6(0, 1), at(200)) && !addresses.is_first(v6(0, 2), at(201)));
        for network in 1..2000 {
            assert!(addresses.is_first(v6(network, 1), at(202)));
        }
        assert_eq!(addresses.0.len(), ADDRESSES_MAX);
        assert!(addresses.is_first(v6(0, 1), at(203)), "the entry that ended first was dropped");
    }
}
