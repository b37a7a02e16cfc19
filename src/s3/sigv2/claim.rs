//! The SigV2 signature of a request: reading it, and checking it against the clock and the secret.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING, DATE, HeaderMap, HeaderName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::http::edge::Head;
use crate::s3::sigv2::canonical::{is_hmac, lines, resources, signature_bytes};
use crate::s3::sigv2::{Place, Version2Rejection, query};
use crate::s3::sigv4::query::{name_of, pairs, text_of, value_of};
use crate::s3::sigv4::{
    PayloadHash, SECURITY_TOKEN, SKEW_MAX, SignatureMismatch, SignatureRejection, Timestamp, Verified,
    header_token, is_s3_secret, query as version_4,
};

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// Headers of a body in chunks.
const CHUNKED: [&str; 2] = ["x-amz-decoded-content-length", "x-amz-trailer"];

/// A signature and what it names, before it is verified.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    place: Place,
    access_key_id: Cow<'a, str>,
    /// In base64.
    signature: Cow<'a, str>,
    /// The fourth line of the string to sign.
    date: Cow<'a, [u8]>,
    time: Time,
    /// The session token of a temporary key.
    token: Option<Cow<'a, str>>,
}

#[derive(Debug)]
enum Time {
    /// When it was signed.
    Signed(SystemTime),
    /// Until when a presigned URL is valid.
    Until(SystemTime),
}

/// Whether a request has any part of a SigV2 signature.
pub(crate) fn is_offered(head: Head<'_>) -> bool {
    let is_version_2 = |value: &[u8]| value == b"AWS" || value.starts_with(b"AWS ");
    head.headers.get_all(AUTHORIZATION).any(|value| is_version_2(value.as_bytes()))
        || query::presigns(head.uri.query().unwrap_or_default())
}

/// Refuses a request with a second proof of identity. A session token in the query of a presigned URL is no second one.
pub(crate) fn check_alone(head: Head<'_>) -> Result<(), SignatureRejection> {
    let query = head.uri.query().unwrap_or_default();
    let presigns = query::presigns(query);
    let is_token = |pair: &str| presigns && name_of(pair).eq_ignore_ascii_case(SECURITY_TOKEN.as_str());
    let beside = pairs(query).any(|pair| version_4::presigns(pair) && !is_token(pair));
    let count = head.headers.get_all(AUTHORIZATION).count() + usize::from(presigns);
    if beside || count > 1 { Err(SignatureRejection::Ambiguous) } else { Ok(()) }
}

impl<'a> Claim<'a> {
    /// Reads the signature of a request that offers one.
    pub(crate) fn of(head: Head<'a>) -> Result<Self, SignatureRejection> {
        let query = head.uri.query().unwrap_or_default();
        if query::presigns(query) { Self::presigned(query, head.headers) } else { Self::header(head.headers) }
    }

