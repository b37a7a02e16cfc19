//! An address as text, written without an allocation.

use std::fmt::Write as _;
use std::net::IpAddr;

use arrayvec::ArrayString;

/// The longest text of an address: IPv6 with an embedded IPv4 address.
const LENGTH_MAX: usize = 45;

/// The text of an address.
pub(super) fn ip_text(address: IpAddr) -> ArrayString<LENGTH_MAX> {
    let mut text = ArrayString::new();
    match address {
        // Without the formatter, which is slow: most clients have such an address.
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push('.');
                }
                text.push_str(itoa::Buffer::new().format(octet));
            }
        }
        IpAddr::V6(address) => {
            // The text always fits.
            let _ = write!(text, "{address}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O2
    #[test]
    fn addresses_are_written_as_the_formatter_does() {
        for text in
            ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1", "::ffff:255.255.255.255", "2001:db8::7"]
        {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(ip_text(address).as_str(), address.to_string());
        }
        let long: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(ip_text(long).as_str(), long.to_string());
    }
}
