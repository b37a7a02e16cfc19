//! The SigV4 signature of a request: reads it from the header or the query, and checks clock, scope and signature.
//!
//! A client must sign `host` and every `x-amz-*` and `x-minio-*` header that it sends. An unsigned one may have been added on
//! the path, and the store would obey it. The exceptions are `CDN_HEADERS`, which the gateway removes. An ambiguous request (two
//! signatures, a repeated name, a name in another case) is rejected.
//!
//! The signature may cover the canonical path or the path as it was sent: signers differ in the characters that they leave unencoded, and
//! both spellings name the same object.
//!
//! Sources: S3 "Authenticating Requests: Using the Authorization Header" and "…: Using Query Parameters".

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq;

use crate::error_document::shortened;
use crate::headers::{Headers, KnownHeader, ascii_text};
use crate::request::RequestHead;
use crate::sigv4::canonical::{
    ALGORITHM, CanonicalRequest, SERVICE, TERMINATOR, canonical_path, verify_hmac,
};
use crate::sigv4::query::{self, PresignParameters};
use crate::sigv4::rejection::{SignatureLocation, Validity};
use crate::sigv4::{
    CDN_HEADERS, PayloadHash, SignatureChain, SignatureMismatch, SignatureRejection, Timestamp,
};

/// The maximum difference between a client's clock and the gateway's.
pub const SKEW_MAX: Duration = Duration::from_secs(15 * 60);
/// The prefixes of headers that must be signed: S3's, and MinIO's, which override protections.
const STORE_PREFIXES: [&str; 2] = ["x-amz-", "x-minio-"];

/// A signature and its parameters. It is not verified yet.
#[derive(Debug)]
pub struct PresentedSignature<'a> {
    pub(super) location: SignatureLocation,
    pub(super) scope: CredentialScope<'a>,
    pub(super) timestamp: Timestamp,
    /// The lifetime of a presigned URL or a form; none for a signature in a header.
    pub(super) lifetime: Option<Duration>,
    /// `host;x-amz-date`.
    pub(super) signed_headers: Cow<'a, str>,
    /// Hexadecimal digits, as the client sent them.
    pub(super) signature: Cow<'a, str>,
    pub(super) payload: Cow<'a, str>,
    /// The session token of a temporary key.
    pub(super) session_token: Option<Cow<'a, str>>,
}

/// A request with a verified signature.
pub struct VerifiedSignature {
    /// The hash that the body must have.
    pub payload: PayloadHash,
    /// The chain of the chunks' signatures, if the body has signed chunks.
    pub signature_chain: Option<SignatureChain>,
}

/// `AKID/20130524/us-east-1/s3/aws4_request`. Only the ID may have slashes. The region may be empty.
#[derive(Debug)]
pub(super) struct CredentialScope<'a> {
    credential: Cow<'a, str>,
    id_len: usize,
}

impl<'a> CredentialScope<'a> {
    pub(super) fn parse(credential: Cow<'a, str>) -> Option<Self> {
        let parts: Vec<&str> = credential.rsplitn(5, '/').collect();
        let &[_, _, _, date, id] = parts.as_slice() else { return None };
        let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        let id_len = id.len();
        (is_date && id_len > 0).then_some(Self { credential, id_len })
    }

    fn id(&self) -> &str {
        &self.credential[..self.id_len]
    }

    /// The scope without the ID.
    fn text(&self) -> &str {
        &self.credential[self.id_len + 1..]
    }

    fn part(&self, at: usize) -> &str {
        self.text().split('/').nth(at).unwrap_or_default()
    }
}

/// Whether a request has an `Authorization` header or any part of a presigned signature.
pub fn is_auth_presented<'a>(head: impl RequestHead<'a>) -> bool {
    head.headers().contains(KnownHeader::Authorization) || query::is_presigned(head.query())
}

