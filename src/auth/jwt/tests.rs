//! Unit tests of token verification: the examples of RFC 7515, tokens with one fault each, and random input.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};
use tidegate_actors::VerifiedToken;
use tidegate_config::{Access, Config, JwtConfig, Sources};

use super::key::{KeySet, VerificationKey};
use super::token::Token;
use super::{JwtRejection, TokenLocations, claims, jwks};
use crate::test_headers::headers;

pub(super) const SECRET: &[u8] = b"a secret that has thirty-two characters";
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// RFC 7515, A.1 to A.3: header and signature; then the key.
const HS256: (&str, &str) =
    ("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
const HS256_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const RS256: (&str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU\
     Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d\
     O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igc\
     N_IoypGlUPQGe77Rw",
);
const RS256_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql\
     L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS\
     -UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM\
     Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const ES256: (&str, &str) = (
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);
const ES256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const ES256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn set(keys: Value) -> KeySet {
    jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0
}

fn published() -> KeySet {
    set(json!([
        { "kty": "RSA", "kid": "r", "n": RS256_N, "e": "AQAB" },
        { "kty": "EC", "kid": "e", "crv": "P-256", "x": ES256_X, "y": ES256_Y },
    ]))
}

fn example((header, signature): (&str, &str)) -> String {
    format!("{header}.{PAYLOAD}.{signature}")
}

pub(super) fn verify(token: &str, keys: &KeySet) -> Result<Value, JwtRejection> {
    Token::parse(token)?.verify(keys).map(|(claims, _)| Value::Object(claims))
}

pub(super) fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token signed with the secret.
fn signed(header: &Value, payload: &str) -> String {
    let head = format!("{}.{payload}", encode(header));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), head.as_bytes());
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A3: the signatures in the examples of RFC 7515 verify
#[test]
fn the_standards_examples_verify() {
    let secret = vec![VerificationKey::from_secret(&URL_SAFE_NO_PAD.decode(HS256_KEY).unwrap())];
    for (token, keys) in
        [(example(HS256), &secret), (example(RS256), &published()), (example(ES256), &published())]
    {
        assert_eq!(verify(&token, keys).unwrap()["iss"], "joe", "{token}");
        let other = token.replace(PAYLOAD, &encode(&json!({ "iss": "eve" })));
        assert_eq!(verify(&other, keys), Err(JwtRejection::Signature), "{other}");
    }
}

/// A3: a key verifies with its own algorithm only, whatever the token's header contains
#[test]
fn the_key_determines_the_algorithm() {
    let public = published();
    let only_rsa: KeySet = public.iter().filter(|key| key.id() == Some("r")).cloned().collect();
    assert_eq!(verify(&example(ES256), &only_rsa), Err(JwtRejection::Algorithm));
    let payload = encode(&json!({}));
    for header in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "r" })] {
        assert_eq!(verify(&signed(&header, &payload), &public), Err(JwtRejection::Algorithm), "{header}");
    }
    for alg in ["none", "None", "NONE", "nOnE", "", "HS512", "hs256", "RS256 "] {
        let head = format!("{}.{payload}.", encode(&json!({ "alg": alg })));
        assert_eq!(verify(&head, &public), Err(JwtRejection::Algorithm), "{alg}");
    }
    let mut both = public;
    both.push(VerificationKey::from_secret(SECRET));
    let named = signed(&json!({ "alg": "HS256", "kid": "r" }), &payload);
    assert_eq!(verify(&named, &both), Err(JwtRejection::Algorithm), "the name belongs to another key");
    assert!(verify(&signed(&json!({ "alg": "HS256", "kid": "own" }), &payload), &both).is_ok());
}

/// A3: a token that names a key is verified with that key; one that names none, with a few keys
#[test]
fn keys_are_chosen_by_name() {
    let keys = published();
    let others = set(json!([{ "kty": "RSA", "kid": "other", "n": RS256_N, "e": "AQAB" }]));
    let named = |kid: &str| {
        let header = encode(&json!({ "alg": "RS256", "kid": kid }));
        format!("{header}.{PAYLOAD}.{}", RS256.1)
    };
    assert_eq!(verify(&named("r"), &keys), Err(JwtRejection::Signature));
    assert_eq!(verify(&named("r"), &others), Err(JwtRejection::UnknownKey));
    assert!(Token::parse(&named("r")).unwrap().names_unknown_key(&others));
    assert!(!Token::parse(&named("r")).unwrap().names_unknown_key(&keys));
    assert!(!Token::parse(&example(RS256)).unwrap().names_unknown_key(&others), "it names none");
}

