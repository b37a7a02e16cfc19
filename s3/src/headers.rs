//! The headers of a message, as the S3 rules read and write them.
//!
//! The crate has no header map of its own and depends on no HTTP library. The caller implements [`Headers`] for a view of its map, so
//! no header is copied. A name that the rules know is a [`KnownHeader`]: the caller converts these names once, so that a look-up neither
//! parses nor allocates a name. Only names that a client chooses, such as those in `SignedHeaders`, are looked up as text.
//!
//! Names are in lower case. Values are bytes, because metadata need not be UTF-8.

macro_rules! known_headers {
    ($($variant:ident = $name:literal,)*) => {
        /// A header that the rules look up or write.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum KnownHeader {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl KnownHeader {
            /// All of them. `ALL[header as usize]` is `header`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

known_headers! {
    Authorization = "authorization",
    ContentEncoding = "content-encoding",
    ContentMd5 = "content-md5",
    ContentSha256 = "x-amz-content-sha256",
    ContentType = "content-type",
    CopySource = "x-amz-copy-source",
    Date = "date",
    AmzDate = "x-amz-date",
    DecodedLength = "x-amz-decoded-content-length",
    Host = "host",
    SdkAlgorithm = "x-amz-sdk-checksum-algorithm",
    SecurityToken = "x-amz-security-token",
    Trailer = "x-amz-trailer",
    ChecksumType = "x-amz-checksum-type",
    ChecksumCrc32 = "x-amz-checksum-crc32",
    ChecksumCrc32c = "x-amz-checksum-crc32c",
    ChecksumCrc64Nvme = "x-amz-checksum-crc64nvme",
    ChecksumSha1 = "x-amz-checksum-sha1",
    ChecksumSha256 = "x-amz-checksum-sha256",
    ChecksumSha512 = "x-amz-checksum-sha512",
    ChecksumMd5 = "x-amz-checksum-md5",
    ChecksumXxHash64 = "x-amz-checksum-xxhash64",
    ChecksumXxHash3 = "x-amz-checksum-xxhash3",
    ChecksumXxHash128 = "x-amz-checksum-xxhash128",
}

/// A view of the headers of a message. A copy of the view is cheap and copies no header.
pub trait Headers<'a>: Copy {
    /// The values of a header, in the order of the message.
    fn get_all(self, header: KnownHeader) -> impl Iterator<Item = &'a [u8]>;

    /// The values of the header with this name, in the order of the message. No header has a malformed name.
    fn get_all_named(self, name: &str) -> impl Iterator<Item = &'a [u8]>;

    /// All headers. The values of one name are in the order of the message.
    fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])>;

    /// The names, each once.
    fn names(self) -> impl Iterator<Item = &'a str>;

    /// The first value of a header.
    fn get(self, header: KnownHeader) -> Option<&'a [u8]> {
        self.get_all(header).next()
    }

    /// The first value of a header, if it is ASCII text.
    fn get_text(self, header: KnownHeader) -> Option<&'a str> {
        self.get(header).and_then(ascii_text)
    }

    /// Whether a header is present.
    fn contains(self, header: KnownHeader) -> bool {
        self.get(header).is_some()
    }

    /// Whether the header with this name is present.
    fn contains_named(self, name: &str) -> bool {
        self.get_all_named(name).next().is_some()
    }
}

/// Headers that can be changed. A value that is not valid in a header is not written.
pub trait HeadersMut {
    /// A view of the headers.
    fn view(&self) -> impl Headers<'_>;

    /// Replaces all values of a header by this value.
    fn set(&mut self, header: KnownHeader, value: &str);

    /// Replaces all values of a header by this value, which logs must not show.
    fn set_secret(&mut self, header: KnownHeader, value: &str);

    /// Removes all values of a header.
    fn remove(&mut self, header: KnownHeader);
}

/// A value as text, if it has only visible ASCII characters, blanks and tabs.
pub(crate) fn ascii_text(value: &[u8]) -> Option<&str> {
    let is_text = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    // Without an early exit the loop is vectorized.
    let all = value.iter().fold(true, |all, byte| all & is_text(*byte));
    if all { std::str::from_utf8(value).ok() } else { None }
}

/// Whether a text is valid as the name of a header (RFC 9110, 5.1).
pub(crate) fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Whether a text is valid as the value of a header (RFC 9110, 5.5).
pub(crate) fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers convert the names by their position.
    #[test]
    fn the_list_is_in_the_order_of_the_variants() {
        for (at, header) in KnownHeader::ALL.iter().enumerate() {
            assert_eq!(*header as usize, at);
            assert!(is_name(header.as_str()) && header.as_str() == header.as_str().to_ascii_lowercase());
        }
    }

    #[test]
    fn only_ascii_values_are_text() {
        assert_eq!(ascii_text(b"a\tb ~"), Some("a\tb ~"));
        for value in [&b"a\x7f"[..], b"\xe9", b"a\nb", "\u{e9}".as_bytes()] {
            assert_eq!(ascii_text(value), None);
        }
    }

    #[test]
    fn names_and_values_of_headers_are_checked() {
        for (name, is_valid) in
            [("x-amz-meta-a", true), ("a b", false), ("", false), ("a:", false), ("é", false)]
        {
            assert_eq!(is_name(name), is_valid, "{name}");
        }
        for (value, is_valid) in
            [("a b\t", true), ("é", true), ("", true), ("a\r\nb", false), ("\u{7f}", false)]
        {
            assert_eq!(is_value(value), is_valid, "{value:?}");
        }
    }
}
