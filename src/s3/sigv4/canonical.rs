//! The canonical request and the string to sign, of which client and server compute the same bytes.
//!
//! They serve both directions: requests of clients are verified, and requests to upstreams are signed. The rules are S3's, not those of
//! other services: the path is neither normalized nor encoded twice, and the payload's hash is the one that the request names. Header
//! values are bytes, because metadata need not be UTF-8.
//!
//! Sources: AWS "Signature Version 4 signing process", S3 "Authenticating Requests (AWS Signature Version 4)".

use std::borrow::Cow;

use actix_web::http::header::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::http::request_validation::percent_decode;

/// The algorithm, as headers and strings to sign name it.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The end of every scope.
pub(crate) const TERMINATOR: &str = "aws4_request";
/// The service that scopes name.
pub(crate) const SERVICE: &str = "s3";
/// The query parameter that holds a presigned URL's signature, which it cannot cover.
pub(crate) const QUERY_SIGNATURE: &str = "X-Amz-Signature";

/// A request, as far as a signature covers it.
#[derive(Clone, Copy)]
pub(crate) struct CanonicalRequest<'a> {
    pub(crate) method: &'a str,
    /// Encoded already, see `canonical_path`.
    pub(crate) path: &'a str,
    /// As on the wire.
    pub(crate) query: &'a str,
    /// The signed headers, in lower case, in the order of the signature.
    pub(crate) names: &'a [&'a str],
    pub(crate) headers: &'a HeaderMap,
    /// What stands for `host` where no header does (HTTP/2).
    pub(crate) authority: Option<&'a str>,
    /// What the request says of its payload.
    pub(crate) payload: &'a str,
}

impl CanonicalRequest<'_> {
    /// The bytes that are hashed.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_with(&canonical_query(self.query), |_, _, _| ())
    }

    /// The same with another query. `edit` may replace each header's value, which begins at the given index of the bytes.
    pub(super) fn to_bytes_with(&self, query: &str, edit: impl Fn(&str, &mut Vec<u8>, usize)) -> Vec<u8> {
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

    /// What the key signs.
    pub(crate) fn string_to_sign(&self, timestamp: &str, scope: &str) -> String {
        let hash = hex::encode(Sha256::digest(self.to_bytes()));
        format!("{ALGORITHM}\n{timestamp}\n{scope}\n{hash}")
    }

    /// A header's values, trimmed, runs of blanks folded, joined by commas.
    fn push_values(&self, name: &str, bytes: &mut Vec<u8>) {
        let mut values = self.headers.get_all(name).peekable();
        if values.peek().is_none() && name == "host" {
            bytes.extend_from_slice(self.authority.unwrap_or_default().as_bytes());
        }
        for (at, value) in values.enumerate() {
            if at > 0 {
                bytes.push(b',');
            }
            let words = value.as_bytes().split(|byte| matches!(byte, b' ' | b'\t'));
            for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
                if at > 0 {
                    bytes.push(b' ');
                }
                bytes.extend_from_slice(word);
            }
        }
    }
}

/// The path as a server computes it: decoded once and encoded in S3's one way.
pub(crate) fn canonical_path(path: &str) -> Cow<'_, str> {
    canonical_part(path, true)
}

/// The query's pairs, each decoded and encoded, in order; the signature itself is left out.
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

/// A plus sign is a blank in a query and itself in a path.
fn canonical_part(text: &str, is_path: bool) -> Cow<'_, str> {
    let is_plain = |byte: &u8| is_unreserved(*byte) || (is_path && *byte == b'/');
    if text.as_bytes().iter().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let decoded = if is_path || !text.contains('+') {
        percent_decode(text.as_bytes())
    } else {
        percent_decode(text.replace('+', " ").as_bytes())
    };
    Cow::Owned(percent_encode(&decoded, is_path))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// S3's own encoding: everything but unreserved characters, and the slash where it separates.
pub(crate) fn percent_encode(bytes: &[u8], keep_slash: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if is_unreserved(*byte) || (keep_slash && *byte == b'/') {
            encoded.push(char::from(*byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// The key of one day and region, made from a secret.
pub(crate) fn signing_key(secret: &str, date: &str, region: &str) -> [u8; 32] {
    let secret = Zeroizing::new(format!("AWS4{secret}"));
    let mut key = hmac(secret.as_bytes(), date.as_bytes());
    for step in [region, SERVICE, TERMINATOR] {
        key = hmac(&key, step.as_bytes());
    }
    key
}

pub(crate) fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; the error is of the trait's general form only.
    Hmac::<Sha256>::new_from_slice(key)
        .map_or([0; 32], |mac| mac.chain_update(data).finalize().into_bytes().into())
}

/// Whether the code is the key's over the data; takes the same time wherever they differ.
pub(crate) fn verify_hmac(key: &[u8], data: &[u8], code: &[u8; 32]) -> bool {
    Hmac::<Sha256>::new_from_slice(key)
        .is_ok_and(|mac| mac.chain_update(data).verify_slice(code.as_slice()).is_ok())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn paths_are_computed_as_the_server_will() {
        assert_eq!(canonical_path("/b/a'b+c"), "/b/a%27b%2Bc");
        assert_eq!(canonical_path("/b/%7e~"), "/b/~~");
        assert_eq!(canonical_path("/b//x/./"), "/b//x/./");
        assert_eq!(percent_encode(b"/a b/%", true), "/a%20b/%25");
    }

    #[test]
    fn queries_are_sorted_after_encoding_and_lose_their_signature() {
        assert_eq!(canonical_query("y=2&x=/&&a"), "a=&x=%2F&y=2");
        assert_eq!(canonical_query("x=%2F&y=a+b&X-Amz-Signature=00"), "x=%2F&y=a%20b");
        assert_eq!(canonical_query("b=2&a=~&a-=1&B=3"), "B=3&a=~&a-=1&b=2");
    }

    #[test]
    fn header_values_are_trimmed_folded_and_joined_and_keep_their_bytes() {
        let mut headers = HeaderMap::new();
        for value in [&b"  a   b\t c "[..], b"\xe9"] {
            headers.append(HeaderName::from_static("x-amz-meta-m"), HeaderValue::from_bytes(value).unwrap());
        }
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
            canonical.to_bytes(),
            b"PUT\n/\n\nhost:store\nx-amz-meta-m:a b c,\xe9\n\nhost;x-amz-meta-m\np".as_slice()
        );
    }
}
