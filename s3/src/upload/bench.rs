//! Entry points for `benches/signed_chunks.rs` (cargo feature `bench`).

use bytes::Bytes;

use crate::checksum::expected_digest::ExpectedDigests;
use crate::chunked::ChunkLayout;
use crate::chunked::decode::Decoder;
use crate::chunked::encode::{ChunkEncoding, Encoder};
use crate::sigv4::SignatureChain;
use crate::upload::pipeline::Pipeline;

/// How the body is framed and signed on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// Unframed, without digests or signatures.
    Unsigned,
    /// In signed chunks, which are verified and signed again.
    SignedChunks,
}

fn signature_chain(key_byte: u8) -> SignatureChain {
    let scope = "20130524/us-east-1/s3/aws4_request".to_owned();
    SignatureChain::new([key_byte; 32], "20130524T000000Z".to_owned(), scope, "0".repeat(64))
}

/// Frames data in signed chunks, like a client.
pub fn framed(data: &Bytes, chunk_bytes: usize) -> Vec<Bytes> {
    let length = data.len() as u64;
    let encoding =
        ChunkEncoding { layout: ChunkLayout::Signed, chunk_bytes: chunk_bytes as u64, length, trailer: None };
    let mut encoder = Encoder::new(encoding, Some(signature_chain(1)));
    let mut out = std::collections::VecDeque::new();
    encoder.encode_data(data.clone(), &mut out);
    encoder.finish(None, &mut out);
    out.into()
}

/// Runs a body through the pipeline and returns the number of bytes of its output. `length` is that of the data.
pub fn pass(upload: Upload, pieces: &[Bytes], length: u64, chunk_bytes: u64) -> Option<u64> {
    let expected_digests = ExpectedDigests::empty();
    let mut pipeline = match upload {
        Upload::Unsigned => Pipeline::for_data(None, expected_digests, Some(length)),
        Upload::SignedChunks => {
            let decoder =
                Decoder::new(ChunkLayout::Signed, length, None, Some(signature_chain(1)), chunk_bytes);
            let encoding = ChunkEncoding { layout: ChunkLayout::Signed, chunk_bytes, length, trailer: None };
            let mut pipeline = Pipeline::for_data(Some(decoder), expected_digests, Some(length));
            pipeline.encode_with(Encoder::new(encoding, Some(signature_chain(2))));
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
