//! A SigV2 test signer, written from the S3 User Guide alone; every part of a signature can be falsified.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha1::Sha1;

use crate::auth::signer::Headers;

/// The parameters that the guide lists as signed, and `cors`, `restore`, `tagging`, which the SDKs sign too.
const SIGNED: [&str; 25] = [
    "acl",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "partNumber",
    "policy",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// The key and time of a signature.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) id: String,
    pub(super) secret: String,
    /// Clock offset in seconds.
    pub(super) ahead_seconds: i64,
    /// The prefix before the path, for virtual-hosted requests.
    pub(super) bucket: &'static str,
}

impl Signer {
    pub(super) fn new(id: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), secret: secret.to_owned(), ahead_seconds: 0, bucket: "" }
    }

    fn now(&self) -> SystemTime {
        let offset = Duration::from_secs(self.ahead_seconds.unsigned_abs());
        if self.ahead_seconds < 0 { SystemTime::now() - offset } else { SystemTime::now() + offset }
    }

    /// `Tue, 27 Mar 2007 19:36:42 GMT`
    pub(super) fn date(&self) -> String {
        httpdate::fmt_http_date(self.now())
    }

    /// Unix time, `seconds` from now.
    pub(super) fn expires(&self, seconds: i64) -> String {
        let now = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        now.saturating_add_signed(seconds).to_string()
    }

    /// The headers of a signed request; `more` are among them.
    pub(super) fn headers(&self, method: &str, target: &str, more: &[(&str, &str)]) -> Headers {
        let mut headers: Headers =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let date = self.date();
        let has_amz = more.iter().any(|(name, _)| *name == "x-amz-date");
        let line = if has_amz { "" } else { date.as_str() };
        let signature = self.signature(method, target, line, &headers);
        if !has_amz {
            headers.push(("date".to_owned(), date));
        }
        headers.push(("authorization".to_owned(), format!("AWS {}:{signature}", self.id)));
        headers
    }

    /// A presigned target. `headers` are signed; the client must send them.
    pub(super) fn presigned(
        &self,
        method: &str,
        target: &str,
        expires: &str,
        headers: &[(&str, &str)],
    ) -> String {
        let headers: Headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let signature = self.signature(method, target, expires, &headers);
        let mark = if target.contains('?') { '&' } else { '?' };
        let (id, signature) = (encode(&self.id), encode(&signature));
        format!("{target}{mark}AWSAccessKeyId={id}&Signature={signature}&Expires={expires}")
    }

    /// The form fields with the signer's identity.
    pub(super) fn form_fields(&self, policy: &str) -> Headers {
        let policy = STANDARD.encode(policy);
        let signature = self.hmac_base64(&policy);
        [("AWSAccessKeyId", self.id.clone()), ("policy", policy), ("signature", signature)]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    pub(super) fn signature(&self, method: &str, target: &str, date: &str, headers: &Headers) -> String {
        self.hmac_base64(&self.string_to_sign(method, target, date, headers))
    }

    fn string_to_sign(&self, method: &str, target: &str, date: &str, headers: &Headers) -> String {
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs =
            query.split('&').map(|pair| pair.split_once('=').map_or((pair, None), |(n, v)| (n, Some(v))));
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        let moved =
            pairs.clone().filter_map(|(name, value)| Some((name.to_ascii_lowercase(), decode(value?))));
        for (name, value) in
            headers.iter().cloned().chain(moved).filter(|(name, _)| name.starts_with("x-amz-"))
        {
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => lines.push((name, vec![value])),
            }
        }
        lines.sort();
        let lines: String =
            lines.iter().map(|(name, values)| format!("{name}:{}\n", values.join(","))).collect();
        let mut signed: Vec<(&str, Option<&str>)> = pairs.filter(|(name, _)| SIGNED.contains(name)).collect();
        signed.sort_unstable();
        let signed: Vec<String> = signed
            .into_iter()
            .map(|(name, value)| value.map_or(name.to_owned(), |value| format!("{name}={}", decode(value))))
            .collect();
        let mark = if signed.is_empty() { "" } else { "?" };
        format!(
            "{method}\n{}\n{}\n{date}\n{lines}{}{path}{mark}{}",
            value("content-md5"),
            value("content-type"),
            self.bucket,
            signed.join("&")
        )
    }

    pub(super) fn hmac_base64(&self, text: &str) -> String {
        let mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).unwrap();
        STANDARD.encode(mac.chain_update(text).finalize().into_bytes())
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}
