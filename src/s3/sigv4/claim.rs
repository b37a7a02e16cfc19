//! What a request says of who signed it, when, for where and over what; and whether that holds.
//!
//! A client must sign `host` and every `x-amz-*` header it sends: what is not signed could be another's, and would mean
//! something upstream. The exceptions are `CDN_HEADERS`, which the gateway removes. What could be read in two ways
//! (two proofs, a name twice, a name in another case) is refused. The path is taken as the server computes it,
//! decoded and encoded anew, or else as it was sent: signers differ in what they leave unencoded, and both spellings
//! name the same object.
//!
//! Sources: S3 "Authenticating Requests: Using the Authorization Header" and "…: Using Query Parameters".

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use subtle::ConstantTimeEq;

use crate::http::edge::Head;
use crate::s3::sign::CONTENT_SHA256;
use crate::s3::sigv4::canonical::{ALGORITHM, Canonical, SERVICE, TERMINATOR, canonical_path, is_hmac};
use crate::s3::sigv4::query::{self, Presigning};
use crate::s3::sigv4::rejection::Place;
use crate::s3::sigv4::{CDN_HEADERS, PayloadHash, Seed, SignatureMismatch, SignatureRejection, Timestamp};

/// How far a client's clock may be from the gateway's.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(15 * 60);
pub(crate) const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const DATE: HeaderName = HeaderName::from_static("date");

/// A signature and everything it names, not yet believed.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pub(super) place: Place,
    pub(super) scope: Scope<'a>,
    pub(super) timestamp: Timestamp,
    /// How long a presigned URL holds.
    pub(super) lifetime: Option<Duration>,
    /// `host;x-amz-date`.
    pub(super) signed: Cow<'a, str>,
    /// As the client spelt it.
    pub(super) signature: Cow<'a, str>,
    pub(super) payload: Cow<'a, str>,
    /// What a client with a temporary key sends besides.
    pub(super) token: Option<Cow<'a, str>>,
}

/// A request whose signature is the key's.
pub(crate) struct Verified {
    /// What the body must turn out to be.
    pub(crate) payload: PayloadHash,
    /// What the signatures of its chunks go on from.
    pub(crate) seed: Option<Seed>,
}

/// `AKID/20130524/us-east-1/s3/aws4_request`; an ID may hold slashes, the rest may not. The region may be empty.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    credential: Cow<'a, str>,
    id_len: usize,
}

