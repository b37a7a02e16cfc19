//! The canonical request and the string to sign of SigV4. Client and server compute the same bytes.
//!
//! The module serves both directions: it verifies requests of clients and signs requests to upstreams. It follows S3's rules, which differ
//! from other services: the path is neither normalized nor encoded twice, and the payload hash is taken from the request. Header values
//! are bytes, because metadata need not be UTF-8.
//!
//! Sources: AWS "Signature Version 4 signing process", S3 "Authenticating Requests (AWS Signature Version 4)".

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::headers::Headers;
use crate::percent::{is_encoded, percent_decode, percent_encode};

/// The name of the algorithm in headers and strings to sign.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The end of every scope.
pub(crate) const TERMINATOR: &str = "aws4_request";
/// The service in scopes.
pub(crate) const SERVICE: &str = "s3";
/// The query parameter with a presigned URL's signature. The signature does not cover it.
pub(crate) const QUERY_SIGNATURE: &str = "X-Amz-Signature";

/// The parts of a request that a signature covers.
#[derive(Clone, Copy)]
pub(crate) struct CanonicalRequest<'a, H> {
    pub(crate) method: &'a str,
    /// Percent-encoded, see `canonical_path`.
    pub(crate) path: &'a str,
    /// As it was sent.
    pub(crate) query: &'a str,
    /// The signed headers, in lower case, in the order of the signature.
    pub(crate) names: &'a [&'a str],
    pub(crate) headers: H,
    /// The value of `host` if there is no such header (HTTP/2).
    pub(crate) authority: Option<&'a str>,
    /// The value of `x-amz-content-sha256`.
    pub(crate) payload: &'a str,
}

impl<'h, H: Headers<'h>> CanonicalRequest<'_, H> {
    /// The bytes of the canonical request.
    pub(crate) fn request_bytes(&self) -> Vec<u8> {
        self.request_bytes_with(&canonical_query(self.query), |_, _, _| ())
    }

    /// The canonical request with another query. `edit` may replace each header's value, which starts at the given index of the bytes.
    pub(super) fn request_bytes_with(
        &self,
        query: &str,
        edit: impl Fn(&str, &mut Vec<u8>, usize),
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let mut line = |text: &str| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        };
        line(self.method);
        line(self.path);
        line(query);
        for name in self.names {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b':');
            let value_at = bytes.len();
            self.push_values(name, &mut bytes);
            edit(name, &mut bytes, value_at);
            bytes.push(b'\n');
        }
        bytes.push(b'\n');
        for (at, name) in self.names.iter().enumerate() {
            if at > 0 {
                bytes.push(b';');
            }
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.push(b'\n');
        bytes.extend_from_slice(self.payload.as_bytes());
        bytes
    }

    /// The string to sign.
    pub(crate) fn string_to_sign(&self, timestamp: &str, scope: &str) -> String {
        let hash = hex::encode(Sha256::digest(self.request_bytes()));
        format!("{ALGORITHM}\n{timestamp}\n{scope}\n{hash}")
    }

    /// Appends a header's values: trimmed, runs of blanks folded, joined with commas.
    fn push_values(&self, name: &str, bytes: &mut Vec<u8>) {
        let mut values = self.headers.get_all_named(name).peekable();
        if values.peek().is_none() && name == "host" {
            bytes.extend_from_slice(self.authority.unwrap_or_default().as_bytes());
        }
        for (at, value) in values.enumerate() {
            if at > 0 {
                bytes.push(b',');
            }
            let words = value.split(|byte| matches!(byte, b' ' | b'\t'));
            for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
                if at > 0 {
                    bytes.push(b' ');
                }
                bytes.extend_from_slice(word);
            }
        }
    }
}

/// The canonical path: decoded once, and encoded by S3's rule.
pub(crate) fn canonical_path(path: &str) -> Cow<'_, str> {
    canonical_part(path, true)
}

/// The canonical query: the pairs without the signature, each decoded and encoded, sorted.
pub(super) fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (canonical_part(name, false), canonical_part(value, false)))
        .filter(|(name, _)| name != QUERY_SIGNATURE)
        .collect();
    pairs.sort_unstable();
    let mut text = String::with_capacity(query.len() + 8);
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&name);
        text.push('=');
        text.push_str(&value);
    }
    text
}

/// Decodes and encodes a part. A plus sign is a blank in a query, and a plus sign in a path.
fn canonical_part(text: &str, is_path: bool) -> Cow<'_, str> {
    if is_encoded(text.as_bytes(), is_path) {
        return Cow::Borrowed(text);
    }
    let decoded = if is_path || !text.contains('+') {
        percent_decode(text.as_bytes())
    } else {
        percent_decode(text.replace('+', " ").as_bytes())
    };
    Cow::Owned(percent_encode(&decoded, is_path))
}

/// Derives the signing key of a day and region from a secret.
pub fn signing_key(secret: &str, date: &str, region: &str) -> [u8; 32] {
    let secret = Zeroizing::new(format!("AWS4{secret}"));
    let mut key = hmac(secret.as_bytes(), date.as_bytes());
    for step in [region, SERVICE, TERMINATOR] {
        key = hmac(&key, step.as_bytes());
    }
    key
}

pub(crate) fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC accepts keys of any length, so the trait's error never occurs.
    Hmac::<Sha256>::new_from_slice(key)
        .map_or([0; 32], |mac| mac.chain_update(data).finalize().into_bytes().into())
}

/// Whether the code is the HMAC of the data. Compares in constant time.
pub(crate) fn verify_hmac(key: &[u8], data: &[u8], code: &[u8; 32]) -> bool {
    Hmac::<Sha256>::new_from_slice(key)
        .is_ok_and(|mac| mac.chain_update(data).verify_slice(code.as_slice()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample_request::HeaderList;

    #[test]
    fn paths_are_canonical() {
        assert_eq!(canonical_path("/b/a'b+c"), "/b/a%27b%2Bc");
        assert_eq!(canonical_path("/b/%7e~"), "/b/~~");
        assert_eq!(canonical_path("/b//x/./"), "/b//x/./");
        assert_eq!(percent_encode(b"/a b/%", true), "/a%20b/%25");
    }

    #[test]
    fn queries_are_sorted_after_encoding_and_have_no_signature() {
        assert_eq!(canonical_query("y=2&x=/&&a"), "a=&x=%2F&y=2");
        assert_eq!(canonical_query("x=%2F&y=a+b&X-Amz-Signature=00"), "x=%2F&y=a%20b");
        assert_eq!(canonical_query("b=2&a=~&a-=1&B=3"), "B=3&a=~&a-=1&b=2");
    }

    #[test]
    fn header_values_are_trimmed_folded_and_joined_and_keep_their_bytes() {
        let headers = HeaderList::new([&b"  a   b\t c "[..], b"\xe9"].map(|value| ("x-amz-meta-m", value)));
        let names = ["host", "x-amz-meta-m"];
        let canonical = CanonicalRequest {
            method: "PUT",
            path: "/",
            query: "",
            names: &names,
            headers: &headers,
            authority: Some("store"),
            payload: "p",
        };
        assert_eq!(
            canonical.request_bytes(),
            b"PUT\n/\n\nhost:store\nx-amz-meta-m:a b c,\xe9\n\nhost;x-amz-meta-m\np".as_slice()
        );
    }
}
