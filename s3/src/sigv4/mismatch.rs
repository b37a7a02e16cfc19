//! The elements of `SignatureDoesNotMatch`, which help a client to find the proxy that changed its request.
//!
//! S3 shows the string to sign and the canonical request. If they differ from the client's, a proxy has probably changed a header. Proxies
//! also add headers with their own secrets, and a client may list any name as signed. So a header's value is shown only if S3 or HTTP
//! defines the header and it is not a secret. Other values, and secrets in the query, are replaced by their length and SHA-256. Each text
//! is truncated to a maximum length. This module has no access to keys.
//!
//! Source: S3 User Guide, "Troubleshooting: SignatureDoesNotMatch"; the elements are those that S3 sends.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::headers::Headers;
use crate::sigv4::canonical::{CanonicalRequest, canonical_query};

/// The longest text that is shown. Its hexadecimal bytes have three times the length.
const SHOWN_BYTES_MAX: usize = 4 << 10;
/// The longest ID and signature that are shown. A V4 signature has 64 characters.
const SHORT_CHARS_MAX: usize = 128;

/// Headers with shown values.
const SHOWN_HEADERS: [&str; 4] = ["accept", "date", "host", "range"];
/// Prefixes of further headers with shown values.
const SHOWN_HEADER_PREFIXES: [&str; 3] = ["accept-", "content-", "x-amz-"];
/// A secret header in spite of its prefix. A query parameter can have the same name.
const SESSION_TOKEN: &str = "x-amz-security-token";
/// The session token of S3 directory buckets (CreateSession), which is a secret too.
const DIRECTORY_SESSION_TOKEN: &str = "x-amz-s3session-token";
/// The suffix of headers and parameters with a customer's encryption key.
const CUSTOMER_KEY_SUFFIX: &str = "-customer-key";
/// The parameter with the key ID and the scope. It is shown.
const CREDENTIAL: &str = "x-amz-credential";

/// A signature that does not match, with the texts that the gateway computed.
#[derive(Clone, PartialEq, Eq)]
pub struct SignatureMismatch {
    access_key_id: String,
    signature: String,
    string_to_sign: Vec<u8>,
    /// None for a form, because its signature covers the policy.
    canonical_request: Option<Vec<u8>>,
}

impl fmt::Debug for SignatureMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignatureMismatch(redacted)")
    }
}

impl SignatureMismatch {
    /// A mismatch without a canonical request.
    pub fn new(access_key_id: &str, signature: &str, string_to_sign: &[u8]) -> Self {
        let short = |text: &str| text.chars().take(SHORT_CHARS_MAX).collect();
        Self {
            access_key_id: short(access_key_id),
            signature: short(signature),
            string_to_sign: truncate(string_to_sign.to_vec()),
            canonical_request: None,
        }
    }

    /// Adds the canonical request with its secrets redacted. `is_secret` selects further query parameters with secrets.
    pub(super) fn with_request<'a>(
        self,
        request: &CanonicalRequest<'_, impl Headers<'a>>,
        is_secret: impl Fn(&str) -> bool,
    ) -> Self {
        let query = redact_query(&canonical_query(request.query), is_secret);
        let shown = request.request_bytes_with(&query, |name, bytes, value_at| {
            if !is_shown_header(name) {
                let value = fingerprint(&bytes[value_at..]);
                bytes.truncate(value_at);
                bytes.extend_from_slice(value.as_bytes());
            }
        });
        Self { canonical_request: Some(truncate(shown)), ..self }
    }

    /// The elements of the error document, in S3's order.
    pub fn elements(&self) -> Vec<(&'static str, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut elements = vec![
            ("AWSAccessKeyId", self.access_key_id.clone()),
            ("StringToSign", text(&self.string_to_sign)),
            ("SignatureProvided", self.signature.clone()),
            ("StringToSignBytes", hex_pairs(&self.string_to_sign)),
        ];
        if let Some(request) = &self.canonical_request {
            elements.push(("CanonicalRequest", text(request)));
            elements.push(("CanonicalRequestBytes", hex_pairs(request)));
        }
        elements
    }
}

/// Whether a header's value is shown.
fn is_shown_header(name: &str) -> bool {
    let is_known =
        SHOWN_HEADERS.contains(&name) || SHOWN_HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_known && !is_s3_secret(name)
}

/// Whether a header, or a parameter with a header's name, is a secret between a client and S3.
pub(crate) fn is_s3_secret(name: &str) -> bool {
    name == SESSION_TOKEN || name == DIRECTORY_SESSION_TOKEN || name.ends_with(CUSTOMER_KEY_SUFFIX)
}

/// A canonical query with its secrets redacted.
fn redact_query(canonical: &str, is_secret: impl Fn(&str) -> bool) -> String {
    let shown = canonical.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let lower = name.to_ascii_lowercase();
        let is_hidden = is_s3_secret(&lower) || (lower != CREDENTIAL && is_secret(name));
        if is_hidden { format!("{name}={}", fingerprint(value.as_bytes())) } else { pair.to_owned() }
    });
    shown.collect::<Vec<_>>().join("&")
}

/// The text that replaces a secret.
pub(crate) fn fingerprint(value: &[u8]) -> String {
    format!("({} bytes, SHA-256 {})", value.len(), hex::encode(Sha256::digest(value)))
}

