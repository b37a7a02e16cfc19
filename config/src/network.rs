//! A network of addresses, in CIDR notation: `10.0.0.0/8`, `2001:db8::/32`, or one address by itself.
//!
//! Bits beyond the prefix are refused and not dropped: who writes `10.0.0.7/8` meant either one machine or all of
//! them, and the difference decides who may name other people's addresses. IPv4 written in IPv6
//! (`::ffff:10.0.0.0/104`) is read as IPv4, because that is how addresses are compared.
//! Deliberately absent: ranges (`a–b`), names, and netmasks with dots.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::form::{Fault, Faults, Form, shown};
use crate::setting::Raw;

/// The prefix under which IPv6 holds IPv4.
const MAPPED_BITS: u8 = 96;

/// Addresses that have their first bits in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// what stands before the slash is no address
    #[error("{0} does not begin with an IP address")]
    Address(String),
    /// what stands behind the slash is no prefix length
    #[error("{text} has no prefix length from 0 to {bits_max}")]
    Length {
        /// what was given, in quotes
        text: String,
        /// the bits of such an address
        bits_max: u8,
    },
    /// an address within the network and not the network's own
    #[error("{text} has bits beyond its prefix")]
    HostBits {
        /// what was given, in quotes
        text: String,
        /// the network that it lies in
        within: Network,
    },
}

impl Network {
    /// Reads an address with or without a prefix length.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address(shown(text)))?;
        let bits_max = width(address);
        let bits = match length {
            None => bits_max,
            Some(digits) => {
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let bits = digits.parse().ok().filter(|bits| plain && *bits <= bits_max);
                bits.ok_or_else(|| NetworkError::Length { text: shown(text), bits_max })?
            }
        };
        let within = Self { address: masked(address, bits), bits };
        if within.address != address {
            return Err(NetworkError::HostBits { text: shown(text), within });
        }
        Ok(within.canonical())
    }

    /// Whether the address lies in this network. IPv4 in IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }

    /// Whether it holds every address of its kind.
    pub fn is_everybody(&self) -> bool {
        self.bits == 0
    }

    fn canonical(self) -> Self {
        match self.address.to_canonical() {
            IpAddr::V4(v4) if self.address.is_ipv6() && self.bits >= MAPPED_BITS => {
                Self { address: IpAddr::V4(v4), bits: self.bits - MAPPED_BITS }
            }
            _ => self,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with nothing left behind its first `bits`.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// A network as a key has it.
pub(crate) struct Cidr;

impl Form for Cidr {
    type Value = Network;

    fn parse(&self, raw: &Raw) -> Result<Network, Faults> {
        let parsed = Network::parse(raw.text()?.trim());
        let fault = |error: NetworkError| {
            let hint = match &error {
                NetworkError::HostBits { within, .. } => format!("did you mean {within}?"),
                _ => "such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32".to_owned(),
            };
            Fault::new(error.to_string()).hinting(hint)
        };
        parsed.map_err(|error| fault(error).into())
    }

    fn accepts(&self) -> String {
        "CIDR".to_owned()
    }

    fn show(&self, value: &Network) -> String {
        format!("\"{value}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    /// L3
    #[test]
    fn a_network_holds_what_begins_alike() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("192.0.2.128/25", "192.0.2.129") && !holds("192.0.2.128/25", "192.0.2.127"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1") && !holds("2001:db8::/33", "2001:db8:8000::1"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && holds("::/0", "2001:db8::1"));
    }

    /// L3: no address of one kind lies in a network of the other, but IPv4 in IPv6 is IPv4
    #[test]
    fn the_two_kinds_of_address_stay_apart() {
        assert!(!holds("0.0.0.0/0", "::1") && !holds("::/0", "127.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3") && holds("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!holds("::/0", "::ffff:10.1.2.3"));
    }

    #[test]
    fn what_is_no_network_says_why() {
        for text in ["", "x", "10.0.0/8", "/8", "10.0.0.0.0/8", "::g/8", "[::1]/128", "fe80::1%eth0"] {
            assert!(matches!(Network::parse(text), Err(NetworkError::Address(_))), "{text}");
        }
        for text in
            ["10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "10.0.0.0/8/8", "::/ 8"]
        {
            assert!(matches!(Network::parse(text), Err(NetworkError::Length { .. })), "{text}");
        }
        let error = Network::parse("10.0.0.7/8").unwrap_err();
        assert!(matches!(error, NetworkError::HostBits { within, .. } if within.to_string() == "10.0.0.0/8"));
    }
}
