//! Session tokens, and temporary credentials from a container platform's endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::secrets::file;
use crate::support::{Gateway, Latch, Scratch, Upstream, UpstreamReply, gateway, request, wait_for};

fn lease(id: &str, left: Duration) -> UpstreamReply {
    let end = OffsetDateTime::from(SystemTime::now() + left).format(&Rfc3339).unwrap();
    UpstreamReply::ok(format!(
        "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"s\",\"Token\":\"token-{id}\",\"Expiration\":\"{end}\"}}"
    ))
}

fn with_endpoint(upstream: &Upstream, endpoint: &Upstream) -> gateway::Builder {
    let url = format!("http://{}/v2/credentials/x", endpoint.address());
    Gateway::builder().bucket("b", upstream).set("buckets.b.s3.container_credentials.url", &url)
}

/// The key ID that signed the last request.
fn signed_by(upstream: &Upstream) -> String {
    let last = upstream.last();
    let authorization = last.header("authorization").unwrap();
    authorization.split(['=', '/']).nth(1).unwrap().to_owned()
}

/// A2: the session token is sent and signed; the client's own is not
#[tokio::test]
async fn a_session_token_is_part_of_the_signature() {
    let upstream = Upstream::ok("");
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.access_key_id", "A")
        .set("buckets.b.s3.secret_access_key", "s")
        .set("buckets.b.s3.session_token", "gateways-token")
        .start()
        .await;
    let headers = [("x-amz-security-token", "clients-token")];
    assert_eq!(request(gateway.address(), "GET", "/b/k", &headers, None).await.complete_status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.headers_named("x-amz-security-token"), ["gateways-token"]);
    let authorization = seen.header("authorization").unwrap();
    assert!(
        authorization.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"),
        "{authorization}"
    );
}

/// A2: concurrent first requests wait for one call to the endpoint, with the token from the file
#[tokio::test]
async fn the_first_requests_wait_for_one_call() {
    let (upstream, latch, directory) = (Upstream::ok(""), Latch::new(), Scratch::new());
    let held = latch.clone();
    let endpoint = Upstream::start(move |_| lease("FIRST", Duration::from_secs(3600)).when_open(&held));
    let token = file(directory.path(), "token", "let me in\n", 0o600);
    let gateway = with_endpoint(&upstream, &endpoint)
        .set("buckets.b.s3.container_credentials.authorization_token_file", token.to_str().unwrap())
        .start()
        .await;
    let pending = join_all((0..20).map(|_| gateway.get("/b/k")));
    let opening = async {
        endpoint.wait_until_in_flight(1).await;
        latch.open_for_all();
    };
    let (answers, ()) = tokio::join!(pending, opening);
    assert!(answers.iter().all(|answer| answer.complete_status() == 200), "{answers:?}");
    assert_eq!((signed_by(&upstream).as_str(), endpoint.count()), ("FIRST", 1));
    assert_eq!(upstream.last().header("x-amz-security-token"), Some("token-FIRST"));
    let asked = endpoint.last();
    assert_eq!(
        (asked.target.as_str(), asked.header("authorization")),
        ("/v2/credentials/x", Some("let me in"))
    );
}

/// A2: credentials are renewed before they expire, without a failing request
#[tokio::test]
async fn credentials_are_renewed_before_they_expire() {
    let upstream = Upstream::ok("");
    let endpoint = Upstream::start(|seen| match seen.number {
        1 => lease("FIRST", Duration::from_secs(4)),
        _ => lease("SECOND", Duration::from_secs(3600)),
    });
    let gateway = with_endpoint(&upstream, &endpoint).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(signed_by(&upstream), "FIRST");
    wait_for("the second pair signs", || async {
        assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
        (signed_by(&upstream) == "SECOND").then_some(())
    })
    .await;
    assert_eq!(endpoint.count(), 2);
}

/// A2: while the endpoint fails the old pair stays in use until it expires; then 503 with its reason, until the
/// endpoint answers
#[tokio::test]
async fn a_failing_endpoint_has_no_effect_until_the_pair_expires() {
    let (upstream, is_up) = (Upstream::ok(""), Arc::new(AtomicBool::new(false)));
    let up = Arc::clone(&is_up);
    let endpoint = Upstream::start(move |seen| match seen.number {
        1 => lease("FIRST", Duration::from_secs(4)),
        _ if up.load(Ordering::SeqCst) => lease("LATER", Duration::from_secs(3600)),
        _ => UpstreamReply::new(500, "secret-of-the-endpoint"),
    });
    let gateway = with_endpoint(&upstream, &endpoint).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    let failed = gateway.wait_for_log_line("credentials cannot be renewed", |_| true).await;
    assert_eq!(failed["error"], "response status 500");
    let (refused, sent) = wait_for("the pair expires", || async {
        let answer = gateway.get("/b/k").await;
        (answer.complete_status() != 200).then(|| (answer, upstream.count()))
    })
    .await;
    assert_eq!((refused.status, refused.reason()), (503, "upstream_credentials"));
    assert!(matches!(refused.retry_after(), Some(1 | 2)), "{refused:?}");
    assert!(refused.text().contains("<Code>ServiceUnavailable</Code>"), "{}", refused.text());
    assert_eq!(gateway.get("/b/k").await.complete_status(), 503);
    assert_eq!(upstream.count(), sent, "nothing is sent unsigned");
    is_up.store(true, Ordering::SeqCst);
    wait_for("the endpoint is back", || async {
        (gateway.get("/b/k").await.complete_status() == 200).then_some(())
    })
    .await;
    assert_eq!(signed_by(&upstream), "LATER");
    assert!(gateway.log_lines().iter().all(|line| !line.to_string().contains("secret-of-the-endpoint")));
}

/// A2: an endpoint without credentials from the start is reported at once
#[tokio::test]
async fn without_any_credentials_nothing_is_sent_upstream() {
    let (upstream, endpoint) = (Upstream::ok(""), Upstream::ok("<html>"));
    let gateway = with_endpoint(&upstream, &endpoint).start().await;
    let answer = gateway.get("/b/k").await;
    assert_eq!((answer.complete_status(), answer.reason()), (503, "upstream_credentials"));
    assert_eq!(upstream.count(), 0);
}