impl<'a> Scope<'a> {
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

/// Whether a request says that it is somebody's, in whatever way.
pub(crate) fn offers_proof(head: Head<'_>) -> bool {
    head.headers.contains_key(AUTHORIZATION) || query::offers_proof(head.uri.query().unwrap_or_default())
}

impl<'a> Claim<'a> {
    /// Reads the request's signature; none where it offers no proof at all.
    pub(crate) fn of(head: Head<'a>) -> Result<Option<Self>, SignatureRejection> {
        let mut authorizations = head.headers.get_all(AUTHORIZATION);
        let presigning = Presigning::of(head.uri.query().unwrap_or_default())?;
        match (authorizations.next(), presigning) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SignatureRejection::Ambiguous),
            (Some(_), None) if authorizations.next().is_some() => Err(SignatureRejection::Ambiguous),
            (Some(value), None) => {
                let malformed = SignatureRejection::Malformed(Place::Header, "it is not plain text");
                Self::from_header(value.to_str().map_err(|_| malformed)?, head.headers).map(Some)
            }
            (None, Some(presigning)) => presigning.claim(head.headers).map(Some),
        }
    }

    fn from_header(value: &'a str, headers: &'a HeaderMap) -> Result<Self, SignatureRejection> {
        let malformed = |what| SignatureRejection::Malformed(Place::Header, what);
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        match scheme {
            ALGORITHM => {}
            "AWS4-ECDSA-P256-SHA256" => {
                return Err(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)"));
            }
            _ => return Err(SignatureRejection::Scheme),
        }
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for component in rest.split(',').map(str::trim) {
            let (name, value) = component.split_once('=').unwrap_or((component, ""));
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has three components: Credential, SignedHeaders, Signature")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("a component stands in it twice"));
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature) else {
            return Err(malformed("it needs three components: Credential, SignedHeaders, Signature"));
        };
        let form = malformed("the Credential is not ACCESS-KEY-ID/YYYYMMDD/REGION/s3/aws4_request");
        let scope = Scope::parse(credential.into()).ok_or(form)?;
        let timestamp = header_timestamp(headers)?;
        let payload = PayloadHash::header(headers)?.ok_or(SignatureRejection::NoContentSha256)?;
        Ok(Self {
            place: Place::Header,
            scope,
            timestamp,
            lifetime: None,
            signed: signed.into(),
            signature: signature.into(),
            payload: payload.into(),
            token: header_token(headers)?.map(Cow::Borrowed),
        })
    }

    pub(crate) fn access_key_id(&self) -> &str {
        self.scope.id()
    }

    /// The day of the signing key.
    pub(crate) fn date(&self) -> &str {
        self.scope.part(0)
    }

    pub(crate) fn region(&self) -> &str {
        self.scope.part(1)
    }

    /// Holds the claim against the place it was sent to.
    pub(crate) fn check_scope(
        &self,
        accepts: impl Fn(&str) -> bool,
        expected: &str,
    ) -> Result<(), SignatureRejection> {
        let malformed = |what| Err(SignatureRejection::Malformed(self.place, what));
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
        let given = self.region().chars().take(64).collect();
        Err(SignatureRejection::Region { place: self.place, given, expected: expected.to_owned() })
    }

    /// Holds the claim against the session token that its key has.
    pub(crate) fn check_token(&self, expected: Option<&str>) -> Result<(), SignatureRejection> {
        check_token(expected, self.token.as_deref())
    }

    /// Holds the claim against the clock.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), SignatureRejection> {
        let (age, lead) = (self.timestamp.age(now), self.timestamp.lead(now));
        match self.lifetime {
            Some(_) if lead > SKEW_MAX => Err(SignatureRejection::NotYetValid),
            Some(lifetime) if age > lifetime => Err(SignatureRejection::Expired { lifetime }),
            None if age > SKEW_MAX || lead > SKEW_MAX => Err(SignatureRejection::Skewed {
                signed: self.timestamp.extended(),
                now: Timestamp::of(now).extended(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the signature is that of the key for the claim's date and region.
    pub(crate) fn verify(&self, head: Head<'_>, key: &[u8; 32]) -> Result<Verified, SignatureRejection> {
        let payload = PayloadHash::parse(&self.payload)?;
        let names = self.signed_names(head)?;
        let given = self.signature_bytes()?;
        let raw = head.uri.path();
        let path = canonical_path(raw);
        let canonical = self.canonical(head, &path, &names);
        let fits = |canonical: Canonical<'_>| {
            let text = canonical.string_to_sign(self.timestamp.as_str(), self.scope.text());
            is_hmac(key, text.as_bytes(), &given)
        };
        if !fits(canonical) && (path == raw || !fits(Canonical { path: raw, ..canonical })) {
            return Err(SignatureRejection::Mismatch);
        }
        let seed = matches!(payload, PayloadHash::SignedChunks { .. }).then(|| {
            let scope = self.scope.text().to_owned();
            Seed::new(*key, self.timestamp.as_str().to_owned(), scope, self.signature.clone().into_owned())
        });
        Ok(Verified { payload, seed })
    }

    fn canonical<'b>(&'b self, head: Head<'b>, path: &'b str, names: &'b [&'b str]) -> Canonical<'b> {
        Canonical {
            method: head.method.as_str(),
            path,
            query: head.uri.query().unwrap_or_default(),
            names,
            headers: head.headers,
            authority: head.uri.authority().map(|authority| authority.as_str()),
            payload: &self.payload,
        }
    }

    /// The elements of the answer to a signature that does not match. `is_secret` finds parameters of a query that hold secrets.
    pub(crate) fn mismatch(&self, head: Head<'_>, is_secret: impl Fn(&str) -> bool) -> SignatureMismatch {
        let names: Vec<&str> = self.signed.split(';').collect();
        let path = canonical_path(head.uri.path());
        let canonical = self.canonical(head, &path, &names);
        let text = canonical.string_to_sign(self.timestamp.as_str(), self.scope.text());
        SignatureMismatch::new(self.access_key_id(), &self.signature, text.as_bytes())
            .with_request(&canonical, is_secret)
    }

    /// The signature itself; only lower-case digits are one.
    pub(super) fn signature_bytes(&self) -> Result<[u8; 32], SignatureRejection> {
        let mut given = [0; 32];
        let is_lower = !self.signature.bytes().any(|byte| byte.is_ascii_uppercase());
        if is_lower && hex::decode_to_slice(self.signature.as_bytes(), &mut given).is_ok() {
            Ok(given)
        } else {
            Err(SignatureRejection::Mismatch)
        }
    }

    /// The signed headers' names, if they are all there and none is missing that must be signed.
    fn signed_names(&self, head: Head<'_>) -> Result<Vec<&str>, SignatureRejection> {
        let names: Vec<&str> = self.signed.split(';').collect();
        let has_host = head.headers.contains_key(HOST) || head.uri.authority().is_some();
        for (at, name) in names.iter().enumerate() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
            if name.is_empty() || !is_name || names[..at].contains(name) {
                return Err(SignatureRejection::Malformed(
                    self.place,
                    "SignedHeaders is not a list of header names in lower case, each once",
                ));
            }
            let is_there = head.headers.contains_key(*name) || (*name == "host" && has_host);
            if !is_there {
                return Err(SignatureRejection::Mismatch);
            }
        }
        if !names.contains(&"host") {
            return Err(SignatureRejection::NotSigned("host".to_owned()));
        }
        let must_be_signed = |name: &str| {
            // A presigned URL says UNSIGNED-PAYLOAD or signs the hash's value as the payload's line.
            name.starts_with("x-amz-") && !(self.place == Place::Query && name == CONTENT_SHA256.as_str())
        };
        let is_missing =
            |name: &&str| must_be_signed(name) && !names.contains(name) && !CDN_HEADERS.contains(name);
        match head.headers.keys().map(HeaderName::as_str).find(is_missing) {
            Some(name) => Err(SignatureRejection::NotSigned(name.to_owned())),
            None => Ok(names),
        }
    }
}