    fn presigned(query: &'a str, headers: &'a HeaderMap) -> Result<Self, SignatureRejection> {
        let [access_key_id, signature, expires] = query::presigned(query)?;
        let is_number = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = is_number.then(|| expires.parse().ok()).flatten().map(Duration::from_secs);
        let end = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds));
        let what = "Expires is not a number of seconds since 1970";
        let end = end.ok_or(Version2Rejection::Malformed(Place::Query, what.into()))?;
        let date = match expires {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        let token = match (query_token(query)?, header_token(headers)?) {
            (Some(_), Some(_)) => return Err(SignatureRejection::Token),
            (token, header) => token.or(header.map(Cow::Borrowed)),
        };
        Ok(Self { place: Place::Query, access_key_id, signature, date, time: Time::Until(end), token })
    }

    fn header(headers: &'a HeaderMap) -> Result<Self, SignatureRejection> {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let pair =
            value.and_then(|text| text.strip_prefix("AWS ")).and_then(|pair| pair.trim().rsplit_once(':'));
        let what = "it is not AWS ACCESS-KEY-ID:SIGNATURE";
        let (id, signature) = pair
            .filter(|(id, signature)| !id.is_empty() && !signature.is_empty())
            .ok_or(Version2Rejection::Malformed(Place::Header, what.into()))?;
        let (date, signed) = header_date(headers)?;
        Ok(Self {
            place: Place::Header,
            access_key_id: id.into(),
            signature: signature.into(),
            date: date.into(),
            time: Time::Signed(signed),
            token: header_token(headers)?.map(Cow::Borrowed),
        })
    }

    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The session token of a temporary key.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Checks the claim against the clock. `lifetime_max` is how far ahead the end of a presigned URL may lie.
    pub(crate) fn check_time(
        &self,
        now: SystemTime,
        lifetime_max: Duration,
    ) -> Result<(), SignatureRejection> {
        let distance = |at: SystemTime| now.duration_since(at).unwrap_or_else(|error| error.duration());
        let text = |at: SystemTime| Timestamp::of(at).extended();
        match self.time {
            Time::Signed(at) if distance(at) > SKEW_MAX => {
                Err(SignatureRejection::Skewed { signed: text(at), now: text(now) })
            }
            Time::Until(end) if end < now => {
                Err(Version2Rejection::Expired { expires: text(end), now: text(now) }.into())
            }
            Time::Until(end) if distance(end) > lifetime_max => {
                Err(Version2Rejection::TooFarAhead { max: lifetime_max }.into())
            }
            Time::Signed(_) | Time::Until(_) => Ok(()),
        }
    }

    /// Whether the signature is the secret's. `bucket` is the bucket's name where the host holds it.
    pub(crate) fn verify(
        &self,
        head: Head<'_>,
        bucket: Option<&str>,
        secret: &str,
    ) -> Result<Verified, SignatureRejection> {
        let payload = payload(head.headers)?;
        let given = signature_bytes(&self.signature)?;
        let lines = lines(head, &self.date, self.place, |_| false)?;
        let resources = resources(head.uri, bucket, self.place)?;
        if resources.iter().any(|resource| is_hmac(secret, [&lines, resource], &given)) {
            Ok(Verified { payload, seed: None })
        } else {
            Err(SignatureRejection::Mismatch)
        }
    }

    /// What the answer shows of a signature that does not match.
    pub(crate) fn mismatch(&self, head: Head<'_>, bucket: Option<&str>) -> SignatureMismatch {
        let lines = lines(head, &self.date, self.place, is_s3_secret).unwrap_or_default();
        let resources = resources(head.uri, bucket, self.place).unwrap_or_default();
        let resource = resources.into_iter().next().unwrap_or_default();
        SignatureMismatch::new(&self.access_key_id, &self.signature, &[lines, resource].concat())
    }
}

/// The line of the string to sign, and the moment. `x-amz-date` is signed as a header, and the line is then empty.
fn header_date(headers: &HeaderMap) -> Result<(&[u8], SystemTime), SignatureRejection> {
    let is_amz = headers.contains_key(AMZ_DATE);
    let mut values = headers.get_all(if is_amz { AMZ_DATE } else { DATE });
    let (Some(value), None) = (values.next(), values.next()) else { return Err(SignatureRejection::NoDate) };
    let moment = value.to_str().ok().and_then(|text| moment_of(text.trim()));
    let line = if is_amz { &b""[..] } else { value.as_bytes().trim_ascii() };
    moment.map(|moment| (line, moment)).ok_or(SignatureRejection::NoDate)
}

/// A date of HTTP, also with a numeric zone as in S3's examples, or in the form of SigV4. To S3 one before 1970 is no date.
fn moment_of(text: &str) -> Option<SystemTime> {
    let of_mail = || OffsetDateTime::parse(text, &Rfc2822).ok().map(SystemTime::from);
    let of_http = httpdate::parse_http_date(text).ok();
    let moment = of_http.or_else(|| Timestamp::parse(text).map(|at| at.moment())).or_else(of_mail);
    moment.filter(|moment| *moment >= SystemTime::UNIX_EPOCH)
}

/// The session token in the query, once.
fn query_token(query: &str) -> Result<Option<Cow<'_, str>>, SignatureRejection> {
    let mut tokens = pairs(query).filter(|pair| name_of(pair).eq_ignore_ascii_case(SECURITY_TOKEN.as_str()));
    match (tokens.next(), tokens.next()) {
        (None, _) => Ok(None),
        (Some(pair), None) => Ok(Some(text_of(value_of(pair)))),
        (Some(_), Some(_)) => Err(SignatureRejection::Token),
    }
}

/// The hash that the body must have, if the client sends one. SigV2 does not require it.
fn payload(headers: &HeaderMap) -> Result<PayloadHash, SignatureRejection> {
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked");
    let mut codings =
        headers.get_all(CONTENT_ENCODING).flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let chunks = CHUNKED.iter().any(|name| headers.contains_key(*name)) || codings.any(is_chunked);
    match PayloadHash::header(headers)?.map_or(Ok(PayloadHash::Unsigned), PayloadHash::parse)? {
        PayloadHash::SignedChunks { .. } | PayloadHash::UnsignedTrailer => {
            Err(Version2Rejection::Chunks.into())
        }
        _ if chunks => Err(Version2Rejection::Chunks.into()),
        payload => Ok(payload),
    }
}
