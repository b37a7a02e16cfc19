//! Fuzz target `jwt`: tokens, their keys and claims, and the locations of a token in a request.

#![allow(clippy::expect_used, reason = "a failed assertion is the result")]

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tidegate_config::{Config, JwtConfig, Sources};

use super::key::{KeySet, VerificationKey};
use super::token::Token;
use super::token_locations::TokenLocations;
use super::{JwtRejection, claims, jwks};
use crate::fuzz_input::Input;

const SECRET: &[u8] = b"a secret that has thirty-two characters";
/// The public keys of RFC 7515, A.2 and A.3. The target has no private keys for them, so no input is signed with them.
const PUBLIC_KEYS: &str = r#"{"keys":[
    {"kty":"EC","kid":"e","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"RSA","kid":"r","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}
]}"#;
/// The claims of the examples of RFC 7515, A.1 to A.3: the only claims that the public keys have signed.
const PUBLISHED: &str =
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
/// Longer tokens are rejected.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Properties: a token verifies only if a key has signed it, whatever its header contains; valid claims are from the configured issuer
/// and have not expired; a token that was found is removed from the forwarded request; no JWK set causes a panic.
pub fn jwt(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => any_token(input.rest()),
        1 => signed_token(input),
        2 => any_location(input),
        _ => any_keys(input.rest()),
    }
}

fn keys() -> KeySet {
    let (mut keys, _) = jwks::parse(PUBLIC_KEYS.as_bytes()).expect("a document of two keys");
    assert_eq!(keys.len(), 2);
    keys.push(VerificationKey::from_secret(SECRET));
    keys
}

fn hmac(message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

/// Whether the secret has signed this text, computed with another HMAC implementation.
fn is_signed(token: &str) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| signature == hmac(message.as_bytes()))
}

fn any_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(token) = Token::parse(text) else { return };
    assert!(text.len() <= TOKEN_BYTES_MAX && text.matches('.').count() == 2);
    if token.verify(&keys()).is_ok() {
        assert!(
            is_signed(text) || text.contains(PUBLISHED),
            "a token without a valid signature verifies: {text}"
        );
    }
}

/// Any header and claims, signed with the secret, and then one byte changed.
fn signed_token(mut input: Input<'_>) {
    let (at, changed) = (usize::from(input.byte()), input.byte());
    let header = input.bytes();
    let payload = input.rest();
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac(message.as_bytes())));
    let keys = keys();
    let verified = Token::parse(&token).and_then(|token| token.verify(&keys));
    if let Ok((claims, fingerprint)) = verified {
        let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
        assert_eq!(header["alg"], "HS256", "{header}");
        assert!(header.get("crit").is_none(), "{header}");
        assert_eq!(fingerprint, VerificationKey::from_secret(SECRET).fingerprint());
        assert_eq!(serde_json::from_slice::<Value>(payload).ok(), Some(Value::Object(claims.clone())));
        check_claims(&claims, fingerprint);
    }
    let mut other = token.clone().into_bytes();
    let at = at * other.len() / 256;
    if other[at] != changed && changed.is_ascii() {
        other[at] = changed;
        let other = String::from_utf8(other).expect("ASCII");
        let result = Token::parse(&other).and_then(|token| token.verify(&keys));
        assert!(result.is_err() || is_signed(&other), "{other} was made from {token}");
    }
}

fn config() -> JwtConfig {
    let secret = "x".repeat(32);
    let text = format!(
        "[jwt]\nissuer = \"joe\"\naudience = [\"gateway\"]\nsecret = \"{secret}\"\ncookie = \"session\"\nquery = \"jwt\"\n\
         [jwt.claims]\nbuckets = \"b\"\nprefixes = \"p\"\nmethods = \"m\"\n"
    );
    let config: Config =
        tidegate_config::load(Sources::default().text("t.toml", &text)).expect("a valid configuration");
    config.jwt.expect("the configuration has [jwt]")
}

fn check_claims(claims: &serde_json::Map<String, Value>, fingerprint: tidegate_actors::KeyFingerprint) {
    thread_local!(static CONFIG: JwtConfig = config());
    CONFIG.with(|config| {
        for now in [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1_000_000)] {
            let Ok(verified) = claims::validate(claims, fingerprint, config, now) else { continue };
            assert_eq!(claims["iss"], "joe");
            assert!(verified.expires > now && claims.contains_key("exp"));
            let late = verified.expires + Duration::from_secs(1);
            assert_eq!(claims::validate(claims, fingerprint, config, late), Err(JwtRejection::Expired));
            let has_prefixes = !matches!(&claims["p"], Value::Array(texts) if texts.is_empty());
            assert!(
                has_prefixes || verified.policy.buckets.is_empty(),
                "an empty list of prefixes allows a bucket"
            );
        }
    });
}

/// A request with a token in any location: after the removal no token is found.
fn any_location(mut input: Input<'_>) {
    thread_local!(static LOCATIONS: TokenLocations = TokenLocations::from_config(&config()));
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
    let (authorization, cookie) = (value(input.bytes()), value(input.bytes()));
    let query: String =
        input.rest().iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    let mut headers = HeaderMap::new();
    authorization.into_iter().for_each(|value| drop(headers.insert(AUTHORIZATION, value)));
    cookie.into_iter().for_each(|value| drop(headers.insert(COOKIE, value)));
    LOCATIONS.with(|locations| {
        let found = locations.find(&headers, &query);
        let kept: Vec<&str> = query.split('&').filter(|pair| !locations.is_token_parameter(pair)).collect();
        let mut left = HeaderMap::new();
        for (name, value) in &headers {
            if let Some(value) = locations.strip_header(name, value) {
                left.append(name.clone(), value.into_owned());
            }
        }
        assert_eq!(locations.find(&left, &kept.join("&")), Ok(None), "{found:?} is left in {left:?}");
        if matches!(found, Ok(None)) {
            assert_eq!(left.len(), headers.len(), "a request without a token lost a header");
        }
    });
}

fn any_keys(bytes: &[u8]) {
    if let Ok((keys, skipped)) = jwks::parse(bytes) {
        assert!(keys.len() + skipped <= 100);
        for key in &keys {
            assert!(key.algorithm().as_str() != "HS256", "a secret was read from a JWK set");
            assert!(!key.verifies(b"a message", &[0; 64]) && !key.verifies(b"a message", &[]));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = VerificationKey::from_pem(text)
    {
        assert!(!key.verifies(b"a message", &[0; 64]));
    }
}
