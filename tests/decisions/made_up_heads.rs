//! `POST /explain` for preflights.

use serde_json::{Value, json};

use super::made_up::explain;
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
    let cases: [(&str, &[(&str, &str)], &str, &str); 7] = [
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
