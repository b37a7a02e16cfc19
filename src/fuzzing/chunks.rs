//! Fuzz target `chunks`: `aws-chunked` bodies, signed with and without a trailer, and unsigned with a trailer.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidegate_s3::chunked::decode::{ChunkSizePeek, Decoded, Decoder, peek_chunk_size};
use tidegate_s3::chunked::encode::{ChunkEncoding, Encoder};
use tidegate_s3::chunked::samples::{TRAILER, body, sample_chain};
use tidegate_s3::chunked::{ChunkFault, ChunkLayout};

use crate::fuzz_input::{Input, split};

/// The limit on signed chunks in this target.
const CHUNK_BYTES_MAX: u64 = 1 << 16;
/// The maximum framing and trailer between two outputs of data: 16 KiB per request, and one line.
const FRAMING_BYTES_MAX: u64 = 20 << 10;
/// The framing that is allowed in addition to the length of the data.
const FRAMING_BYTES_SPARE: usize = 16 << 10;
const VALUE: &str = "sOO8/Q==";

/// Properties: the result does not depend on the slices of the input, an encoded body decodes to its data, a changed signed body is
/// rejected or has the same meaning, the output is not longer than declared, and sizes up to 2^64 cause no overflow.
pub fn chunks(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let layout = [ChunkLayout::Signed, ChunkLayout::SignedTrailer, ChunkLayout::UnsignedTrailer]
        [usize::from(mode & 3) % 3];
    let is_verified = mode & 4 != 0;
    if mode & 8 == 0 { any_stream(layout, is_verified, input) } else { round_trip(layout, input) }
}

/// The output of a decoder for a stream.
#[derive(Debug, PartialEq)]
struct DecodeOutcome {
    data: Vec<u8>,
    end: Result<Option<String>, ChunkFault>,
}

fn decode(layout: ChunkLayout, length: u64, seed_byte: Option<u8>, stream: &[&[u8]]) -> DecodeOutcome {
    let trailer = layout.has_trailer().then_some(TRAILER);
    let mut decoder = Decoder::new(layout, length, trailer, seed_byte.map(sample_chain), CHUNK_BYTES_MAX);
    let mut data = Vec::new();
    // The bytes of input since the last output.
    let mut buffered = 0;
    for piece in stream {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let before = input.len();
            let decoded = match decoder.decode(&mut input) {
                Ok(decoded) => decoded,
                Err(fault) => return DecodeOutcome { data, end: Err(fault) },
            };
            buffered += (before - input.len()) as u64;
            assert!(buffered <= CHUNK_BYTES_MAX + FRAMING_BYTES_MAX, "{buffered} bytes are buffered");
            match decoded {
                None => break,
                Some(Decoded::Piece(piece)) => data.extend_from_slice(&piece),
                Some(Decoded::Chunk { pieces, sha256 }) => {
                    let count_max = 2 * (pieces.iter().map(Bytes::len).sum::<usize>() >> 12) + 3;
                    assert!(pieces.len() <= count_max, "a chunk has {} pieces", pieces.len());
                    let chunk = pieces.concat();
                    assert_eq!(sha256[..], Sha256::digest(&chunk)[..]);
                    data.extend_from_slice(&chunk);
                }
            }
            buffered = 0;
        }
    }
    DecodeOutcome { data, end: decoder.finish() }
}

