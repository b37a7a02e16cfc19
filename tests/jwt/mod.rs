//! JWTs of clients: accepted issuers, granted rights, and removal before forwarding.
//!
//! They are signed here with ring and keys made with openssl (`keys/`, for these tests only).

mod accepted;
pub(crate) mod issuer;
mod rejected;
mod rotation;
mod schemes;
mod sources;

use serde_json::{Value, json};

use crate::support::{Gateway, Response, Upstream, gateway, request};
use issuer::{Issuer, SECRET, now};

/// Valid claims.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://issuer.test",
        "aud": "tidegate",
        "sub": "ann",
        "exp": now() + 600,
        "buckets": ["b", "api"],
        "prefixes": [""],
        "methods": ["read", "write", "delete", "list"],
    })
}

/// Valid claims with one changed; null removes it.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// The s3 bucket `b` and the http bucket `api`, which accept tokens only; no key yet.
pub(crate) fn buckets(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .set("buckets.b.auth", "jwt")
        .http_bucket("api", upstream)
        .set("buckets.api.auth", "jwt")
        .set("jwt.issuer", "https://issuer.test")
        .set("jwt.audience", "tidegate,another")
}

/// With the secret of HS256 tokens.
fn with_secret(upstream: &Upstream) -> gateway::Builder {
    buckets(upstream).set("jwt.secret", SECRET)
}

/// With the public key of this file.
fn with_public_key(upstream: &Upstream, file: &str) -> gateway::Builder {
    buckets(upstream).set("jwt.public_key_file", &issuer::path(file))
}

/// Sends a request with a token in the `Authorization` header.
pub(crate) async fn send_with_token(gateway: &Gateway, method: &str, target: &str, token: &str) -> Response {
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
    let authorization = format!("Bearer {token}");
    request(gateway.address(), method, target, &[("authorization", &authorization)], body).await
}

/// An issuer for each algorithm, and a gateway with its key.
async fn each_algorithm(upstream: &Upstream) -> [(Issuer, Gateway); 3] {
    [
        (Issuer::secret(), with_secret(upstream).start().await),
        (Issuer::rsa(), with_public_key(upstream, "rsa.pub.pem").start().await),
        (Issuer::p256(), with_public_key(upstream, "p256.pub.pem").start().await),
    ]
}
