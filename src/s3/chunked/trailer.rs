//! The headers behind the last chunk. S3 knows one: a checksum, announced in `x-amz-trailer`.
//!
//! Clients end its line with a line feed alone or with both characters, and some put an empty line before the signature or
//! one more behind the end. All of that is taken, since nothing can hide in it; everything else is refused.

use sha2::{Digest, Sha256};

use crate::s3::chunked::ChunkFault;
use crate::s3::sigv4::SignatureChain;

/// The header that carries the trailer's signature.
pub(super) const SIGNATURE: &str = "x-amz-trailer-signature";

/// What a line led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrailerLine {
    /// Others follow.
    More,
    /// It was the last one.
    Last,
}

/// The trailing headers so far.
pub(super) struct Trailer {
    announced: &'static str,
    is_signed: bool,
    value: Option<String>,
    is_verified: bool,
    has_gap: bool,
}

impl Trailer {
    pub(super) fn new(announced: &'static str, is_signed: bool) -> Self {
        Self { announced, is_signed, value: None, is_verified: false, has_gap: false }
    }

    /// Takes a line without its end. `verifier` checks its signature, where there is a key.
    pub(super) fn push_line(
        &mut self,
        line: &[u8],
        verifier: Option<&mut SignatureChain>,
    ) -> Result<TrailerLine, ChunkFault> {
        let fault = |what| Err(ChunkFault::Trailer(what));
        if line.is_empty() {
            return self.empty_line();
        }
        if self.is_verified {
            return fault("a header follows the signature");
        }
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            return fault("a line is no header");
        };
        let value = value.trim_matches([' ', '\t']);
        if self.is_signed && name.eq_ignore_ascii_case(SIGNATURE) {
            let Some(checksum) = &self.value else { return fault("the announced header is missing") };
            if !super::decode::is_signature(value.as_bytes()) {
                return fault("its signature is not 64 hexadecimal digits");
            }
            let signed = Sha256::digest(format!("{}:{checksum}\n", self.announced));
            if let Some(verifier) = verifier
                && !super::decode::constant_time_eq(
                    verifier.trailer_signature(&signed.into()),
                    value.as_bytes(),
                )
            {
                return Err(ChunkFault::Signature("the trailing headers"));
            }
            self.is_verified = true;
        } else if !name.eq_ignore_ascii_case(self.announced) {
            return fault("a header was not announced in x-amz-trailer");
        } else if self.value.replace(value.to_owned()).is_some() {
            return fault("a header comes twice");
        }
        Ok(TrailerLine::More)
    }

    fn empty_line(&mut self) -> Result<TrailerLine, ChunkFault> {
        if self.is_signed && !self.is_verified {
            if self.has_gap {
                return Err(ChunkFault::Trailer("their signature is missing"));
            }
            self.has_gap = true;
            return Ok(TrailerLine::More);
        }
        if self.value.is_none() {
            return Err(ChunkFault::Trailer("the announced header is missing"));
        }
        Ok(TrailerLine::Last)
    }

    /// The value of the announced header.
    pub(super) fn into_value(self) -> Option<String> {
        self.value
    }
}
