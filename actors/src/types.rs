//! Types that all components share.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_config::{Costs, Priority, PriorityConfig};

/// A configured bucket, by the ID of its name (`ids.rs`). Unknown names in requests get none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(u32);

impl BucketId {
    /// The bucket with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the ID. It is not a position: use an `IdMap`.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The position in a table of a configuration that was never reloaded.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A configured client key or API key, by the ID of its name (`ids.rs`). Unknown keys in requests get none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The key with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the ID. It is not a position: use an `IdMap`.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The position in a table of a configuration that was never reloaded.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a configuration in this process. Each reload that takes effect gets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigNumber(u64);

impl ConfigNumber {
    /// The configuration that the process started with.
    pub const FIRST: Self = Self(1);

    /// The number of the next configuration.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number, from 1 on.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConfigNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of a client address for limits (L3): a whole IPv4 address, IPv4-mapped IPv6 as IPv4, IPv6 by its /64
/// network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpKey {
    /// One IPv4 address.
    V4(u32),
    /// One IPv6 /64 network.
    V6Net(u64),
}

impl From<IpAddr> for IpKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6Net(u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d))
            }
        }
    }
}

impl fmt::Display for IpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => write!(f, "{}", Ipv4Addr::from_bits(*bits)),
            Self::V6Net(bits) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64)),
        }
    }
}

impl IpKey {
    /// Fingerprint for `ActorMessage::message_fingerprint`.
    pub(crate) fn fingerprint(self) -> u64 {
        match self {
            Self::V4(bits) => u64::from(bits),
            Self::V6Net(bits) => bits ^ (1 << 63),
        }
    }
}

/// A client, for limits on what one client may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// The holder of a client key or API key.
    Key(KeyId),
    /// The subject of a token, by its hash. Subjects with the same hash count as one client.
    Subject(u64),
    /// The address of a client without authentication.
    Address(IpKey),
}

impl ClientId {
    /// The client of a token's subject.
    pub fn subject(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self::Subject(hasher.finish())
    }

    /// Fingerprint for `ActorMessage::message_fingerprint`.
    pub(crate) fn fingerprint(self) -> u64 {
        match self {
            Self::Key(key) => u64::from(key.number()),
            Self::Subject(hash) => hash,
            Self::Address(address) => address.fingerprint(),
        }
    }
}

/// The class of a request's operation, for circuits and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationClass {
    /// Reads objects or their metadata.
    Read,
    /// Changes anything.
    Write,
    /// Lists a bucket.
    List,
}

impl OperationClass {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::List];

    /// The value in metric labels and in the status document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
        }
    }

    /// The tokens that a request of this class costs each rate limit.
    #[inline]
    pub fn cost(self, costs: &Costs) -> u32 {
        let cost = match self {
            Self::Read => costs.read,
            Self::Write => costs.write,
            Self::List => costs.list,
        };
        cost.get()
    }

    /// The priority of this class in a bucket's queue.
    #[inline]
    pub fn priority(self, priorities: &PriorityConfig) -> Priority {
        match self {
            Self::Read => priorities.read,
            Self::Write => priorities.write,
            Self::List => priorities.list,
        }
    }

    /// The index in a per-class table.
    pub(crate) fn index(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::List => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IpKey {
        IpKey::from(text.parse::<IpAddr>().unwrap())
    }

    /// L3
    #[test]
    fn ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
