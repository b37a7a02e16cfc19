//! The payload hash of a request: `x-amz-content-sha256`.

use crate::headers::{Headers, KnownHeader, ascii_text};
use crate::sigv4::SignatureRejection;

/// The SHA-256 of an empty body.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The value of `x-amz-content-sha256` for a body without a hash.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The values of `x-amz-content-sha256`. The reader of the body verifies the body against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadHash {
    /// The body has this hash.
    Sha256([u8; 32]),
    /// The body is empty.
    Empty,
    /// The signature does not cover the body.
    Unsigned,
    /// The body has signed chunks.
    SignedChunks {
        /// Signed trailing headers follow the chunks.
        trailer: bool,
    },
    /// The body has unsigned chunks, and trailing headers follow them.
    UnsignedTrailer,
}

impl PayloadHash {
    pub(crate) fn parse(text: &str) -> Result<Self, SignatureRejection> {
        match text {
            UNSIGNED_PAYLOAD => Ok(Self::Unsigned),
            EMPTY_SHA256 => Ok(Self::Empty),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Self::SignedChunks { trailer: false }),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Self::SignedChunks { trailer: true }),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Self::UnsignedTrailer),
            _ if text.starts_with("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD") => {
                Err(SignatureRejection::NotImplemented("SigV4A (AWS4-ECDSA-P256-SHA256)"))
            }
            _ => {
                let mut hash = [0; 32];
                hex::decode_to_slice(text, &mut hash)
                    .map(|()| Self::Sha256(hash))
                    .map_err(|_| SignatureRejection::MalformedContentSha256)
            }
        }
    }

    /// The header's only value. Two values are an error, because the store could use the other one.
    pub(crate) fn header_value<'a>(headers: impl Headers<'a>) -> Result<Option<&'a str>, SignatureRejection> {
        let mut values = headers.get_all(KnownHeader::ContentSha256);
        let Some(first) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(SignatureRejection::MalformedContentSha256);
        }
        ascii_text(first).map(|text| Some(text.trim())).ok_or(SignatureRejection::MalformedContentSha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A1
    #[test]
    fn every_value_is_parsed() {
        let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        assert!(matches!(PayloadHash::parse(hash), Ok(PayloadHash::Sha256([0x44, 0xce, ..]))));
        assert_eq!(PayloadHash::parse(EMPTY_SHA256), Ok(PayloadHash::Empty));
        assert_eq!(
            PayloadHash::parse("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            Ok(PayloadHash::SignedChunks { trailer: true })
        );
        for bad in ["", "unsigned-payload", &hash[1..], &format!("{hash}0"), "STREAMING-AWS4"] {
            assert_eq!(PayloadHash::parse(bad), Err(SignatureRejection::MalformedContentSha256), "{bad}");
        }
        assert!(matches!(
            PayloadHash::parse("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"),
            Err(SignatureRejection::NotImplemented(_))
        ));
    }
}
