//! Rejected tokens: 401 or 403 in the bucket's format, and nothing is sent upstream.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::issuer::{self, Issuer, encode, now, pem};
use super::{buckets, claims, each_algorithm, send_with_token, with, with_public_key, with_secret};
use crate::support::{Client, Gateway, Response, Scratch, Upstream, get, request};

/// The compared parts of a refusal.
fn refusal(answer: &Response) -> (u16, &str) {
    (answer.complete_status(), answer.reason())
}

/// A3, V8: a token with exactly one fault is refused, for every fault and algorithm
#[tokio::test]
async fn a_token_with_one_fault_is_refused() {
    let upstream = Upstream::ok("x");
    for (issuer, gateway) in each_algorithm(&upstream).await {
        let seen = upstream.count();
        for (claims, status, reason) in [
            (with("exp", json!(now() - 61)), 401, "token_expired"),
            (with("exp", Value::Null), 401, "token_claim"),
            (with("exp", json!("9999999999")), 401, "token_claim"),
            (with("nbf", json!(now() + 120)), 401, "token_early"),
            (with("iss", json!("https://issuer.test/")), 401, "token_issuer"),
            (with("iss", Value::Null), 401, "token_claim"),
            (with("aud", json!(["tide", "gate"])), 401, "token_audience"),
            (with("aud", Value::Null), 401, "token_claim"),
            (with("buckets", Value::Null), 403, "token_grants"),
            (with("prefixes", Value::Null), 403, "token_grants"),
            (with("methods", json!({})), 403, "token_grants"),
            (with("methods", json!([])), 403, "policy_denied"),
            (with("prefixes", json!([])), 403, "policy_denied"),
            (with("buckets", json!(["c"])), 403, "policy_denied"),
            (json!([]), 401, "token_malformed"),
            (json!("x"), 401, "token_malformed"),
        ] {
            let answer = send_with_token(&gateway, "GET", "/b/k", &issuer.token(&claims)).await;
            assert_eq!(refusal(&answer), (status, reason), "{claims}");
        }
        let right = issuer.token(&claims());
        let (signed, signature) = right.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let flipped = format!("{signed}.{}", encode(bytes));
        let (header, _) = signed.split_once('.').unwrap();
        let others = format!("{header}.{}.{signature}", encode(with("sub", json!("eve")).to_string()));
        for token in [flipped, others, format!("{signed}.")] {
            assert_eq!(
                refusal(&send_with_token(&gateway, "GET", "/b/k", &token).await),
                (401, "token_signature"),
                "{token}"
            );
        }
        assert_eq!(upstream.count(), seen, "nothing was sent upstream");
        assert_eq!(send_with_token(&gateway, "GET", "/b/k", &right).await.complete_status(), 200);
        let late = issuer.token(&with("exp", json!(now() - 30)));
        assert_eq!(
            send_with_token(&gateway, "GET", "/b/k", &late).await.complete_status(),
            200,
            "a small clock skew is tolerated"
        );
    }
}

/// A3: a public key is not used as a secret, and algorithm `none` is refused
#[tokio::test]
async fn algorithm_confusion_is_refused() {
    let upstream = Upstream::ok("x");
    let text = std::fs::read(issuer::path("rsa.pub.pem")).unwrap();
    let trimmed = String::from_utf8(text.clone()).unwrap().trim().to_owned();
    let gateway = with_public_key(&upstream, "rsa.pub.pem").start().await;
    let also_secret =
        with_public_key(&upstream, "rsa.pub.pem").set("jwt.secret", issuer::SECRET).start().await;
    for secret in [text, trimmed.into_bytes(), pem("rsa.pub.pem"), Vec::new()] {
        let forger = Issuer::with_secret(&secret);
        for header in
            [json!({ "alg": "HS256" }), json!({ "alg": "RS256" }), json!({ "alg": "HS256", "kid": "rsa" })]
        {
            let token = forger.token_with(&header, &claims());
            assert_eq!(
                send_with_token(&gateway, "GET", "/b/k", &token).await.complete_status(),
                401,
                "{header}"
            );
            assert_eq!(
                send_with_token(&also_secret, "GET", "/b/k", &token).await.complete_status(),
                401,
                "{header}"
            );
        }
    }
    for alg in ["none", "None", "NONE", "nonE", ""] {
        let head = format!("{}.{}", encode(json!({ "alg": alg }).to_string()), encode(claims().to_string()));
        for signature in ["", "AA", "none"] {
            let answer = send_with_token(&gateway, "GET", "/b/k", &format!("{head}.{signature}")).await;
            assert_eq!(refusal(&answer), (401, "token_algorithm"), "{alg}");
        }
    }
    let embedded = json!({ "alg": "RS256", "jwk": Issuer::other_rsa().jwk(), "jku": "http://127.0.0.1:1/" });
    let token = Issuer::other_rsa().token_with(&embedded, &claims());
    assert_eq!(
        refusal(&send_with_token(&gateway, "GET", "/b/k", &token).await),
        (401, "token_signature"),
        "its own key"
    );
    let narrowed = buckets(&upstream)
        .set("jwt.algorithms", "ES256")
        .set("jwt.public_key_file", &issuer::path("p256.pub.pem"))
        .start()
        .await;
    let rsa = send_with_token(&narrowed, "GET", "/b/k", &Issuer::rsa().token(&claims())).await;
    assert_eq!(refusal(&rsa), (401, "token_algorithm"));
    assert_eq!(upstream.count(), 0);
}

