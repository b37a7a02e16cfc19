//! Compares encoded bodies and their computed length with bodies that the tests build themselves.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::ChunkLayout;
use super::ChunkLayout::{Signed, SignedTrailer, UnsignedTrailer};
use super::encode::{CHUNK_BYTES, ChunkEncoding, Encoder, choose_chunk_bytes};
use super::samples::{TRAILER, body, random_bytes, sample_chain};

const VALUE: &str = "sOO8/Q==";

fn encoding(layout: ChunkLayout, chunk_bytes: u64, length: u64) -> ChunkEncoding {
    let trailer = layout.has_trailer().then_some((TRAILER, VALUE.len() as u64));
    ChunkEncoding { layout, chunk_bytes, length, trailer }
}

/// Encodes data in these parts: as pieces, or as verified chunks.
fn encode(encoding: ChunkEncoding, parts: &[&[u8]], verified: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(encoding, Some(sample_chain(9)));
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
    encoder.finish(encoding.trailer.map(|_| VALUE), &mut out);
    out.into_iter().flatten().collect()
}

proptest! {
    /// A1: the encoded body does not depend on the parts of the data, and has the computed length
    #[test]
    fn parts_do_not_change_the_encoded_body(
        length in 1_usize..5000,
        chunk in 1_u64..3000,
        part in 1_usize..3000,
        verified in any::<bool>(),
    ) {
        let data = random_bytes(length);
        for layout in [Signed, SignedTrailer, UnsignedTrailer] {
            let encoding = encoding(layout, chunk, length as u64);
            let chunks: Vec<&[u8]> = data.chunks(usize::try_from(chunk).unwrap()).collect();
            let expected = body(layout, &chunks, encoding.trailer.map(|_| VALUE), sample_chain(9));
            let parts: Vec<&[u8]> = data.chunks(part).collect();
            prop_assert_eq!(encode(encoding, &parts, verified), expected.clone());
            prop_assert_eq!(encoding.framed_length(), Some(expected.len() as u64));
        }
    }
}

/// A1: the documentation's example body has this length
#[test]
fn the_computed_length_is_the_documented_one() {
    assert_eq!(encoding(Signed, 65_536, 66_560).framed_length(), Some(66_824));
}

/// A1: a client's chunk size is kept if the upstream accepts it
#[test]
fn sizes_are_kept_unless_they_are_too_small() {
    assert_eq!(choose_chunk_bytes(131_072, 1 << 30), 131_072);
    assert_eq!(choose_chunk_bytes(8192, 1 << 30), 8192);
    assert_eq!(choose_chunk_bytes(8191, 1 << 30), CHUNK_BYTES);
    assert_eq!(choose_chunk_bytes(100, 100), 100);
    assert_eq!(choose_chunk_bytes(0, 0), CHUNK_BYTES);
}

/// B3, V2: a length that does not fit into 64 bits is none, for every chunk size
#[test]
fn an_overflowing_length_is_none() {
    for chunk_bytes in [1, 8_192, 65_536, u64::MAX] {
        for layout in [Signed, SignedTrailer, UnsignedTrailer] {
            let at = |length| ChunkEncoding { length, ..encoding(layout, chunk_bytes, 1) }.framed_length();
            assert_eq!(at(u64::MAX), None, "{layout:?} in chunks of {chunk_bytes}");
        }
    }
    assert_eq!(encoding(Signed, 65_536, 18_421_446_067_330_467_091).framed_length(), None);
}
