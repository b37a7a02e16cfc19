//! Signs requests with AWS Signature Version 4, as the clients of a store do. Paths have no query, and bodies are not hashed.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::clock::UtcTime;

const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const REGION: &str = "us-east-1";
const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

/// The headers of a request signed with this pair at `now`.
pub(crate) fn headers(
    (access_key_id, secret): (&str, &str),
    (method, path, host): (&str, &str, &str),
    now: UtcTime,
) -> [(&'static str, String); 3] {
    let UtcTime { year, month, day, hour, minute, second } = now;
    let date = format!("{year:04}{month:02}{day:02}");
    let timestamp = format!("{date}T{hour:02}{minute:02}{second:02}Z");
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let canonical = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{timestamp}\n\n{SIGNED_HEADERS}\n{PAYLOAD}"
    );
    let mut to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n");
    // Writing to a string cannot fail.
    let _ = write!(to_sign, "{}", hex::encode(Sha256::digest(&canonical)));
    let key = [&date, REGION, "s3", "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={SIGNED_HEADERS}, Signature={signature}"
    );
    [
        ("authorization", authorization),
        ("x-amz-date", timestamp),
        ("x-amz-content-sha256", PAYLOAD.to_owned()),
    ]
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC accepts keys of any length")
    };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value was computed with Python's hmac and hashlib.
    #[test]
    fn a_signature_is_that_of_another_implementation() {
        let now = UtcTime { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5 };
        let [(_, authorization), (_, timestamp), _] =
            headers(("ID", "secret"), ("GET", "/photos/c7/object", "127.0.0.1:8080"), now);
        assert_eq!(timestamp, "20260102T030405Z");
        let scope = "AWS4-HMAC-SHA256 Credential=ID/20260102/us-east-1/s3/aws4_request, ";
        assert!(authorization.starts_with(scope), "{authorization}");
        assert!(authorization.ends_with(EXPECTED), "{authorization}");
    }

    const EXPECTED: &str = "15cb79f871bafdb7c033abdf85f6a3bb01139fc0bbf17b7b84a560d252fa6702";
}
