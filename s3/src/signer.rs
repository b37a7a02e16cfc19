//! Signs upstream requests with SigV4 and the bucket's upstream credentials (A2).
//!
//! The signature covers the canonical path, decoded once and encoded by S3's rule; the sent path stays the client's. The payload hash is
//! the client's if it sent one, so the store verifies the client's body. The hash of a buffered body is computed; any other body is
//! `UNSIGNED-PAYLOAD`. The signing key depends on the day only and is cached in the signer.
//!
//! Sources: AWS "Signature Version 4 signing process", S3 "Authenticating Requests (AWS Signature Version 4)".

use std::cell::RefCell;
use std::time::SystemTime;

use zeroize::{Zeroize, Zeroizing};

use crate::headers::{Headers, HeadersMut, KnownHeader};
use crate::sigv4::canonical::{
    ALGORITHM, CanonicalRequest, SERVICE, TERMINATOR, canonical_path, hmac, signing_key,
};
use crate::sigv4::{SignatureChain, Timestamp, UNSIGNED_PAYLOAD};
use crate::target::split_query;

/// The credentials of a signer.
#[derive(Clone, Copy)]
pub struct SigningCredentials<'a> {
    /// The ID of the access key.
    pub access_key_id: &'a str,
    /// The secret of the access key.
    pub secret_access_key: &'a str,
    /// The session token of temporary credentials.
    pub session_token: Option<&'a str>,
}

/// Signs the requests of one bucket. Each worker thread has its own.
pub struct Signer {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    region: String,
    /// The day and its signing key.
    key: RefCell<(String, [u8; 32])>,
}

impl Signer {
    /// A signer with these credentials. The copies of the secrets are overwritten when it is dropped.
    pub fn new(credentials: SigningCredentials<'_>, region: String) -> Self {
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        Self {
            access_key_id: credentials.access_key_id.to_owned(),
            secret_access_key: secret(credentials.secret_access_key),
            session_token: credentials.session_token.map(secret),
            region,
            key: RefCell::default(),
        }
    }

    /// Adds `x-amz-date`, the session token if there is one, and `authorization`. `host` and `x-amz-content-sha256` must be set before.
    /// Returns the signature chain for the chunks of the body.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &mut impl HeadersMut,
        now: SystemTime,
    ) -> SignatureChain {
        let timestamp = Timestamp::from_time(now);
        headers.set(KnownHeader::AmzDate, timestamp.as_str());
        if let Some(token) = &self.session_token {
            headers.set_secret(KnownHeader::SecurityToken, token);
        }
        let key = self.signing_key(timestamp.date());
        let scope = format!("{}/{}/{SERVICE}/{TERMINATOR}", timestamp.date(), self.region);
        let view = headers.view();
        let names = signed_header_names(view);
        let (path, query) = split_query(target);
        let to_sign = CanonicalRequest {
            method,
            path: &canonical_path(path),
            query: query.unwrap_or_default(),
            names: &names,
            headers: view,
            authority: None,
            payload: payload_hash(view),
        }
        .string_to_sign(timestamp.as_str(), &scope);
        let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            names.join(";")
        );
        headers.set_secret(KnownHeader::Authorization, &authorization);
        SignatureChain::new(key, timestamp.into_text(), scope, signature)
    }

    fn signing_key(&self, date: &str) -> [u8; 32] {
        let mut cached = self.key.borrow_mut();
        if cached.0 != date {
            let key = signing_key(&self.secret_access_key, date, &self.region);
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
fn signed_header_names<'a>(headers: impl Headers<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        headers.names().filter(|name| *name == "host" || name.starts_with("x-amz-")).collect();
    names.sort_unstable();
    names
}

fn payload_hash<'a>(headers: impl Headers<'a>) -> &'a str {
    headers.get_text(KnownHeader::ContentSha256).unwrap_or(UNSIGNED_PAYLOAD)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sample_request::HeaderList;
    use crate::sigv4::EMPTY_SHA256;

    fn sign(target: &str, pairs: &[(&'static str, &'static str)]) -> String {
        let credentials = SigningCredentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            session_token: None,
        };
        let mut headers = HeaderList::new(pairs.iter().copied());
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        Signer::new(credentials, "us-east-1".to_owned()).sign("GET", target, &mut headers, day);
        let authorization = headers.get_text(KnownHeader::Authorization).unwrap();
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
