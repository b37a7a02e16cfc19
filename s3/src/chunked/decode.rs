//! Incremental decoder of `aws-chunked` bodies (A1). The input may be split at any byte.

use std::mem;

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use crate::chunked::signature_text::{constant_time_eq, is_signature};
use crate::chunked::trailer::{Trailer, TrailerLine};
use crate::chunked::{ChunkFault, ChunkLayout};
use crate::pieces::PieceQueue;
use crate::sigv4::SignatureChain;

const LINE_BYTES_MAX: usize = 1024;
const SIZE_DIGITS_MAX: usize = 16;
/// The framing that is allowed in addition to the bytes of data. Chunks of 8 KiB, S3's minimum, have 89 bytes of framing each.
const OVERHEAD_BYTES_SPARE: u64 = 16 << 10;
const EXTENSION: &[u8] = b";chunk-signature=";

/// The output of the decoder.
#[derive(Debug)]
pub enum Decoded {
    /// Data of a chunk without a verified signature: the layout is unsigned, or there is no verifier.
    Piece(Bytes),
    /// A whole chunk with a verified signature.
    Chunk {
        /// The chunk's data.
        pieces: Vec<Bytes>,
        /// The hash of the data.
        sha256: [u8; 32],
    },
}

/// Decodes one body.
pub struct Decoder {
    layout: ChunkLayout,
    verifier: Option<SignatureChain>,
    chunk_bytes_max: u64,
    /// The declared length of the data.
    length: u64,
    /// The length of the data in chunks that have not started.
    remaining: u64,
    /// The declared length of the last chunk that has started.
    chunk_length: u64,
    /// Bytes of size lines, line ends and trailers so far.
    overhead: u64,
    /// The start of an incomplete line.
    line: Vec<u8>,
    state: State,
}

enum State {
    /// Expects the line with a chunk's size.
    Size(Option<Trailer>),
    Data(Chunk, Option<Trailer>),
    /// Expects the line end after a chunk's data.
    ChunkEnd(Option<Trailer>),
    Trailer(Trailer),
    /// Expects an empty line, the end of a body without a trailer.
    LastLine,
    /// The body is complete. After a trailer one more empty line may follow.
    Ended {
        trailer: Option<Trailer>,
        may_repeat: bool,
    },
}

struct Chunk {
    remaining: u64,
    /// The data so far, if the chunk is buffered until its signature is verified.
    buffered: Option<BufferedChunk>,
}

struct BufferedChunk {
    signature: Vec<u8>,
    pieces: PieceQueue,
    hash: Sha256,
}

impl Decoder {
    /// `length` is the length of the data, `trailer` the name of the announced header. Without a verifier signatures are not verified.
    pub fn new(
        layout: ChunkLayout,
        length: u64,
        trailer: Option<&'static str>,
        verifier: Option<SignatureChain>,
        chunk_bytes_max: u64,
    ) -> Self {
        let trailer = trailer.map(|name| Trailer::new(name, layout.is_signed()));
        Self {
            layout,
            verifier: verifier.filter(|_| layout.is_signed()),
            chunk_bytes_max,
            length,
            remaining: length,
            chunk_length: 0,
            overhead: 0,
            line: Vec::new(),
            state: State::Size(trailer),
        }
    }

