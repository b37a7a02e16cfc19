//! The trailing headers of an `aws-chunked` body. S3 has one: a checksum, announced in `x-amz-trailer`.
//!
//! Clients end the line with LF or CR LF, and some send an empty line before the signature or an additional one at the end. The parser
//! accepts these variants, because they are unambiguous, and rejects everything else.

use sha2::{Digest, Sha256};

use crate::chunked::ChunkFault;
use crate::chunked::signature_text::{constant_time_eq, is_signature};
use crate::sigv4::SignatureChain;

/// The header with the trailer's signature.
pub(super) const SIGNATURE: &str = "x-amz-trailer-signature";

/// The position of a line in the trailer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrailerLine {
    /// More lines follow.
    More,
    /// The last line.
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

    /// Adds a line without its line end. `verifier` verifies the trailer's signature, if there is a key.
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
            return fault("a line is not a header");
        };
        let value = value.trim_matches([' ', '\t']);
        if self.is_signed && name.eq_ignore_ascii_case(SIGNATURE) {
            let Some(checksum) = &self.value else { return fault("the announced header is missing") };
            if !is_signature(value.as_bytes()) {
                return fault("its signature is not 64 hexadecimal digits");
            }
            let signed = Sha256::digest(format!("{}:{checksum}\n", self.announced));
            if let Some(verifier) = verifier
                && !constant_time_eq(verifier.trailer_signature(&signed.into()), value.as_bytes())
            {
                return Err(ChunkFault::Signature("the trailing headers"));
            }
            self.is_verified = true;
        } else if !name.eq_ignore_ascii_case(self.announced) {
            return fault("a header was not announced in x-amz-trailer");
        } else if self.value.replace(value.to_owned()).is_some() {
            return fault("a header is repeated");
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
