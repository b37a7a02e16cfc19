//! Prepares a request body: it is read whole or streamed, and framed for the upstream.
//!
//! | the client sends | up to 64 KiB of data | more |
//! |---|---|---|
//! | data | read whole and verified, then sent with its hash | streamed; the last piece is withheld until the body is verified |
//! | `aws-chunked` | the same; a trailing checksum becomes a header | streamed; reframed according to `upload_framing` of the bucket |
//!
//! A document that the store needs changed or with a digest (`content_md5`, `checksums`) is read whole up to a limit
//! of its own (`tidegate_s3::upload::body_rewrite`). The file of a form is handled like chunks without a trailer.
//!
//! If the upstream request is not signed, there is no seed for chunk signatures. The data is then sent unframed,
//! except with unsigned trailers.
//!
//! Design: `docs/design/uploads.md`.

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, HeaderValue};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_config::{Checksums, ContentMd5, IntegrityConfig, Kind, UploadFraming};
use tidegate_s3::checksum::expected_digest::ExpectedDigests;
use tidegate_s3::chunked::ChunkLayout;
use tidegate_s3::chunked::decode::Decoder;
use tidegate_s3::chunked::encode::{CHUNK_BYTES, ChunkEncoding, choose_chunk_bytes};
use tidegate_s3::form::multipart::FileDecoder;
use tidegate_s3::request::BodyLength;
use tidegate_s3::sigv4::{EMPTY_SHA256, SignatureChain, UNSIGNED_PAYLOAD};
use tidegate_s3::upload::UploadFault;
use tidegate_s3::upload::body_rewrite::{BodyRewrite, StoreNeeds};
use tidegate_s3::upload::completion::is_completion;
use tidegate_s3::upload::content_md5::Md5Header;
use tidegate_s3::upload::declared_body::{ChunkedBody, DeclaredBody};
use tidegate_s3::upload::framing_headers::TrailerOutcome;
use tidegate_s3::upload::pipeline::Pipeline;

use crate::auth::Caller;
use crate::buffers::body_memory::BodyReservation;
use crate::request_head::{CONTENT_SHA256, Head};
use crate::upstream::UpstreamRejection;
use crate::upstream::body::{BodySource, REPLAY_BYTES_MAX, RequestBody, Upload};
use crate::upstream::bucket::Bucket;
use crate::upstream::record::Record;
use crate::upstream::rules::retry::is_idempotent;

/// A body that is ready to be sent.
pub(crate) struct PreparedBody {
    pub(crate) body: RequestBody,
    /// The value of `x-amz-content-sha256` towards the upstream.
    pub(crate) content_sha256: Option<HeaderValue>,
    pub(crate) reframing: Option<Reframing>,
    /// The `Content-MD5` of a body that was read whole.
    pub(crate) md5_header: Md5Header,
    /// The memory of a body that was read whole and is larger than 64 KiB.
    pub(crate) memory: Option<BodyReservation>,
}

/// How a body is sent that the client framed.
pub(crate) struct Reframing {
    /// None if the data is sent unframed.
    pub(crate) frame: Option<ChunkEncoding>,
    pub(crate) trailing: TrailerOutcome,
}

/// A body that is not read yet, and what is known about it.
pub(crate) struct BodyPlan {
    pub(crate) source: BodySource,
    pub(crate) length: BodyLength,
    /// None if the head declares nothing about it.
    pub(crate) declared: Option<Box<DeclaredBody>>,
    /// The start of the chunk signature chain. Without it, as for clients without a key, chunk signatures are not
    /// verified.
    pub(crate) seed: Option<Box<SignatureChain>>,
    /// Bodies up to this size are read whole.
    pub(crate) buffered_max: u64,
    /// Whether the upstream request will be signed.
    pub(crate) is_signed: bool,
}