    /// Consumes input until there is output, or until the input is consumed.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Decoded>, ChunkFault> {
        while !input.is_empty() {
            if let State::Data(chunk, _) = &mut self.state {
                let bytes = usize::try_from(chunk.remaining).unwrap_or(usize::MAX).min(input.len());
                let piece = input.split_to(bytes);
                chunk.remaining -= bytes as u64;
                let Some(buffered) = &mut chunk.buffered else {
                    let is_last = chunk.remaining == 0;
                    self.end_data_if(is_last);
                    return Ok(Some(Decoded::Piece(piece)));
                };
                buffered.hash.update(&piece);
                buffered.pieces.push(piece);
                if chunk.remaining == 0 {
                    return self.finish_buffered_chunk().map(Some);
                }
            } else if let Some(line) = self.read_line(input)? {
                self.process_line(&line)?;
            }
        }
        Ok(None)
    }

    /// The declared length of the chunk that is being buffered; 0 if none is.
    pub fn buffered_chunk_bytes(&self) -> u64 {
        match &self.state {
            State::Data(Chunk { buffered: Some(_), .. }, _) => self.chunk_length,
            _ => 0,
        }
    }

    /// A line with its line end; none if the line is incomplete. An incomplete line is buffered.
    fn read_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, ChunkFault> {
        let end = memchr::memchr(b'\n', input);
        let bytes = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + bytes > LINE_BYTES_MAX {
            return Err(ChunkFault::Framing("a line is too long"));
        }
        self.count_overhead(bytes)?;
        self.line.extend_from_slice(&input[..bytes]);
        input.advance(bytes);
        Ok(end.map(|_| mem::take(&mut self.line)))
    }

    /// Limits the framing to the length of the data before it plus `OVERHEAD_BYTES_SPARE`, so a body is about twice as long as its data at
    /// most.
    fn count_overhead(&mut self, bytes: usize) -> Result<(), ChunkFault> {
        self.overhead = self.overhead.saturating_add(bytes as u64);
        let limit = (self.length - self.remaining).saturating_add(OVERHEAD_BYTES_SPARE);
        if self.overhead > limit { Err(ChunkFault::Overhead { limit }) } else { Ok(()) }
    }

    fn process_line(&mut self, line: &[u8]) -> Result<(), ChunkFault> {
        let state = mem::replace(&mut self.state, State::LastLine);
        self.state = match state {
            State::Size(trailer) => self.begin_chunk(line, trailer)?,
            State::ChunkEnd(trailer) if line == b"\r\n" => State::Size(trailer),
            State::Trailer(mut trailer) => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                match trailer.push_line(line, self.verifier.as_mut())? {
                    TrailerLine::More => State::Trailer(trailer),
                    TrailerLine::Last => State::Ended { trailer: Some(trailer), may_repeat: true },
                }
            }
            State::LastLine if line == b"\r\n" => State::Ended { trailer: None, may_repeat: false },
            State::Ended { trailer, may_repeat: true } if line == b"\r\n" => {
                State::Ended { trailer, may_repeat: false }
            }
            State::Ended { .. } => return Err(ChunkFault::Framing("data follows the end")),
            _ => return Err(ChunkFault::Framing("a chunk does not end after its declared size")),
        };
        Ok(())
    }

    fn begin_chunk(&mut self, line: &[u8], trailer: Option<Trailer>) -> Result<State, ChunkFault> {
        let (bytes, signature) = parse_size_line(line, self.layout.is_signed())?;
        if bytes > self.remaining {
            return Err(ChunkFault::Length("more"));
        }
        if bytes == 0 {
            if self.remaining > 0 {
                return Err(ChunkFault::Length("fewer"));
            }
            self.verify_signature(signature, &Sha256::digest([]).into())?;
            return Ok(trailer.map_or(State::LastLine, State::Trailer));
        }
        if self.verifier.is_some() && bytes > self.chunk_bytes_max {
            return Err(ChunkFault::TooLarge { bytes, limit: self.chunk_bytes_max });
        }
        self.remaining -= bytes;
        self.chunk_length = bytes;
        let buffered = self.verifier.is_some().then(|| BufferedChunk {
            signature: signature.to_vec(),
            pieces: PieceQueue::default(),
            hash: Sha256::new(),
        });
        Ok(State::Data(Chunk { remaining: bytes, buffered }, trailer))
    }

    fn end_data_if(&mut self, is_last: bool) {
        if is_last && let State::Data(_, trailer) = mem::replace(&mut self.state, State::LastLine) {
            self.state = State::ChunkEnd(trailer);
        }
    }

    fn finish_buffered_chunk(&mut self) -> Result<Decoded, ChunkFault> {
        let State::Data(Chunk { buffered: Some(mut buffered), .. }, trailer) =
            mem::replace(&mut self.state, State::LastLine)
        else {
            return Err(ChunkFault::Framing("a chunk has no data"));
        };
        self.state = State::ChunkEnd(trailer);
        let sha256 = buffered.hash.finalize().into();
        self.verify_signature(&buffered.signature, &sha256)?;
        Ok(Decoded::Chunk { pieces: buffered.pieces.drain_all(), sha256 })
    }

    fn verify_signature(&mut self, signature: &[u8], sha256: &[u8; 32]) -> Result<(), ChunkFault> {
        let is_valid = self
            .verifier
            .as_mut()
            .is_none_or(|chain| constant_time_eq(chain.chunk_signature(sha256), signature));
        if is_valid { Ok(()) } else { Err(ChunkFault::Signature("a chunk")) }
    }

    /// Checks at the end of the body that it is complete. Returns the value of the announced trailing header.
    pub fn finish(self) -> Result<Option<String>, ChunkFault> {
        match self.state {
            State::Ended { trailer, .. } if self.line.is_empty() => Ok(trailer.and_then(Trailer::into_value)),
            State::Ended { .. } => Err(ChunkFault::Framing("data follows the end")),
            State::Trailer(_) => Err(ChunkFault::Trailer("the body ends before them")),
            _ => Err(ChunkFault::Length("fewer")),
        }
    }
}

/// Parses the size and the signature in the first line of a chunk.
fn parse_size_line(line: &[u8], is_signed: bool) -> Result<(u64, &[u8]), ChunkFault> {
    let fault = ChunkFault::Framing;
    let line = line.strip_suffix(b"\r\n").ok_or(fault("a line does not end with CR LF"))?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    if !(1..=SIZE_DIGITS_MAX).contains(&digits) {
        return Err(fault("a chunk has no hexadecimal size"));
    }
    let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    let size = size.ok_or(fault("a chunk has no hexadecimal size"))?;
    if !is_signed {
        return if rest.is_empty() {
            Ok((size, rest))
        } else {
            Err(fault("a chunk's size has an extension"))
        };
    }
    let signature = rest.strip_prefix(EXTENSION).ok_or(fault("a chunk has no signature"))?;
    if !is_signature(signature) {
        return Err(fault("a chunk's signature is not 64 hexadecimal digits"));
    }
    Ok((size, signature))
}

/// The size of the first chunk, read from the first bytes of a body. Usually all chunks except the last one have this size.
pub fn peek_chunk_size(start: &[u8]) -> ChunkSizePeek {
    let digits = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == start.len() && digits <= SIZE_DIGITS_MAX {
        return ChunkSizePeek::NeedMore;
    }
    let size = std::str::from_utf8(&start[..digits]).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    size.map_or(ChunkSizePeek::Invalid, ChunkSizePeek::Size)
}

/// The result of `peek_chunk_size`.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkSizePeek {
    /// The size of the first chunk in bytes.
    Size(u64),
    /// More bytes are needed.
    NeedMore,
    /// The size is malformed; the decoder rejects the body.
    Invalid,
}
