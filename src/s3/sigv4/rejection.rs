//! Why a signature was not accepted, each cause by itself: what S3 calls it and which status it has is said in
//! `http/error/`.

use std::time::Duration;

use crate::s3::sigv2::Version2Rejection;

/// Where the signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the `Authorization` header.
    Header,
    /// In the query: a presigned URL.
    Query,
    /// In the fields of a form.
    Form,
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignatureRejection {
    /// More than one proof of identity.
    Ambiguous,
    /// An `Authorization` of a kind that is none of S3's.
    Scheme,
    /// A kind that S3 has and the gateway does not.
    NotImplemented(&'static str),
    /// What SigV2 alone can be refused for.
    Version2(Version2Rejection),
    /// It does not have the form of one.
    Malformed(Place, &'static str),
    /// The scope names a region that the bucket does not accept.
    Region { place: Place, given: String, expected: String },
    /// Neither `x-amz-date` nor `date`, or one that is no date.
    NoDate,
    /// No `x-amz-content-sha256`.
    NoContentSha256,
    /// An `x-amz-content-sha256` that is none.
    ContentSha256,
    /// A header that must be signed and is not.
    NotSigned(String),
    /// A session token that is not the key's.
    Token,
    /// The key's time is over.
    KeyExpired,
    /// No key has this ID.
    UnknownKey,
    /// Signed too long ago, or too far ahead.
    Skewed { signed: String, now: String },
    /// A presigned URL with a lifetime that S3 does not have.
    Lifetime(&'static str),
    /// A presigned URL whose time is over.
    Expired { lifetime: Duration },
    /// A presigned URL whose time has not begun.
    NotYetValid,
    /// The signature is another one.
    Mismatch,
}

impl SignatureRejection {
    /// Whether it may be somebody who guesses, not somebody with a late link, a wrong clock or an uncommon client.
    pub(crate) fn is_suspect(&self) -> bool {
        match self {
            Self::Skewed { .. } | Self::Expired { .. } | Self::NotYetValid | Self::NotImplemented(_) => false,
            Self::Version2(rejection) => rejection.is_suspect(),
            Self::KeyExpired | Self::Region { .. } | Self::NoContentSha256 | Self::ContentSha256 => false,
            Self::Ambiguous
            | Self::Scheme
            | Self::Malformed(..)
            | Self::Lifetime(_)
            | Self::NoDate
            | Self::NotSigned(_)
            | Self::Token
            | Self::UnknownKey
            | Self::Mismatch => true,
        }
    }
}
