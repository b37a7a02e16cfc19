//! Framing of message bodies: a pure incremental parser, shared by client and upstream.
//!
//! It passes bodies on slice by slice and never buffers them. It skips trailers. It tolerates no malformed chunk, because the load test
//! must detect a gateway that produces one.

use thiserror::Error;

/// The bytes are not a valid chunked body.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("malformed chunked body")]
pub(crate) struct BadChunk;

/// The rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// This number of bytes.
    Length(u64),
    /// A chunked body.
    Chunked(ChunkState),
    /// All bytes until the peer closes.
    UntilClose,
}

/// Parser state within a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// In a chunk-size line.
    Size {
        /// The value so far.
        value: u64,
        /// Hexadecimal digits seen.
        digits: u8,
        /// In a chunk extension, which is ignored.
        extension: bool,
    },
    /// In chunk data, with the number of bytes left.
    Data(u64),
    /// In the line end after the data.
    DataEnd,
    /// In the trailer, with the length of the current line so far.
    Trailer(u32),
    /// After the last byte.
    Done,
}

impl ChunkState {
    /// Before the first size line.
    pub(crate) const START: Self = Self::Size { value: 0, digits: 0, extension: false };
}

impl BodyFraming {
    /// No body.
    pub(crate) const EMPTY: Self = Self::Length(0);

    /// Whether the body is complete. A body without a length never is, because the peer's close ends it.
    pub(crate) fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(ChunkState::Done))
    }

    /// Consumes the bytes of the body at the front of `input` and calls `each` with the data. Returns the number of consumed bytes.
    pub(crate) fn feed(&mut self, input: &[u8], mut each: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        match self {
            Self::UntilClose => {
                each(input);
                Ok(input.len())
            }
            Self::Length(left) => {
                let consumed = consume(left, input);
                each(&input[..consumed]);
                Ok(consumed)
            }
            Self::Chunked(chunk) => {
                let mut used = 0;
                while used < input.len() && *chunk != ChunkState::Done {
                    used += chunk.step(&input[used..], &mut each)?;
                }
                Ok(used)
            }
        }
    }
}

fn consume(left: &mut u64, input: &[u8]) -> usize {
    let consumed = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= consumed as u64;
    consumed
}

impl ChunkState {
    fn step(&mut self, input: &[u8], each: &mut impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        let byte = input[0];
        *self = match *self {
            Self::Data(mut left) => {
                let consumed = consume(&mut left, input);
                each(&input[..consumed]);
                *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
                return Ok(consumed);
            }
            Self::Size { value, digits, extension } => Self::size_digit(byte, value, digits, extension)?,
            Self::DataEnd => match byte {
                b'\r' => Self::DataEnd,
                b'\n' => Self::START,
                _ => return Err(BadChunk),
            },
            Self::Trailer(length) => match byte {
                b'\r' => Self::Trailer(length),
                b'\n' if length == 0 => Self::Done,
                b'\n' => Self::Trailer(0),
                _ => Self::Trailer(length + 1),
            },
            Self::Done => return Ok(0),
        };
        Ok(1)
    }

    fn size_digit(byte: u8, value: u64, digits: u8, extension: bool) -> Result<Self, BadChunk> {
        let digit = char::from(byte).to_digit(16);
        match (byte, digit) {
            (b'\n', _) if digits == 0 => Err(BadChunk),
            (b'\n', _) if value == 0 => Ok(Self::Trailer(0)),
            (b'\n', _) => Ok(Self::Data(value)),
            (b';', _) if digits > 0 => Ok(Self::Size { value, digits, extension: true }),
            (b'\r', _) => Ok(Self::Size { value, digits, extension }),
            _ if extension => Ok(Self::Size { value, digits, extension }),
            (_, Some(digit)) if digits < 15 => {
                Ok(Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1, extension })
            }
            _ => Err(BadChunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5\r\nhello\r\n6;note=1\r\n world\r\n0\r\nx-sum: 1\r\n\r\nNEXT";

    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, BodyFraming), BadChunk> {
        let mut framing = BodyFraming::Chunked(ChunkState::START);
        let (mut data, mut used) = (Vec::new(), 0);
        while used < input.len() && !framing.is_done() {
            let end = input.len().min(used + piece);
            used += framing.feed(&input[used..end], |slice| data.extend_from_slice(slice))?;
        }
        Ok((data, used, framing))
    }

    #[test]
    fn a_chunked_body_is_parsed_in_pieces_of_any_size() {
        for piece in 1..BODY.len() {
            let (data, used, framing) = decode(BODY, piece).unwrap();
            assert_eq!(data, b"hello world");
            assert_eq!(used, BODY.len() - 4, "the next message is not consumed, pieces of {piece}");
            assert!(framing.is_done());
        }
    }

    #[test]
    fn a_cut_chunked_body_is_not_done() {
        let (_, _, framing) = decode(&BODY[..BODY.len() - 5], 7).unwrap();
        assert!(!framing.is_done());
    }

    #[test]
    fn malformed_chunks_are_errors() {
        for bad in ["\r\n", "g\r\n", "5\r\nhelloX", "1234567890abcdef0\r\n"] {
            assert_eq!(decode(bad.as_bytes(), 100), Err(BadChunk), "{bad:?}");
        }
    }

    #[test]
    fn a_length_consumes_no_more_than_its_bytes() {
        let mut framing = BodyFraming::Length(3);
        let mut seen = 0;
        assert_eq!(framing.feed(b"abcdef", |slice| seen += slice.len()), Ok(3));
        assert_eq!(seen, 3);
        assert!(framing.is_done());
    }
}