/// A3, A4, E1: without a credential, or with a wrong one, an http bucket answers 401 with its challenge in JSON, an s3
/// bucket in XML
#[tokio::test]
async fn a_refusal_has_the_buckets_format() {
    let upstream = Upstream::ok("x");
    let gateway =
        with_secret(&upstream).bucket("both", &upstream).set("buckets.both.auth", "sigv4,jwt").start().await;
    let bare = get(gateway.address(), "/api/k").await;
    assert_eq!((refusal(&bare), bare.header("www-authenticate")), ((401, "unproven"), Some("Bearer")));
    assert!(bare.text().starts_with("{\"error\":"), "{}", bare.text());
    let wrong = send_with_token(&gateway, "GET", "/api/k", "a.b.c").await;
    assert_eq!(refusal(&wrong), (401, "token_malformed"));
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    for bucket in ["b", "both"] {
        let bare = get(gateway.address(), &format!("/{bucket}/k")).await;
        assert_eq!(refusal(&bare), (403, "unproven"));
        assert!(bare.text().contains("<Code>AccessDenied</Code>"), "{}", bare.text());
        let wrong = send_with_token(&gateway, "GET", &format!("/{bucket}/k"), "a.b.c").await;
        assert_eq!(refusal(&wrong), (401, "token_malformed"));
        assert!(wrong.text().contains("<Code>InvalidToken</Code>"), "{}", wrong.text());
    }
    let denied =
        send_with_token(&gateway, "GET", "/api/k", &Issuer::secret().token(&with("buckets", json!([]))))
            .await;
    assert_eq!((refusal(&denied), denied.header("www-authenticate")), ((403, "policy_denied"), None));
    assert_eq!(upstream.count(), 0);
}

/// A3: two tokens in one header, cookie or parameter are refused
#[tokio::test]
async fn a_repeated_token_is_refused() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream).set("jwt.cookie", "session").set("jwt.query", "token").start().await;
    let token = Issuer::secret().token(&claims());
    let bearer = format!("Bearer {token}");
    let cookie = format!("session={token}; session={token}");
    let query = format!("/api/k?token={token}&tok%65n={token}");
    for (target, headers) in [
        ("/api/k", vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())]),
        ("/api/k", vec![("cookie", cookie.as_str())]),
        (query.as_str(), vec![]),
    ] {
        let answer = request(gateway.address(), "GET", target, &headers, None).await;
        assert_eq!(refusal(&answer), (401, "token_repeated"), "{target}");
    }
    assert_eq!(upstream.count(), 0);
}

/// L8, A3: a wrong signature is charged as a guess, an expired token is not
#[tokio::test]
async fn repeated_wrong_tokens_lock_out_the_address() {
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream)
        .set("rate_limit.failed_auth.requests_per_second", "0.01")
        .set("rate_limit.failed_auth.burst", "2")
        .start()
        .await;
    let expired = Issuer::secret().token(&with("exp", json!(now() - 3600)));
    for _ in 0..4 {
        assert_eq!(send_with_token(&gateway, "GET", "/b/k", &expired).await.reason(), "token_expired");
    }
    let forged = Issuer::with_secret("another secret of thirty-two characters").token(&claims());
    for _ in 0..2 {
        assert_eq!(send_with_token(&gateway, "GET", "/b/k", &forged).await.reason(), "token_signature");
    }
    let refused = send_with_token(&gateway, "GET", "/b/k", &Issuer::secret().token(&claims())).await;
    assert_eq!(refusal(&refused), (429, "rate_limit_failed_auth"));
}