/// A3, V8
#[test]
fn a_malformed_token_is_rejected_with_a_reason() {
    let keys = vec![VerificationKey::from_secret(SECRET)];
    let malformed = |token: &str| matches!(verify(token, &keys), Err(JwtRejection::Malformed(_)));
    let header = json!({ "alg": "HS256" });
    let right = signed(&header, &encode(&json!({})));
    assert!(verify(&right, &keys).is_ok());
    let five = format!("{right}.a.b");
    let long = format!("{right}{}", "a".repeat(17 << 10));
    let bare = right.replacen('.', "", 1);
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        &five,
        &long,
        &bare,
        &format!("{right}="),
        &format!(" {right}"),
    ] {
        assert!(malformed(token), "{token}");
    }
    for header in [
        json!({}),
        json!([]),
        json!({ "alg": 1 }),
        json!({ "alg": null }),
        json!({ "alg": ["HS256"] }),
        json!({ "alg": "HS256", "kid": 7 }),
        json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
    ] {
        assert!(malformed(&signed(&header, &encode(&json!({})))), "{header}");
    }
    for payload in ["", "e", "bnVsbA", &encode(&json!([])), &encode(&json!("text"))] {
        assert!(malformed(&signed(&header, payload)), "{payload}");
    }
    let twice = URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\",\"alg\":\"HS256\"}");
    assert!(malformed(&format!("{twice}.e30.{}", URL_SAFE_NO_PAD.encode([0; 32]))));
}

/// A3: keys that are weak or for other uses are skipped
#[test]
fn a_set_keeps_only_keys_that_verify_tokens() {
    let weak = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let even = URL_SAFE_NO_PAD.encode([2]);
    let keys = json!([
        { "kty": "RSA", "kid": "1", "n": RS256_N, "e": "AQAB", "use": "sig", "alg": "RS256", "key_ops": ["verify"] },
        { "kty": "RSA", "kid": "2", "n": RS256_N, "e": "AQAB", "use": "enc" },
        { "kty": "RSA", "kid": "3", "n": RS256_N, "e": "AQAB", "alg": "RS512" },
        { "kty": "RSA", "kid": "4", "n": RS256_N, "e": "AQAB", "key_ops": ["encrypt"] },
        { "kty": "RSA", "kid": "5", "n": weak, "e": "AQAB" },
        { "kty": "RSA", "kid": "6", "n": RS256_N, "e": even },
        { "kty": "RSA", "kid": "7", "n": RS256_N },
        { "kty": "oct", "kid": "8", "k": URL_SAFE_NO_PAD.encode(SECRET) },
        { "kty": "EC", "kid": "9", "crv": "P-384", "x": ES256_X, "y": ES256_Y },
        { "kty": "EC", "kid": "10", "crv": "P-256", "x": ES256_X, "y": "AQAB" },
        { "kty": "OKP", "crv": "Ed25519", "x": ES256_X },
        { "kty": "EC", "kid": "11", "crv": "P-256", "x": ES256_X, "y": ES256_Y, "more": {} },
        7, null, {},
    ]);
    let (read, skipped) = jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    assert_eq!(read.iter().filter_map(VerificationKey::id).collect::<Vec<_>>(), ["1", "11"]);
    assert_eq!(skipped, 13);
    for (text, why) in [
        ("<html>", "not a JSON"),
        ("{}", "not a JSON"),
        ("[]", "not a JSON"),
        ("{\"keys\":{}}", "not a JSON"),
    ] {
        assert!(jwks::parse(text.as_bytes()).unwrap_err().contains(why), "{text}");
    }
    let many = json!({ "keys": vec![json!({}); 101] }).to_string();
    assert!(jwks::parse(many.as_bytes()).unwrap_err().contains("more than 100"));
}

