//! A request's body taken in hand: read whole or streamed, and how it will be framed for the upstream.
//!
//! | the client sends | up to 64 KiB of data | more |
//! |---|---|---|
//! | its data | read whole and verified, then sent with its hash | streamed; its end is withheld until it is verified |
//! | `aws-chunked` | the same, a trailing checksum as a header | streamed; framed anew as the bucket's `upload_framing` says |
//!
//! Where the bucket's store needs a document changed or digested (`content_md5`, `checksums`), that is read whole up to its own limit
//! (`s3::upload::document`).
//!
//! The file of a form goes on like data in chunks without a trailer.
//!
//! Where the upstream's requests are not signed there is no seed for chunk signatures: but for unsigned trailers the data
//! goes on as it is.

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_config::{Checksums, Kind, UploadFraming};

use crate::auth::Caller;
use crate::http::edge::{BodyLength, Head};
use crate::router::Bucket;
use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::Form;
use crate::s3::chunked::decode::Decoder;
use crate::s3::chunked::encode::{CHUNK_BYTES, Frame, chunk_bytes};
use crate::s3::form::multipart::FileScan;
use crate::s3::sign::{CONTENT_SHA256, EMPTY_SHA256, UNSIGNED_PAYLOAD};
use crate::s3::sigv4::Seed;
use crate::s3::upload::UploadFault;
use crate::s3::upload::completion::is_completion;
use crate::s3::upload::content_md5::Md5Header;
use crate::s3::upload::declared::{Chunks, Declared};
use crate::s3::upload::document::Document;
use crate::s3::upload::headers::Trailing;
use crate::s3::upload::pipeline::Pipeline;
use crate::upstream::UpstreamRejection;
use crate::upstream::body::{REPLAY_BYTES_MAX, RequestBody, Source, Upload};
use crate::upstream::outbound::idempotent;

/// A body in hand.
pub(super) struct Intake {
    pub(super) body: RequestBody,
    /// What `x-amz-content-sha256` says upstream.
    pub(super) content_sha256: Option<HeaderValue>,
    pub(super) reframing: Option<Reframing>,
    /// The `Content-MD5` that a body read whole goes on with.
    pub(super) md5_header: Md5Header,
}

/// How a body goes on that the client framed.
pub(super) struct Reframing {
    /// None where the data goes on as it is.
    pub(super) frame: Option<Frame>,
    pub(super) trailing: Trailing,
}

/// A body that is to be taken in hand, and what is known of it.
pub(crate) struct Taking {
    pub(crate) source: Source,
    pub(crate) length: BodyLength,
    /// None where nothing is said of it.
    pub(crate) declared: Option<Declared>,
    /// What the signatures of its chunks go on from. Without it, as for clients that have no key, they are not checked.
    pub(crate) seed: Option<Seed>,
    /// Up to how many bytes it is read whole.
    pub(crate) whole_max: u64,
    /// Whether the upstream's request will be signed.
    pub(crate) signs: bool,
}

/// What the head says of the body of an S3 request; what it says wrongly is refused before the body is asked for.
pub(crate) fn declare(
    head: Head<'_>,
    length: BodyLength,
    kind: Kind,
    caller: &Caller,
) -> Result<Option<Declared>, UpstreamRejection> {
    let has_body = takes_body(head.method) || length != BodyLength::Empty;
    if kind == Kind::Http || !has_body {
        return Ok(None);
    }
    let declared = Declared::of(head, caller.payload()).and_then(|declared| declared.fits(length));
    declared.map(Some).map_err(UpstreamRejection::Upload)
}

/// Takes the body of a request in hand.
pub(super) async fn take(
    head: Head<'_>,
    mut taking: Taking,
    bucket: &Bucket,
) -> Result<Intake, UpstreamRejection> {
    let Some(declared) = taking.declared.take() else {
        return as_it_is(head, taking.source, taking.length, bucket.config.kind).await;
    };
    let document = Document::of(head, &bucket.config.upstream.integrity);
    let length = declared.chunks.map(|chunks| chunks.length).or(taking.source.announced);
    let held_max = document.held_max(length).map_err(UpstreamRejection::Upload)?;
    taking.whole_max = taking.whole_max.max(held_max);
    if let Some(scan) = declared.file {
        return filed(taking, scan, declared.claims, bucket);
    }
    let intake = match declared.chunks {
        Some(chunks) => framed(head, taking, chunks, declared.claims, bucket).await?,
        None => claimed(head, taking.source, declared.claims, taking.whole_max).await?,
    };
    Ok(intake.fitted(document))
}

