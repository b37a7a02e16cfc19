//! The framing of a request's body (RFC 9112, 6 and 7): none, a length, or chunks.
//!
//! An incremental decoder without I/O: it classifies input as data or framing. Any split of the input gives the same
//! result. It is strict where two parsers could read a stream differently: sizes are hexadecimal digits and nothing
//! else, and lines end with CRLF. Extensions and trailers are validated and dropped. They and leading zeros of sizes
//! carry nothing, so [`OVERHEAD_BYTES_MAX`] bounds them.
//!
//! Deliberately absent: the choice of the framing, which `edge.rs` makes for both protocols.

use thiserror::Error;

use crate::http::edge::BodyLength;
use crate::http::http1::head::{is_field_text, is_token};

/// The most bytes of extensions, trailers and leading zeros of one request.
pub(super) const OVERHEAD_BYTES_MAX: u32 = 16 << 10;

/// Why chunks are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FramingError {
    #[error("a chunk's size is no hexadecimal number")]
    Size,
    #[error("a chunk's size is too large")]
    TooLarge,
    #[error("a chunk's extension holds a control character")]
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

/// What the next bytes of the input are. They count as consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes of data.
    Data(usize),
    /// So many bytes of framing.
    Framing(usize),
    /// There are none.
    NeedMore,
    /// The body has ended; what follows belongs to the next request.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ended,
    Length(u64),
    /// In a chunk's size; whether a digit has come.
    Size(u64, bool),
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
pub(super) struct Decoder {
    state: State,
    overhead: u32,
}

impl Decoder {
    pub(super) fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Empty => State::Ended,
            BodyLength::Known(bytes) => State::Length(bytes),
            BodyLength::Chunked => State::Size(0, false),
        };
        Self { state, overhead: 0 }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Bytes left of the body, if its length is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.state {
            State::Ended => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// How many bytes of data are known to follow without framing in between.
    pub(super) fn data_ahead(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Data(left) => left,
            _ => 0,
        }
    }

    /// What `input` begins with. After an error the decoder must not be asked again.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, FramingError> {
        match self.state {
            State::Ended => return Ok(Step::End),
            _ if input.is_empty() => return Ok(Step::NeedMore),
            State::Length(left) => {
                let (taken, left) = take(input, left);
                self.state = if left == 0 { State::Ended } else { State::Length(left) };
                return Ok(Step::Data(taken));
            }
            State::Data(left) => {
                let (taken, left) = take(input, left);
                self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                return Ok(Step::Data(taken));
            }
            _ => {}
        }
        for (at, byte) in input.iter().enumerate() {
            self.state = self.framing(*byte)?;
            if matches!(self.state, State::Data(_) | State::Ended) {
                return Ok(Step::Framing(at + 1));
            }
        }
        Ok(Step::Framing(input.len()))
    }

    /// The state behind one byte of framing.
    fn framing(&mut self, byte: u8) -> Result<State, FramingError> {
        match (self.state, byte) {
            (State::Size(size, has_digit), _) => self.size(size, has_digit, byte),
            (State::Extension(size), b'\r') => Ok(State::SizeFeed(size)),
            (State::Extension(_), _) => {
                self.dropped(is_field_text(byte), self.state, FramingError::Extension)
            }
            (State::SizeFeed(0), b'\n') => Ok(State::TrailerStart),
            (State::SizeFeed(size), b'\n') => Ok(State::Data(size)),
            (State::DataReturn, b'\r') => Ok(State::DataFeed),
            (State::DataReturn, _) => Err(FramingError::ChunkEnd),
            (State::DataFeed, b'\n') => Ok(State::Size(0, false)),
            (State::TrailerStart, b'\r') => Ok(State::LastFeed),
            (State::TrailerName, b':') => self.dropped(true, State::TrailerValue, FramingError::Trailer),
            (State::TrailerStart | State::TrailerName, _) => {
                self.dropped(is_token(byte), State::TrailerName, FramingError::Trailer)
            }
            (State::TrailerValue, b'\r') => self.dropped(true, State::TrailerFeed, FramingError::Trailer),
            (State::TrailerValue, _) => self.dropped(is_field_text(byte), self.state, FramingError::Trailer),
            (State::TrailerFeed, b'\n') => self.dropped(true, State::TrailerStart, FramingError::Trailer),
            (State::LastFeed, b'\n') => Ok(State::Ended),
            (State::SizeFeed(_) | State::DataFeed | State::TrailerFeed | State::LastFeed, _) => {
                Err(FramingError::LineEnd)
            }
            (State::Ended | State::Length(_) | State::Data(_), _) => Ok(self.state),
        }
    }

    fn size(&mut self, size: u64, has_digit: bool, byte: u8) -> Result<State, FramingError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            let is_dropped = has_digit && size == 0;
            let size = size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
            let state = State::Size(size.ok_or(FramingError::TooLarge)?, true);
            return if is_dropped { self.dropped(true, state, FramingError::Size) } else { Ok(state) };
        }
        match byte {
            b'\r' if has_digit => Ok(State::SizeFeed(size)),
            b';' if has_digit => self.dropped(true, State::Extension(size), FramingError::Size),
            _ => Err(FramingError::Size),
        }
    }

    /// Counts a byte that carries nothing, if it may stand there.
    fn dropped(&mut self, is_valid: bool, next: State, error: FramingError) -> Result<State, FramingError> {
        self.overhead += 1;
        match () {
            () if !is_valid => Err(error),
            () if self.overhead > OVERHEAD_BYTES_MAX => Err(FramingError::Overhead),
            () => Ok(next),
        }
    }
}

/// How many bytes of the input belong to the body, and how many are left of it then.
fn take(input: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (taken, left - taken as u64)
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
