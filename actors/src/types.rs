//! The few words all components share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// A configured bucket, as an index into every per-bucket table: invented names cannot grow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketId(u16);

impl BucketId {
    /// The bucket at this place of the configuration, which bounds buckets at 65,536.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The place in a per-bucket table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A configured client key or API key, as an index into every per-key table: invented keys cannot grow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The key at this place of the configuration; API keys come after client keys.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The place in a per-key table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a client address counts as for limits (L3): IPv4 whole, mapped IPv4 unmapped, IPv6 by /64.
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

impl IpKey {
    /// A number that is the same for the same key.
    pub(crate) fn fingerprint(self) -> u64 {
        match self {
            Self::V4(bits) => u64::from(bits),
            Self::V6Net(bits) => bits ^ (1 << 63),
        }
    }
}

/// A client as far as bounds on what one client holds tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// The holder of a client key or API key.
    Key(KeyId),
    /// The subject of a token, by its hash: subjects with the same hash are one client.
    Subject(u64),
    /// An address that proved nothing else.
    Address(IpKey),
}

impl ClientId {
    /// The subject of a token.
    pub fn subject(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self::Subject(hasher.finish())
    }

    /// A number that is the same for the same client.
    pub(crate) fn fingerprint(self) -> u64 {
        match self {
            Self::Key(key) => key.index() as u64,
            Self::Subject(hash) => hash,
            Self::Address(address) => address.fingerprint(),
        }
    }
}

/// What a request does, as far as circuits and limits tell requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationClass {
    /// Objects and their metadata are read.
    Read,
    /// Anything is changed.
    Write,
    /// A bucket is listed.
    List,
}

impl OperationClass {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::List];

    /// The word in labels and in the status document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
        }
    }

    /// Its place in a table that has one for each.
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
