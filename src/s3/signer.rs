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
use tidegate_config::Credentials;
use zeroize::Zeroize;

use crate::s3::sigv4::canonical::{
    ALGORITHM, CanonicalRequest, SERVICE, TERMINATOR, canonical_path, hmac, signing_key,
};
use crate::s3::sigv4::{SignatureChain, Timestamp};

/// The hash of nothing.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What `x-amz-content-sha256` says when nobody hashed the body.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The header that carries the payload hash.
pub(crate) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Signs one bucket's requests. One per worker thread.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    /// The day, and its key.
    key: RefCell<(String, [u8; 32])>,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, key: RefCell::default() }
    }

    /// Adds `x-amz-date`, the session token if there is one, and `authorization`. `host` and `x-amz-content-sha256`
    /// must be there already. What comes back is what the signatures of a chunked body go on from.
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

/// What must be signed and what changes the meaning of a request.
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
        let same = |a: &str, b: &str| assert_eq!(sign(a, &[]), sign(b, &[]), "{a} {b}");
        same("/b/a'b+c", "/b/a%27b%2Bc");
        same("/b/%7e~", "/b/~%7E");
        same("/b?y=2&x=%2F", "/b?x=/&y=2");
    }
}