/// What the head of an S3 request declares about the body. A false declaration is rejected before the body is read.
pub(crate) fn declared_body(
    head: Head<'_>,
    length: BodyLength,
    kind: Kind,
    caller: &Caller,
) -> Result<Option<Box<DeclaredBody>>, UpstreamRejection> {
    let has_body = allows_body(head.method) || length != BodyLength::Empty;
    if kind == Kind::Http || !has_body {
        return Ok(None);
    }
    let declared = DeclaredBody::from_head(head, caller.payload_hash())
        .and_then(|declared| declared.check_length(length));
    declared.map(|declared| Some(Box::new(declared))).map_err(UpstreamRejection::InvalidUpload)
}

/// Reads the body or prepares to stream it.
pub(crate) async fn prepare_body(
    head: Head<'_>,
    mut plan: BodyPlan,
    bucket: &Bucket,
    record: &Record,
) -> Result<PreparedBody, UpstreamRejection> {
    let Some(declared) = plan.declared.take().map(|declared| *declared) else {
        return unverified_body(head, plan.source, plan.length, bucket.config.kind).await;
    };
    let rewrite = BodyRewrite::for_request(head, store_needs(&bucket.config.upstream.integrity));
    let length = declared.chunks.map(|chunks| chunks.length).or(plan.source.declared_length);
    let document_max = rewrite.buffered_bytes_max(length).map_err(UpstreamRejection::InvalidUpload)?;
    plan.buffered_max = plan.buffered_max.max(document_max);
    if let Some(file) = declared.file {
        return form_file_body(plan, file, declared.expected_digests, bucket);
    }
    let buffered = length.filter(|bytes| (REPLAY_BYTES_MAX + 1..=plan.buffered_max).contains(bytes));
    let memory = buffered.map(|bytes| record.reserve_body(bytes)).transpose();
    let memory = memory.map_err(UpstreamRejection::BodyMemory)?;
    let holds_chunks = declared.chunks.is_some_and(|chunks| chunks.layout.is_signed()) && plan.seed.is_some();
    let mut prepared = match declared.chunks {
        Some(chunks) => chunked_body(head, plan, chunks, declared.expected_digests, bucket).await?,
        None => unframed_body(head, plan.source, declared.expected_digests, plan.buffered_max).await?,
    };
    if let RequestBody::Stream(Some(upload)) = &mut prepared.body
        && holds_chunks
    {
        upload.reserve_chunks(record.body_reserver());
    }
    Ok(PreparedBody { memory, ..prepared.adapt_to_store(rewrite) })
}

/// The configured deviations of a store from S3.
fn store_needs(store: &IntegrityConfig) -> StoreNeeds {
    StoreNeeds {
        content_md5: store.content_md5 == ContentMd5::Add,
        no_checksums: store.checksums == Checksums::Strip,
    }
}

impl PreparedBody {
    /// Changes a verified body as the store needs it.
    fn adapt_to_store(self, rewrite: BodyRewrite) -> Self {
        let changed = self.body.buffered().and_then(|body| rewrite.rewrite(body));
        let md5_header = rewrite.md5_header(changed.is_some());
        match changed {
            // The client's hash belongs to the unchanged body.
            Some(body) => {
                let content_sha256 = Some(payload_digest(&body));
                Self { body: RequestBody::Buffered(body), content_sha256, md5_header, ..self }
            }
            None => Self { md5_header, ..self },
        }
    }
}

fn allows_body(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::POST)
}

/// A body without declared digests, or no body.
async fn unverified_body(
    head: Head<'_>,
    source: BodySource,
    length: BodyLength,
    kind: Kind,
) -> Result<PreparedBody, UpstreamRejection> {
    let replays = is_idempotent(head.method);
    let body = match length {
        // `Content-Length: 0` is sent even if the client left it out: many servers require it.
        BodyLength::Empty if allows_body(head.method) || head.headers.contains_key(CONTENT_LENGTH) => {
            RequestBody::Buffered(Bytes::new())
        }
        BodyLength::Empty => RequestBody::None,
        BodyLength::Known(bytes) if replays && bytes <= REPLAY_BYTES_MAX => {
            RequestBody::Buffered(source.read_unverified().await?)
        }
        BodyLength::Known(bytes) => streamed_body(source, None, Some(bytes)),
        BodyLength::Chunked => streamed_body(source, None, None),
    };
    let content_sha256 = (kind == Kind::S3).then(|| payload_hash(head, &body));
    Ok(PreparedBody { body, content_sha256, reframing: None, md5_header: Md5Header::default(), memory: None })
}

