//! Declarations in heads, and the withheld end of a body.

use bytes::Bytes;

use super::declared_body::DeclaredBody;
use super::pipeline::Pipeline;
use super::*;
use crate::chunked::ChunkLayout;
use crate::chunked::decode::Decoder;
use crate::chunked::encode::{ChunkEncoding, Encoder};
use crate::chunked::samples::{body, random_bytes, sample_chain};
use crate::sample_request::SampleRequest;

fn of(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Result<DeclaredBody, UploadFault> {
    DeclaredBody::from_head(&SampleRequest::new(method, target, headers.iter().copied()), None)
}

fn declared(pairs: &[(&'static str, &str)]) -> Result<DeclaredBody, UploadFault> {
    of("PUT", "/b/k", pairs)
}

/// A1
#[test]
fn a_head_with_contradictory_declarations_is_rejected() {
    let signed = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    let trailed = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let length = |text| ("x-amz-decoded-content-length", text);
    let announced = |text| ("x-amz-trailer", text);
    let crc = announced("x-amz-checksum-crc32");
    for (pairs, fault) in [
        (vec![signed], UploadFault::LengthMissing),
        (vec![signed, length("-1")], UploadFault::LengthMalformed),
        (vec![signed, length("+1")], UploadFault::LengthMalformed),
        (vec![signed, length("99999999999999999999")], UploadFault::LengthMalformed),
        (vec![signed, length("18446744073709551615")], UploadFault::LengthMalformed),
        (vec![signed, length("18421446067330467091")], UploadFault::LengthMalformed),
        (vec![signed, length("9223372036854775808")], UploadFault::LengthMalformed),
        (vec![signed, length("1"), crc], UploadFault::TrailerUnsupported),
        (vec![trailed, length("1")], UploadFault::TrailerMissing),
        (vec![trailed, length("1"), announced("x-amz-meta-a")], UploadFault::TrailerUnsupported),
        (vec![trailed, length("1"), crc, crc], UploadFault::TrailerUnsupported),
        (
            vec![trailed, length("1"), crc, ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE=")],
            UploadFault::Digest(DigestFault::MultipleChecksums),
        ),
        (vec![("x-amz-content-sha256", "STREAMING-NONSENSE")], UploadFault::PayloadHash),
        (vec![("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")], UploadFault::SigV4a),
    ] {
        assert_eq!(declared(&pairs).err(), Some(fault), "{pairs:?}");
    }
    assert!(declared(&[signed, length("1")]).is_ok());
    assert!(declared(&[trailed, length("1"), crc]).is_ok());
    assert!(declared(&[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]).is_ok());
}

/// I1: the checksum of a CompleteMultipartUpload is that of the object, so the body is not compared with it
#[test]
fn a_completion_declares_no_checksum_of_its_own_body() {
    let headers = [("x-amz-checksum-crc32", "y/Q5Jg==")];
    let verify = |method, query| {
        let mut expected_digests = of(method, &format!("/b/k?{query}"), &headers).unwrap().expected_digests;
        expected_digests.update(b"<CompleteMultipartUpload/>");
        expected_digests.verify(None)
    };
    assert_eq!(verify("POST", "uploadId=7"), Ok(()));
    assert!(verify("POST", "delete").is_err());
    assert!(verify("PUT", "partNumber=1&uploadId=7").is_err());
}

fn run(mut pipeline: Pipeline, pieces: &[&[u8]]) -> (Vec<u8>, Result<Option<String>, UploadFault>) {
    let mut output = Vec::new();
    for piece in pieces {
        if let Err(fault) = pipeline.push(Bytes::copy_from_slice(piece)) {
            return (output, Err(fault));
        }
        output.extend(std::iter::from_fn(|| pipeline.pop()).flatten());
    }
    let finished = pipeline.finish();
    output.extend(std::iter::from_fn(|| pipeline.pop()).flatten());
    (output, finished)
}

/// I1: the end of a body that does not match its digests is never sent
#[test]
fn the_last_piece_is_withheld_until_the_body_is_verified() {
    let expected_digests = |value| declared(&[("x-amz-checksum-crc32", value)]).unwrap().expected_digests;
    let pieces: [&[u8]; 3] = [b"123", b"456", b"789"];
    let right = Pipeline::for_data(None, expected_digests("y/Q5Jg=="), Some(9));
    assert_eq!(run(right, &pieces), (b"123456789".to_vec(), Ok(None)));
    let wrong = Pipeline::for_data(None, expected_digests("y/Q5Jw=="), Some(9));
    let (output, fault) = run(wrong, &pieces);
    assert_eq!(output, b"123456");
    assert_eq!(
        fault,
        Err(UploadFault::Digest(DigestFault::ChecksumMismatch(crate::checksum::ChecksumAlgorithm::Crc32)))
    );
}

/// A1, I1: a re-encoded body is complete, and the end of one with a fault is never sent
#[test]
fn a_framed_body_ends_only_if_it_is_verified() {
    let data = random_bytes(30_000);
    let chunks: Vec<&[u8]> = data.chunks(9_000).collect();
    let encoding =
        ChunkEncoding { layout: ChunkLayout::Signed, chunk_bytes: 9_000, length: 30_000, trailer: None };
    let pipeline = |expected_digests| {
        let decoder = Decoder::new(ChunkLayout::Signed, 30_000, None, Some(sample_chain(7)), 1 << 20);
        let mut pipeline = Pipeline::for_data(Some(decoder), expected_digests, Some(30_000));
        pipeline.encode_with(Encoder::new(encoding, Some(sample_chain(9))));
        pipeline
    };
    let sent = body(ChunkLayout::Signed, &chunks, None, sample_chain(7));
    let expected = body(ChunkLayout::Signed, &chunks, None, sample_chain(9));
    let expected_digests = || declared(&[]).unwrap().expected_digests;
    let pieces: Vec<&[u8]> = sent.chunks(1000).collect();
    assert_eq!(run(pipeline(expected_digests()), &pieces), (expected.clone(), Ok(None)));

    let wrong = declared(&[("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")]).unwrap().expected_digests;
    let (output, fault) = run(pipeline(wrong), &pieces);
    assert_eq!(fault, Err(UploadFault::Digest(DigestFault::Md5Mismatch)));
    assert!(expected.starts_with(&output) && output.len() + 80 < expected.len());

    let mut forged = sent.clone();
    forged[10_000] ^= 1;
    let (output, fault) = run(pipeline(expected_digests()), &forged.chunks(1000).collect::<Vec<_>>());
    assert_eq!(fault, Err(UploadFault::Chunk(ChunkFault::Signature("a chunk"))));
    assert!(expected.starts_with(&output) && output.len() < 9_200, "no byte of the forged chunk was sent");
}
