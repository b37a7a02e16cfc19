//! An address as a log value, written without an allocation.

use std::net::IpAddr;

use arrayvec::ArrayString;

/// An address in a log line.
pub(super) struct IpField(pub(super) IpAddr);

impl slog::Value for IpField {
    fn serialize(
        &self,
        _: &slog::Record<'_>,
        key: slog::Key,
        serializer: &mut dyn slog::Serializer,
    ) -> slog::Result {
        let IpAddr::V4(address) = self.0 else {
            return serializer.emit_arguments(key, &format_args!("{}", self.0));
        };
        // Fast path for IPv4, which most clients have: the formatter is slow.
        let mut text = ArrayString::<15>::new();
        for (at, octet) in address.octets().into_iter().enumerate() {
            if at > 0 {
                text.push('.');
            }
            text.push_str(itoa::Buffer::new().format(octet));
        }
        serializer.emit_str(key, &text)
    }
}
