//! A test signer, written from the specification alone; every part of a signature can be falsified.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::support::SeenRequest;

/// The host that `support::request` sends.
pub(crate) const HOST: &str = "gateway.test";

/// The key, time and scope of a signature.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// Clock offset in seconds.
    pub(crate) ahead_seconds: i64,
}

pub(crate) type Headers = Vec<(String, String)>;

impl Signer {
    pub(crate) fn new(id: &str, secret: &str) -> Self {
        let owned = str::to_owned;
        Self {
            id: owned(id),
            secret: owned(secret),
            region: owned("us-east-1"),
            service: owned("s3"),
            ahead_seconds: 0,
        }
    }

    /// `20130524T000000Z`
    pub(crate) fn timestamp(&self) -> String {
        let offset = Duration::from_secs(self.ahead_seconds.unsigned_abs());
        let now = SystemTime::now();
        let at = OffsetDateTime::from(if self.ahead_seconds < 0 { now - offset } else { now + offset });
        let (date, time) = (at.date(), at.time());
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }

    fn scope(&self, timestamp: &str) -> String {
        format!("{}/{}/{}/aws4_request", &timestamp[..8], self.region, self.service)
    }

    /// The headers of a signed request with this payload hash; `more` are signed too.
    pub(crate) fn headers(
        &self,
        method: &str,
        target: &str,
        payload: &str,
        more: &[(&str, &str)],
    ) -> Headers {
        let timestamp = self.timestamp();
        let mut signed: Headers = vec![
            ("host".to_owned(), HOST.to_owned()),
            ("x-amz-content-sha256".to_owned(), payload.to_owned()),
            ("x-amz-date".to_owned(), timestamp.clone()),
        ];
        signed.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        signed.sort();
        let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let signature = self.signature(method, target, &signed, payload, &timestamp);
        let scope = self.scope(&timestamp);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.id
        );
        signed.retain(|(name, _)| name != "host");
        signed.push(("authorization".to_owned(), authorization));
        signed
    }

    /// A presigned target. The target's own path and query must be encoded in S3's way.
    pub(crate) fn presigned(&self, method: &str, target: &str, expires: &str) -> String {
        let timestamp = self.timestamp();
        let credential = format!("{}/{}", self.id, self.scope(&timestamp)).replace('/', "%2F");
        let mark = if target.contains('?') { '&' } else { '?' };
        let target = format!(
            "{target}{mark}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={timestamp}\
             &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host"
        );
        let host = [("host".to_owned(), HOST.to_owned())];
        let signature = self.signature(method, &target, &host, "UNSIGNED-PAYLOAD", &timestamp);
        format!("{target}&X-Amz-Signature={signature}")
    }

    /// Whether an upstream's request has this signer's signature over `target`, which is encoded in S3's way.
    pub(crate) fn has_signed(&self, seen: &SeenRequest, target: &str) -> bool {
        let authorization = seen.header("authorization").unwrap_or_default();
        let part = |name: &str| {
            let (_, rest) = authorization.split_once(name).unwrap();
            rest.split(',').next().unwrap().to_owned()
        };
        let value = |name: &str| seen.headers_named(name).join(",");
        let names = part("SignedHeaders=");
        let signed: Headers = names.split(';').map(|name| (name.to_owned(), value(name))).collect();
        let (payload, timestamp) = (value("x-amz-content-sha256"), value("x-amz-date"));
        let payload = if payload.is_empty() { "UNSIGNED-PAYLOAD".to_owned() } else { payload };
        self.signature(&seen.method, target, &signed, &payload, &timestamp) == part("Signature=")
    }

    fn signature(
        &self,
        method: &str,
        target: &str,
        signed: &[(String, String)],
        payload: &str,
        timestamp: &str,
    ) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        pairs.sort();
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let request = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{payload}", pairs.join("&"));
        let text = format!(
            "AWS4-HMAC-SHA256\n{timestamp}\n{}\n{}",
            self.scope(timestamp),
            hex::encode(Sha256::digest(request))
        );
        hex::encode(hmac(&self.key(timestamp), &text))
    }

    /// The form fields with the signer's identity.
    pub(crate) fn form_fields(&self) -> Headers {
        let timestamp = self.timestamp();
        let credential = format!("{}/{}", self.id, self.scope(&timestamp));
        let fields = [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("x-amz-credential", credential),
            ("x-amz-date", timestamp),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The form fields with a policy and its signature.
    pub(crate) fn sign_policy(&self, policy: &str) -> Headers {
        let policy = STANDARD.encode(policy);
        let signature = hex::encode(hmac(&self.key(&self.timestamp()), &policy));
        vec![("policy".to_owned(), policy), ("x-amz-signature".to_owned(), signature)]
    }

    fn key(&self, timestamp: &str) -> [u8; 32] {
        let mut key = hmac(format!("AWS4{}", self.secret).as_bytes(), &timestamp[..8]);
        for step in [&self.region, &self.service, "aws4_request"] {
            key = hmac(&key, step);
        }
        key
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().into()
}