impl<'a> PresentedSignature<'a> {
    /// Reads the request's signature; none if it has no part of one.
    pub fn from_request(head: impl RequestHead<'a>) -> Result<Option<Self>, SignatureRejection> {
        let headers = head.headers();
        let mut authorizations = headers.get_all(KnownHeader::Authorization);
        let presign = PresignParameters::parse(head.query())?;
        match (authorizations.next(), presign) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SignatureRejection::Ambiguous),
            (Some(_), None) if authorizations.next().is_some() => Err(SignatureRejection::Ambiguous),
            (Some(value), None) => {
                let malformed =
                    SignatureRejection::Malformed(SignatureLocation::Header, "it is not ASCII text");
                Self::from_header(ascii_text(value).ok_or(malformed)?, headers).map(Some)
            }
            (None, Some(presign)) => Self::from_parameters(presign, headers).map(Some),
        }
    }

    fn from_header(value: &'a str, headers: impl Headers<'a>) -> Result<Self, SignatureRejection> {
        let malformed = |what| SignatureRejection::Malformed(SignatureLocation::Header, what);
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        match scheme {
            ALGORITHM => {}
            "AWS4-ECDSA-P256-SHA256" => {
                return Err(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)"));
            }
            _ => return Err(SignatureRejection::UnsupportedScheme),
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for component in rest.split(',').map(str::trim) {
            let (name, value) = component.split_once('=').unwrap_or((component, ""));
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has three components: Credential, SignedHeaders, Signature")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("a component is repeated"));
            }
        }
        let (Some(credential), Some(signed_headers), Some(signature)) =
            (credential, signed_headers, signature)
        else {
            return Err(malformed("it needs three components: Credential, SignedHeaders, Signature"));
        };
        let invalid_credential =
            malformed("the Credential is not ACCESS-KEY-ID/YYYYMMDD/REGION/s3/aws4_request");
        let scope = CredentialScope::parse(credential.into()).ok_or(invalid_credential)?;
        let timestamp = header_timestamp(headers)?;
        let payload = PayloadHash::header_value(headers)?.ok_or(SignatureRejection::MissingContentSha256)?;
        Ok(Self {
            location: SignatureLocation::Header,
            scope,
            timestamp,
            lifetime: None,
            signed_headers: signed_headers.into(),
            signature: signature.into(),
            payload: payload.into(),
            session_token: header_session_token(headers)?.map(Cow::Borrowed),
        })
    }

    /// The ID of the key.
    pub fn access_key_id(&self) -> &str {
        self.scope.id()
    }

    /// The day of the signing key.
    pub fn date(&self) -> &str {
        self.scope.part(0)
    }

    /// The region of the scope.
    pub fn region(&self) -> &str {
        self.scope.part(1)
    }

    /// Checks the scope: its service, its date, and its region with `accepts`. `expected` is the region in the error.
    pub fn check_scope(
        &self,
        accepts: impl Fn(&str) -> bool,
        expected: &str,
    ) -> Result<(), SignatureRejection> {
        let malformed = |what| Err(SignatureRejection::Malformed(self.location, what));
        if self.scope.part(3) != TERMINATOR {
            return malformed("the scope does not end with aws4_request");
        }
        if self.scope.part(2) != SERVICE {
            return malformed("the scope's service is not s3");
        }
        if self.date() != self.timestamp.date() {
            return malformed("the scope's date is not that of the request");
        }
        if accepts(self.region()) {
            return Ok(());
        }
        let given = shortened(self.region());
        Err(SignatureRejection::WrongRegion { location: self.location, given, expected: expected.to_owned() })
    }

    /// The session token of a temporary key.
    pub fn token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Checks the signature's time against the clock.
    pub fn check_time(&self, now: SystemTime) -> Result<(), SignatureRejection> {
        let (age, lead) = (self.timestamp.age(now), self.timestamp.lead(now));
        let validity = |lifetime| {
            let text = |time| Timestamp::from_time(time).to_iso8601();
            Validity { lifetime, expires: text(self.timestamp.to_time() + lifetime), now: text(now) }
        };
        match self.lifetime {
            Some(lifetime) if lead > SKEW_MAX => Err(SignatureRejection::NotYetValid(validity(lifetime))),
            Some(lifetime) if age > lifetime => Err(SignatureRejection::Expired(validity(lifetime))),
            None if age > SKEW_MAX || lead > SKEW_MAX => Err(SignatureRejection::ClockSkewed {
                signed: self.timestamp.to_iso8601(),
                now: Timestamp::from_time(now).to_iso8601(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The payload hash that the signature covers.
    pub fn payload_hash(&self) -> Result<PayloadHash, SignatureRejection> {
        PayloadHash::parse(&self.payload)
    }

    /// Verifies the signature. `key` is the signing key for the scope's date and region.
    pub fn verify<'h>(
        &self,
        head: impl RequestHead<'h>,
        key: &[u8; 32],
    ) -> Result<VerifiedSignature, SignatureRejection> {
        let payload = self.payload_hash()?;
        let names = self.signed_header_names(head)?;
        let given = self.signature_bytes()?;
        let raw = head.path();
        let path = canonical_path(raw);
        let canonical = self.canonical(head, &path, &names);
        let matches = |canonical: CanonicalRequest<'_, _>| {
            let text = canonical.string_to_sign(self.timestamp.as_str(), self.scope.text());
            verify_hmac(key, text.as_bytes(), &given)
        };
        if !matches(canonical) && (path == raw || !matches(CanonicalRequest { path: raw, ..canonical })) {
            return Err(SignatureRejection::Mismatch);
        }
        let signature_chain = matches!(payload, PayloadHash::SignedChunks { .. }).then(|| {
            let scope = self.scope.text().to_owned();
            SignatureChain::new(
                *key,
                self.timestamp.as_str().to_owned(),
                scope,
                self.signature.clone().into_owned(),
            )
        });
        Ok(VerifiedSignature { payload, signature_chain })
    }

    fn canonical<'b, 'h: 'b>(
        &'b self,
        head: impl RequestHead<'h>,
        path: &'b str,
        names: &'b [&'b str],
    ) -> CanonicalRequest<'b, impl Headers<'h>> {
        CanonicalRequest {
            method: head.method(),
            path,
            query: head.query(),
            names,
            headers: head.headers(),
            authority: head.authority(),
            payload: &self.payload,
        }
    }

    /// The elements of the reply to a signature that does not match. `is_secret` selects query parameters with secrets.
    pub fn mismatch<'h>(
        &self,
        head: impl RequestHead<'h>,
        is_secret: impl Fn(&str) -> bool,
    ) -> SignatureMismatch {
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        let path = canonical_path(head.path());
        let canonical = self.canonical(head, &path, &names);
        let text = canonical.string_to_sign(self.timestamp.as_str(), self.scope.text());
        SignatureMismatch::new(self.access_key_id(), &self.signature, text.as_bytes())
            .with_request(&canonical, is_secret)
    }

    /// The bytes of the signature. Its hexadecimal digits must be in lower case.
    pub(super) fn signature_bytes(&self) -> Result<[u8; 32], SignatureRejection> {
        let mut given = [0; 32];
        let is_lower = !self.signature.bytes().any(|byte| byte.is_ascii_uppercase());
        if is_lower && hex::decode_to_slice(self.signature.as_bytes(), &mut given).is_ok() {
            Ok(given)
        } else {
            Err(SignatureRejection::Mismatch)
        }
    }

    /// The names of the signed headers. Each of them must be in the request, and they must include each header that must be signed.
    fn signed_header_names<'h>(&self, head: impl RequestHead<'h>) -> Result<Vec<&str>, SignatureRejection> {
        let headers = head.headers();
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        let has_host = headers.contains(KnownHeader::Host) || head.authority().is_some();
        for (at, name) in names.iter().enumerate() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
            if name.is_empty() || !is_name || names[..at].contains(name) {
                return Err(SignatureRejection::Malformed(
                    self.location,
                    "SignedHeaders is not a list of header names in lower case, each once",
                ));
            }
            let is_present = headers.contains_named(name) || (*name == "host" && has_host);
            if !is_present {
                return Err(SignatureRejection::Mismatch);
            }
        }
        if !names.contains(&"host") {
            return Err(SignatureRejection::HeaderNotSigned("host".to_owned()));
        }
        let must_be_signed = |name: &str| {
            // A presigned URL signs UNSIGNED-PAYLOAD, or the header's value as the payload line of the canonical request.
            let is_payload =
                self.location == SignatureLocation::Query && name == KnownHeader::ContentSha256.as_str();
            STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_payload
        };
        let is_missing =
            |name: &&str| must_be_signed(name) && !names.contains(name) && !CDN_HEADERS.contains(name);
        match headers.names().find(is_missing) {
            Some(name) => Err(SignatureRejection::HeaderNotSigned(name.to_owned())),
            None => Ok(names),
        }
    }
}

