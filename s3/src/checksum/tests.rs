//! Published check values of the algorithms, and verification of declared digests.

use super::expected_digest::{DigestFault, ExpectedDigests};
use super::response_checksum::ResponseChecksum;
use super::running_digest::RunningDigest;
use super::*;
use crate::sample_request::HeaderList;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderList {
    HeaderList::new(pairs.iter().copied())
}

/// The input of the check values in the CRC catalogues and the hash standards.
const DIGITS: &[u8] = b"123456789";
const CHECKS: [(ChecksumAlgorithm, &str, &str); 10] = [
    (ChecksumAlgorithm::Crc32, "cbf43926", "y/Q5Jg=="),
    (ChecksumAlgorithm::Crc32c, "e3069283", "4waSgw=="),
    (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888", "rosUhgp5mIg="),
    (ChecksumAlgorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441", "98O8HYCOBHMq32eZZczDTKeuNEE="),
    (
        ChecksumAlgorithm::Sha256,
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
    ),
    (
        ChecksumAlgorithm::Sha512,
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
        "2eZ2LdHI6vbWGzxhkvxAjU1tXxF20MKRabwk5xw/J0rSf81YEbMT1oH35V7ALXPUmclUVba1u1A6z1dPuo/+hQ==",
    ),
    (ChecksumAlgorithm::Md5, "25f9e794323b453885f5181f1b624d0b", "JfnnlDI7RTiF9RgfG2JNCw=="),
    // Computed with the AWS Common Runtime (awscrt 0.38.1), which AWS SDKs use.
    (ChecksumAlgorithm::XxHash64, "8cb841db40e6ae83", "jLhB20DmroM="),
    (ChecksumAlgorithm::XxHash3, "72dcb18b67a17dff", "ctyxi2ehff8="),
    (ChecksumAlgorithm::XxHash128, "33119477ede5dcd5e9716427681d5860", "MxGUd+3l3NXpcWQnaB1YYA=="),
];

/// Computed with the AWS Common Runtime for the bytes 0 to 255, a thousand times. XXH3 has another algorithm for long data.
const LONG_CHECKS: [(ChecksumAlgorithm, &str); 3] = [
    (ChecksumAlgorithm::XxHash64, "ea8a95f52bcdb693"),
    (ChecksumAlgorithm::XxHash3, "776474c39d20f9aa"),
    (ChecksumAlgorithm::XxHash128, "548512d98989de2d776474c39d20f9aa"),
];

/// I1
#[test]
fn every_algorithm_gives_its_check_value() {
    for (algorithm, hex, base64) in CHECKS {
        let mut digest = RunningDigest::new(algorithm);
        DIGITS.chunks(2).for_each(|part| digest.update(part));
        assert_eq!(hex::encode(digest.finish()), hex, "{algorithm:?}");
        assert_eq!(algorithm.encoded_bytes(), base64.len() as u64, "{algorithm:?}");
    }
}

/// I1
#[test]
fn long_data_gives_the_same_hash_in_pieces_of_any_size() {
    let data: Vec<u8> = (0..=255).cycle().take(256_000).collect();
    for (algorithm, hex) in LONG_CHECKS {
        for piece_bytes in [1, 240, 241, 4_096, 65_536, data.len()] {
            let mut digest = RunningDigest::new(algorithm);
            data.chunks(piece_bytes).for_each(|part| digest.update(part));
            assert_eq!(hex::encode(digest.finish()), hex, "{algorithm:?} in pieces of {piece_bytes}");
        }
    }
}

/// I1: the names are those of S3's API reference
#[test]
fn every_header_names_its_algorithm() {
    for algorithm in ChecksumAlgorithm::ALL {
        assert_eq!(ChecksumAlgorithm::from_header(&algorithm.header().to_ascii_uppercase()), Some(algorithm));
    }
    for name in
        ["x-amz-checksum-", "x-amz-checksum-mode", "x-amz-checksum-type", "x-amz-checksum-xxhash", "md5"]
    {
        assert_eq!(ChecksumAlgorithm::from_header(name), None, "{name}");
    }
}

fn verify(pairs: &[(&'static str, &str)], body: &[u8]) -> Result<(), DigestFault> {
    let mut expected_digests = ExpectedDigests::from_headers(&headers(pairs), None, None, true)?;
    expected_digests.update(body);
    expected_digests.verify(None)
}

/// I1
#[test]
fn a_digest_matches_only_its_own_body() {
    for (algorithm, _, base64) in CHECKS {
        let pairs = [(algorithm.header(), base64)];
        assert_eq!(verify(&pairs, DIGITS), Ok(()));
        assert_eq!(verify(&pairs, b"123456780"), Err(DigestFault::ChecksumMismatch(algorithm)));
        assert_eq!(verify(&pairs, b""), Err(DigestFault::ChecksumMismatch(algorithm)));
    }
    let md5 = [("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")];
    assert_eq!(verify(&md5, DIGITS), Ok(()));
    assert_eq!(verify(&md5, b"1234567890"), Err(DigestFault::Md5Mismatch));
}

/// I1
#[test]
fn malformed_and_repeated_checksums_are_rejected() {
    for (algorithm, _, base64) in CHECKS {
        let malformed = Err(DigestFault::ChecksumMalformed(algorithm));
        for text in ["", "=", "AA==", "not base64", &base64[1..], &format!("{base64}-2")] {
            assert_eq!(verify(&[(algorithm.header(), text)], DIGITS), malformed, "{text}");
        }
    }
    for text in ["", "y/Q5Jg==", "25f9e794323b453885f5181f1b624d0b"] {
        assert_eq!(verify(&[("content-md5", text)], DIGITS), Err(DigestFault::Md5Malformed), "{text}");
    }
    let two = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "4waSgw==")];
    assert_eq!(verify(&two, DIGITS), Err(DigestFault::MultipleChecksums));
    let twice = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32", "y/Q5Jg==")];
    assert_eq!(verify(&twice, DIGITS), Err(DigestFault::MultipleChecksums));
}

/// I1
#[test]
fn a_trailing_checksum_is_verified() {
    for (algorithm, _, base64) in CHECKS {
        let verify = |trailer| {
            let mut expected_digests =
                ExpectedDigests::from_headers(&HeaderList::default(), None, Some(algorithm), true).unwrap();
            expected_digests.update(DIGITS);
            expected_digests.verify(trailer)
        };
        assert_eq!(verify(Some(base64)), Ok(()));
        assert_eq!(verify(None), Err(DigestFault::ChecksumMalformed(algorithm)));
        assert_eq!(verify(Some("x")), Err(DigestFault::ChecksumMalformed(algorithm)));
    }
}

/// I1
#[test]
fn only_the_checksum_of_a_whole_object_is_verified_in_a_response() {
    let verify = |pairs: &[(&'static str, &str)], body: &[u8]| {
        ResponseChecksum::from_headers(&headers(pairs)).map(|mut checksum| {
            checksum.update(body);
            checksum.verify()
        })
    };
    for (algorithm, _, base64) in CHECKS {
        let header = algorithm.header();
        let full = ("x-amz-checksum-type", "FULL_OBJECT");
        assert_eq!(verify(&[(header, base64), full], DIGITS), Some(Ok(())), "{header}");
        assert_eq!(verify(&[(header, base64)], b"other"), Some(Err(header)));
        assert_eq!(verify(&[(header, base64), ("x-amz-checksum-type", "COMPOSITE")], b"other"), None);
        assert_eq!(verify(&[(header, &format!("{base64}-3"))], b"other"), None);
    }
    let crc = ("x-amz-checksum-crc32", "y/Q5Jg==");
    assert_eq!(verify(&[crc], DIGITS), Some(Ok(())));
    assert_eq!(verify(&[crc, ("x-amz-checksum-type", "FULL_OBJECT")], DIGITS), Some(Ok(())));
    assert_eq!(verify(&[crc], b"other"), Some(Err("x-amz-checksum-crc32")));
    assert_eq!(verify(&[crc, ("x-amz-checksum-type", "COMPOSITE")], b"other"), None);
    assert_eq!(verify(&[("x-amz-checksum-crc32", "y/Q5Jg==-3")], b"other"), None);
    assert_eq!(verify(&[("x-amz-checksum-mode", "ENABLED")], b"other"), None);
}
