//! Strict parsing of a token's header and of the `Bearer` scheme.

use actix_web::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::json;

use super::key::VerificationKey;
use super::tests::{SECRET, encode, verify};
use super::{JwtRejection, bearer_token};

/// A token signed with the secret under a header of these bytes.
fn signed_under(header: &[u8]) -> String {
    let head = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), encode(&json!({})));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), head.as_bytes());
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A3, V8: a header member that is `null` is present (RFC 7515, section 4.1.11), and the whole header must be UTF-8
#[test]
fn a_header_is_read_strictly() {
    let keys = vec![VerificationKey::from_secret(SECRET)];
    for header in [
        &br#"{"alg":"HS256","crit":null}"#[..],
        br#"{"crit":null,"alg":"HS256"}"#,
        br#"{"alg":"HS256","crit":[]}"#,
        br#"{"alg":"HS256","crit":false}"#,
        br#"{"alg":"HS256","kid":null}"#,
        br#"{"alg":"HS256","kid":1}"#,
        br#"{"alg":"HS256","alg":"HS256"}"#,
        br#"{"alg":null}"#,
        b"{\"alg\":\"HS256\",\"x\":\"\xff\"}",
        b"{\"alg\":\"HS256\",\"x\":\"\xc0\xae\"}",
        b"{\"alg\":\"HS256\",\"x\":\"\xed\xa0\x80\"}",
    ] {
        let rejection = verify(&signed_under(header), &keys);
        assert!(
            matches!(rejection, Err(JwtRejection::Malformed(_))),
            "{:?}",
            header.escape_ascii().to_string()
        );
    }
    for header in [&br#"{"alg":"HS256"}"#[..], "{\"alg\":\"HS256\",\"x\":\"é\"}".as_bytes()] {
        assert!(verify(&signed_under(header), &keys).is_ok());
    }
}

/// A3, V8: every spelling that some parser could read as `Bearer` is `Bearer`
#[test]
fn bearer_is_recognized_in_every_spelling() {
    let found = |value: &[u8]| {
        let value = HeaderValue::from_bytes(value).unwrap();
        bearer_token(&value).map(<[u8]>::to_vec)
    };
    for (value, token) in [
        (&b"Bearer a.b.c"[..], &b"a.b.c"[..]),
        (b"bEARER   a", b"a"),
        (b"Bearer\ta", b"a"),
        (b"BEARER \t a\t ", b"a"),
        (b"\t Bearer a", b"a"),
        (b"Bearer", b""),
        (b"Bearer\t", b""),
        (b"Bearer=a", b"=a"),
        (b"Bearer,a", b",a"),
        (b"Bearer:a", b":a"),
        (b"Bearer\"a\"", b"\"a\""),
        (b"Bearer\xa0a", b"\xa0a"),
    ] {
        assert_eq!(found(value).as_deref(), Some(token), "{:?}", value.escape_ascii().to_string());
    }
    for value in [&b"Basic a"[..], b"Bearers a", b"Bearer-x a", b"Bear er", b"", b"a Bearer b"] {
        assert_eq!(found(value), None, "{:?}", value.escape_ascii().to_string());
    }
}