fn any_stream(layout: ChunkLayout, is_verified: bool, mut input: Input<'_>) {
    let (cuts, length) = (input.byte(), input.u64());
    let stream = input.rest();
    let seed_byte = is_verified.then_some(7);
    let whole = decode(layout, length, seed_byte, &[stream]);
    for cuts in [1, cuts] {
        let cut = decode(layout, length, seed_byte, &split(stream, cuts));
        // If the body has two faults, either may be reported.
        assert_eq!(
            cut.end.as_ref().ok(),
            whole.end.as_ref().ok(),
            "cut by {cuts}: {:?} {:?}",
            cut.end,
            whole.end
        );
        let common = cut.data.len().min(whole.data.len());
        assert_eq!(cut.data[..common], whole.data[..common], "cut by {cuts}");
        assert!(whole.end.is_err() || cut.data.len() == whole.data.len(), "cut by {cuts}");
    }
    let trailer = layout.has_trailer().then_some((TRAILER, VALUE.len() as u64));
    let framed = ChunkEncoding { layout, chunk_bytes: u64::from(cuts) + 1, length, trailer }.framed_length();
    assert!(framed.is_none_or(|framed| framed > length), "{framed:?} bytes encoding {length}");
    let data_bytes = whole.data.len() as u64;
    assert!(data_bytes <= length && whole.data.len() <= stream.len());
    match peek_chunk_size(stream) {
        ChunkSizePeek::Size(0) | ChunkSizePeek::NeedMore => assert!(whole.data.is_empty()),
        ChunkSizePeek::Size(size) => assert!(whole.end.is_err() || size <= data_bytes),
        ChunkSizePeek::Invalid => assert!(whole.end.is_err() && whole.data.is_empty()),
    }
    if whole.end.is_ok() {
        assert_eq!(data_bytes, length, "the length of the data is not the declared one");
    }
}

/// Any chunks, encoded by the tests and by the product, decode to their data.
fn round_trip(layout: ChunkLayout, mut input: Input<'_>) {
    let (cuts, chunk_bytes) = (input.byte(), u64::from(input.byte()) + 1);
    let (at, changed) = (input.u64(), input.byte());
    let mut chunks = Vec::new();
    while !input.is_empty() {
        chunks.push(input.bytes());
    }
    chunks.retain(|chunk| !chunk.is_empty());
    let data = chunks.concat();
    let length = data.len() as u64;
    let value = layout.has_trailer().then_some(VALUE);
    let right = DecodeOutcome { data, end: Ok(value.map(str::to_owned)) };

    let mut framed = body(layout, &chunks, value, sample_chain(7));
    for seed_byte in [None, Some(7)] {
        check_decoded(&decode(layout, length, seed_byte, &split(&framed, cuts)), &right, &framed);
    }
    let encoding = ChunkEncoding {
        layout,
        chunk_bytes,
        length,
        trailer: value.map(|value| (TRAILER, value.len() as u64)),
    };
    let encoded = encode(encoding, &chunks);
    assert_eq!(Some(encoded.len() as u64), encoding.framed_length(), "the computed length");
    check_decoded(&decode(layout, length, Some(9), &split(&encoded, cuts)), &right, &encoded);

    let at = usize::try_from(at % framed.len() as u64).unwrap();
    framed[at] = changed;
    let outcome = decode(layout, length, layout.is_signed().then_some(7), &[&framed]);
    assert!(
        outcome.end.is_err() || outcome == right || !layout.is_signed(),
        "byte {at} was changed to {changed}"
    );
    assert!(outcome.end.is_err() || outcome.data.len() as u64 == length);
}

/// A body decodes to its data, unless its framing is so long that it may be rejected.
fn check_decoded(outcome: &DecodeOutcome, right: &DecodeOutcome, framed: &[u8]) {
    let may_be_rejected = framed.len() > right.data.len() + FRAMING_BYTES_SPARE;
    assert!(outcome == right || (may_be_rejected && outcome.end.is_err()), "{outcome:?} of {right:?}");
}

/// The body that the product sends upstream.
fn encode(encoding: ChunkEncoding, chunks: &[&[u8]]) -> Vec<u8> {
    let mut encoder = Encoder::new(encoding, Some(sample_chain(9)));
    let mut out = VecDeque::new();
    for chunk in chunks {
        let (first, second) = chunk.split_at(chunk.len() / 2);
        let pieces = vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
        encoder.encode_chunk(pieces, &Sha256::digest(chunk).into(), &mut out);
    }
    encoder.finish(encoding.trailer.map(|_| VALUE), &mut out);
    out.into_iter().flatten().collect()
}
