//! Receives the body of a request into a data file and hashes it.
//!
//! Writes and hashing run on the runtime's blocking threads, in pieces of `WRITE_BYTES`, so that one upload does not delay the others. A
//! failed body leaves no file.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Error, S3Result, StdError, TrailingHeaders, s3_error};

use super::data::DataFile;
use super::record::{Checksums, Segment};
use super::{blocking, checksum, error_with_code};

/// Approximate memory of an upload.
const WRITE_BYTES: usize = 256 << 10;
/// Maximum bytes to read of the rest of a refused body.
const DISCARD_BYTES_MAX: usize = 1 << 20;
/// Maximum time for reading the rest of a refused body.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// Digests that the client sends for its body.
#[derive(Default)]
pub(super) struct ExpectedBody {
    pub(super) content_md5: Option<String>,
    pub(super) checksums: Checksums,
    pub(super) announced: Option<ChecksumAlgorithm>,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// A received body.
pub(super) struct ReceivedBody {
    /// An empty body has a segment too, because each part must be a segment of its object.
    pub(super) segment: Segment,
    pub(super) md5: [u8; 16],
    pub(super) checksums: Checksums,
}

/// Receives a body and verifies its digests.
pub(super) async fn receive_body(
    directory: PathBuf,
    body: &mut StreamingBlob,
    expected: ExpectedBody,
) -> S3Result<ReceivedBody> {
    let hasher = checksum::hasher(&expected.checksums, expected.announced.as_ref());
    let mut sink = BodyWriter { directory, file: None, bytes: 0, md5: Md5::new(), hasher };
    let (mut pieces, mut held_bytes) = (Vec::new(), 0);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| body_error(&error))?;
        held_bytes += piece.len();
        pieces.push(piece);
        if held_bytes >= WRITE_BYTES {
            held_bytes = 0;
            let pieces = mem::take(&mut pieces);
            sink = blocking(move || {
                sink.write(&pieces)?;
                Ok(sink)
            })
            .await?;
        }
    }
    blocking(move || {
        sink.write(&pieces)?;
        sink.finish(expected)
    })
    .await
}

/// The body of an operation's input; 400 if there is none.
pub(super) fn require_body(body: &mut Option<StreamingBlob>) -> S3Result<StreamingBlob> {
    body.take().ok_or_else(|| s3_error!(IncompleteBody, "the request has no body"))
}

/// Returns `outcome`. After an error it first discards the rest of the body: closing a connection with unread bytes resets it, and the
/// reset may overtake the answer.
pub(super) async fn discard_body_after_error<T>(
    mut body: StreamingBlob,
    outcome: S3Result<T>,
) -> S3Result<T> {
    if outcome.is_err() {
        let mut bytes = 0;
        let reading = async {
            while bytes < DISCARD_BYTES_MAX
                && let Some(Ok(piece)) = body.next().await
            {
                bytes += piece.len();
            }
        };
        // After the timeout the rest stays unread.
        let _ = tokio::time::timeout(DISCARD_TIME_MAX, reading).await;
    }
    outcome
}

/// Copies bytes into a new data file and hashes them with `algorithm`.
pub(super) fn copy_data(
    directory: PathBuf,
    source: &mut dyn io::Read,
    algorithm: Option<&ChecksumAlgorithm>,
) -> S3Result<ReceivedBody> {
    let hasher = checksum::hasher(&Checksums::default(), algorithm);
    let mut sink = BodyWriter { directory, file: None, bytes: 0, md5: Md5::new(), hasher };
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        match source.read(&mut buffer).map_err(S3Error::internal_error)? {
            0 => return sink.finish(ExpectedBody::default()),
            bytes => sink.write_piece(&buffer[..bytes])?,
        }
    }
}

/// Writes and hashes a body.
struct BodyWriter {
    directory: PathBuf,
    file: Option<(DataFile, File)>,
    bytes: u64,
    md5: Md5,
    hasher: ChecksumHasher,
}

impl BodyWriter {
    fn write(&mut self, pieces: &[Bytes]) -> S3Result<()> {
        pieces.iter().try_for_each(|piece| self.write_piece(piece))
    }

    fn write_piece(&mut self, piece: &[u8]) -> S3Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.md5.update(piece);
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        let opened = match &mut self.file {
            Some(opened) => opened,
            none => none.insert(DataFile::create(&self.directory).map_err(S3Error::internal_error)?),
        };
        opened.1.write_all(piece).map_err(S3Error::internal_error)
    }

    fn finish(self, mut expected: ExpectedBody) -> S3Result<ReceivedBody> {
        let md5 = self.md5.finalize();
        if let Some(sent) = expected.content_md5 {
            let sent = BASE64_STANDARD.decode(sent).ok().filter(|sent| sent.len() == md5.len());
            let sent =
                sent.ok_or_else(|| s3_error!(InvalidDigest, "Content-MD5 is not a base64-encoded MD5"))?;
            if sent != md5 {
                return Err(s3_error!(BadDigest, "Content-MD5 does not match the body"));
            }
        }
        expected.checksums.add_trailers(expected.trailers.as_ref());
        let checksums = checksum::computed(self.hasher);
        expected.checksums.verify(checksums.clone())?;
        let opened = self.file.map_or_else(|| DataFile::create(&self.directory), Ok);
        let (data, _) = opened.map_err(S3Error::internal_error)?;
        let segment = Segment { data: Arc::new(data), bytes: self.bytes };
        Ok(ReceivedBody { segment, md5, checksums })
    }
}

/// A truncated body or one that does not match its signature is the client's error. The library has the cause only as text.
fn body_error(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        return error_with_code(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            "x-amz-content-sha256 does not match the body",
        );
    }
    if text.contains("SignatureMismatch") {
        return s3_error!(SignatureDoesNotMatch, "the signature of a chunk does not match its data");
    }
    s3_error!(IncompleteBody, "the body ended before its announced length or is malformed")
}
