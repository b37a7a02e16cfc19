//! The SigV2 signature of a request (A8): reads it, and checks it against the clock and the secret.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::headers::{Headers, KnownHeader, ascii_text};
use crate::request::RequestHead;
use crate::sigv2::canonical::{canonical_resources, signature_bytes, string_to_sign_lines, verify_hmac};
use crate::sigv2::{SigV2Location, SigV2Rejection, query};
use crate::sigv4::query::{decoded_name, decoded_text, pairs, value_of};
use crate::sigv4::{
    PayloadHash, SKEW_MAX, SignatureMismatch, SignatureRejection, Timestamp, VerifiedSignature,
    header_session_token, is_s3_secret, query as sigv4_query,
};

/// Headers of an `aws-chunked` body.
const CHUNKED: [KnownHeader; 2] = [KnownHeader::DecodedLength, KnownHeader::Trailer];

/// A signature and its parameters. It is not verified yet.
#[derive(Debug)]
pub struct PresentedSigV2<'a> {
    location: SigV2Location,
    access_key_id: Cow<'a, str>,
    /// In base64.
    signature: Cow<'a, str>,
    /// The fourth line of the string to sign.
    date: Cow<'a, [u8]>,
    time: SignatureTime,
    /// The session token of a temporary key.
    session_token: Option<Cow<'a, str>>,
}

#[derive(Debug)]
enum SignatureTime {
    /// The time of signing.
    Signed(SystemTime),
    /// The expiration of a presigned URL.
    Expires(SystemTime),
}

/// Whether a request has any part of a SigV2 signature.
pub fn is_presented<'a>(head: impl RequestHead<'a>) -> bool {
    let is_sigv2 = |value: &[u8]| value == b"AWS" || value.starts_with(b"AWS ");
    head.headers().get_all(KnownHeader::Authorization).any(is_sigv2) || query::is_presigned(head.query())
}

/// Rejects a request with a second signature. A session token in the query of a presigned URL does not count as one.
pub fn check_single_auth<'a>(head: impl RequestHead<'a>) -> Result<(), SignatureRejection> {
    let query = head.query();
    let is_presigned = query::is_presigned(query);
    let is_token = |pair: &str| is_presigned && is_session_token(pair);
    let has_sigv4 = pairs(query).any(|pair| sigv4_query::is_presign_parameter(pair) && !is_token(pair));
    let count = head.headers().get_all(KnownHeader::Authorization).count() + usize::from(is_presigned);
    if has_sigv4 || count > 1 { Err(SignatureRejection::Ambiguous) } else { Ok(()) }
}

impl<'a> PresentedSigV2<'a> {
    /// Reads the signature of a request for which `is_presented` is true.
    pub fn from_request(head: impl RequestHead<'a>) -> Result<Self, SignatureRejection> {
        let query = head.query();
        if query::is_presigned(query) {
            Self::from_query(query, head.headers())
        } else {
            Self::from_header(head.headers())
        }
    }

