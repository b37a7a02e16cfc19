//! The documentation's examples, slices of every size, corrupted bodies, and every fault.

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::ChunkLayout::{Signed, SignedTrailer, UnsignedTrailer};
use super::decode::{ChunkSizePeek, Decoded, Decoder, peek_chunk_size};
use super::samples::{TRAILER, body, documented_chain, random_bytes, sample_chain};
use super::{ChunkFault, ChunkLayout};
use crate::sigv4::SignatureChain;

const VALUE: &str = "sOO8/Q==";
const LIMIT: u64 = 1 << 20;

type Outcome = Result<(Vec<u8>, Option<String>), ChunkFault>;

/// Decodes a body that is split at these offsets.
fn decode(
    layout: ChunkLayout,
    body: &[u8],
    cuts: &[usize],
    length: u64,
    verifier: Option<SignatureChain>,
) -> Outcome {
    let trailer = layout.has_trailer().then_some(TRAILER);
    let mut decoder = Decoder::new(layout, length, trailer, verifier, LIMIT);
    let mut data = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    cuts.push(body.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        let mut input = Bytes::copy_from_slice(&body[from..cut]);
        while let Some(decoded) = decoder.decode(&mut input)? {
            match decoded {
                Decoded::Piece(piece) => data.extend_from_slice(&piece),
                Decoded::Chunk { pieces, sha256 } => {
                    let chunk = pieces.concat();
                    assert_eq!(sha256[..], Sha256::digest(&chunk)[..]);
                    data.extend_from_slice(&chunk);
                }
            }
        }
        from = cut;
    }
    decoder.finish().map(|value| (data, value))
}

fn sample(layout: ChunkLayout) -> (Vec<u8>, Vec<u8>) {
    let data = random_bytes(300);
    let value = layout.has_trailer().then_some(VALUE);
    let body = body(layout, &[&data[..200], &data[200..290], &data[290..]], value, sample_chain(7));
    (data, body)
}

fn expected(layout: ChunkLayout, data: &[u8]) -> Outcome {
    Ok((data.to_vec(), layout.has_trailer().then(|| VALUE.to_owned())))
}

/// A1: the worked example of the S3 documentation, with its published signatures
#[test]
fn the_documented_chunks_are_accepted() {
    let chain = documented_chain("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    let data = vec![b'a'; 66_560];
    let body = [
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
            .as_slice(),
        &data[..65_536],
        b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
        &data[..1024],
        b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
    ]
    .concat();
    assert_eq!(decode(Signed, &body, &[], 66_560, Some(chain.clone())), Ok((data, None)));
    let wrong = documented_chain(&"0".repeat(64));
    assert_eq!(decode(Signed, &body, &[], 66_560, Some(wrong)), Err(ChunkFault::Signature("a chunk")));
}

/// A1: the worked example with a trailing checksum
#[test]
fn the_documented_trailer_is_accepted() {
    let chain = documented_chain("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
    let data = vec![b'a'; 66_560];
    let body = [
        b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
            .as_slice(),
        &data[..65_536],
        b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n",
        &data[..1024],
        b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n",
        b"x-amz-checksum-crc32c:sOO8/Q==\n",
        b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    ]
    .concat();
    assert_eq!(
        decode(SignedTrailer, &body, &[], 66_560, Some(chain)),
        Ok((data, Some("sOO8/Q==".to_owned())))
    );
}

proptest! {
    /// A1: the output does not depend on the slices of the input
    #[test]
    fn slices_do_not_change_the_output(cuts in prop::collection::vec(0_usize..2000, 0..40)) {
        for layout in [Signed, SignedTrailer, UnsignedTrailer] {
            let (data, body) = sample(layout);
            prop_assert_eq!(decode(layout, &body, &cuts, 300, Some(sample_chain(7))), expected(layout, &data));
            prop_assert_eq!(decode(layout, &body, &cuts, 300, None), expected(layout, &data));
        }
    }
}

/// A1: a signed body with any bit changed is rejected or has the same meaning (for example the case of a size's digit)
#[test]
fn every_changed_bit_of_a_signed_body_is_detected() {
    for layout in [Signed, SignedTrailer] {
        let (data, body) = sample(layout);
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let result = decode(layout, &changed, &[], 300, Some(sample_chain(7)));
            assert!(result.is_err() || result == expected(layout, &data), "bit {bit} of {layout:?}");
        }
        assert_eq!(decode(layout, &body, &[], 300, Some(sample_chain(7))), expected(layout, &data));
    }
}

/// A1: a truncated, spliced, repeated or overwritten body never decodes to other data, and never causes a panic (10,000 bodies)
#[test]
fn fuzzed_bodies_give_the_data_or_nothing() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let mut rejected = 0;
    for round in 0..10_000 {
        let layout = [Signed, SignedTrailer, UnsignedTrailer][round % 3];
        let (data, mut body) = sample(layout);
        for _ in 0..=random(3) {
            let (at, until) = (random(body.len()), random(body.len()));
            match random(6) {
                0 => body.truncate(at),
                1 => body.insert(at, b"\r\n0;:a"[random(6)]),
                2 => drop(body.drain(at.min(until)..at.max(until))),
                3 => body.extend_from_within(at.min(until)..at.max(until)),
                4 if at < body.len() => body[at] = u8::try_from(random(256)).unwrap(),
                _ => body.splice(at..at, body.clone()[at.min(until)..until.max(at)].to_vec()).for_each(drop),
            }
        }
        let cuts: Vec<usize> = (0..random(5)).map(|_| random(2000)).collect();
        let length = if random(9) == 0 { random(600) as u64 } else { 300 };
        let verifier = layout.is_signed().then(|| sample_chain(7));
        match decode(layout, &body, &cuts, length, verifier) {
            Ok((output, value)) if layout.is_signed() => {
                assert_eq!(Ok((output, value)), expected(layout, &data), "round {round}");
            }
            // Without signatures only the length is verified here; the checksum is verified elsewhere.
            Ok((output, _)) => assert_eq!(output.len() as u64, length, "round {round}"),
            Err(_) => rejected += 1,
        }
    }
    assert!(rejected > 8_000, "only {rejected} were rejected: the mutations are too weak");
}

