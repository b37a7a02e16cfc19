//! The SigV4 signature of a presigned URL: its parameters are in the query, and some of them may be in headers too.
//!
//! Source: S3 "Authenticating Requests: Using Query Parameters".

use std::borrow::Cow;
use std::time::Duration;

use crate::headers::Headers;
use crate::sigv4::canonical::ALGORITHM;
use crate::sigv4::presented_signature::{CredentialScope, PresentedSignature, header_session_token};
use crate::sigv4::query::{PresignParameters, malformed};
use crate::sigv4::{PayloadHash, SignatureLocation, SignatureRejection, Timestamp, UNSIGNED_PAYLOAD};

/// S3's maximum lifetime of a presigned URL: a week.
pub(super) const LIFETIME_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

impl<'a> PresentedSignature<'a> {
    /// Reads the signature from the parameters of a presigned URL.
    pub(super) fn from_parameters(
        parameters: PresignParameters<'a>,
        headers: impl Headers<'a>,
    ) -> Result<Self, SignatureRejection> {
        let [algorithm, credential, signature, token, date, expires, signed, payload] = parameters.0;
        let (Some(algorithm), Some(credential), Some(signature)) = (algorithm, credential, signature) else {
            return Err(malformed(INCOMPLETE));
        };
        let (Some(date), Some(expires), Some(signed)) = (date, expires, signed) else {
            return Err(malformed(INCOMPLETE));
        };
        match &*algorithm {
            ALGORITHM => {}
            "AWS4-ECDSA-P256-SHA256" => {
                return Err(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)"));
            }
            _ => return Err(malformed("X-Amz-Algorithm is not AWS4-HMAC-SHA256")),
        }
        let invalid_credential =
            malformed("X-Amz-Credential is not ACCESS-KEY-ID/YYYYMMDD/REGION/s3/aws4_request");
        let scope = CredentialScope::parse(credential).ok_or(invalid_credential)?;
        let invalid_date = malformed("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ");
        let timestamp = Timestamp::parse(&date).ok_or(invalid_date)?;
        let payload = match (PayloadHash::header_value(headers)?, payload) {
            (Some(header), Some(given)) if header != given => {
                return Err(SignatureRejection::MalformedContentSha256);
            }
            (_, Some(given)) => given,
            (Some(header), None) => header.into(),
            (None, None) => UNSIGNED_PAYLOAD.into(),
        };
        let token = match (token, header_session_token(headers)?) {
            (Some(_), Some(_)) => return Err(SignatureRejection::InvalidSessionToken),
            (token, header) => token.or(header.map(Cow::Borrowed)),
        };
        Ok(Self {
            location: SignatureLocation::Query,
            scope,
            timestamp,
            lifetime: Some(parse_lifetime(&expires)?),
            signed_headers: signed,
            signature,
            payload,
            session_token: token,
        })
    }
}

const INCOMPLETE: &str = "a presigned URL needs X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, \
                          X-Amz-SignedHeaders and X-Amz-Expires";

fn parse_lifetime(text: &str) -> Result<Duration, SignatureRejection> {
    let is_negative = text.strip_prefix('-').is_some_and(|digits| digits.parse::<u64>().is_ok());
    if is_negative {
        return Err(SignatureRejection::InvalidLifetime("X-Amz-Expires must not be negative"));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits {
        return Err(malformed("X-Amz-Expires is not a number of seconds"));
    }
    match text.parse() {
        Ok(seconds) if seconds <= LIFETIME_SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err(SignatureRejection::InvalidLifetime(
            "X-Amz-Expires must not be more than a week, 604800 seconds",
        )),
    }
}
