//! The framing of an HTTP/1.1 body (RFC 9112, 6 and 7): none, a length, or chunks.
//!
//! An incremental decoder without I/O: it classifies input as data or framing. Any split of the input gives the same
//! result. It is strict where two parsers could read a stream differently: sizes are hexadecimal digits and nothing
//! else, and lines end with CRLF. Extensions and trailers are validated and dropped. [`OVERHEAD_BYTES_MAX`] bounds
//! them and leading zeros of sizes. Both sides of the gateway use it. `http/request_validation.rs` chooses the framing of a request,
//! `upstream/exchange/response_framing.rs` that of a response.

use thiserror::Error;
use tidegate_s3::request::BodyLength;

/// The most bytes of extensions, trailers and leading zeros of one body.
pub(crate) const OVERHEAD_BYTES_MAX: u32 = 16 << 10;

/// Why the chunks are malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FramingError {
    #[error("a chunk's size is not a hexadecimal number")]
    Size,
    #[error("a chunk's size is too large")]
    TooLarge,
    #[error("a chunk's extension contains a control character")]
    Extension,
    #[error("a line of the chunks does not end with CRLF")]
    LineEnd,
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    #[error("a trailer is malformed")]
    Trailer,
    #[error("the chunks' extensions, trailers and leading zeros are longer than 16 KiB")]
    Overhead,
}

/// The meaning of the next bytes of the input, which are consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeStep {
    /// This number of bytes of data.
    Data(usize),
    /// This number of bytes of framing.
    Framing(usize),
    /// The input is empty.
    NeedMore,
    /// The body has ended; the next bytes are not part of it.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    Ended,
    Length(u64),
    /// In a chunk's size; whether it has a digit.
    Size(u64, bool),
    /// In white space after a chunk's size.
    SizeSpace(u64),
    Extension(u64),
    SizeFeed(u64),
    Data(u64),
    DataReturn,
    DataFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerFeed,
    LastFeed,
}

/// The decoder of one body.
#[derive(Debug, Clone)]
pub(crate) struct BodyDecoder {
    state: DecoderState,
    overhead: u32,
    /// Whether white space may follow a chunk's size.
    allows_space: bool,
}

