//! The signature work of one request, for `benches/signatures.rs`: verify the client's, sign for the upstream.
//!
//! Only builds with the cargo feature `bench` have it. It is the request path's own code, without what surrounds it.

use std::collections::HashMap;
use std::time::SystemTime;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use actix_web::http::uri::InvalidUri;
use actix_web::http::{Method, Uri, Version};
use thiserror::Error;
use tidegate_actors::{KeyId, SigningKey, SigningKeyId};
use tidegate_config::{Credentials, Secret};

use crate::http::edge::Head;
use crate::s3::sign::Signer;
use crate::s3::sigv4::Claim;
use crate::s3::sigv4::canonical::signing_key;

/// What cannot be measured.
#[derive(Debug, Error)]
pub enum BadRequest {
    /// The target is none.
    #[error("the target: {0}")]
    Target(#[from] InvalidUri),
    /// A header's name is none.
    #[error("a header's name: {0}")]
    Name(#[from] InvalidHeaderName),
    /// A header's value is none.
    #[error("a header's value: {0}")]
    Value(#[from] InvalidHeaderValue),
}

/// One client's request, again and again.
pub struct SignatureWork {
    secret: String,
    uri: Uri,
    headers: HeaderMap,
    upstream: HeaderMap,
    signer: Signer,
    keys: HashMap<SigningKeyId, SigningKey>,
}

impl SignatureWork {
    /// A GET with these headers, `authorization` among them, by a client with this secret.
    ///
    /// # Errors
    /// It is no request.
    pub fn new<'a>(
        secret: &str,
        target: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BadRequest> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let credentials = Credentials {
            access_key_id: "UPSTREAM".to_owned(),
            secret_access_key: Secret::new("upstream/secret+of/forty=characters"),
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

    /// Verifies and signs once. With `cached`, the client's signing key is kept from one time to the next.
    pub fn once(&mut self, cached: bool, now: SystemTime) -> bool {
        let method = Method::GET;
        let head =
            Head { method: &method, uri: &self.uri, version: Version::HTTP_11, headers: &self.headers };
        let Ok(Some(claim)) = Claim::of(head) else { return false };
        let id = SigningKeyId::new(KeyId::new(0), claim.date(), claim.region());
        let known = self.keys.get(&id).filter(|_| cached).map(SigningKey::bytes);
        let key = known.unwrap_or_else(|| {
            let key = signing_key(&self.secret, claim.date(), claim.region());
            self.keys.insert(id, SigningKey::new(key));
            key
        });
        let is_right = claim.check_scope(|region| region == "us-east-1", "us-east-1").is_ok()
            && claim.check_time(now).is_ok()
            && claim.verify(head, &key).is_ok();
        if let Some(target) = self.uri.path_and_query() {
            self.signer.sign("GET", target, &mut self.upstream, now);
        }
        is_right
    }
}
