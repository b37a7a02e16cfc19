//! `x-amz-copy-source` names a bucket a second time, and the upstream would believe it.
//!
//! The gateway's credentials may read more than its clients may, so the source must be in a bucket of the same
//! upstream that the client could read itself; its name is then put in the upstream's words.

use actix_web::http::header::HeaderName;

use crate::http::edge::decode;
use crate::s3::sigv4::canonical::encode;

/// The header that names the source of a copy.
pub(crate) const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// The source's bucket and the rest of the value, with its slash.
pub(crate) fn split(value: &str) -> Option<(String, String)> {
    let value = value.strip_prefix('/').unwrap_or(value);
    // Clients encode the value as a whole, the slash after the bucket included.
    if let Some((bucket, key)) = value.split_once('/') {
        let bucket = String::from_utf8(decode(bucket.as_bytes())).ok()?;
        return Some((bucket, format!("/{key}")));
    }
    let whole = decode(value.as_bytes());
    let slash = whole.iter().position(|byte| *byte == b'/')?;
    let bucket = String::from_utf8(whole[..slash].to_vec()).ok()?;
    Some((bucket, encode(&whole[slash..], true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let pair = |bucket: &str, rest: &str| Some((bucket.to_owned(), rest.to_owned()));
        assert_eq!(split("/src/a%20b?versionId=3"), pair("src", "/a%20b?versionId=3"));
        assert_eq!(split("src/a//b"), pair("src", "/a//b"));
        assert_eq!(split("src%2Fa%20b"), pair("src", "/a%20b"));
        assert_eq!(split("nothing"), None);
    }
}
