//! Why a SigV4 signature was rejected. `http/error/auth.rs` has the error reply for each reason, with S3's code.

use std::time::Duration;

use crate::sigv2::SigV2Rejection;

/// The part of a request that has the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureLocation {
    /// In the `Authorization` header.
    Header,
    /// In the query: a presigned URL.
    Query,
    /// In the fields of a form.
    Form,
}

/// The validity of a presigned URL or a form, with times in the format of error documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// The time from the signature to its end.
    pub lifetime: Duration,
    /// The end of the lifetime.
    pub expires: String,
    /// The gateway's time.
    pub now: String,
}

/// Why a signature was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureRejection {
    /// The request has more than one signature or `Authorization` header.
    Ambiguous,
    /// The `Authorization` header has a scheme that S3 does not support.
    UnsupportedScheme,
    /// S3 supports this signature, and the gateway does not.
    NotImplemented(&'static str),
    /// A rejection that only SigV2 has.
    SigV2(SigV2Rejection),
    /// The signature is malformed.
    Malformed(SignatureLocation, &'static str),
    /// The scope names a region that the bucket does not accept.
    WrongRegion {
        /// The part of the request that has the signature.
        location: SignatureLocation,
        /// The region of the scope.
        given: String,
        /// The region that responses advertise.
        expected: String,
    },
    /// The request has no valid `x-amz-date` or `date`.
    MissingDate,
    /// `x-amz-content-sha256` is missing.
    MissingContentSha256,
    /// The `x-amz-content-sha256` is malformed.
    MalformedContentSha256,
    /// This header must be signed, and is not.
    HeaderNotSigned(String),
    /// The session token is not that of the key.
    InvalidSessionToken,
    /// The key has expired.
    KeyExpired,
    /// There is no key with this ID, or the session token of a temporary key is missing.
    UnknownKey,
    /// The time of the signature is too far from the gateway's.
    ClockSkewed {
        /// The time of the signature.
        signed: String,
        /// The gateway's time.
        now: String,
    },
    /// The lifetime of a presigned URL is not one that S3 accepts.
    InvalidLifetime(&'static str),
    /// A presigned URL or a form has expired.
    Expired(Validity),
    /// A presigned URL or a form is not valid yet.
    NotYetValid(Validity),
    /// The signature does not match the request.
    Mismatch,
}

impl From<SigV2Rejection> for SignatureRejection {
    fn from(rejection: SigV2Rejection) -> Self {
        Self::SigV2(rejection)
    }
}

impl SignatureRejection {
    /// Whether it counts as a failed authentication (L8). Expired URLs, wrong clocks and unsupported clients do not count.
    pub fn counts_toward_lockout(&self) -> bool {
        match self {
            Self::ClockSkewed { .. } | Self::Expired(_) | Self::NotYetValid(_) | Self::NotImplemented(_) => {
                false
            }
            Self::SigV2(rejection) => rejection.counts_toward_lockout(),
            Self::KeyExpired
            | Self::WrongRegion { .. }
            | Self::MissingContentSha256
            | Self::MalformedContentSha256 => false,
            Self::Ambiguous
            | Self::UnsupportedScheme
            | Self::Malformed(..)
            | Self::InvalidLifetime(_)
            | Self::MissingDate
            | Self::HeaderNotSigned(_)
            | Self::InvalidSessionToken
            | Self::UnknownKey
            | Self::Mismatch => true,
        }
    }
}