/// A1: a missing first chunk and another key are detected
#[test]
fn a_chain_cannot_be_rearranged() {
    let data = random_bytes(200);
    let (first, second) = data.split_at(100);
    let right = body(Signed, &[first, second], None, sample_chain(7));
    let shortened = body(Signed, &[second], None, sample_chain(7));
    let (_, rest) = right.split_at(right.len() - shortened.len());
    let fault = Err(ChunkFault::Signature("a chunk"));
    assert_eq!(decode(Signed, rest, &[], 100, Some(sample_chain(7))), fault);
    assert_eq!(decode(Signed, &right, &[], 200, Some(sample_chain(8))), fault);
}

/// A1
#[test]
fn lengths_must_add_up() {
    for layout in [Signed, SignedTrailer, UnsignedTrailer] {
        let (_, body) = sample(layout);
        let result = |length| decode(layout, &body, &[], length, Some(sample_chain(7)));
        assert_eq!(result(301), Err(ChunkFault::Length("fewer")));
        assert_eq!(result(299), Err(ChunkFault::Length("more")));
        assert_eq!(result(0), Err(ChunkFault::Length("more")));
        for cut in [0, 10, 150, 240] {
            let result = decode(layout, &body[..cut], &[], 300, Some(sample_chain(7)));
            assert_eq!(result, Err(ChunkFault::Length("fewer")), "{cut}");
        }
    }
}

/// A1: a chunk that is too large is rejected before its first byte
#[test]
fn a_signed_chunk_is_bounded() {
    let line = format!("100001;chunk-signature={}\r\n", "0".repeat(64));
    let result = decode(Signed, line.as_bytes(), &[], 1 << 30, Some(sample_chain(7)));
    assert_eq!(result, Err(ChunkFault::TooLarge { bytes: LIMIT + 1, limit: LIMIT }));
    let result = decode(UnsignedTrailer, b"100001\r\n", &[], 1 << 30, None);
    assert_eq!(result, Err(ChunkFault::Length("fewer")), "unbuffered chunks have no limit");
}