/// Compares a request's session token with that of its key. A temporary key without its token counts as unknown, as in S3.
pub fn check_session_token(expected: Option<&str>, given: Option<&str>) -> Result<(), SignatureRejection> {
    match (expected, given) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(SignatureRejection::UnknownKey),
        (Some(expected), Some(given)) if bool::from(expected.as_bytes().ct_eq(given.as_bytes())) => Ok(()),
        (_, Some(_)) => Err(SignatureRejection::InvalidSessionToken),
    }
}

/// The session token in the headers. Two tokens are an error.
pub(crate) fn header_session_token<'a>(
    headers: impl Headers<'a>,
) -> Result<Option<&'a str>, SignatureRejection> {
    let mut tokens = headers.get_all(KnownHeader::SecurityToken);
    let Some(token) = tokens.next() else { return Ok(None) };
    let text = ascii_text(token).filter(|_| tokens.next().is_none());
    text.map(|text| Some(text.trim())).ok_or(SignatureRejection::InvalidSessionToken)
}

/// The time in `x-amz-date`, else in `date` in either of its formats.
fn header_timestamp<'a>(headers: impl Headers<'a>) -> Result<Timestamp, SignatureRejection> {
    let is_amz = headers.contains(KnownHeader::AmzDate);
    let mut values = headers.get_all(if is_amz { KnownHeader::AmzDate } else { KnownHeader::Date });
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(SignatureRejection::MissingDate);
    };
    let text = ascii_text(value).ok_or(SignatureRejection::MissingDate)?.trim();
    let http_date =
        || (!is_amz).then(|| httpdate::parse_http_date(text).ok()).flatten().map(Timestamp::from_time);
    Timestamp::parse(text).or_else(http_date).ok_or(SignatureRejection::MissingDate)
}

#[cfg(test)]
#[path = "presented_signature_tests.rs"]
mod tests;
