//! Bytes from the client in, verified bytes for the upstream out.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::decode::{Decoded, Decoder};
use crate::s3::chunked::encode::Encoder;
use crate::s3::form::multipart::FileScan;
use crate::s3::upload::UploadFault;

/// Pieces below this size go on together.
const SMALL_BYTES: usize = 4 << 10;
/// The most that is put together.
const TOGETHER_BYTES: usize = 16 << 10;

/// One body's way from framing to framing.
pub(crate) struct Pipeline {
    framing: Framing,
    claims: Claims,
    out: Out,
    ready: VecDeque<Bytes>,
}

/// How the data comes.
enum Framing {
    /// As it is.
    None,
    /// In chunks.
    Chunks(Box<Decoder>),
    /// In a form.
    File(FileScan),
}

/// How the data goes on.
enum Out {
    /// As it is. The piece with the last byte is withheld, where the length is known.
    Plain { left: Option<u64>, withheld: Vec<Bytes> },
    /// Framed; the chunk of nothing is withheld.
    Framed(Box<Encoder>),
}

impl Pipeline {
    /// The data goes on as it is; `length` is that of the data.
    pub(crate) fn plain(decoder: Option<Decoder>, claims: Claims, length: Option<u64>) -> Self {
        Self::new(decoder.map_or(Framing::None, |decoder| Framing::Chunks(Box::new(decoder))), claims, length)
    }

    /// The file of a form, of this length.
    pub(crate) fn file(scan: FileScan, claims: Claims, length: u64) -> Self {
        Self::new(Framing::File(scan), claims, Some(length))
    }

    fn new(framing: Framing, claims: Claims, length: Option<u64>) -> Self {
        let out = Out::Plain { left: length, withheld: Vec::new() };
        Self { framing, claims, out, ready: VecDeque::new() }
    }

    /// The data goes on framed. Must come before the first byte.
    pub(crate) fn frame(&mut self, encoder: Encoder) {
        self.out = Out::Framed(Box::new(encoder));
    }

    /// Takes bytes as the client sent them.
    pub(crate) fn push(&mut self, mut bytes: Bytes) -> Result<(), UploadFault> {
        let Self { framing, claims, out, ready } = self;
        let decoder = match framing {
            Framing::Chunks(decoder) => decoder,
            Framing::None => {
                claims.update(&bytes);
                out.piece(bytes, ready);
                return Ok(());
            }
            Framing::File(scan) => {
                if let Some(piece) = scan.take(&mut bytes).map_err(UploadFault::Form)? {
                    claims.update(&piece);
                    out.piece(piece, ready);
                }
                return Ok(());
            }
        };
        while let Some(decoded) = decoder.take(&mut bytes)? {
            match decoded {
                Decoded::Piece(piece) => {
                    claims.update(&piece);
                    out.piece(piece, ready);
                }
                Decoded::Chunk { pieces, sha256 } => {
                    pieces.iter().for_each(|piece| claims.update(piece));
                    match out {
                        Out::Framed(encoder) => encoder.chunk(pieces, &sha256, ready),
                        Out::Plain { .. } => pieces.into_iter().for_each(|piece| out.piece(piece, ready)),
                    }
                }
            }
        }
        Ok(())
    }

    /// What may be sent on.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        let fits = |bytes: usize, next: Option<&Bytes>| {
            next.is_some_and(|next| next.len() < SMALL_BYTES && bytes + next.len() <= TOGETHER_BYTES)
        };
        if first.len() >= SMALL_BYTES || !fits(first.len(), self.ready.front()) {
            return Some(first);
        }
        let mut together = BytesMut::from(&*first);
        while fits(together.len(), self.ready.front()) {
            together.extend(self.ready.pop_front());
        }
        Some(together.freeze())
    }

    /// The client's body has ended. If all of it holds, its end is let go, and the trailing checksum is returned.
    pub(crate) fn finish(&mut self) -> Result<Option<String>, UploadFault> {
        let trailer = match mem::replace(&mut self.framing, Framing::None) {
            Framing::Chunks(decoder) => decoder.finish()?,
            Framing::File(scan) => scan.finish().map(|()| None).map_err(UploadFault::Form)?,
            Framing::None => None,
        };
        self.claims.verify(trailer.as_deref())?;
        match &mut self.out {
            Out::Plain { withheld, .. } => self.ready.extend(withheld.drain(..)),
            Out::Framed(encoder) => encoder.finish(trailer.as_deref(), &mut self.ready),
        }
        Ok(trailer)
    }
}

impl Out {
    fn piece(&mut self, piece: Bytes, ready: &mut VecDeque<Bytes>) {
        match self {
            Self::Framed(encoder) => encoder.piece(piece, ready),
            Self::Plain { left: None, .. } => ready.push_back(piece),
            Self::Plain { left: Some(left), withheld } => {
                *left = left.saturating_sub(piece.len() as u64);
                if *left == 0 { withheld.push(piece) } else { ready.push_back(piece) }
            }
        }
    }
}
