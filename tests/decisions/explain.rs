//! `GET /explain`: the story of one request.

use serde_json::Value;

use crate::support::{Gateway, Upstream, UpstreamReply, request, wait_for};

async fn story(gateway: &Gateway, id: &str) -> Value {
    wait_for("the end of the request is recorded", || async {
        let answer = gateway.admin(&format!("/explain?request_id={id}")).await;
        let story: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status == 200).then_some(story)
    })
    .await
}

/// O6: a request that was repeated has its attempts, their reason and its end in the order of time
#[tokio::test]
async fn a_repeated_request_has_a_story() {
    let upstream = Upstream::sequence(vec![UpstreamReply::status(503), UpstreamReply::ok("0123456789")]);
    let gateway = Gateway::in_front_of(&upstream).await;
    let answer = request(gateway.address(), "GET", "/b/k", &[("x-request-id", "told")], None).await;
    assert_eq!(answer.complete_status(), 200);
    gateway.wait_for_access_line("told").await;
    let story = story(&gateway, "told").await;
    let all = story["sentences"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
    // On a busy machine the answer of the pool itself can take 10 ms.
    let sentences: Vec<&str> = all.filter(|one| !one.contains("had waited")).collect();
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    for part in [
        "failed with status 503",
        "and the gateway was to repeat it",
        "`upstream_status`",
        "measured 1 attempt, threshold 3 attempts",
        "`buckets.b.s3.retry.max_attempts`",
    ] {
        assert!(sentences[0].contains(part), "{part}: {}", sentences[0]);
    }
    for part in ["the request ended with status 200", ", all attempts ", "attempts: 2", "bytes sent: 10"] {
        assert!(sentences[1].contains(part), "{part}: {}", sentences[1]);
    }
    let line = gateway.wait_for_access_line("told").await;
    let end = &story["end"];
    for field in ["status", "attempts", "sent_bytes", "total_us", "first_byte_us", "queue_us", "admission_us"]
    {
        assert_eq!(end[field], line[field], "{field} as in the access line");
    }
}

/// O6: the story of a refusal has its reason, figures and time
#[tokio::test]
async fn a_refusal_has_a_story() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.rate_limit.requests_per_second", "0.001")
        .set("buckets.b.rate_limit.burst", "1")
        .start()
        .await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    request(gateway.address(), "GET", "/b/k", &[("x-request-id", "refused")], None).await;
    let story = story(&gateway, "refused").await;
    assert_eq!(
        (&story["end"], &story["decisions"][0]["reason"]),
        (&Value::Null, &"rate_limit_bucket".into())
    );
    let sentence = story["sentences"][0].as_str().unwrap();
    for part in [
        "refused the request of bucket `b` with status 429",
        "`rate_limit_bucket`",
        "measured 0 tokens, threshold 1 token;",
        "`buckets.b.rate_limit.burst` (TIDEGATE_BUCKETS__B__RATE_LIMIT__BURST)",
        "actor `limiter`",
    ] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
}

/// O6: a request without decisions has no story, and the reply has the cause
#[tokio::test]
async fn a_request_without_decisions_has_no_story() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.cors.allowed_origins", "https://app.example.com")
        .set("buckets.b.cors.allowed_methods", "GET")
        .start()
        .await;
    let preflight = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "GET"),
        ("x-request-id", "quiet"),
    ];
    let answer = request(gateway.address(), "OPTIONS", "/b/k", &preflight, None).await;
    assert_eq!(answer.complete_status(), 200);
    gateway.wait_for_access_line("quiet").await;
    let answer = gateway.admin("/explain?request_id=quiet").await;
    assert_eq!(answer.complete_status(), 404);
    let error: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(error["error"]["code"], "request_not_found");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("quiet") && message.contains("not recorded"), "{message}");
}

/// O6: a story has the newest entries of its ID, and the number of older ones that it leaves out
#[tokio::test]
async fn a_long_story_counts_what_it_omits() {
    const REFUSALS: usize = 130;
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for _ in 0..REFUSALS {
        let answer =
            request(gateway.address(), "GET", "/nowhere/k", &[("x-request-id", "often")], None).await;
        assert_eq!(answer.reason(), "no_such_bucket");
    }
    request(gateway.address(), "GET", "/nowhere/k", &[("x-request-id", "once")], None).await;
    let often = story(&gateway, "often").await;
    assert_eq!(often["decisions"].as_array().unwrap().len(), 100);
    assert_eq!(often["omitted"], REFUSALS - 100, "{}", often["omitted"]);
    let all = super::decisions(&gateway, "request_id=often&limit=100").await;
    let newest: Vec<&Value> = all.iter().rev().collect();
    assert_eq!(often["decisions"].as_array().unwrap().iter().collect::<Vec<_>>(), newest, "the newest stay");
    let once = story(&gateway, "once").await;
    assert_eq!((&once["omitted"], once["decisions"].as_array().unwrap().len()), (&0.into(), 1));
}