fn truncate(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() > SHOWN_BYTES_MAX {
        let omitted = bytes.len() - SHOWN_BYTES_MAX;
        bytes.truncate(SHOWN_BYTES_MAX);
        bytes.extend_from_slice(format!("\n({omitted} bytes omitted)").as_bytes());
    }
    bytes
}

/// The bytes in hexadecimal digits, such as `47 45 54`.
fn hex_pairs(bytes: &[u8]) -> String {
    let mut pairs = String::with_capacity(bytes.len() * 3);
    for (at, digit) in hex::encode(bytes).chars().enumerate() {
        if at > 0 && at % 2 == 0 {
            pairs.push(' ');
        }
        pairs.push(digit);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample_request::HeaderList;

    fn shown(headers: &[(&str, &[u8])], query: &str) -> Vec<(&'static str, String)> {
        let list = HeaderList::new(headers.iter().copied());
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        names.dedup();
        let canonical = CanonicalRequest {
            method: "GET",
            path: "/b/k",
            query,
            names: &names,
            headers: &list,
            authority: None,
            payload: "UNSIGNED-PAYLOAD",
        };
        let mismatch = SignatureMismatch::new("AKID", "00ff", b"text");
        mismatch.with_request(&canonical, |name| name == "token").elements()
    }

    fn request(headers: &[(&str, &[u8])], query: &str) -> String {
        shown(headers, query).into_iter().find(|(name, _)| *name == "CanonicalRequest").unwrap().1
    }

    /// A9: the elements are S3's, in S3's order, and the byte elements match the texts
    #[test]
    fn the_elements_are_those_of_s3() {
        let elements = shown(&[("host", b"gw"), ("range", b"bytes=0-1")], "b=1&a=x%20y");
        let text = "GET\n/b/k\na=x%20y&b=1\nhost:gw\nrange:bytes=0-1\n\nhost;range\nUNSIGNED-PAYLOAD";
        let bytes: Vec<String> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            ("AWSAccessKeyId", "AKID"),
            ("StringToSign", "text"),
            ("SignatureProvided", "00ff"),
            ("StringToSignBytes", "74 65 78 74"),
            ("CanonicalRequest", text),
            ("CanonicalRequestBytes", &bytes.join(" ")),
        ];
        assert_eq!(elements, expected.map(|(name, text)| (name, text.to_owned())));
    }

    /// A9: only the values of a closed list of headers are shown
    #[test]
    fn only_values_of_known_headers_are_shown() {
        let secret = b"s3cr3t-of-a-proxy";
        let hidden = fingerprint(secret);
        for name in [
            "authorization",
            "cookie",
            "x-proxy-secret",
            "x_amz_meta",
            "accepted",
            "hosts",
            "x-amz-security-token",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-copy-source-server-side-encryption-customer-key",
        ] {
            let text = request(&[(name, secret)], "");
            assert!(text.contains(&format!("\n{name}:{hidden}\n")), "{text}");
            assert!(!format!("{:?}", shown(&[(name, secret)], "")).contains("s3cr3t"), "{name}");
        }
        for name in [
            "host",
            "date",
            "range",
            "accept",
            "accept-encoding",
            "content-type",
            "x-amz-date",
            "x-amz-meta-a",
            "x-amz-server-side-encryption-customer-key-md5",
        ] {
            assert!(request(&[(name, b" a  b ")], "").contains(&format!("\n{name}:a b\n")), "{name}");
        }
        assert!(request(&[("x-twice", b"a"), ("x-twice", b"b")], "").contains(&fingerprint(b"a,b")));
    }

    /// A9: secrets in a query
    #[test]
    fn secrets_of_a_query_are_not_shown() {
        let hidden = fingerprint(b"s3cr3t");
        for name in [
            "X-Amz-Security-Token",
            "x-amz-server-side-encryption-customer-key",
            "X-Amz-Server-Side-Encryption-Customer-Key",
            "token",
        ] {
            let text = request(&[], &format!("a=1&{name}=s3cr3t"));
            assert!(text.contains(&format!("{name}={hidden}")) && !text.contains("s3cr3t"), "{text}");
        }
        let text = request(&[], "X-Amz-Credential=AKID%2F1&prefix=s3cr3t&X-Amz-Signature=00");
        assert!(text.contains("X-Amz-Credential=AKID%2F1&prefix=s3cr3t\n"), "{text}");
    }

    proptest! {
        /// E4, A9: the shown texts are short for every request
        #[test]
        fn the_shown_texts_are_short(
            id in ".{0,300}",
            value in prop::collection::vec(32_u8..127, 0..9000),
            query in "[a-z=&%]{0,9000}",
        ) {
            let list = HeaderList::new([("host", &value)]);
            let canonical = CanonicalRequest {
                method: "GET", path: "/", query: &query, names: &["host"], headers: &list, authority: None, payload: "p",
            };
            let mismatch = SignatureMismatch::new(&id, &id, &value).with_request(&canonical, |_| false);
            let bytes: usize = mismatch.elements().iter().map(|(_, text)| text.len()).sum();
            prop_assert!(bytes < 34 << 10, "{}", bytes);
        }
    }
}
