//! What the head of a request declares about the body. Contradictions are rejected before the body is read.
//!
//! A presigned URL may have the payload hash in its query, with the same meaning as the header. Checksums that SDKs hoist into the query
//! (`x-amz-checksum-*`) are forwarded with the query and not verified here: a URL is presigned before the body exists, and the JavaScript
//! SDK then sends the checksum of an empty body, which S3 ignores.
//!
//! Sources: S3 "Checking object integrity", "Authenticating Requests: Using Query Parameters".

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::checksum::expected_digest::ExpectedDigests;
use crate::checksum::{CHECKSUM_PREFIX, ChecksumAlgorithm};
use crate::chunked::ChunkLayout;
use crate::form::multipart::FileDecoder;
use crate::headers::{Headers, KnownHeader, ascii_text};
use crate::request::{BodyLength, RequestHead};
use crate::sigv4::query::{decoded_name, decoded_text, pairs, value_of};
use crate::sigv4::{PayloadHash, SignatureRejection};
use crate::upload::UploadFault;
use crate::upload::completion::is_completion;

/// The `aws-chunked` framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkedBody {
    /// The layout of the chunks.
    pub layout: ChunkLayout,
    /// The length of the data, without the framing.
    pub length: u64,
    /// The algorithm of the announced trailer.
    pub trailer: Option<ChecksumAlgorithm>,
}

/// The framing and the digests of a body, as the head declares them.
pub struct DeclaredBody {
    /// None if the body has no `aws-chunked` framing.
    pub chunks: Option<ChunkedBody>,
    /// The decoder of the file, if the body is a form with a streamed file.
    pub file: Option<FileDecoder>,
    /// The digests that the body must have.
    pub expected_digests: ExpectedDigests,
}

impl DeclaredBody {
    /// Reads a request's head. `payload` is the payload hash that the signature covers.
    pub fn from_head<'a>(
        head: impl RequestHead<'a>,
        payload: Option<PayloadHash>,
    ) -> Result<Self, UploadFault> {
        let headers = head.headers();
        let payload = payload.map_or_else(|| unverified_payload(head), Ok)?;
        let chunks =
            ChunkLayout::from_payload(payload).map(|layout| parse_chunks(layout, headers)).transpose()?;
        let hash = match payload {
            PayloadHash::Sha256(hash) => Some(hash),
            PayloadHash::Empty => Some(Sha256::digest([]).into()),
            PayloadHash::Unsigned | PayloadHash::SignedChunks { .. } | PayloadHash::UnsignedTrailer => None,
        };
        let trailer = chunks.and_then(|chunks| chunks.trailer);
        // In a completion or a copy, the checksum is that of the resulting object.
        let is_of_body =
            !is_completion(head.method(), head.query()) && !headers.contains(KnownHeader::CopySource);
        if is_of_body {
            check_algorithm(headers)?;
        }
        let expected_digests = ExpectedDigests::from_headers(headers, hash, trailer, is_of_body)?;
        Ok(Self { chunks, file: None, expected_digests })
    }

    /// Rejects an object that is longer than the body that contains it.
    pub fn check_length(self, length: BodyLength) -> Result<Self, UploadFault> {
        let object = self.chunks.map_or(0, |chunks| chunks.length);
        match length {
            BodyLength::Known(bytes) if object > bytes => Err(UploadFault::LengthMalformed),
            BodyLength::Empty if object > 0 => Err(UploadFault::LengthMalformed),
            _ => Ok(self),
        }
    }

    /// Reads the head of the upload that a form is converted to. `file` decodes the file from the body; none if the file is buffered
    /// already.
    pub fn for_form_file<'a>(
        head: impl RequestHead<'a>,
        file: Option<FileDecoder>,
    ) -> Result<Self, UploadFault> {
        let declared = Self::from_head(head, Some(PayloadHash::Unsigned))?;
        Ok(Self { file, ..declared })
    }
}

/// The length of the object, if the head declares it. The `content-length` of an `aws-chunked` body includes the framing, so
/// `x-amz-decoded-content-length` is used; if that is malformed, `from_head` rejects the request.
pub fn object_bytes<'a>(head: impl RequestHead<'a>, length: BodyLength) -> Option<u64> {
    let is_chunked =
        || declared_payload(head).is_ok_and(|hash| hash.is_some_and(|hash| hash.starts_with("STREAMING-")));
    match length {
        BodyLength::Empty => Some(0),
        _ if is_chunked() => decoded_length(head.headers()).ok(),
        BodyLength::Known(bytes) => Some(bytes),
        BodyLength::Chunked => None,
    }
}

