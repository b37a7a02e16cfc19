//! What benchmarks outside this crate may run of its inside (cargo feature `bench`).

use bytes::Bytes;

use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::Form;
use crate::s3::chunked::decode::Decoder;
use crate::s3::chunked::encode::{Encoder, Frame};
use crate::s3::sigv4::Seed;
use crate::s3::upload::pipeline::Pipeline;

/// How a body comes and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// As it is, nothing claimed about it.
    Unsigned,
    /// In signed chunks, verified and signed anew.
    SignedChunks,
}

fn seed(of: u8) -> Seed {
    let scope = "20130524/us-east-1/s3/aws4_request".to_owned();
    Seed::new([of; 32], "20130524T000000Z".to_owned(), scope, "0".repeat(64))
}

/// Data framed as a client sends it in signed chunks.
pub fn framed(data: &Bytes, chunk_bytes: usize) -> Vec<Bytes> {
    let length = data.len() as u64;
    let frame = Frame { form: Form::Signed, chunk_bytes: chunk_bytes as u64, length, trailer: None };
    let mut encoder = Encoder::new(frame, Some(seed(1)));
    let mut out = std::collections::VecDeque::new();
    encoder.piece(data.clone(), &mut out);
    encoder.finish(None, &mut out);
    out.into()
}

/// Passes a body through the pipeline; the bytes that came out. `length` is that of the data.
pub fn pass(upload: Upload, pieces: &[Bytes], length: u64, chunk_bytes: u64) -> Option<u64> {
    let claims = Claims::none();
    let mut pipeline = match upload {
        Upload::Unsigned => Pipeline::plain(None, claims, Some(length)),
        Upload::SignedChunks => {
            let decoder = Decoder::new(Form::Signed, length, None, Some(seed(1)), chunk_bytes);
            let frame = Frame { form: Form::Signed, chunk_bytes, length, trailer: None };
            let mut pipeline = Pipeline::plain(Some(decoder), claims, Some(length));
            pipeline.frame(Encoder::new(frame, Some(seed(2))));
            pipeline
        }
    };
    let mut out = 0;
    for piece in pieces {
        pipeline.push(piece.clone()).ok()?;
        out += std::iter::from_fn(|| pipeline.pop()).map(|piece| piece.len() as u64).sum::<u64>();
    }
    pipeline.finish().ok()?;
    Some(out + std::iter::from_fn(|| pipeline.pop()).map(|piece| piece.len() as u64).sum::<u64>())
}