/// A1
#[test]
fn malformed_framing_has_its_own_fault() {
    let signature = "0".repeat(64);
    let framing = |body: &str| match decode(Signed, body.as_bytes(), &[], 300, None) {
        Err(ChunkFault::Framing(what)) => what,
        other => panic!("{body}: {other:?}"),
    };
    assert_eq!(framing(&format!("a;chunk-signature={signature}\n")), "a line does not end with CR LF");
    assert_eq!(framing("\r\n"), "a chunk has no hexadecimal size");
    assert_eq!(framing("-1;\r\n"), "a chunk has no hexadecimal size");
    assert_eq!(framing("fffffffffffffffff\r\n"), "a chunk has no hexadecimal size");
    assert_eq!(framing("a\r\n"), "a chunk has no signature");
    assert_eq!(framing("a;chunk-signature=\r\n"), "a chunk's signature is not 64 hexadecimal digits");
    assert_eq!(framing(&"a".repeat(2000)), "a line is too long");
    let overlong = format!("1;chunk-signature={signature}\r\nabc\r\n");
    assert_eq!(framing(&overlong), "a chunk does not end after its declared size");
    let (_, body) = sample(Signed);
    let result = decode(Signed, &[&body, b"x".as_slice()].concat(), &[], 300, None);
    assert_eq!(result, Err(ChunkFault::Framing("data follows the end")));
    let result = decode(Signed, &[&body, b"\r\n".as_slice()].concat(), &[], 300, None);
    assert_eq!(result, Err(ChunkFault::Framing("data follows the end")));
}

/// A1, I1
#[test]
fn the_trailer_must_match_the_announcement() {
    let result =
        |end: &str| decode(UnsignedTrailer, format!("1\r\na\r\n0\r\n{end}").as_bytes(), &[], 1, None);
    let fine = Ok((b"a".to_vec(), Some("x".to_owned())));
    assert_eq!(result("x-amz-checksum-crc32c:x\r\n\r\n"), fine);
    assert_eq!(result("X-Amz-Checksum-CRC32C: x \n\r\n\r\n"), fine, "as some clients send it");
    for (end, what) in [
        ("\r\n", "the announced header is missing"),
        ("x-amz-checksum-crc32:x\r\n\r\n", "a header was not announced in x-amz-trailer"),
        ("x-amz-checksum-crc32c:x\r\nx-amz-checksum-crc32c:x\r\n\r\n", "a header is repeated"),
        ("nonsense\r\n\r\n", "a line is not a header"),
        ("x-amz-checksum-crc32c:x\r\n", "the body ends before them"),
    ] {
        assert_eq!(result(end), Err(ChunkFault::Trailer(what)), "{end}");
    }
    let signed = |end: &str| {
        let (_, body) = sample(SignedTrailer);
        let at = body.windows(15).position(|window| window == b"x-amz-checksum-").unwrap();
        decode(SignedTrailer, &[&body[..at], end.as_bytes()].concat(), &[], 300, Some(sample_chain(7)))
    };
    let zeros = "0".repeat(64);
    let line = "x-amz-checksum-crc32c:sOO8/Q==\r\n";
    assert_eq!(
        signed(&format!("{line}x-amz-trailer-signature:{zeros}\r\n\r\n")),
        Err(ChunkFault::Signature("the trailing headers"))
    );
    for (end, what) in [
        (format!("{line}\r\n\r\n"), "their signature is missing"),
        (format!("x-amz-trailer-signature:{zeros}\r\n\r\n"), "the announced header is missing"),
        (format!("{line}x-amz-trailer-signature:0\r\n\r\n"), "its signature is not 64 hexadecimal digits"),
    ] {
        assert_eq!(signed(&end), Err(ChunkFault::Trailer(what)), "{end}");
    }
}

/// A1
#[test]
fn the_first_size_is_read_as_soon_as_it_is_complete() {
    assert_eq!(peek_chunk_size(b""), ChunkSizePeek::NeedMore);
    assert_eq!(peek_chunk_size(b"100"), ChunkSizePeek::NeedMore);
    assert_eq!(peek_chunk_size(b"10000;chunk"), ChunkSizePeek::Size(65_536));
    assert_eq!(peek_chunk_size(b"10000\r\n"), ChunkSizePeek::Size(65_536));
    assert_eq!(peek_chunk_size(b";"), ChunkSizePeek::Invalid);
    assert_eq!(peek_chunk_size(b"fffffffffffffffff"), ChunkSizePeek::Invalid);
}
