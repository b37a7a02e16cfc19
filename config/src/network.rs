//! A network in CIDR notation: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
//!
//! Bits beyond the prefix are rejected, not dropped: `10.0.0.7/8` could mean one machine or the whole network, and the difference
//! decides which peers may set client addresses. IPv4-mapped IPv6 networks (`::ffff:10.0.0.0/104`) are unmapped, as addresses are
//! before the comparison. Not supported: ranges (`a–b`), names, and dotted netmasks.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::setting::Raw;
use crate::value_type::{ValueError, ValueErrors, ValueType, quoted};

/// Prefix length of the IPv4-mapped IPv6 addresses.
const MAPPED_BITS: u8 = 96;

/// The addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// the text before the slash is not an address
    #[error("{0} does not begin with an IP address")]
    Address(String),
    /// the text after the slash is not a prefix length
    #[error("{text} needs a prefix length from 0 to {bits_max}")]
    Length {
        /// the text, in quotes
        text: String,
        /// the bits of an address of this family
        bits_max: u8,
    },
    /// an address within the network that is not the network's own
    #[error("{text} has bits beyond its prefix")]
    HostBits {
        /// the text, in quotes
        text: String,
        /// the network that contains the address
        within: Network,
    },
}

impl Network {
    /// Parses an address with or without a prefix length.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address(quoted(text)))?;
        let bits_max = IpNet::from(address).max_prefix_len();
        let wrong_length = || NetworkError::Length { text: quoted(text), bits_max };
        let bits = match length {
            None => bits_max,
            Some(digits) => {
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let bits = digits.parse().ok().filter(|_| plain);
                bits.ok_or_else(wrong_length)?
            }
        };
        let network = IpNet::new(address, bits).map_err(|_| wrong_length())?;
        let within = Self(network.trunc());
        if within.0 != network {
            return Err(NetworkError::HostBits { text: quoted(text), within });
        }
        Ok(within.canonical())
    }

    /// Whether the network contains the address. IPv4-mapped IPv6 addresses are unmapped.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether the network contains every address of its family.
    pub fn is_any(&self) -> bool {
        self.0.prefix_len() == 0
    }

    fn canonical(self) -> Self {
        let unmapped = match self.0 {
            IpNet::V6(network) => {
                network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_BITS))
            }
            IpNet::V4(_) => None,
        };
        let network = unmapped.and_then(|(address, bits)| IpNet::new(address.into(), bits).ok());
        network.map_or(self, Self)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key that holds a network.
pub(crate) struct Cidr;

impl ValueType for Cidr {
    type Value = Network;

    fn parse(&self, raw: &Raw) -> Result<Network, ValueErrors> {
        let parsed = Network::parse(raw.text()?.trim());
        let error_of = |error: NetworkError| {
            let hint = match &error {
                NetworkError::HostBits { within, .. } => format!("did you mean {within}?"),
                _ => "use a network such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32".to_owned(),
            };
            ValueError::new(error.to_string()).with_hint(hint)
        };
        parsed.map_err(|error| error_of(error).into())
    }

    fn accepts(&self) -> String {
        "CIDR".to_owned()
    }

    fn to_toml(&self, value: &Network) -> String {
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
    fn a_network_contains_the_addresses_with_its_prefix() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("192.0.2.128/25", "192.0.2.129") && !holds("192.0.2.128/25", "192.0.2.127"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1") && !holds("2001:db8::/33", "2001:db8:8000::1"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && holds("::/0", "2001:db8::1"));
    }

    /// L3: a network contains no address of the other family; IPv4-mapped IPv6 addresses are IPv4
    #[test]
    fn address_families_are_distinct() {
        assert!(!holds("0.0.0.0/0", "::1") && !holds("::/0", "127.0.0.1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3") && holds("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!holds("::/0", "::ffff:10.1.2.3"));
    }

    #[test]
    fn invalid_networks_are_rejected_with_a_reason() {
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