fn config() -> JwtConfig {
    let text = format!(
        "[jwt]\nissuer = \"joe\"\naudience = [\"gateway\", \"other\"]\nsecret = \"{}\"\ncookie = \"session\"\nquery = \"jwt\"\n\
         [jwt.claims]\nbuckets = \"b\"\nprefixes = \"p\"\nmethods = \"m\"\n",
        "x".repeat(32)
    );
    let config: Config = tidegate_config::load(Sources::default().text("t.toml", &text)).unwrap();
    config.jwt.unwrap()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// Validates correct claims with these changes; `null` removes a claim.
fn claims_with(changes: Value) -> Result<VerifiedToken, JwtRejection> {
    let mut claims = json!({
        "iss": "joe", "aud": "gateway", "exp": 1_000_100, "sub": "ann", "b": ["photos"], "p": ["a/"], "m": ["read"],
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut claims = claims.as_object().unwrap().clone();
    claims.retain(|_, value| !value.is_null());
    claims::validate(&claims, VerificationKey::from_secret(SECRET).fingerprint(), &config(), now())
}

/// A3: issuer, audience and expiry must be present and correct
#[test]
fn every_required_claim_is_validated() {
    assert_eq!(claims_with(json!({})).unwrap().subject.as_deref(), Some("ann"));
    for (changes, rejection) in [
        (json!({ "iss": null }), JwtRejection::Claim("iss")),
        (json!({ "iss": ["joe"] }), JwtRejection::Claim("iss")),
        (json!({ "iss": "Joe" }), JwtRejection::Issuer),
        (json!({ "aud": null }), JwtRejection::Claim("aud")),
        (json!({ "aud": 7 }), JwtRejection::Claim("aud")),
        (json!({ "aud": ["gateway", 7] }), JwtRejection::Claim("aud")),
        (json!({ "aud": [] }), JwtRejection::Audience),
        (json!({ "aud": "gateways" }), JwtRejection::Audience),
        (json!({ "exp": null }), JwtRejection::Claim("exp")),
        (json!({ "exp": "1000100" }), JwtRejection::Claim("exp")),
        (json!({ "exp": [] }), JwtRejection::Claim("exp")),
        (json!({ "exp": 999_940 }), JwtRejection::Expired),
        (json!({ "exp": -1 }), JwtRejection::Expired),
        (json!({ "nbf": "soon" }), JwtRejection::Claim("nbf")),
        (json!({ "nbf": 1_000_061 }), JwtRejection::NotYetValid),
        (json!({ "b": null }), JwtRejection::PolicyClaim("b".to_owned())),
        (json!({ "b": {} }), JwtRejection::PolicyClaim("b".to_owned())),
        (json!({ "b": ["a/b"] }), JwtRejection::PolicyClaim("b".to_owned())),
        (json!({ "p": null }), JwtRejection::PolicyClaim("p".to_owned())),
        (json!({ "p": [["a"]] }), JwtRejection::PolicyClaim("p".to_owned())),
        (json!({ "m": null }), JwtRejection::PolicyClaim("m".to_owned())),
        (json!({ "m": true }), JwtRejection::PolicyClaim("m".to_owned())),
    ] {
        assert_eq!(claims_with(changes.clone()), Err(rejection), "{changes}");
    }
    for fine in [
        json!({ "aud": ["somebody", "other"] }),
        json!({ "exp": 999_941 }),
        json!({ "exp": 1_000_100.5 }),
        json!({ "exp": 1e300 }),
        json!({ "nbf": 1_000_060 }),
        json!({ "sub": 7 }),
    ] {
        assert!(claims_with(fine.clone()).is_ok(), "{fine}");
    }
    assert_eq!(claims_with(json!({})).unwrap().expires, now() + Duration::from_secs(160), "with the leeway");
}

/// A3, A5: claims become a policy, and an empty claim allows nothing
#[test]
fn claims_become_a_policy() {
    let policy = |changes| claims_with(changes).unwrap().policy;
    let plain = policy(json!({ "b": "logs-*", "m": ["read", "list", "fly"] }));
    assert!(plain.buckets[0].matches("logs-eu") && !plain.buckets[0].matches("photos"));
    assert_eq!(
        (plain.prefixes.as_slice(), plain.methods),
        (&["a/".to_owned()][..], vec![Access::Read, Access::List])
    );
    let all = policy(json!({ "p": ["a/", ""] }));
    assert!(all.prefixes.is_empty() && !all.buckets.is_empty(), "an empty prefix allows every key");
    let none = policy(json!({ "p": [] }));
    assert!(none.buckets.is_empty() && none.methods.is_empty(), "an empty list of prefixes allows no key");
    assert!(policy(json!({ "b": [] })).buckets.is_empty());
    assert!(policy(json!({ "m": [] })).methods.is_empty());
}

/// A3: header, query, cookie, in this order; at most one token in each location
#[test]
fn a_token_is_found_in_its_configured_locations() {
    let locations = TokenLocations::from_config(&config());
    let find = |all: &[(HeaderName, &str)], query: &str| {
        locations.find(&headers(all), query).map(|found| found.map(|token| token.into_owned()))
    };
    let found = |token: &str| Ok(Some(token.to_owned()));
    assert_eq!(find(&[], "a=1"), Ok(None));
    assert_eq!(find(&[(AUTHORIZATION, "Basic x")], ""), Ok(None));
    assert_eq!(find(&[(AUTHORIZATION, "Bearerx y")], ""), Ok(None));
    assert_eq!(find(&[(AUTHORIZATION, "bEARER  h ")], "jwt=q"), found("h"));
    assert_eq!(find(&[(AUTHORIZATION, "Bearer")], "jwt=q"), found(""));
    assert_eq!(find(&[(COOKIE, "session=c")], "a=1&jw%74=q%2E"), found("q."));
    assert_eq!(find(&[(COOKIE, "a=1; session=\"c\"; b")], "jwts=q"), found("c"));
    assert_eq!(find(&[(COOKIE, "a=1"), (COOKIE, "session = c")], ""), found("c"));
    assert_eq!(find(&[(COOKIE, "sessions=c;xsession=d;session")], ""), Ok(None));
    for (all, query) in [
        (&[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Bearer a")][..], ""),
        (&[], "jwt=a&jwt=a"),
        (&[], "jwt=a&%6awt=b"),
        (&[(COOKIE, "session=a; session=a")], ""),
        (&[(COOKIE, "session=a"), (COOKIE, "session=b")], ""),
    ] {
        assert_eq!(find(all, query), Err(JwtRejection::Repeated), "{all:?} {query}");
    }
    let mut bytes = HeaderMap::new();
    bytes.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert!(matches!(locations.find(&bytes, ""), Err(JwtRejection::Malformed(_))));
}

/// A3: everything except the token is forwarded
#[test]
fn a_token_is_removed_from_its_location() {
    let locations = TokenLocations::from_config(&config());
    let left = |name: &HeaderName, value: &str| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        locations.strip_header(name, &value).map(|left| left.to_str().unwrap().to_owned())
    };
    assert_eq!(left(&AUTHORIZATION, "Bearer a"), None);
    assert_eq!(left(&AUTHORIZATION, "Basic a").as_deref(), Some("Basic a"));
    assert_eq!(left(&COOKIE, "session=a"), None);
    assert_eq!(left(&COOKIE, "a=1; session=b; c=2").as_deref(), Some("a=1; c=2"));
    assert_eq!(left(&COOKIE, "session=a; c=2").as_deref(), Some("c=2"));
    assert_eq!(left(&COOKIE, "a=1;  sessions=2").as_deref(), Some("a=1;  sessions=2"));
    assert!(
        locations.is_token_parameter("jwt")
            && locations.is_token_parameter("%6Awt=a")
            && !locations.is_token_parameter("a=jwt")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// V8: random input is rejected as token, set and key, without a panic
    #[test]
    fn random_input_is_rejected(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let keys = published();
        prop_assert!(verify(&text, &keys).is_err());
        let encoded = URL_SAFE_NO_PAD.encode(&bytes);
        let three = format!("{encoded}.{encoded}.{encoded}");
        prop_assert!(verify(&three, &keys).is_err());
        prop_assert!(jwks::parse(&bytes).is_err());
        prop_assert!(VerificationKey::from_pem(&text).is_err());
        let der = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        prop_assert!(VerificationKey::from_pem(&pem).is_err());
    }

    /// V8: a token with any byte changed does not verify
    #[test]
    fn a_changed_token_is_rejected(at in 0usize..10_000, byte in "[A-Za-z0-9_.=-]", which in 0usize..3) {
        let secret = VerificationKey::from_secret(&URL_SAFE_NO_PAD.decode(HS256_KEY).unwrap());
        let keys: KeySet = published().into_iter().chain([secret]).collect();
        let token = example([HS256, RS256, ES256][which]);
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &byte);
        prop_assume!(changed != token);
        let verified = verify(&changed, &keys);
        prop_assert!(verified.is_err(), "{changed}");
    }
}
