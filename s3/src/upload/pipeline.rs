//! Decodes, verifies and re-encodes a body: bytes from the client in, verified bytes for the upstream out (A1, I1).

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::checksum::expected_digest::ExpectedDigests;
use crate::chunked::decode::{Decoded, Decoder};
use crate::chunked::encode::Encoder;
use crate::form::multipart::FileDecoder;
use crate::upload::UploadFault;

/// Pieces smaller than this are merged.
const SMALL_BYTES: usize = 4 << 10;
/// The largest merged piece.
const TOGETHER_BYTES: usize = 16 << 10;

/// The pipeline of one body.
pub struct Pipeline {
    input: InputFraming,
    expected_digests: ExpectedDigests,
    output: OutputFraming,
    ready: VecDeque<Bytes>,
}

/// The framing of the client's body.
enum InputFraming {
    /// The body is the data.
    None,
    /// `aws-chunked`.
    Chunks(Box<Decoder>),
    /// A form with a file.
    File(FileDecoder),
}

/// The framing of the upstream's body.
enum OutputFraming {
    /// The body is the data. If the length is known, the piece with the last byte is withheld.
    Plain { remaining: Option<u64>, withheld: Vec<Bytes> },
    /// `aws-chunked`. The final chunk is withheld.
    Framed(Box<Encoder>),
}

impl Pipeline {
    /// Forwards the data without framing. `length` is the length of the data.
    pub fn for_data(
        decoder: Option<Decoder>,
        expected_digests: ExpectedDigests,
        length: Option<u64>,
    ) -> Self {
        Self::new(
            decoder.map_or(InputFraming::None, |decoder| InputFraming::Chunks(Box::new(decoder))),
            expected_digests,
            length,
        )
    }

    /// Forwards the file of a form. `length` is the length of the file.
    pub fn for_form_file(decoder: FileDecoder, expected_digests: ExpectedDigests, length: u64) -> Self {
        Self::new(InputFraming::File(decoder), expected_digests, Some(length))
    }

    fn new(input: InputFraming, expected_digests: ExpectedDigests, length: Option<u64>) -> Self {
        let output = OutputFraming::Plain { remaining: length, withheld: Vec::new() };
        Self { input, expected_digests, output, ready: VecDeque::new() }
    }

    /// Forwards the data framed. Must be called before the first `push`.
    pub fn encode_with(&mut self, encoder: Encoder) {
        self.output = OutputFraming::Framed(Box::new(encoder));
    }

    /// Adds bytes from the client.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<(), UploadFault> {
        let Self { input, expected_digests, output, ready } = self;
        let decoder = match input {
            InputFraming::Chunks(decoder) => decoder,
            InputFraming::None => {
                expected_digests.update(&bytes);
                output.push_piece(bytes, ready);
                return Ok(());
            }
            InputFraming::File(decoder) => {
                if let Some(piece) = decoder.decode(&mut bytes).map_err(UploadFault::Form)? {
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

    /// The declared length of the client's chunk that is held until its signature is verified; 0 if none is.
    pub fn held_chunk_bytes(&self) -> u64 {
        match &self.input {
            InputFraming::Chunks(decoder) => decoder.buffered_chunk_bytes(),
            InputFraming::None | InputFraming::File(_) => 0,
        }
    }

    /// The next bytes for the upstream. Small pieces are merged.
    pub fn pop(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        let fits = |bytes: usize, next: Option<&Bytes>| {
            next.is_some_and(|next| next.len() < SMALL_BYTES && bytes + next.len() <= TOGETHER_BYTES)
        };
        if first.len() >= SMALL_BYTES || !fits(first.len(), self.ready.front()) {
            return Some(first);
        }
        let mut merged = BytesMut::from(&*first);
        while fits(merged.len(), self.ready.front()) {
            merged.extend(self.ready.pop_front());
        }
        Some(merged.freeze())
    }

    /// Ends the client's body. If the verification succeeds, releases the withheld end and returns the trailing checksum.
    pub fn finish(&mut self) -> Result<Option<String>, UploadFault> {
        let trailer = match mem::replace(&mut self.input, InputFraming::None) {
            InputFraming::Chunks(decoder) => decoder.finish()?,
            InputFraming::File(decoder) => decoder.finish().map(|()| None).map_err(UploadFault::Form)?,
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
            Self::Plain { remaining: None, .. } => ready.push_back(piece),
            Self::Plain { remaining: Some(remaining), withheld } => {
                *remaining = remaining.saturating_sub(piece.len() as u64);
                if *remaining == 0 { withheld.push(piece) } else { ready.push_back(piece) }
            }
        }
    }
}