impl Intake {
    /// A verified body as the store needs it.
    fn fitted(self, document: Document) -> Self {
        let changed = self.body.whole().and_then(|body| document.changed(body));
        let md5_header = document.md5_header(changed.is_some());
        match changed {
            // The client's hash is of another body.
            Some(body) => {
                let content_sha256 = Some(hash(&body));
                Self { body: RequestBody::Whole(body), content_sha256, md5_header, ..self }
            }
            None => Self { md5_header, ..self },
        }
    }
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::POST)
}

/// A body about which nothing is claimed, or none at all.
async fn as_it_is(
    head: Head<'_>,
    source: Source,
    length: BodyLength,
    kind: Kind,
) -> Result<Intake, UpstreamRejection> {
    let replays = idempotent(head.method);
    let body = match length {
        // Said with a length even where the client left it out: servers are stricter than HTTP.
        BodyLength::Empty if takes_body(head.method) || head.headers.contains_key(CONTENT_LENGTH) => {
            RequestBody::Whole(Bytes::new())
        }
        BodyLength::Empty => RequestBody::None,
        BodyLength::Known(bytes) if replays && bytes <= REPLAY_BYTES_MAX => {
            RequestBody::Whole(source.read_plain().await?)
        }
        BodyLength::Known(bytes) => stream(source, None, Some(bytes)),
        BodyLength::Chunked => stream(source, None, None),
    };
    let content_sha256 = (kind == Kind::S3).then(|| payload_hash(head.headers, &body));
    Ok(Intake { body, content_sha256, reframing: None, md5_header: Md5Header::default() })
}

/// An S3 body that is the data as it is.
async fn claimed(
    head: Head<'_>,
    source: Source,
    claims: Claims,
    whole_max: u64,
) -> Result<Intake, UpstreamRejection> {
    let length = source.announced;
    let pipeline = Pipeline::plain(None, claims, length);
    let body = match length {
        Some(bytes) if bytes <= whole_max => RequestBody::Whole(source.read_whole(pipeline).await?.0),
        _ => stream(source, Some(pipeline), length),
    };
    let content_sha256 = Some(payload_hash(head.headers, &body));
    Ok(Intake { body, content_sha256, reframing: None, md5_header: Md5Header::default() })
}

/// An S3 body in chunks.
async fn framed(
    head: Head<'_>,
    taking: Taking,
    chunks: Chunks,
    claims: Claims,
    bucket: &Bucket,
) -> Result<Intake, UpstreamRejection> {
    let config = &bucket.config;
    let Taking { source, seed, whole_max, signs, .. } = taking;
    // Its data was held to the limit, and no more of it is taken than was announced.
    let mut source = source.unlimited();
    let keeps_size = chunks.form.is_signed() && seed.is_some();
    let trailer = chunks.trailer.map(|algorithm| algorithm.header());
    let decoder = Decoder::new(chunks.form, chunks.length, trailer, seed, config.max_chunk_size);
    let pipeline = Pipeline::plain(Some(decoder), claims, Some(chunks.length));
    if chunks.length <= whole_max {
        let (bytes, value) = source.read_whole(pipeline).await?;
        let content_sha256 = Some(hash(&bytes));
        // In a header of CompleteMultipartUpload it would be that of the object.
        let is_dropped = config.upstream.integrity.checksums == Checksums::Strip
            || is_completion(head.method, head.uri.query().unwrap_or_default());
        let trailing = match chunks.trailer.zip(value) {
            Some(_) if is_dropped => Trailing::Dropped,
            Some((algorithm, value)) => Trailing::Header(algorithm, value),
            None => Trailing::Absent,
        };
        let reframing = Some(Reframing { frame: None, trailing });
        let md5_header = Md5Header::default();
        return Ok(Intake { body: RequestBody::Whole(bytes), content_sha256, reframing, md5_header });
    }
    let mut frame = frame(config.upstream.integrity.upload_framing, &chunks)
        .filter(|frame| signs || !frame.form.is_signed());
    if let Some(frame) = frame.as_mut().filter(|frame| keeps_size && frame.form.is_signed())
        && let Some(first) = source.first_chunk().await?.filter(|first| *first <= config.max_chunk_size)
    {
        frame.chunk_bytes = chunk_bytes(first, chunks.length);
    }
    check_length(frame.as_ref())?;
    let word = frame.map_or(UNSIGNED_PAYLOAD, |frame| frame.form.as_str());
    let trailing = match (chunks.trailer, frame.and_then(|frame| frame.trailer)) {
        (None, _) => Trailing::Absent,
        (Some(_), None) => Trailing::Dropped,
        (Some(_), Some(_)) => Trailing::Trailer,
    };
    Ok(Intake {
        body: stream(source, Some(pipeline), Some(chunks.length)),
        content_sha256: Some(HeaderValue::from_static(word)),
        reframing: Some(Reframing { frame, trailing }),
        md5_header: Md5Header::default(),
    })
}

