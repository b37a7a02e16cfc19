//! Queries in SigV2 (A8): the parameters of a presigned URL, and the parameters that a signature covers.
//!
//! Names are compared percent-decoded. The parameters of a presigned URL are removed in any case of their letters, and accepted only in
//! their exact spelling and once each.

use std::borrow::Cow;

use crate::sigv2::{SigV2Location, SigV2Rejection};
use crate::sigv4::query::{decoded_name, decoded_text, is_header, pairs, value_of};

/// The parameters of a presigned URL.
const NAMES: [&str; 3] = ["AWSAccessKeyId", "Signature", "Expires"];
/// Headers that botocore repeats in the query of a presigned URL. S3 reads the headers and ignores the parameters.
const REPEATED: [&str; 2] = ["content-md5", "content-type"];

/// The parameters that SigV2 covers, in the order in which they are signed: the sub-resources and overrides of the S3 User Guide
/// ("Constructing the CanonicalizedResource Element"), and others that the AWS SDKs for Java and Python sign. botocore also signs `select`;
/// servers do not, so it is not in the list.
const COVERED: [&str; 31] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
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

/// Whether the query is that of a presigned URL.
pub fn is_presigned(query: &str) -> bool {
    pairs(query).any(|pair| {
        let name = decoded_name(pair);
        NAMES[..2].iter().any(|known| known.eq_ignore_ascii_case(&name))
    })
}

/// Whether a pair of a presigned URL's query belongs to its signature. Such a pair must not be forwarded.
pub fn is_presign_parameter(pair: &str) -> bool {
    let name = decoded_name(pair);
    NAMES.iter().chain(&REPEATED).any(|known| known.eq_ignore_ascii_case(&name))
}

/// Whether a signature covers the parameter with this name. `x-amz-` parameters are signed like the headers with these names.
pub fn covers(name: &str) -> bool {
    is_covered(name) || is_header(name)
}

pub(super) fn is_covered(name: &str) -> bool {
    COVERED.binary_search(&name).is_ok()
}

fn malformed(what: impl Into<Cow<'static, str>>) -> SigV2Rejection {
    SigV2Rejection::Malformed(SigV2Location::Query, what.into())
}

/// The parameters' values, in the order of `NAMES`.
pub(super) fn presign_parameters(query: &str) -> Result<[Cow<'_, str>; 3], SigV2Rejection> {
    let mut values: [Option<Cow<'_, str>>; 3] = Default::default();
    for pair in pairs(query) {
        let name = decoded_name(pair);
        let Some(at) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(&name)) else { continue };
        if name != NAMES[at] {
            return Err(malformed(format!("the parameter {} has the wrong case", NAMES[at])));
        }
        let value = decoded_text(value_of(pair));
        if values[at].replace(value).is_some() {
            return Err(malformed(format!("the parameter {} is repeated", NAMES[at])));
        }
    }
    match values {
        [Some(key_id), Some(signature), Some(expires)] => Ok([key_id, signature, expires]),
        _ => Err(malformed("a presigned URL needs AWSAccessKeyId, Signature and Expires")),
    }
}