/// An S3 body without framing.
async fn unframed_body(
    head: Head<'_>,
    source: BodySource,
    expected_digests: ExpectedDigests,
    buffered_max: u64,
) -> Result<PreparedBody, UpstreamRejection> {
    let length = source.declared_length;
    let pipeline = Pipeline::for_data(None, expected_digests, length);
    let body = match length {
        Some(bytes) if bytes <= buffered_max => {
            RequestBody::Buffered(source.read_buffered(pipeline, bytes).await?.0)
        }
        _ => streamed_body(source, Some(pipeline), length),
    };
    let content_sha256 = Some(payload_hash(head, &body));
    Ok(PreparedBody { body, content_sha256, reframing: None, md5_header: Md5Header::default(), memory: None })
}

/// An S3 body in chunks.
async fn chunked_body(
    head: Head<'_>,
    plan: BodyPlan,
    chunks: ChunkedBody,
    expected_digests: ExpectedDigests,
    bucket: &Bucket,
) -> Result<PreparedBody, UpstreamRejection> {
    let config = &bucket.config;
    let BodyPlan { source, seed, buffered_max, is_signed, .. } = plan;
    // The decoded length was checked against the limit, and the decoder reads no more than that.
    let mut source = source.without_limit();
    let keeps_chunk_size = chunks.layout.is_signed() && seed.is_some();
    let trailer = chunks.trailer.map(|algorithm| algorithm.header());
    let decoder =
        Decoder::new(chunks.layout, chunks.length, trailer, seed.map(|seed| *seed), config.max_chunk_size);
    let pipeline = Pipeline::for_data(Some(decoder), expected_digests, Some(chunks.length));
    if chunks.length <= buffered_max {
        let (bytes, value) = source.read_buffered(pipeline, chunks.length).await?;
        let content_sha256 = Some(payload_digest(&bytes));
        // As a header of CompleteMultipartUpload the checksum would be that of the object.
        let is_dropped = config.upstream.integrity.checksums == Checksums::Strip
            || is_completion(head.method.as_str(), head.uri.query().unwrap_or_default());
        let trailing = match chunks.trailer.zip(value) {
            Some(_) if is_dropped => TrailerOutcome::Dropped,
            Some((algorithm, value)) => TrailerOutcome::Header(algorithm, value),
            None => TrailerOutcome::Absent,
        };
        let reframing = Some(Reframing { frame: None, trailing });
        let md5_header = Md5Header::default();
        return Ok(PreparedBody {
            body: RequestBody::Buffered(bytes),
            content_sha256,
            reframing,
            md5_header,
            memory: None,
        });
    }
    let mut frame = upstream_frame(config.upstream.integrity.upload_framing, &chunks)
        .filter(|frame| is_signed || !frame.layout.is_signed());
    if let Some(frame) = frame.as_mut().filter(|frame| keeps_chunk_size && frame.layout.is_signed())
        && let Some(first) = source.peek_chunk_size().await?.filter(|first| *first <= config.max_chunk_size)
    {
        frame.chunk_bytes = choose_chunk_bytes(first, chunks.length);
    }
    check_framed_length(frame.as_ref())?;
    let content_sha256 = frame.map_or(UNSIGNED_PAYLOAD, |frame| frame.layout.as_str());
    let trailing = match (chunks.trailer, frame.and_then(|frame| frame.trailer)) {
        (None, _) => TrailerOutcome::Absent,
        (Some(_), None) => TrailerOutcome::Dropped,
        (Some(_), Some(_)) => TrailerOutcome::Forwarded,
    };
    Ok(PreparedBody {
        body: streamed_body(source, Some(pipeline), Some(chunks.length)),
        content_sha256: Some(HeaderValue::from_static(content_sha256)),
        reframing: Some(Reframing { frame, trailing }),
        md5_header: Md5Header::default(),
        memory: None,
    })
}

