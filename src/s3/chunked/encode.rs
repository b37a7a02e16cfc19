//! Data framed as `aws-chunked` for the upstream, with signatures of its own.
//!
//! The upstream needs a Content-Length, so every chunk but the last has one size, and the length is known ahead from that of
//! the data. A client's verified chunk of just this size keeps its boundaries and its hash: one SHA-256 pass then serves
//! both signatures. Data in any other division is put together anew.
//!
//! The chunk of nothing at the end is what commits the upload, so it is made only when everything has been verified.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::s3::chunked::{Form, trailer};
use crate::s3::pieces::Pieces;
use crate::s3::sigv4::Seed;

/// Where nothing speaks for another size.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;
/// S3 refuses smaller ones, but for the last.
const CHUNK_BYTES_MIN: u64 = 8 << 10;
const EXTENSION: &str = ";chunk-signature=";
const SIGNATURE_DIGITS: u64 = 64;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) form: Form,
    /// Of every chunk but the last.
    pub(crate) chunk_bytes: u64,
    /// Of the data.
    pub(crate) length: u64,
    /// Name and value length of the trailing header, in the forms that have one.
    pub(crate) trailer: Option<(&'static str, u64)>,
}

/// The size of the upstream's chunks for a client whose first one has `first` bytes.
pub(crate) fn chunk_bytes(first: u64, length: u64) -> u64 {
    if first >= CHUNK_BYTES_MIN || (first == length && first > 0) { first } else { CHUNK_BYTES }
}

impl Frame {
    /// The length of the whole body, framing included.
    pub(crate) fn framed_length(&self) -> u64 {
        let (full, rest) = (self.length / self.chunk_bytes, self.length % self.chunk_bytes);
        let signature = if self.form.is_signed() { EXTENSION.len() as u64 + SIGNATURE_DIGITS } else { 0 };
        let around = |bytes: u64| digits(bytes) + signature + 4;
        let partial = if rest > 0 { around(rest) } else { 0 };
        // The chunk of nothing has one line end, and the body's last one is its second or the trailer's.
        let mut length = self.length + full * around(self.chunk_bytes) + partial + around(0);
        if let Some((name, value)) = self.trailer {
            length += name.len() as u64 + 1 + value + 2;
            if self.form.is_signed() {
                length += trailer::SIGNATURE.len() as u64 + 1 + SIGNATURE_DIGITS + 2;
            }
        }
        length
    }
}

fn digits(bytes: u64) -> u64 {
    u64::from(bytes.checked_ilog2().unwrap_or(0) / 4 + 1)
}

/// Frames one body.
pub(crate) struct Encoder {
    frame: Frame,
    seed: Option<Seed>,
    /// Data that has not come.
    left: u64,
    /// Of the chunk that has begun.
    in_chunk: u64,
    pending: Pieces,
    hash: Sha256,
}

impl Encoder {
    /// `seed` signs, in the forms that are signed.
    pub(crate) fn new(frame: Frame, seed: Option<Seed>) -> Self {
        Self { frame, seed, left: frame.length, in_chunk: 0, pending: Pieces::default(), hash: Sha256::new() }
    }

    fn size_of_next(&self) -> u64 {
        self.frame.chunk_bytes.min(self.left + self.in_chunk)
    }

    /// Takes a verified chunk with the hash of its data.
    pub(crate) fn chunk(&mut self, pieces: Vec<Bytes>, sha256: &[u8; 32], out: &mut VecDeque<Bytes>) {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.frame.form.is_signed() && self.in_chunk == 0 && bytes == self.size_of_next() {
            self.left -= bytes;
            self.signed(bytes, sha256, pieces, out);
        } else {
            pieces.into_iter().for_each(|piece| self.piece(piece, out));
        }
    }

    /// Takes data. More than the frame's length is left out; the decoder refuses it before.
    pub(crate) fn piece(&mut self, mut data: Bytes, out: &mut VecDeque<Bytes>) {
        while !data.is_empty() && self.left > 0 {
            let size = self.size_of_next();
            let room = usize::try_from(size - self.in_chunk).unwrap_or(usize::MAX);
            let part = data.split_to(room.min(data.len()));
            let is_first = self.in_chunk == 0;
            self.left -= part.len() as u64;
            self.in_chunk += part.len() as u64;
            let is_whole = self.in_chunk == size;
            if is_whole {
                self.in_chunk = 0;
            }
            if self.frame.form.is_signed() {
                self.hash.update(&part);
                self.pending.push(part);
                if is_whole {
                    let sha256 = self.hash.finalize_reset().into();
                    let pieces = self.pending.take();
                    self.signed(size, &sha256, pieces, out);
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

    fn signed(&mut self, bytes: u64, sha256: &[u8; 32], pieces: Vec<Bytes>, out: &mut VecDeque<Bytes>) {
        let signature = self.seed.as_mut().map_or("", |seed| seed.chunk(sha256));
        out.push_back(format!("{bytes:x}{EXTENSION}{signature}\r\n").into());
        out.extend(pieces);
        out.push_back(Bytes::from_static(b"\r\n"));
    }

    /// All data has come and everything is verified: the end, with the trailing header's value.
    pub(crate) fn finish(&mut self, value: Option<&str>, out: &mut VecDeque<Bytes>) {
        let mut end = String::from("0");
        if self.frame.form.is_signed() {
            let signature = self.seed.as_mut().map_or("", |seed| seed.chunk(&Sha256::digest([]).into()));
            end.push_str(EXTENSION);
            end.push_str(signature);
        }
        end.push_str("\r\n");
        if let Some(((name, _), value)) = self.frame.trailer.zip(value) {
            end.push_str(&format!("{name}:{value}\r\n"));
            if self.frame.form.is_signed() {
                let signed = Sha256::digest(format!("{name}:{value}\n")).into();
                let signature = self.seed.as_mut().map_or("", |seed| seed.trailer(&signed));
                end.push_str(&format!("{}:{signature}\r\n", trailer::SIGNATURE));
            }
        }
        end.push_str("\r\n");
        out.push_back(end.into());
    }
}
