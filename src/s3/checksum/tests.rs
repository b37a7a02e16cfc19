//! Check values of the catalogues, and claims that hold or do not.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::claim::{ClaimFault, Claims};
use super::down::Answered;
use super::running::Running;
use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    map
}

/// The check values that the catalogues of CRCs and the standards of hashes give for these nine digits.
const DIGITS: &[u8] = b"123456789";
const CHECKS: [(Algorithm, &str, &str); 5] = [
    (Algorithm::Crc32, "cbf43926", "y/Q5Jg=="),
    (Algorithm::Crc32c, "e3069283", "4waSgw=="),
    (Algorithm::Crc64Nvme, "ae8b14860a799888", "rosUhgp5mIg="),
    (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441", "98O8HYCOBHMq32eZZczDTKeuNEE="),
    (
        Algorithm::Sha256,
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
    ),
];

/// I1
#[test]
fn every_algorithm_gives_its_check_value() {
    for (algorithm, hex, base64) in CHECKS {
        let mut running = Running::new(algorithm);
        DIGITS.chunks(2).for_each(|part| running.update(part));
        assert_eq!(hex::encode(running.finish()), hex, "{algorithm:?}");
        assert_eq!(algorithm.text_bytes(), base64.len() as u64, "{algorithm:?}");
    }
}

fn verdict(pairs: &[(&'static str, &str)], body: &[u8]) -> Result<(), ClaimFault> {
    let mut claims = Claims::of(&headers(pairs), None, None, true)?;
    claims.update(body);
    claims.verify(None)
}

/// I1
#[test]
fn a_claim_holds_for_its_body_and_for_no_other() {
    for (algorithm, _, base64) in CHECKS {
        let pairs = [(algorithm.header(), base64)];
        assert_eq!(verdict(&pairs, DIGITS), Ok(()));
        assert_eq!(verdict(&pairs, b"123456780"), Err(ClaimFault::Checksum(algorithm)));
        assert_eq!(verdict(&pairs, b""), Err(ClaimFault::Checksum(algorithm)));
    }
    let md5 = [("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")];
    assert_eq!(verdict(&md5, DIGITS), Ok(()));
    assert_eq!(verdict(&md5, b"1234567890"), Err(ClaimFault::Md5));
}

/// I1, V8
#[test]
fn what_is_no_checksum_is_refused() {
    for (algorithm, _, base64) in CHECKS {
        let malformed = Err(ClaimFault::ChecksumMalformed(algorithm));
        for text in ["", "=", "AA==", "not base64", &base64[1..], &format!("{base64}-2")] {
            assert_eq!(verdict(&[(algorithm.header(), text)], DIGITS), malformed, "{text}");
        }
    }
    for text in ["", "y/Q5Jg==", "25f9e794323b453885f5181f1b624d0b"] {
        assert_eq!(verdict(&[("content-md5", text)], DIGITS), Err(ClaimFault::Md5Malformed), "{text}");
    }
    let two = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "4waSgw==")];
    assert_eq!(verdict(&two, DIGITS), Err(ClaimFault::ManyChecksums));
    let twice = [("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32", "y/Q5Jg==")];
    assert_eq!(verdict(&twice, DIGITS), Err(ClaimFault::ManyChecksums));
}

/// I1
#[test]
fn a_trailing_checksum_is_awaited() {
    for (algorithm, _, base64) in CHECKS {
        let verify = |trailer| {
            let mut claims = Claims::of(&HeaderMap::new(), None, Some(algorithm), true).unwrap();
            claims.update(DIGITS);
            claims.verify(trailer)
        };
        assert_eq!(verify(Some(base64)), Ok(()));
        assert_eq!(verify(None), Err(ClaimFault::ChecksumMalformed(algorithm)));
        assert_eq!(verify(Some("x")), Err(ClaimFault::ChecksumMalformed(algorithm)));
    }
}

/// I1
#[test]
fn only_a_whole_objects_checksum_is_checked_in_an_answer() {
    let told = |pairs: &[(&'static str, &str)], body: &[u8]| {
        Answered::of(&headers(pairs)).map(|mut answered| {
            answered.update(body);
            answered.verify()
        })
    };
    let crc = ("x-amz-checksum-crc32", "y/Q5Jg==");
    assert_eq!(told(&[crc], DIGITS), Some(Ok(())));
    assert_eq!(told(&[crc, ("x-amz-checksum-type", "FULL_OBJECT")], DIGITS), Some(Ok(())));
    assert_eq!(told(&[crc], b"other"), Some(Err("x-amz-checksum-crc32")));
    assert_eq!(told(&[crc, ("x-amz-checksum-type", "COMPOSITE")], b"other"), None);
    assert_eq!(told(&[("x-amz-checksum-crc32", "y/Q5Jg==-3")], b"other"), None);
    assert_eq!(told(&[("x-amz-checksum-mode", "ENABLED")], b"other"), None);
}
