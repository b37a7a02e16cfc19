//! Authentication and authorisation of clients: signatures, keys, policies and anonymous access.
//!
//! Accepted requests are made with the AWS SDK; refused ones have exactly one fault each.

mod api_keys;
mod cdn;
mod form_details;
mod forms;
mod fuzz;
mod key_variables;
mod limits;
mod mismatch;
mod multi_delete;
mod names;
mod operations;
mod path_encodings;
mod policies;
mod presigned_preflights;
mod regions;
mod rejections;
mod signed;
pub(crate) mod signer;
mod tokens;
mod version_2;

use crate::support::{Gateway, Response, Upstream, gateway, request};
use signer::{Headers, Signer};

const ID: &str = "AKIDREADER";
const SECRET: &str = "reader/secret+of/forty=characters";
const GUEST: &str = "guest-secret";

/// Bucket `b`, which accepts signatures only, and one key with all rights.
fn signed_bucket(upstream: &Upstream) -> gateway::Builder {
    with_key(Gateway::builder().bucket("b", upstream).set("buckets.b.auth", "sigv4"))
}

/// One key with all rights.
fn with_key(builder: gateway::Builder) -> gateway::Builder {
    builder
        .set("keys.reader.access_key_id", ID)
        .set("keys.reader.secret", SECRET)
        .set("keys.reader.policy", "all")
        .set("policies.all.buckets", "*")
        .set("policies.all.methods", "read,write,delete,list,configure")
}

fn signer() -> Signer {
    Signer::new(ID, SECRET)
}

/// A second key, which may use these methods on keys with this prefix in `b`.
fn with_guest(builder: gateway::Builder, prefix: &str, methods: &str) -> gateway::Builder {
    builder
        .set("keys.guest.access_key_id", "GUEST")
        .set("keys.guest.secret", GUEST)
        .set("keys.guest.policy", "guests")
        .set("policies.guests.buckets", "b")
        .set("policies.guests.prefixes", prefix)
        .set("policies.guests.methods", methods)
}

fn guest() -> Signer {
    Signer::new("GUEST", GUEST)
}

/// Sends a request with these headers.
async fn send(
    gateway: &Gateway,
    method: &str,
    target: &str,
    headers: &Headers,
    body: Option<&[u8]>,
) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    request(gateway.address(), method, target, &headers, body).await
}

/// Sends a signed request without a body.
async fn send_signed(gateway: &Gateway, signer: &Signer, method: &str, target: &str) -> Response {
    let headers = signer.headers(method, target, "UNSIGNED-PAYLOAD", &[]);
    let body: Option<&[u8]> = matches!(method, "PUT" | "POST").then_some(b"x");
    send(gateway, method, target, &headers, body).await
}

/// The code in an S3 error document.
fn s3_error_code(answer: &Response) -> String {
    answer.element("Code").unwrap_or_default()
}
