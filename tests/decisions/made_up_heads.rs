//! `POST /explain` for preflights, and for what a head declares about its body.

use serde_json::{Value, json};

use super::FaultyRequest;
use super::made_up::explain;
use crate::auth::signer::Signer;
use crate::support::{Gateway, Upstream, request};

const APP: (&str, &str) = ("origin", "https://app.example.com");
const ORIGIN: &str = "https://app.example.com";
const READS: (&str, &str) = ("access-control-request-method", "GET");

/// The made-up request and its headers.
fn made_up(method: &str, url: &str, headers: &[(&str, &str)]) -> Value {
    let headers: Value =
        headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    json!({ "method": method, "url": url, "headers": headers, "client": "127.0.0.1" })
}

/// The last step of an explanation.
fn last_step(explanation: &Value) -> &Value {
    explanation["steps"].as_array().unwrap().last().unwrap()
}

/// O6, A6: an explained preflight is refused, answered or forwarded like the real one
#[tokio::test]
async fn an_explained_preflight_is_the_real_one() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .bucket("closed", &upstream)
        .bucket("shared", &upstream)
        .http_bucket("api", &upstream)
        .set("buckets.closed.auth", "")
        .set("buckets.shared.cors.allowed_origins", ORIGIN)
        .set("buckets.shared.cors.allowed_methods", "GET")
        .start()
        .await;
    let stranger = ("origin", "https://other.example.com");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 7] = [
        ("/api/k", &[APP, READS], "refused", "method"),
        ("/b/k", &[], "refused", "preflight"),
        ("/closed/k", &[APP, READS], "refused", "bucket_closed"),
        ("/shared/k", &[stranger, READS], "refused", "cors"),
        ("/shared/k", &[], "refused", "preflight"),
        ("/shared/k", &[APP, READS], "answered", ""),
        ("/b/k", &[APP, READS], "forwarded", ""),
    ];
    for (url, headers, outcome, reason) in cases {
        let explanation = explain(&gateway, &made_up("OPTIONS", url, headers)).await;
        let before = upstream.count();
        let answer = request(gateway.address(), "OPTIONS", url, headers, None).await;
        assert_eq!(answer.reason(), reason, "{url}: {answer:?}");
        let was_forwarded = upstream.count() > before;
        assert_eq!(was_forwarded, outcome == "forwarded", "{url}");
        assert_eq!(explanation["outcome"], outcome, "{url}: {explanation}");
        match outcome {
            "refused" => {
                let refusal = &explanation["refusal"];
                assert_eq!(
                    (&refusal["reason"], &refusal["status"]),
                    (&reason.into(), &answer.status.into()),
                    "{explanation}"
                );
            }
            "answered" => {
                let last = last_step(&explanation);
                assert_eq!((&last["step"], &last["result"]), (&"preflight".into(), &"pass".into()));
                assert!(last["sentence"].as_str().unwrap().contains("`buckets.shared.cors`"), "{last}");
                assert_eq!(answer.complete_status(), 200);
            }
            _ => assert_eq!(last_step(&explanation)["step"], "endpoint", "{explanation}"),
        }
    }
}

/// O6: a head that declares its body falsely is refused, as without an explanation
#[tokio::test]
async fn what_a_head_declares_about_its_body_is_checked() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder().bucket("b", &upstream).http_bucket("api", &upstream).start().await;
    let streaming = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let cases: [FaultyRequest<'_>; 6] = [
        ("PUT", "/b/k", &[("x-amz-checksum-crc32", "!!")], "checksum_malformed"),
        ("POST", "/b/k?uploads", &[("content-md5", "!!")], "md5_malformed"),
        ("PUT", "/b/k", &[("x-amz-content-sha256", "none")], "payload_hash"),
        ("PUT", "/b/k", &[streaming, ("x-amz-decoded-content-length", "many")], "decoded_length"),
        ("PUT", "/b/k", &[("x-amz-checksum-crc32", "AAAAAA==")], ""),
        ("PUT", "/api/k", &[("x-amz-checksum-crc32", "!!")], ""),
    ];
    for (method, url, headers, reason) in cases {
        let with_length = [headers, &[("content-length", "1")]].concat();
        let explanation = explain(&gateway, &made_up(method, url, &with_length)).await;
        let body = explanation["steps"].as_array().unwrap().iter().find(|step| step["step"] == "body");
        if reason.is_empty() {
            assert_eq!(explanation["outcome"], "forwarded", "{url} {headers:?}: {explanation}");
            assert_eq!(body.is_some(), url.starts_with("/b/"), "{explanation}");
            continue;
        }
        let answer = request(gateway.address(), method, url, headers, Some(b"x")).await;
        assert_eq!(answer.reason(), reason, "{url} {headers:?}: {answer:?}");
        let refusal = &explanation["refusal"];
        assert_eq!(
            (&refusal["reason"], &refusal["status"]),
            (&reason.into(), &answer.status.into()),
            "{url} {headers:?}: {explanation}"
        );
        assert_eq!(body.map(|step| &step["result"]), Some(&"refuse".into()), "{explanation}");
    }
}

/// O6: the payload hash of a signed request is checked by its authentication
#[tokio::test]
async fn a_signed_payload_hash_is_checked() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.auth", "sigv4")
        .set("keys.writer.access_key_id", "WRITER")
        .set("keys.writer.secret", "a-secret-of-the-writer")
        .set("keys.writer.policy", "writers")
        .set("policies.writers.buckets", "b")
        .set("policies.writers.methods", "write")
        .start()
        .await;
    for (hash, reason) in [("none", "content_sha256_malformed"), ("UNSIGNED-PAYLOAD", "")] {
        let signer = Signer::new("WRITER", "a-secret-of-the-writer");
        let signed = signer.headers("PUT", "/b/k", hash, &[]);
        let headers: Vec<(&str, &str)> =
            signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let with_length = [headers.as_slice(), &[("content-length", "1")]].concat();
        let explanation = explain(&gateway, &made_up("PUT", "/b/k", &with_length)).await;
        let answer = request(gateway.address(), "PUT", "/b/k", &headers, Some(b"x")).await;
        assert_eq!(answer.reason(), reason, "{answer:?}");
        let refusal = &explanation["refusal"];
        assert_eq!(refusal["reason"].as_str().unwrap_or_default(), reason, "{explanation}");
    }
}