    fn from_query(query: &'a str, headers: impl Headers<'a>) -> Result<Self, SignatureRejection> {
        let [access_key_id, signature, expires] = query::presign_parameters(query)?;
        let is_number = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = is_number.then(|| expires.parse().ok()).flatten().map(Duration::from_secs);
        let end = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds));
        let what = "Expires is not a number of seconds since 1970";
        let end = end.ok_or(SigV2Rejection::Malformed(SigV2Location::Query, what.into()))?;
        let date = match expires {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        let token = match (query_session_token(query)?, header_session_token(headers)?) {
            (Some(_), Some(_)) => return Err(SignatureRejection::InvalidSessionToken),
            (token, header) => token.or(header.map(Cow::Borrowed)),
        };
        Ok(Self {
            location: SigV2Location::Query,
            access_key_id,
            signature,
            date,
            time: SignatureTime::Expires(end),
            session_token: token,
        })
    }

    fn from_header(headers: impl Headers<'a>) -> Result<Self, SignatureRejection> {
        let value = headers.get_text(KnownHeader::Authorization);
        let pair =
            value.and_then(|text| text.strip_prefix("AWS ")).and_then(|pair| pair.trim().rsplit_once(':'));
        let what = "it is not AWS ACCESS-KEY-ID:SIGNATURE";
        let (id, signature) = pair
            .filter(|(id, signature)| !id.is_empty() && !signature.is_empty())
            .ok_or(SigV2Rejection::Malformed(SigV2Location::Header, what.into()))?;
        let (date, signed) = header_date(headers)?;
        Ok(Self {
            location: SigV2Location::Header,
            access_key_id: id.into(),
            signature: signature.into(),
            date: date.into(),
            time: SignatureTime::Signed(signed),
            session_token: header_session_token(headers)?.map(Cow::Borrowed),
        })
    }

    /// The ID of the key.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The session token of a temporary key.
    pub fn token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Checks the signature's time against the clock. `lifetime_max` is the longest time from now to the expiration of a presigned URL.
    pub fn check_time(&self, now: SystemTime, lifetime_max: Duration) -> Result<(), SignatureRejection> {
        let distance = |at: SystemTime| now.duration_since(at).unwrap_or_else(|error| error.duration());
        let text = |at: SystemTime| Timestamp::from_time(at).to_iso8601();
        match self.time {
            SignatureTime::Signed(at) if distance(at) > SKEW_MAX => {
                Err(SignatureRejection::ClockSkewed { signed: text(at), now: text(now) })
            }
            SignatureTime::Expires(end) if end < now => {
                Err(SigV2Rejection::Expired { expires: text(end), now: text(now) }.into())
            }
            SignatureTime::Expires(end) if distance(end) > lifetime_max => {
                Err(SigV2Rejection::TooFarAhead { max: lifetime_max }.into())
            }
            SignatureTime::Signed(_) | SignatureTime::Expires(_) => Ok(()),
        }
    }

    /// The payload hash that a head with this signature declares.
    pub fn payload_hash<'h>(head: impl RequestHead<'h>) -> Result<PayloadHash, SignatureRejection> {
        payload_hash(head.headers())
    }

    /// Verifies the signature. `bucket` is the bucket's name if the host contains it.
    pub fn verify<'h>(
        &self,
        head: impl RequestHead<'h>,
        bucket: Option<&str>,
        secret: &str,
    ) -> Result<VerifiedSignature, SignatureRejection> {
        let payload = Self::payload_hash(head)?;
        let given = signature_bytes(&self.signature)?;
        let lines = string_to_sign_lines(head, &self.date, self.location, |_| false)?;
        let resources = canonical_resources(head, bucket, self.location)?;
        if resources.iter().any(|resource| verify_hmac(secret, [&lines, resource], &given)) {
            Ok(VerifiedSignature { payload, signature_chain: None })
        } else {
            Err(SignatureRejection::Mismatch)
        }
    }

    /// The elements of the reply to a signature that does not match.
    pub fn mismatch<'h>(&self, head: impl RequestHead<'h>, bucket: Option<&str>) -> SignatureMismatch {
        let lines = string_to_sign_lines(head, &self.date, self.location, is_s3_secret).unwrap_or_default();
        let resources = canonical_resources(head, bucket, self.location).unwrap_or_default();
        let resource = resources.into_iter().next().unwrap_or_default();
        SignatureMismatch::new(&self.access_key_id, &self.signature, &[lines, resource].concat())
    }
}

/// The date line of the string to sign, and the time. `x-amz-date` is signed as a header, and then the line is empty.
fn header_date<'a>(headers: impl Headers<'a>) -> Result<(&'a [u8], SystemTime), SignatureRejection> {
    let is_amz = headers.contains(KnownHeader::AmzDate);
    let mut values = headers.get_all(if is_amz { KnownHeader::AmzDate } else { KnownHeader::Date });
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(SignatureRejection::MissingDate);
    };
    let time = ascii_text(value).and_then(|text| parse_date(text.trim()));
    let line = if is_amz { &b""[..] } else { value.trim_ascii() };
    time.map(|time| (line, time)).ok_or(SignatureRejection::MissingDate)
}

/// Parses an HTTP date, an RFC 2822 date with a numeric zone as in S3's examples, or a date in SigV4's format. S3 rejects dates before
/// 1970.
fn parse_date(text: &str) -> Option<SystemTime> {
    let rfc2822 = || OffsetDateTime::parse(text, &Rfc2822).ok().map(SystemTime::from);
    let http_date = httpdate::parse_http_date(text).ok();
    let time = http_date.or_else(|| Timestamp::parse(text).map(|at| at.to_time())).or_else(rfc2822);
    time.filter(|time| *time >= SystemTime::UNIX_EPOCH)
}

fn is_session_token(pair: &str) -> bool {
    decoded_name(pair).eq_ignore_ascii_case(KnownHeader::SecurityToken.as_str())
}

/// The session token in the query. Two tokens are an error.
fn query_session_token(query: &str) -> Result<Option<Cow<'_, str>>, SignatureRejection> {
    let mut tokens = pairs(query).filter(|pair| is_session_token(pair));
    match (tokens.next(), tokens.next()) {
        (None, _) => Ok(None),
        (Some(pair), None) => Ok(Some(decoded_text(value_of(pair)))),
        (Some(_), Some(_)) => Err(SignatureRejection::InvalidSessionToken),
    }
}

/// The hash that the body must have, if the client sends one. SigV2 does not require it. `aws-chunked` bodies are rejected.
fn payload_hash<'a>(headers: impl Headers<'a>) -> Result<PayloadHash, SignatureRejection> {
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked");
    let encodings = headers.get_all(KnownHeader::ContentEncoding);
    let mut codings = encodings.flat_map(|value| value.split(|byte| *byte == b','));
    let has_chunks = CHUNKED.iter().any(|header| headers.contains(*header)) || codings.any(is_chunked);
    match PayloadHash::header_value(headers)?.map_or(Ok(PayloadHash::Unsigned), PayloadHash::parse)? {
        PayloadHash::SignedChunks { .. } | PayloadHash::UnsignedTrailer => {
            Err(SigV2Rejection::ChunkedBody.into())
        }
        _ if has_chunks => Err(SigV2Rejection::ChunkedBody.into()),
        payload => Ok(payload),
    }
}
