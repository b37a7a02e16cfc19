//! Query helpers, and the parameters of a presigned URL (SigV4).
//!
//! Names are compared percent-decoded and without regard to case, because an upstream could accept another spelling as a signature. Only
//! the exact spelling is accepted, and each name once.

use std::borrow::Cow;

use crate::percent::percent_decode;
use crate::sigv4::SignatureRejection;
use crate::sigv4::canonical::QUERY_SIGNATURE;
use crate::sigv4::rejection::SignatureLocation;

const QUERY_TOKEN: &str = "X-Amz-Security-Token";
/// The session token of S3 directory buckets (CreateSession), another secret of the client.
const DIRECTORY_SESSION_TOKEN: &str = "X-Amz-S3session-Token";

/// Every parameter of a presigned URL's signature, and whether its presence makes the URL a presigned one.
const NAMES: [(&str, bool); 8] = [
    ("X-Amz-Algorithm", true),
    ("X-Amz-Credential", true),
    (QUERY_SIGNATURE, true),
    (QUERY_TOKEN, true),
    ("X-Amz-Date", false),
    ("X-Amz-Expires", false),
    ("X-Amz-SignedHeaders", false),
    ("X-Amz-Content-Sha256", false),
];

/// The parameters' values, in the order of `NAMES`.
#[derive(Debug, Default)]
pub(super) struct PresignParameters<'a>(pub(super) [Option<Cow<'a, str>>; NAMES.len()]);

/// The prefix of the names of S3's own headers.
pub(crate) const AMAZON: &str = "x-amz-";

/// The pairs of a query; an empty query has none.
pub fn pairs(query: &str) -> impl Iterator<Item = &str> {
    let split = (!query.is_empty()).then(|| query.split('&'));
    split.into_iter().flatten()
}

/// Whether the query is that of a presigned URL.
pub fn is_presigned(query: &str) -> bool {
    pairs(query).any(|pair| position(&decoded_name(pair)).is_some_and(|at| NAMES[at].1))
}

/// Whether a pair of a query belongs to a presigned URL's signature. Such a pair must not be forwarded.
pub fn is_presign_parameter(pair: &str) -> bool {
    let name = decoded_name(pair);
    position(&name).is_some() || name.eq_ignore_ascii_case(DIRECTORY_SESSION_TOKEN)
}

/// A presigned query with zeros as the signature, and without the session token.
pub fn without_presigned_proof(query: &str) -> String {
    let is = |pair: &str, name: &str| decoded_name(pair).eq_ignore_ascii_case(name);
    let kept = pairs(query).filter(|pair| {
        ![QUERY_SIGNATURE, QUERY_TOKEN, DIRECTORY_SESSION_TOKEN].iter().any(|name| is(pair, name))
    });
    let zeros = format!("{QUERY_SIGNATURE}={:064}", 0);
    kept.chain([zeros.as_str()]).collect::<Vec<_>>().join("&")
}

fn position(name: &str) -> Option<usize> {
    NAMES.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Whether a parameter has the name of one of S3's headers. Clients hoist headers into the query of a presigned URL.
pub fn is_header(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    has_header_prefix(name) && name.bytes().all(is_plain)
}

/// Whether a name has the prefix of S3's headers, in any case.
pub(crate) fn has_header_prefix(name: &str) -> bool {
    name.get(..AMAZON.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(AMAZON))
}

/// The percent-decoded name of a pair.
pub fn decoded_name(pair: &str) -> Cow<'_, str> {
    decoded_text(pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// The value of a pair as it was sent; empty if it has none.
pub fn value_of(pair: &str) -> &str {
    pair.split_once('=').map_or("", |(_, value)| value)
}

/// A percent-decoded name or value.
pub fn decoded_text(part: &str) -> Cow<'_, str> {
    match decoded_bytes(part) {
        Cow::Owned(decoded) => Cow::Owned(String::from_utf8_lossy(&decoded).into_owned()),
        Cow::Borrowed(_) => Cow::Borrowed(part),
    }
}

/// The bytes of a percent-decoded name or value.
pub fn decoded_bytes(part: &str) -> Cow<'_, [u8]> {
    if part.contains(['%', '+']) {
        Cow::Owned(percent_decode(part.replace('+', " ").as_bytes()))
    } else {
        Cow::Borrowed(part.as_bytes())
    }
}

pub(super) const fn malformed(what: &'static str) -> SignatureRejection {
    SignatureRejection::Malformed(SignatureLocation::Query, what)
}

impl<'a> PresignParameters<'a> {
    /// Reads a query; none if it is not that of a presigned URL.
    pub(super) fn parse(query: &'a str) -> Result<Option<Self>, SignatureRejection> {
        if !is_presigned(query) {
            return Ok(None);
        }
        let mut values = Self::default();
        for pair in query.split('&') {
            let name = decoded_name(pair);
            let Some(at) = position(&name) else { continue };
            if name != NAMES[at].0 {
                return Err(malformed("a parameter's name has the wrong case"));
            }
            let value = decoded_text(value_of(pair));
            if values.0[at].replace(value).is_some() {
                return Err(malformed("a parameter is repeated"));
            }
        }
        Ok(Some(values))
    }
}
