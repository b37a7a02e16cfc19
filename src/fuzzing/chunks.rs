//! Target `chunks`: `aws-chunked` bodies, signed with and without a trailer, and unsigned with a trailer.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::fuzzing::{Input, split};
use crate::s3::chunked::decode::{ChunkSizePeek, Decoded, Decoder, peek_chunk_size};
use crate::s3::chunked::encode::{ChunkEncoding, Encoder};
use crate::s3::chunked::samples::{TRAILER, body, sample_chain};
use crate::s3::chunked::{ChunkFault, ChunkLayout};

/// What a signed chunk may have here.
const CHUNK_BYTES_MAX: u64 = 1 << 16;
/// Lines of framing and trailer that give no data: 16 KiB a request, and what one line may hold.
const FRAMING_BYTES_MAX: u64 = 20 << 10;
/// Framing that no data need justify.
const FRAMING_BYTES_SPARE: usize = 16 << 10;
const VALUE: &str = "sOO8/Q==";

/// Chunk streams: the result does not depend on where the network cuts, what is encoded decodes to the same, a changed
/// signed body is refused or means the same, no more data than announced comes out, and sizes up to 2^64 overflow
/// nothing.
pub fn chunks(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let form = [ChunkLayout::Signed, ChunkLayout::SignedTrailer, ChunkLayout::UnsignedTrailer]
        [usize::from(mode & 3) % 3];
    let is_verified = mode & 4 != 0;
    if mode & 8 == 0 { any_stream(form, is_verified, input) } else { round_trip(form, input) }
}

/// What a decoder makes of a stream.
#[derive(Debug, PartialEq)]
struct DecodeOutcome {
    data: Vec<u8>,
    end: Result<Option<String>, ChunkFault>,
}

fn decode(form: ChunkLayout, length: u64, seed_byte: Option<u8>, stream: &[&[u8]]) -> DecodeOutcome {
    let trailer = form.has_trailer().then_some(TRAILER);
    let mut decoder = Decoder::new(form, length, trailer, seed_byte.map(sample_chain), CHUNK_BYTES_MAX);
    let mut data = Vec::new();
    // Bytes that went in since data last came out.
    let mut held = 0;
    for piece in stream {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let before = input.len();
            let decoded = match decoder.decode(&mut input) {
                Ok(decoded) => decoded,
                Err(fault) => return DecodeOutcome { data, end: Err(fault) },
            };
            held += (before - input.len()) as u64;
            assert!(held <= CHUNK_BYTES_MAX + FRAMING_BYTES_MAX, "{held} bytes are held");
            match decoded {
                None => break,
                Some(Decoded::Piece(piece)) => data.extend_from_slice(&piece),
                Some(Decoded::Chunk { pieces, sha256 }) => {
                    let count_max = 2 * (pieces.iter().map(Bytes::len).sum::<usize>() >> 12) + 3;
                    assert!(pieces.len() <= count_max, "{} pieces hold a chunk", pieces.len());
                    let chunk = pieces.concat();
                    assert_eq!(sha256[..], Sha256::digest(&chunk)[..]);
                    data.extend_from_slice(&chunk);
                }
            }
            held = 0;
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
        // Of two faults another may be met first.
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
    assert!(framed.is_none_or(|framed| framed > length), "{framed:?} bytes frame {length}");
    let data_bytes = whole.data.len() as u64;
    assert!(data_bytes <= length && whole.data.len() <= stream.len());
    match peek_chunk_size(stream) {
        ChunkSizePeek::Size(0) | ChunkSizePeek::NeedMore => assert!(whole.data.is_empty()),
        ChunkSizePeek::Size(size) => assert!(whole.end.is_err() || size <= data_bytes),
        ChunkSizePeek::Invalid => assert!(whole.end.is_err() && whole.data.is_empty()),
    }
    if whole.end.is_ok() {
        assert_eq!(data_bytes, length, "more or less data than announced was taken");
    }
}

/// Any chunks, framed by an encoder of the tests and one of the product, decode to their data.
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
    let frame = ChunkEncoding {
        layout,
        chunk_bytes,
        length,
        trailer: value.map(|value| (TRAILER, value.len() as u64)),
    };
    let encoded = encode(frame, &chunks);
    assert_eq!(Some(encoded.len() as u64), frame.framed_length(), "the length that was announced");
    check_decoded(&decode(layout, length, Some(9), &split(&encoded, cuts)), &right, &encoded);

    let at = usize::try_from(at % framed.len() as u64).unwrap();
    framed[at] = changed;
    let told = decode(layout, length, layout.is_signed().then_some(7), &[&framed]);
    assert!(told.end.is_err() || told == right || !layout.is_signed(), "byte {at} was changed to {changed}");
    assert!(told.end.is_err() || told.data.len() as u64 == length);
}

/// A body decodes to its data, unless its framing is so long beside its data that it may be refused.
fn check_decoded(told: &DecodeOutcome, right: &DecodeOutcome, framed: &[u8]) {
    let may_be_refused = framed.len() > right.data.len() + FRAMING_BYTES_SPARE;
    assert!(told == right || (may_be_refused && told.end.is_err()), "{told:?} of {right:?}");
}

/// What the product sends upstream: whole chunks where their size allows it, else pieces.
fn encode(frame: ChunkEncoding, chunks: &[&[u8]]) -> Vec<u8> {
    let mut encoder = Encoder::new(frame, Some(sample_chain(9)));
    let mut out = VecDeque::new();
    for chunk in chunks {
        let (first, second) = chunk.split_at(chunk.len() / 2);
        let pieces = vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
        encoder.encode_chunk(pieces, &Sha256::digest(chunk).into(), &mut out);
    }
    encoder.finish(frame.trailer.map(|_| VALUE), &mut out);
    out.into_iter().flatten().collect()
}
