//! The signature work of one request, for `benches/signatures.rs`: verify the client's signature, sign for the upstream
//! (cargo feature `bench`).
//!
//! It calls the same functions as the request path.

use std::collections::HashMap;
use std::time::SystemTime;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use actix_web::http::uri::InvalidUri;
use actix_web::http::{Method, Uri, Version};
use thiserror::Error;
use tidegate_actors::{CredentialFingerprint, KeyId, SigningKey, SigningKeyId};
use tidegate_s3::signer::{Signer, SigningCredentials};
use tidegate_s3::sigv4::PresentedSignature;
use tidegate_s3::sigv4::canonical::signing_key;

use crate::request_head::{Head, HeaderEditor};

/// Why a request cannot be measured.
#[derive(Debug, Error)]
pub enum BadRequest {
    /// The target is malformed.
    #[error("request target: {0}")]
    Target(#[from] InvalidUri),
    /// A header name is malformed.
    #[error("header name: {0}")]
    Name(#[from] InvalidHeaderName),
    /// A header value is malformed.
    #[error("header value: {0}")]
    Value(#[from] InvalidHeaderValue),
}

/// One client request that is verified and signed repeatedly.
pub struct SignatureWork {
    secret: String,
    uri: Uri,
    headers: HeaderMap,
    upstream: HeaderMap,
    signer: Signer,
    keys: HashMap<SigningKeyId, SigningKey>,
}

impl SignatureWork {
    /// A GET with these headers, including `authorization`, of a client with this secret.
    ///
    /// # Errors
    /// The target or a header is malformed.
    pub fn new<'a>(
        secret: &str,
        target: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BadRequest> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let credentials = SigningCredentials {
            access_key_id: "UPSTREAM",
            secret_access_key: "upstream/secret+of/forty=characters",
            session_token: None,
        };
        Ok(Self {
            secret: secret.to_owned(),
            uri: target.parse()?,
            upstream: map.clone(),
            headers: map,
            signer: Signer::new(credentials, "us-east-1".to_owned()),
            keys: HashMap::new(),
        })
    }

    /// Verifies and signs once. With `cached`, the derived signing key of the client is reused.
    pub fn once(&mut self, cached: bool, now: SystemTime) -> bool {
        let method = Method::GET;
        let head = Head::new(&method, &self.uri, Version::HTTP_11, &self.headers);
        let Ok(Some(signature)) = PresentedSignature::from_request(head) else { return false };
        let fingerprint = CredentialFingerprint(0);
        let id = SigningKeyId::new(KeyId::new(0), fingerprint, signature.date(), signature.region());
        let known = self.keys.get(&id).filter(|_| cached).map(|key| *key.bytes());
        let key = known.unwrap_or_else(|| {
            let key = signing_key(&self.secret, signature.date(), signature.region());
            self.keys.insert(id, SigningKey::new(key));
            key
        });
        let is_right = signature.check_scope(|region| region == "us-east-1", "us-east-1").is_ok()
            && signature.check_time(now).is_ok()
            && signature.verify(head, &key).is_ok();
        if let Some(target) = self.uri.path_and_query() {
            self.signer.sign("GET", target.as_str(), &mut HeaderEditor(&mut self.upstream), now);
        }
        is_right
    }
}
