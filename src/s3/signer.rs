//! Signs upstream requests with SigV4 and the bucket's upstream credentials (A2).
//!
//! The signature covers the canonical path, decoded once and encoded by S3's rule; the sent path stays the client's. The payload hash is
//! the client's if it sent one, so the store verifies the client's body. The hash of a buffered body is computed; any other body is
//! `UNSIGNED-PAYLOAD`. The signing key depends on the day only and is cached in the signer.
//!
//! Sources: AWS "Signature Version 4 signing process", S3 "Authenticating Requests (AWS Signature Version 4)".

use std::cell::RefCell;
use std::time::SystemTime;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use tidegate_config::Credentials;
use zeroize::Zeroize;

use crate::s3::sigv4::canonical::{
    ALGORITHM, CanonicalRequest, SERVICE, TERMINATOR, canonical_path, hmac, signing_key,
};
use crate::s3::sigv4::{AMZ_DATE, SECURITY_TOKEN, SignatureChain, Timestamp};

/// The SHA-256 of an empty body.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The value of `x-amz-content-sha256` for a body without a hash.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The header with the payload hash.
pub(crate) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Signs the requests of one bucket. Each worker thread has its own.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    /// The day and its signing key.
    key: RefCell<(String, [u8; 32])>,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, key: RefCell::default() }
    }

    /// Adds `x-amz-date`, the session token if there is one, and `authorization`. `host` and `x-amz-content-sha256` must be set before.
    /// Returns the signature chain for the chunks of the body.
    pub(crate) fn sign(
        &self,
        method: &str,
        target: &PathAndQuery,
        headers: &mut HeaderMap,
        now: SystemTime,
    ) -> SignatureChain {
        let timestamp = Timestamp::from_time(now);
        if let Ok(value) = HeaderValue::from_str(timestamp.as_str()) {
            headers.insert(AMZ_DATE, value);
        }
        if let Some(token) = &self.credentials.session_token
            && let Ok(mut value) = HeaderValue::from_str(token.expose())
        {
            value.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, value);
        }
        let key = self.signing_key(timestamp.date());
        let scope = format!("{}/{}/{SERVICE}/{TERMINATOR}", timestamp.date(), self.region);
        let names = signed_header_names(headers);
        let to_sign = CanonicalRequest {
            method,
            path: &canonical_path(target.path()),
            query: target.query().unwrap_or_default(),
            names: &names,
            headers,
            authority: None,
            payload: payload_hash(headers),
        }
        .string_to_sign(timestamp.as_str(), &scope);
        let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.credentials.access_key_id,
            names.join(";")
        );
        if let Ok(mut value) = HeaderValue::from_str(&authorization) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        SignatureChain::new(key, timestamp.into_text(), scope, signature)
    }

    fn signing_key(&self, date: &str) -> [u8; 32] {
        let mut cached = self.key.borrow_mut();
        if cached.0 != date {
            let key = signing_key(self.credentials.secret_access_key.expose(), date, &self.region);
            *cached = (date.to_owned(), key);
        }
        cached.1
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.key.get_mut().1.zeroize();
    }
}

/// The names of the headers to sign: `host` and S3's headers.
fn signed_header_names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| *name == "host" || name.starts_with("x-amz-"))
        .collect();
    names.sort_unstable();
    names
}

fn payload_hash(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_SHA256).and_then(|value| value.to_str().ok()).unwrap_or(UNSIGNED_PAYLOAD)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sign(target: &str, pairs: &[(&'static str, &'static str)]) -> String {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: tidegate_config::Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
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
    fn the_documented_signatures_are_computed() {
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
    fn canonical_paths_and_queries_are_signed() {
        let same = |a: &str, b: &str| assert_eq!(sign(a, &[]), sign(b, &[]), "{a} {b}");
        same("/b/a'b+c", "/b/a%27b%2Bc");
        same("/b/%7e~", "/b/~%7E");
        same("/b?y=2&x=%2F", "/b?x=/&y=2");
    }
}