/// An SDK that names its algorithm must also send the checksum, in a header or a trailer, and no checksum of another algorithm. S3 answers
/// both faults with `InvalidRequest`. For the second its API reference documents `BadDigest`, which S3 does not send.
fn check_algorithm<'a>(headers: impl Headers<'a>) -> Result<(), UploadFault> {
    let mut named = headers.get_all(KnownHeader::SdkAlgorithm);
    let Some(algorithm) = named.next() else { return Ok(()) };
    let algorithm = ascii_text(algorithm).unwrap_or_default().trim().to_ascii_lowercase();
    let header = format!("{CHECKSUM_PREFIX}{algorithm}");
    let trailer = headers.get_text(KnownHeader::Trailer).unwrap_or_default();
    let is_present = headers.contains_named(&header) || trailer.trim().eq_ignore_ascii_case(&header);
    if is_present && named.next().is_none() {
        return Ok(());
    }
    let has_other = ChecksumAlgorithm::from_header(trailer.trim()).is_some()
        || headers.names().any(|name| ChecksumAlgorithm::from_header(name).is_some());
    Err(if has_other && !is_present {
        UploadFault::ChecksumAlgorithmMismatch
    } else {
        UploadFault::ChecksumMissing
    })
}

/// The payload hash in the header, or in the query of a presigned URL.
fn declared_payload<'a>(head: impl RequestHead<'a>) -> Result<Option<Cow<'a, str>>, SignatureRejection> {
    let name = KnownHeader::ContentSha256.as_str();
    let is_payload = |pair: &&str| decoded_name(pair).eq_ignore_ascii_case(name);
    let mut in_query = pairs(head.query()).filter(is_payload);
    let given = in_query.next().map(|pair| decoded_text(value_of(pair)));
    match (PayloadHash::header_value(head.headers())?, given) {
        _ if in_query.next().is_some() => Err(SignatureRejection::MalformedContentSha256),
        (Some(header), Some(given)) if header != given => Err(SignatureRejection::MalformedContentSha256),
        (header, given) => Ok(given.or(header.map(Cow::Borrowed))),
    }
}

/// The payload hash of a request without a verified signature.
fn unverified_payload<'a>(head: impl RequestHead<'a>) -> Result<PayloadHash, UploadFault> {
    let parsed =
        declared_payload(head).and_then(|text| text.map(|text| PayloadHash::parse(&text)).transpose());
    match parsed {
        Ok(payload) => Ok(payload.unwrap_or(PayloadHash::Unsigned)),
        Err(SignatureRejection::NotImplemented(_)) => Err(UploadFault::SigV4a),
        Err(_) => Err(UploadFault::PayloadHash),
    }
}

/// The longest object that a head may declare: the range in which stores keep lengths (a 64-bit `off_t`). Chunk framing is shorter than the
/// data, so the sum of both stays below 2^64.
const OBJECT_BYTES_MAX: u64 = i64::MAX as u64;

fn decoded_length<'a>(headers: impl Headers<'a>) -> Result<u64, UploadFault> {
    let mut lengths = headers.get_all(KnownHeader::DecodedLength);
    let length = lengths.next().ok_or(UploadFault::LengthMissing)?;
    let digits = ascii_text(length).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let only = digits.filter(|_| lengths.next().is_none());
    let length = only.and_then(|text| text.parse().ok()).filter(|bytes| *bytes <= OBJECT_BYTES_MAX);
    length.ok_or(UploadFault::LengthMalformed)
}

fn parse_chunks<'a>(layout: ChunkLayout, headers: impl Headers<'a>) -> Result<ChunkedBody, UploadFault> {
    let length = decoded_length(headers)?;
    let mut announced = headers.get_all(KnownHeader::Trailer);
    let trailer = match (announced.next(), layout.has_trailer()) {
        (None, false) => None,
        (None, true) => return Err(UploadFault::TrailerMissing),
        (Some(_), false) => return Err(UploadFault::TrailerUnsupported),
        (Some(name), true) => {
            let name = ascii_text(name).unwrap_or_default().trim();
            let only = ChecksumAlgorithm::from_header(name).filter(|_| announced.next().is_none());
            Some(only.ok_or(UploadFault::TrailerUnsupported)?)
        }
    };
    Ok(ChunkedBody { layout, length, trailer })
}