impl BodyDecoder {
    pub(crate) fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Empty => DecoderState::Ended,
            BodyLength::Known(bytes) => DecoderState::Length(bytes),
            BodyLength::Chunked => DecoderState::Size(0, false),
        };
        Self { state, overhead: 0, allows_space: false }
    }

    /// Allows white space after the sizes of chunks (RFC 9112, 7.1.1, `BWS`): some servers pad sizes to a fixed width.
    pub(crate) fn allowing_space(self) -> Self {
        Self { allows_space: true, ..self }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state == DecoderState::Ended
    }

    /// Bytes left of the body, if its length is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.state {
            DecoderState::Ended => Some(0),
            DecoderState::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The number of bytes of data that follow without framing in between, as far as known.
    pub(crate) fn data_ahead(&self) -> u64 {
        match self.state {
            DecoderState::Length(left) | DecoderState::Data(left) => left,
            _ => 0,
        }
    }

    /// Skips data of a body with a known length that did not pass through the decoder.
    pub(crate) fn skip(&mut self, bytes: u64) {
        if let DecoderState::Length(left) = self.state {
            let left = left.saturating_sub(bytes);
            self.state = if left == 0 { DecoderState::Ended } else { DecoderState::Length(left) };
        }
    }

    /// Decodes the beginning of `input`. The decoder must not be used after an error.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<DecodeStep, FramingError> {
        match self.state {
            DecoderState::Ended => return Ok(DecodeStep::End),
            _ if input.is_empty() => return Ok(DecodeStep::NeedMore),
            DecoderState::Length(left) => {
                let (taken, left) = split_data(input, left);
                self.state = if left == 0 { DecoderState::Ended } else { DecoderState::Length(left) };
                return Ok(DecodeStep::Data(taken));
            }
            DecoderState::Data(left) => {
                let (taken, left) = split_data(input, left);
                self.state = if left == 0 { DecoderState::DataReturn } else { DecoderState::Data(left) };
                return Ok(DecodeStep::Data(taken));
            }
            _ => {}
        }
        for (at, byte) in input.iter().enumerate() {
            self.state = self.next_state(*byte)?;
            if matches!(self.state, DecoderState::Data(_) | DecoderState::Ended) {
                return Ok(DecodeStep::Framing(at + 1));
            }
        }
        Ok(DecodeStep::Framing(input.len()))
    }

    /// The state after one byte of framing.
    fn next_state(&mut self, byte: u8) -> Result<DecoderState, FramingError> {
        match (self.state, byte) {
            (DecoderState::Size(size, has_digit), _) => self.size_state(size, has_digit, byte),
            (DecoderState::SizeSpace(size) | DecoderState::Extension(size), b'\r') => {
                Ok(DecoderState::SizeFeed(size))
            }
            (DecoderState::SizeSpace(size), b';') => {
                self.count_overhead(true, DecoderState::Extension(size), FramingError::Size)
            }
            (DecoderState::SizeSpace(_), _) => {
                self.count_overhead(matches!(byte, b' ' | b'\t'), self.state, FramingError::Size)
            }
            (DecoderState::Extension(_), _) => {
                self.count_overhead(is_field_text(byte), self.state, FramingError::Extension)
            }
            (DecoderState::SizeFeed(0), b'\n') => Ok(DecoderState::TrailerStart),
            (DecoderState::SizeFeed(size), b'\n') => Ok(DecoderState::Data(size)),
            (DecoderState::DataReturn, b'\r') => Ok(DecoderState::DataFeed),
            (DecoderState::DataReturn, _) => Err(FramingError::ChunkEnd),
            (DecoderState::DataFeed, b'\n') => Ok(DecoderState::Size(0, false)),
            (DecoderState::TrailerStart, b'\r') => Ok(DecoderState::LastFeed),
            (DecoderState::TrailerName, b':') => {
                self.count_overhead(true, DecoderState::TrailerValue, FramingError::Trailer)
            }
            (DecoderState::TrailerStart | DecoderState::TrailerName, _) => {
                self.count_overhead(is_token(byte), DecoderState::TrailerName, FramingError::Trailer)
            }
            (DecoderState::TrailerValue, b'\r') => {
                self.count_overhead(true, DecoderState::TrailerFeed, FramingError::Trailer)
            }
            (DecoderState::TrailerValue, _) => {
                self.count_overhead(is_field_text(byte), self.state, FramingError::Trailer)
            }
            (DecoderState::TrailerFeed, b'\n') => {
                self.count_overhead(true, DecoderState::TrailerStart, FramingError::Trailer)
            }
            (DecoderState::LastFeed, b'\n') => Ok(DecoderState::Ended),
            (
                DecoderState::SizeFeed(_)
                | DecoderState::DataFeed
                | DecoderState::TrailerFeed
                | DecoderState::LastFeed,
                _,
            ) => Err(FramingError::LineEnd),
            (DecoderState::Ended | DecoderState::Length(_) | DecoderState::Data(_), _) => Ok(self.state),
        }
    }

    fn size_state(&mut self, size: u64, has_digit: bool, byte: u8) -> Result<DecoderState, FramingError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            let is_dropped = has_digit && size == 0;
            let size = size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
            let state = DecoderState::Size(size.ok_or(FramingError::TooLarge)?, true);
            return if is_dropped { self.count_overhead(true, state, FramingError::Size) } else { Ok(state) };
        }
        match byte {
            b'\r' if has_digit => Ok(DecoderState::SizeFeed(size)),
            b';' if has_digit => self.count_overhead(true, DecoderState::Extension(size), FramingError::Size),
            b' ' | b'\t' if has_digit && self.allows_space => {
                self.count_overhead(true, DecoderState::SizeSpace(size), FramingError::Size)
            }
            _ => Err(FramingError::Size),
        }
    }

    /// Counts a byte of overhead, if it is valid here.
    fn count_overhead(
        &mut self,
        is_valid: bool,
        next: DecoderState,
        error: FramingError,
    ) -> Result<DecoderState, FramingError> {
        self.overhead += 1;
        match () {
            () if !is_valid => Err(error),
            () if self.overhead > OVERHEAD_BYTES_MAX => Err(FramingError::Overhead),
            () => Ok(next),
        }
    }
}

/// The number of bytes of the input that belong to the data, and the length that is left after them.
fn split_data(input: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (taken, left - taken as u64)
}

/// A character of a token (RFC 9110, 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A character of a field's value (RFC 9110, 5.5).
pub(crate) fn is_field_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
#[path = "body_framing_tests.rs"]
mod tests;
