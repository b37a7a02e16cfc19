//! Tokens of clients: whose are believed, what they may do, and that they end at the gateway.
//!
//! They are signed here with ring and keys that openssl made (`keys/`, for these tests and nothing else).

mod accepted;
pub(crate) mod issuer;
mod rejected;
mod rotation;
mod schemes;

use serde_json::{Value, json};

use crate::support::{Gateway, Response, Upstream, gateway, request};
use issuer::{Issuer, SECRET, now};

/// Claims that are right.
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

/// Claims of which one thing is otherwise; null takes it away.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// The s3 bucket `b` and the http bucket `api`, which take tokens only; no key yet.
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

/// Asks with a token in the `Authorization` header.
pub(crate) async fn ask(gateway: &Gateway, method: &str, target: &str, token: &str) -> Response {
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
    let authorization = format!("Bearer {token}");
    request(gateway.address(), method, target, &[("authorization", &authorization)], body).await
}

/// An issuer for each algorithm, and a gateway that believes it.
async fn each_algorithm(upstream: &Upstream) -> [(Issuer, Gateway); 3] {
    [
        (Issuer::secret(), with_secret(upstream).start().await),
        (Issuer::rsa(), with_public_key(upstream, "rsa.pub.pem").start().await),
        (Issuer::p256(), with_public_key(upstream, "p256.pub.pem").start().await),
    ]
}