/// The file of a form, whose end the form's own end must follow.
fn filed(
    taking: Taking,
    scan: FileScan,
    claims: Claims,
    bucket: &Bucket,
) -> Result<Intake, UpstreamRejection> {
    let chunks = Chunks { form: Form::Signed, length: scan.left(), trailer: None };
    let frame = frame(bucket.config.upstream.integrity.upload_framing, &chunks).filter(|_| taking.signs);
    let word = frame.map_or(UNSIGNED_PAYLOAD, |frame| frame.form.as_str());
    check_length(frame.as_ref())?;
    let pipeline = Pipeline::file(scan, claims, chunks.length);
    Ok(Intake {
        body: stream(taking.source, Some(pipeline), Some(chunks.length)),
        content_sha256: Some(HeaderValue::from_static(word)),
        reframing: Some(Reframing { frame, trailing: Trailing::Absent }),
        md5_header: Md5Header::default(),
    })
}

/// Refuses a body before the upstream hears of it if its framed length cannot be said.
fn check_length(frame: Option<&Frame>) -> Result<(), UpstreamRejection> {
    match frame {
        Some(frame) if frame.framed_length().is_none() => {
            Err(UpstreamRejection::Upload(UploadFault::LengthMalformed))
        }
        _ => Ok(()),
    }
}

/// How these chunks are framed for the upstream; not at all is an answer.
fn frame(framing: UploadFraming, chunks: &Chunks) -> Option<Frame> {
    let (form, trailer) = match (framing, chunks.trailer) {
        (UploadFraming::SignedChunks, _) | (UploadFraming::SignedChunksTrailer, None) => (Form::Signed, None),
        (UploadFraming::SignedChunksTrailer, Some(_)) => (Form::SignedTrailer, chunks.trailer),
        (UploadFraming::UnsignedTrailer, Some(_)) => (Form::UnsignedTrailer, chunks.trailer),
        (UploadFraming::Unsigned, _) | (UploadFraming::UnsignedTrailer, None) => return None,
    };
    let trailer = trailer.map(|algorithm| (algorithm.header(), algorithm.text_bytes()));
    Some(Frame { form, chunk_bytes: CHUNK_BYTES, length: chunks.length, trailer })
}

fn stream(source: Source, pipeline: Option<Pipeline>, size: Option<u64>) -> RequestBody {
    RequestBody::Stream(Some(Box::new(Upload::new(source, pipeline, size))))
}

/// The client's own hash where it gave one, so that the store verifies what the client meant.
fn payload_hash(headers: &HeaderMap, body: &RequestBody) -> HeaderValue {
    let given = headers.get(CONTENT_SHA256).filter(|value| {
        let bytes = value.as_bytes();
        bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit)
    });
    match (given, body) {
        (Some(given), _) => given.clone(),
        (None, RequestBody::None) => HeaderValue::from_static(EMPTY_SHA256),
        (None, RequestBody::Whole(bytes)) => hash(bytes),
        (None, RequestBody::Stream(_)) => HeaderValue::from_static(UNSIGNED_PAYLOAD),
    }
}

pub(super) fn hash(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(hex::encode(Sha256::digest(bytes)))
        .unwrap_or_else(|_| HeaderValue::from_static(UNSIGNED_PAYLOAD))
}
