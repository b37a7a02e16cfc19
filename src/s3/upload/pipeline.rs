//! Bytes from the client in, verified bytes for the upstream out.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::s3::checksum::expected_digest::ExpectedDigests;
use crate::s3::chunked::decode::{Decoded, Decoder};
use crate::s3::chunked::encode::Encoder;
use crate::s3::form::multipart::FileDecoder;
use crate::s3::upload::UploadFault;

/// Pieces below this size go on together.
const SMALL_BYTES: usize = 4 << 10;
/// The most that is put together.
const TOGETHER_BYTES: usize = 16 << 10;

/// One body's way from framing to framing.
pub(crate) struct Pipeline {
    input: InputFraming,
    expected_digests: ExpectedDigests,
    output: OutputFraming,
    ready: VecDeque<Bytes>,
}

/// How the data comes.
enum InputFraming {
    /// As it is.
    None,
    /// In chunks.
    Chunks(Box<Decoder>),
    /// In a form.
    File(FileDecoder),
}

/// How the data goes on.
enum OutputFraming {
    /// As it is. The piece with the last byte is withheld, where the length is known.
    Plain { left: Option<u64>, withheld: Vec<Bytes> },
    /// Framed; the chunk of nothing is withheld.
    Framed(Box<Encoder>),
}

impl Pipeline {
    /// The data goes on as it is; `length` is that of the data.
    pub(crate) fn for_data(decoder: Option<Decoder>, claims: ExpectedDigests, length: Option<u64>) -> Self {
        Self::new(
            decoder.map_or(InputFraming::None, |decoder| InputFraming::Chunks(Box::new(decoder))),
            claims,
            length,
        )
    }

    /// The file of a form, of this length.
    pub(crate) fn for_form_file(scan: FileDecoder, claims: ExpectedDigests, length: u64) -> Self {
        Self::new(InputFraming::File(scan), claims, Some(length))
    }

    fn new(input: InputFraming, expected_digests: ExpectedDigests, length: Option<u64>) -> Self {
        let output = OutputFraming::Plain { left: length, withheld: Vec::new() };
        Self { input, expected_digests, output, ready: VecDeque::new() }
    }

    /// The data goes on framed. Must come before the first byte.
    pub(crate) fn encode_with(&mut self, encoder: Encoder) {
        self.output = OutputFraming::Framed(Box::new(encoder));
    }

    /// Takes bytes as the client sent them.
    pub(crate) fn push(&mut self, mut bytes: Bytes) -> Result<(), UploadFault> {
        let Self { input, expected_digests, output, ready } = self;
        let decoder = match input {
            InputFraming::Chunks(decoder) => decoder,
            InputFraming::None => {
                expected_digests.update(&bytes);
                output.push_piece(bytes, ready);
                return Ok(());
            }
            InputFraming::File(scan) => {
                if let Some(piece) = scan.decode(&mut bytes).map_err(UploadFault::Form)? {
                    expected_digests.update(&piece);
                    output.push_piece(piece, ready);
                }
                return Ok(());
            }
        };
        while let Some(decoded) = decoder.decode(&mut bytes)? {
            match decoded {
                Decoded::Piece(piece) => {
                    expected_digests.update(&piece);
                    output.push_piece(piece, ready);
                }
                Decoded::Chunk { pieces, sha256 } => {
                    pieces.iter().for_each(|piece| expected_digests.update(piece));
                    match output {
                        OutputFraming::Framed(encoder) => encoder.encode_chunk(pieces, &sha256, ready),
                        OutputFraming::Plain { .. } => {
                            pieces.into_iter().for_each(|piece| output.push_piece(piece, ready))
                        }
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
        let trailer = match mem::replace(&mut self.input, InputFraming::None) {
            InputFraming::Chunks(decoder) => decoder.finish()?,
            InputFraming::File(scan) => scan.finish().map(|()| None).map_err(UploadFault::Form)?,
            InputFraming::None => None,
        };
        self.expected_digests.verify(trailer.as_deref())?;
        match &mut self.output {
            OutputFraming::Plain { withheld, .. } => self.ready.extend(withheld.drain(..)),
            OutputFraming::Framed(encoder) => encoder.finish(trailer.as_deref(), &mut self.ready),
        }
        Ok(trailer)
    }
}

impl OutputFraming {
    fn push_piece(&mut self, piece: Bytes, ready: &mut VecDeque<Bytes>) {
        match self {
            Self::Framed(encoder) => encoder.encode_data(piece, ready),
            Self::Plain { left: None, .. } => ready.push_back(piece),
            Self::Plain { left: Some(left), withheld } => {
                *left = left.saturating_sub(piece.len() as u64);
                if *left == 0 { withheld.push(piece) } else { ready.push_back(piece) }
            }
        }
    }
}