/// V8, A3: ten thousand nearly valid tokens: no crash, no 5xx, nothing accepted
#[tokio::test]
async fn ten_thousand_mangled_tokens_are_refused() {
    const COUNT: usize = 10_000;
    const BYTES: &[u8] = b"0aZ_-./=+ ,;\"\\{}:eyJ";
    let upstream = Upstream::ok("x");
    let gateway = with_secret(&upstream).set("jwt.cookie", "session").set("jwt.query", "token").start().await;
    let mut random = SmallRng::seed_from_u64(3);
    let right = Issuer::secret().token(&claims());
    let mut client = Client::connect(gateway.address()).await;
    let mut sent = 0;
    for at in 0..COUNT {
        let mut bytes = right.clone().into_bytes();
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[place] = BYTES[random.random_range(0..BYTES.len())],
                1 => bytes.insert(place, BYTES[random.random_range(0..BYTES.len())]),
                2 => bytes.truncate(place.max(1)),
                _ => drop(bytes.splice(place..place, *b"..")),
            }
        }
        let mangled = String::from_utf8(bytes).unwrap();
        // Some mutations change only the surrounding syntax, which leaves the token intact.
        if mangled.split([' ', ';', ',']).any(|part| part.trim_matches('"') == right) {
            continue;
        }
        let (target, header) = match at % 3 {
            0 => ("/b/k".to_owned(), format!("authorization: Bearer {mangled}\r\n")),
            1 => ("/b/k".to_owned(), format!("cookie: session={mangled}\r\n")),
            _ => {
                (format!("/b/k?token={}", mangled.replace([' ', '"', '\\', '{', '}'], "%20")), String::new())
            }
        };
        let head = format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\n{header}\r\n");
        client.send(head).await;
        let answer = client.response("GET").await;
        assert!(matches!(answer.complete_status(), 401 | 403), "{} {target}\n{header}", answer.status);
        sent += 1;
    }
    assert!(sent > COUNT * 9 / 10, "{sent}");
    assert_eq!(upstream.count(), 0);
    assert!(gateway.log_lines().iter().all(|line| line["msg"] != "panic"));
}

/// A3, G1: token settings that cannot verify anything are a start-up error, and the line names the config key
#[test]
fn unverifiable_token_settings_are_start_up_errors() {
    let directory = Scratch::new();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, html) = (file("empty.json", "{\"keys\":[]}"), file("page.html", "<html>"));
    let upstream = Upstream::ok("x");
    let public = issuer::path("rsa.pub.pem");
    for (settings, expected) in [
        (&[("jwt.public_key_file", issuer::path("rsa.pem"))][..], "jwt.public_key_file: \""),
        (&[("jwt.public_key_file", issuer::path("weak.pub.pem"))], "an RSA key must have 2048 to 8192 bits"),
        (
            &[("jwt.public_key_file", public.clone()), ("jwt.algorithms", "ES256".to_owned())],
            "jwt.algorithms",
        ),
        (&[("jwt.jwks_file", empty)], "has no key for RS256 or ES256"),
        (&[("jwt.jwks_file", html)], "not a JWK set"),
        (&[("jwt.jwks_file", "nowhere.json".to_owned())], "jwt.jwks_file: \"nowhere.json\" cannot be read"),
        (&[("jwt.secret", "short".to_owned())], "jwt.secret: is shorter than 32 characters"),
        (
            &[("jwt.jwks_url", "http://192.0.2.1/keys".to_owned())],
            "jwt.jwks_url: http://192.0.2.1/keys would fetch",
        ),
        (&[], "jwt.jwks_url: no key for verification of tokens is set"),
    ] {
        let builder =
            settings.iter().fold(buckets(&upstream), |builder, (key, value)| builder.set(key, value));
        let ended = builder.run();
        assert_ne!(ended.code, Some(0), "{settings:?}");
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
    }
    let nobodys = Gateway::builder().bucket("b", &upstream).set("buckets.b.auth", "jwt").run();
    assert!(
        nobodys.stderr.contains("buckets.b.auth: lists jwt, but the section jwt is not set"),
        "{}",
        nobodys.stderr
    );
    let anybodys = Gateway::builder().bucket("b", &upstream).set("jwt.secret", issuer::SECRET).run();
    for key in ["jwt.issuer: is required", "jwt.audience: is required"] {
        assert!(anybodys.stderr.contains(key), "{}", anybodys.stderr);
    }
    assert!(!anybodys.stderr.contains(issuer::SECRET), "no secret is repeated");
}
