//! SigV4 towards the upstream, with the bucket's own credentials (A2).
//!
//! The path that is signed is the one the server will compute: decoded once and encoded the canonical way, while
//! the bytes on the wire stay the client's. The payload hash is the client's where it gave one, so that the
//! store verifies what the client meant; a body of known bytes is hashed here; anything else is `UNSIGNED-PAYLOAD`.
//! The signing key depends on the day only and is kept with the signer.
//!
//! Sources: AWS "Signature Version 4 signing process", S3 "Authenticating Requests (AWS Signature Version 4)".

use std::cell::RefCell;
use std::time::SystemTime;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tidegate_config::Credentials;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::http::edge::decode;

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// The hash of nothing.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What `x-amz-content-sha256` says when nobody hashed the body.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The header that carries the payload hash.
pub(crate) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Signs one bucket's requests. One per worker thread.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    key: RefCell<(String, [u8; 32])>,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, key: RefCell::default() }
    }

    /// Adds `x-amz-date` and `authorization`. `host` and `x-amz-content-sha256` must be there already.
    pub(crate) fn sign(&self, method: &str, target: &PathAndQuery, headers: &mut HeaderMap, now: SystemTime) {
        let timestamp = OffsetDateTime::from(now).format(TIMESTAMP).unwrap_or_default();
        let date = timestamp.get(..8).unwrap_or_default();
        if let Ok(value) = HeaderValue::from_str(&timestamp) {
            headers.insert(AMZ_DATE, value);
        }
        let (names, canonical) = canonical_request(method, target, headers);
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let signature = hex::encode(hmac(&self.signing_key(date), to_sign.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key_id
        );
        if let Ok(mut value) = HeaderValue::from_str(&authorization) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    fn signing_key(&self, date: &str) -> [u8; 32] {
        let mut cached = self.key.borrow_mut();
        if cached.0 != date {
            let secret = format!("AWS4{}", self.credentials.secret_access_key.expose());
            let steps = [date, &self.region, "s3", "aws4_request"];
            let mut key = hmac(secret.as_bytes(), steps[0].as_bytes());
            for step in &steps[1..] {
                key = hmac(&key, step.as_bytes());
            }
            *cached = (date.to_owned(), key);
        }
        cached.1
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; the error is of the trait's general form only.
    Hmac::<Sha256>::new_from_slice(key)
        .map_or([0; 32], |mac| mac.chain_update(data).finalize().into_bytes().into())
}

/// The signed headers' names, and the canonical request.
fn canonical_request(method: &str, target: &PathAndQuery, headers: &HeaderMap) -> (String, String) {
    let mut signed: Vec<(&str, String)> = Vec::new();
    for name in headers.keys() {
        let name = name.as_str();
        if name == "host" || name.starts_with("x-amz-") {
            let values: Vec<String> = headers
                .get_all(name)
                .map(|value| fold_spaces(&String::from_utf8_lossy(value.as_bytes())))
                .collect();
            signed.push((name, values.join(",")));
        }
    }
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let path = encode(&decode(target.path().as_bytes()), true);
    let query = canonical_query(target.query().unwrap_or_default());
    let hash = headers.get(CONTENT_SHA256).and_then(|value| value.to_str().ok()).unwrap_or(UNSIGNED_PAYLOAD);
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{hash}");
    (names, canonical)
}

fn canonical_query(query: &str) -> String {
    let value = |text: &str| encode(&decode(text.replace('+', " ").as_bytes()), false);
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, text)| (value(name), value(text)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// S3's own encoding: everything but unreserved characters, and the slash where it separates.
pub(crate) fn encode(bytes: &[u8], keep_slash: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(*byte))
            }
            b'/' if keep_slash => encoded.push('/'),
            _ => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

fn fold_spaces(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sign(target: &str, pairs: &[(&'static str, &'static str)]) -> String {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: tidegate_config::Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        Signer::new(credentials, "us-east-1".to_owned()).sign(
            "GET",
            &target.parse().unwrap(),
            &mut headers,
            day,
        );
        let authorization = headers.get(AUTHORIZATION).unwrap().to_str().unwrap();
        authorization.rsplit('=').next().unwrap().to_owned()
    }

    /// A2: the worked examples of the S3 documentation ("Signature Calculations for the Authorization Header")
    #[test]
    fn the_documented_examples_come_out() {
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let empty = ("x-amz-content-sha256", EMPTY_SHA256);
        assert_eq!(
            sign("/?lifecycle", &[host, empty]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            sign("/?max-keys=2&prefix=J", &[host, empty]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn paths_are_signed_as_the_server_will_compute_them() {
        let same = |a: &str, b: &str| {
            let parse = |text: &str| text.parse::<PathAndQuery>().unwrap();
            let headers = HeaderMap::new();
            assert_eq!(
                canonical_request("GET", &parse(a), &headers),
                canonical_request("GET", &parse(b), &headers)
            );
        };
        same("/b/a'b+c", "/b/a%27b%2Bc");
        same("/b/%7e~", "/b/~%7E");
        same("/b?y=2&x=%2F", "/b?x=/&y=2");
        assert_eq!(encode(b"/a b/%", true), "/a%20b/%25");
    }
}
