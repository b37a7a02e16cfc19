//! Bytes from the client in, verified bytes for the upstream out.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::s3::checksum::claim::Claims;
use crate::s3::chunked::decode::{Decoded, Decoder};
use crate::s3::chunked::encode::Encoder;
use crate::s3::upload::UploadFault;

/// One body's way from framing to framing.
pub(crate) struct Pipeline {
    decoder: Option<Decoder>,
    claims: Claims,
    out: Out,
    ready: VecDeque<Bytes>,
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
        let out = Out::Plain { left: length, withheld: Vec::new() };
        Self { decoder, claims, out, ready: VecDeque::new() }
    }

    /// The data goes on framed. Must come before the first byte.
    pub(crate) fn frame(&mut self, encoder: Encoder) {
        self.out = Out::Framed(Box::new(encoder));
    }

    /// Takes bytes as the client sent them.
    pub(crate) fn push(&mut self, mut bytes: Bytes) -> Result<(), UploadFault> {
        let Self { decoder, claims, out, ready } = self;
        let Some(decoder) = decoder else {
            claims.update(&bytes);
            out.piece(bytes, ready);
            return Ok(());
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
        self.ready.pop_front()
    }

    /// The client's body has ended. If all of it holds, its end is let go, and the trailing checksum is returned.
    pub(crate) fn finish(&mut self) -> Result<Option<String>, UploadFault> {
        let trailer = match self.decoder.take() {
            Some(decoder) => decoder.finish()?,
            None => None,
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