/// The file of a form. The end of the form must follow the end of the file.
fn form_file_body(
    plan: BodyPlan,
    file: FileDecoder,
    expected_digests: ExpectedDigests,
    bucket: &Bucket,
) -> Result<PreparedBody, UpstreamRejection> {
    let chunks = ChunkedBody { layout: ChunkLayout::Signed, length: file.remaining(), trailer: None };
    let frame =
        upstream_frame(bucket.config.upstream.integrity.upload_framing, &chunks).filter(|_| plan.is_signed);
    let content_sha256 = frame.map_or(UNSIGNED_PAYLOAD, |frame| frame.layout.as_str());
    check_framed_length(frame.as_ref())?;
    let pipeline = Pipeline::for_form_file(file, expected_digests, chunks.length);
    Ok(PreparedBody {
        body: streamed_body(plan.source, Some(pipeline), Some(chunks.length)),
        content_sha256: Some(HeaderValue::from_static(content_sha256)),
        reframing: Some(Reframing { frame, trailing: TrailerOutcome::Absent }),
        md5_header: Md5Header::default(),
        memory: None,
    })
}

/// Rejects a body before the upstream call if its framed length overflows.
fn check_framed_length(frame: Option<&ChunkEncoding>) -> Result<(), UpstreamRejection> {
    match frame {
        Some(frame) if frame.framed_length().is_none() => {
            Err(UpstreamRejection::InvalidUpload(UploadFault::LengthMalformed))
        }
        _ => Ok(()),
    }
}

/// The framing of these chunks for the upstream. None means that the data is sent unframed.
fn upstream_frame(framing: UploadFraming, chunks: &ChunkedBody) -> Option<ChunkEncoding> {
    let (layout, trailer) = match (framing, chunks.trailer) {
        (UploadFraming::SignedChunks, _) | (UploadFraming::SignedChunksTrailer, None) => {
            (ChunkLayout::Signed, None)
        }
        (UploadFraming::SignedChunksTrailer, Some(_)) => (ChunkLayout::SignedTrailer, chunks.trailer),
        (UploadFraming::UnsignedTrailer, Some(_)) => (ChunkLayout::UnsignedTrailer, chunks.trailer),
        (UploadFraming::Unsigned, _) | (UploadFraming::UnsignedTrailer, None) => return None,
    };
    let trailer = trailer.map(|algorithm| (algorithm.header(), algorithm.encoded_bytes()));
    Some(ChunkEncoding { layout, chunk_bytes: CHUNK_BYTES, length: chunks.length, trailer })
}

fn streamed_body(source: BodySource, pipeline: Option<Pipeline>, size: Option<u64>) -> RequestBody {
    RequestBody::Stream(Some(Box::new(Upload::new(source, pipeline, size))))
}

/// The client's own hash, if it sent one: the store then verifies the body that the client meant.
fn payload_hash(head: Head<'_>, body: &RequestBody) -> HeaderValue {
    let given = head.find(&CONTENT_SHA256).filter(|value| {
        let bytes = value.as_bytes();
        bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit)
    });
    match (given, body) {
        (Some(given), _) => given.clone(),
        (None, RequestBody::None) => HeaderValue::from_static(EMPTY_SHA256),
        (None, RequestBody::Buffered(bytes)) => payload_digest(bytes),
        (None, RequestBody::Stream(_)) => HeaderValue::from_static(UNSIGNED_PAYLOAD),
    }
}

pub(crate) fn payload_digest(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(hex::encode(Sha256::digest(bytes)))
        .unwrap_or_else(|_| HeaderValue::from_static(UNSIGNED_PAYLOAD))
}
