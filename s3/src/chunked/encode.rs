//! Encodes data as `aws-chunked` for the upstream, with the gateway's signatures (A1).
//!
//! The upstream needs a Content-Length, so every chunk except the last one has the same size, and the length of the body is computed from
//! the length of the data. A client's verified chunk of exactly this size keeps its boundaries and its hash, so one SHA-256 pass serves
//! both signatures. Other data is divided into new chunks.
//!
//! The final chunk of size 0 commits the upload, so it is encoded only after everything was verified.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::chunked::{ChunkLayout, trailer};
use crate::pieces::PieceQueue;
use crate::sigv4::SignatureChain;

/// The default size of chunks.
pub const CHUNK_BYTES: u64 = 64 << 10;
/// S3 rejects smaller chunks, except the last one.
const CHUNK_BYTES_MIN: u64 = 8 << 10;
const EXTENSION: &str = ";chunk-signature=";
const SIGNATURE_DIGITS: u64 = 64;

/// The framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEncoding {
    /// The layout of the chunks.
    pub layout: ChunkLayout,
    /// The size of every chunk except the last one.
    pub chunk_bytes: u64,
    /// The length of the data.
    pub length: u64,
    /// Name and value length of the trailing header, if the layout has one.
    pub trailer: Option<(&'static str, u64)>,
}

/// The size of the upstream's chunks, if the client's first chunk has `first` bytes.
pub fn choose_chunk_bytes(first: u64, length: u64) -> u64 {
    if first >= CHUNK_BYTES_MIN || (first == length && first > 0) { first } else { CHUNK_BYTES }
}

impl ChunkEncoding {
    /// The length of the body with its framing; none if it does not fit into 64 bits.
    pub fn framed_length(&self) -> Option<u64> {
        let (full, rest) = (self.length / self.chunk_bytes, self.length % self.chunk_bytes);
        let signature = if self.layout.is_signed() { EXTENSION.len() as u64 + SIGNATURE_DIGITS } else { 0 };
        let chunk_framing = |bytes: u64| digits(bytes) + signature + 4;
        let partial = if rest > 0 { chunk_framing(rest) } else { 0 };
        // The final chunk has one line end; its second one is the line end after the trailer or, without a trailer, its own.
        let mut framing =
            full.checked_mul(chunk_framing(self.chunk_bytes))?.checked_add(partial + chunk_framing(0))?;
        if let Some((name, value)) = self.trailer {
            framing = framing.checked_add(name.len() as u64 + 1 + value + 2)?;
            if self.layout.is_signed() {
                framing = framing.checked_add(trailer::SIGNATURE.len() as u64 + 1 + SIGNATURE_DIGITS + 2)?;
            }
        }
        self.length.checked_add(framing)
    }
}

fn digits(bytes: u64) -> u64 {
    u64::from(bytes.checked_ilog2().unwrap_or(0) / 4 + 1)
}

/// Encodes one body.
pub struct Encoder {
    encoding: ChunkEncoding,
    signature_chain: Option<SignatureChain>,
    /// The length of the data that has not arrived.
    remaining: u64,
    /// The length of the data in the current chunk.
    in_chunk: u64,
    pending: PieceQueue,
    hash: Sha256,
}

impl Encoder {
    /// `signature_chain` signs the chunks if the layout is signed.
    pub fn new(encoding: ChunkEncoding, signature_chain: Option<SignatureChain>) -> Self {
        Self {
            encoding,
            signature_chain,
            remaining: encoding.length,
            in_chunk: 0,
            pending: PieceQueue::default(),
            hash: Sha256::new(),
        }
    }

    fn next_chunk_bytes(&self) -> u64 {
        self.encoding.chunk_bytes.min(self.remaining + self.in_chunk)
    }

    /// Adds a verified chunk with the hash of its data.
    pub fn encode_chunk(&mut self, pieces: Vec<Bytes>, sha256: &[u8; 32], out: &mut VecDeque<Bytes>) {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.encoding.layout.is_signed() && self.in_chunk == 0 && bytes == self.next_chunk_bytes() {
            self.remaining -= bytes;
            self.push_signed_chunk(bytes, sha256, pieces, out);
        } else {
            pieces.into_iter().for_each(|piece| self.encode_data(piece, out));
        }
    }

    /// Adds data. Data beyond `length` is ignored; the decoder rejects it before.
    pub(crate) fn encode_data(&mut self, mut data: Bytes, out: &mut VecDeque<Bytes>) {
        while !data.is_empty() && self.remaining > 0 {
            let size = self.next_chunk_bytes();
            let room = usize::try_from(size - self.in_chunk).unwrap_or(usize::MAX);
            let part = data.split_to(room.min(data.len()));
            let is_first = self.in_chunk == 0;
            self.remaining -= part.len() as u64;
            self.in_chunk += part.len() as u64;
            let is_whole = self.in_chunk == size;
            if is_whole {
                self.in_chunk = 0;
            }
            if self.encoding.layout.is_signed() {
                self.hash.update(&part);
                self.pending.push(part);
                if is_whole {
                    let sha256 = self.hash.finalize_reset().into();
                    let pieces = self.pending.drain_all();
                    self.push_signed_chunk(size, &sha256, pieces, out);
                }
            } else {
                if is_first {
                    out.push_back(format!("{size:x}\r\n").into());
                }
                out.push_back(part);
                if is_whole {
                    out.push_back(Bytes::from_static(b"\r\n"));
                }
            }
        }
    }

    fn push_signed_chunk(
        &mut self,
        bytes: u64,
        sha256: &[u8; 32],
        pieces: Vec<Bytes>,
        out: &mut VecDeque<Bytes>,
    ) {
        let signature = self.signature_chain.as_mut().map_or("", |chain| chain.chunk_signature(sha256));
        out.push_back(format!("{bytes:x}{EXTENSION}{signature}\r\n").into());
        out.extend(pieces);
        out.push_back(Bytes::from_static(b"\r\n"));
    }

    /// Encodes the end of the body after all data was verified. `value` is the value of the trailing header.
    pub fn finish(&mut self, value: Option<&str>, out: &mut VecDeque<Bytes>) {
        let mut end = String::from("0");
        if self.encoding.layout.is_signed() {
            let signature = self
                .signature_chain
                .as_mut()
                .map_or("", |chain| chain.chunk_signature(&Sha256::digest([]).into()));
            end.push_str(EXTENSION);
            end.push_str(signature);
        }
        end.push_str("\r\n");
        if let Some(((name, _), value)) = self.encoding.trailer.zip(value) {
            end.push_str(&format!("{name}:{value}\r\n"));
            if self.encoding.layout.is_signed() {
                let signed = Sha256::digest(format!("{name}:{value}\n")).into();
                let signature =
                    self.signature_chain.as_mut().map_or("", |chain| chain.trailer_signature(&signed));
                end.push_str(&format!("{}:{signature}\r\n", trailer::SIGNATURE));
            }
        }
        end.push_str("\r\n");
        out.push_back(end.into());
    }
}