/// Holds a session token against the one that a key has. To S3 a temporary key without its token is none that it knows.
pub(crate) fn check_token(expected: Option<&str>, given: Option<&str>) -> Result<(), SignatureRejection> {
    match (expected, given) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(SignatureRejection::UnknownKey),
        (Some(expected), Some(given)) if bool::from(expected.as_bytes().ct_eq(given.as_bytes())) => Ok(()),
        (_, Some(_)) => Err(SignatureRejection::Token),
    }
}

/// The session token in the headers, once.
pub(crate) fn header_token(headers: &HeaderMap) -> Result<Option<&str>, SignatureRejection> {
    let mut tokens = headers.get_all(SECURITY_TOKEN);
    let Some(token) = tokens.next() else { return Ok(None) };
    let text = token.to_str().ok().filter(|_| tokens.next().is_none());
    text.map(|text| Some(text.trim())).ok_or(SignatureRejection::Token)
}

/// `x-amz-date`, or else `date` in either of its forms.
fn header_timestamp(headers: &HeaderMap) -> Result<Timestamp, SignatureRejection> {
    let name = if headers.contains_key(AMZ_DATE) { AMZ_DATE } else { DATE };
    let mut values = headers.get_all(&name);
    let (Some(value), None) = (values.next(), values.next()) else { return Err(SignatureRejection::NoDate) };
    let text = value.to_str().map_err(|_| SignatureRejection::NoDate)?.trim();
    let in_words =
        || (name == DATE).then(|| httpdate::parse_http_date(text).ok()).flatten().map(Timestamp::of);
    Timestamp::parse(text).or_else(in_words).ok_or(SignatureRejection::NoDate)
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
