//! Frames against bodies made by hand, and their length said ahead.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::ChunkLayout;
use super::ChunkLayout::{Signed, SignedTrailer, UnsignedTrailer};
use super::encode::{CHUNK_BYTES, ChunkEncoding, Encoder, choose_chunk_bytes};
use super::samples::{TRAILER, body, random_bytes, sample_chain};

const VALUE: &str = "sOO8/Q==";

fn frame(layout: ChunkLayout, chunk_bytes: u64, length: u64) -> ChunkEncoding {
    let trailer = layout.has_trailer().then_some((TRAILER, VALUE.len() as u64));
    ChunkEncoding { layout, chunk_bytes, length, trailer }
}

/// The framing of data that comes in such parts: pieces, or verified chunks.
fn encode(frame: ChunkEncoding, parts: &[&[u8]], verified: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(frame, Some(sample_chain(9)));
    let mut out = VecDeque::new();
    for part in parts {
        let piece = Bytes::copy_from_slice(part);
        if verified {
            let sha256 = Sha256::digest(part).into();
            let middle = part.len() / 2;
            encoder.encode_chunk(vec![piece.slice(..middle), piece.slice(middle..)], &sha256, &mut out);
        } else {
            encoder.encode_data(piece, &mut out);
        }
    }
    encoder.finish(frame.trailer.map(|_| VALUE), &mut out);
    out.into_iter().flatten().collect()
}

proptest! {
    /// A1: however the data is divided, the frame is the same, and as long as it was said to be
    #[test]
    fn division_does_not_matter(
        length in 1_usize..5000,
        chunk in 1_u64..3000,
        part in 1_usize..3000,
        verified in any::<bool>(),
    ) {
        let data = random_bytes(length);
        for form in [Signed, SignedTrailer, UnsignedTrailer] {
            let frame = frame(form, chunk, length as u64);
            let chunks: Vec<&[u8]> = data.chunks(usize::try_from(chunk).unwrap()).collect();
            let by_hand = body(form, &chunks, frame.trailer.map(|_| VALUE), sample_chain(9));
            let parts: Vec<&[u8]> = data.chunks(part).collect();
            prop_assert_eq!(encode(frame, &parts, verified), by_hand.clone());
            prop_assert_eq!(frame.framed_length(), Some(by_hand.len() as u64));
        }
    }
}

/// A1: the documentation's example body has this length
#[test]
fn the_length_is_the_documented_one() {
    assert_eq!(frame(Signed, 65_536, 66_560).framed_length(), Some(66_824));
}

/// A1: a client's chunk size is kept where the upstream would take it
#[test]
fn sizes_are_kept_unless_they_are_too_small() {
    assert_eq!(choose_chunk_bytes(131_072, 1 << 30), 131_072);
    assert_eq!(choose_chunk_bytes(8192, 1 << 30), 8192);
    assert_eq!(choose_chunk_bytes(8191, 1 << 30), CHUNK_BYTES);
    assert_eq!(choose_chunk_bytes(100, 100), 100);
    assert_eq!(choose_chunk_bytes(0, 0), CHUNK_BYTES);
}

/// B3, V2: a length that no Content-Length can say is none, whatever the chunks' size
#[test]
fn a_length_beyond_all_bounds_is_none() {
    for chunk_bytes in [1, 8_192, 65_536, u64::MAX] {
        for form in [Signed, SignedTrailer, UnsignedTrailer] {
            let at = |length| ChunkEncoding { length, ..frame(form, chunk_bytes, 1) }.framed_length();
            assert_eq!(at(u64::MAX), None, "{form:?} in chunks of {chunk_bytes}");
        }
    }
    assert_eq!(frame(Signed, 65_536, 18_421_446_067_330_467_091).framed_length(), None);
}
