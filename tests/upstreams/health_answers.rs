//! Answers to health checks in each framing of HTTP/1, and those that are none. awc sends the checks: its faults in
//! `docs/design/connections.md` must not show.

use crate::support::{Gateway, Upstream, UpstreamReply, wait_for};

/// A gateway that checks each of these endpoints ten times a second.
async fn gateway_before(endpoints: &[Upstream]) -> Gateway {
    let addresses: Vec<_> = endpoints.iter().map(Upstream::address).collect();
    Gateway::builder()
        .bucket_at("b", &addresses)
        .set("buckets.b.s3.health_check.path", "/health?deep=1")
        .set("buckets.b.s3.health_check.interval_seconds", "0.1")
        .set("buckets.b.s3.health_check.timeout_seconds", "10")
        .start()
        .await
}

fn endpoints(replies: impl IntoIterator<Item = UpstreamReply>) -> Vec<Upstream> {
    replies.into_iter().map(|reply| Upstream::start(move |_| reply.clone())).collect()
}

/// P5: a 2xx is healthy in whatever framing, even if its body never ends; each check has a connection of its own
#[tokio::test]
async fn a_success_is_healthy_in_each_framing() {
    let raw = |text: &str| UpstreamReply::raw(text);
    let all = endpoints([
        UpstreamReply::ok("x"),
        UpstreamReply::ok("x").chunked(),
        UpstreamReply::ok("x").until_close(),
        UpstreamReply::status(204),
        raw("HTTP/1.0 200 OK\r\n\r\nx"),
        raw("HTTP/1.1 200 OK\n\nx"),
        raw("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
        raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ntruncated"),
        raw("HTTP/1.1 200 OK\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n"),
    ]);
    let gateway = gateway_before(&all).await;
    for endpoint in &all {
        wait_for("three checks", || async { (endpoint.count() >= 3).then_some(()) }).await;
        assert!(endpoint.connections() >= 3);
        let check = endpoint.last();
        assert_eq!((check.method.as_str(), check.target.as_str()), ("GET", "/health?deep=1"));
        assert_eq!(
            (check.headers_named("connection"), check.header("content-length")),
            (vec!["close"], None)
        );
    }
    let failed = |line: &serde_json::Value| line["msg"] == "health check failed";
    assert_eq!(gateway.log_lines().into_iter().find(failed), None);
}

/// P5: what is no success, or no answer, is unhealthy, with its cause; a redirect is not followed
#[tokio::test]
async fn each_other_answer_is_unhealthy() {
    let elsewhere = Upstream::ok("x");
    let target = format!("http://{}/", elsewhere.address());
    let raw = |text: &str| UpstreamReply::raw(text);
    let cases = [
        (UpstreamReply::status(302).header("location", &target), "responded with status 302"),
        (UpstreamReply::status(503), "responded with status 503"),
        (raw("HTTP/1.1 103 Early Hints\r\n\r\n"), "the upstream closed the connection"),
        (raw("HTTP/1.1 200 OK\r\ncontent-le"), "the upstream closed the connection"),
        (raw(""), "the upstream closed the connection"),
        (UpstreamReply::reset(), "reset by peer"),
        (raw("HTTP/1.1 101 x\r\nupgrade: websocket\r\n\r\n"), "switches protocols"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), "not a number of bytes"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"), "has both"),
        (raw("HTTP/2 200\r\n\r\n"), "neither 1.1 nor 1.0"),
        (raw("SSH-2.0-x\r\n"), "not an HTTP/1 response"),
    ];
    let all = endpoints(cases.iter().map(|(reply, _)| reply.clone()));
    let gateway = gateway_before(&all).await;
    for (endpoint, (_, expected)) in all.iter().zip(&cases) {
        let name = endpoint.address().to_string();
        let line = gateway.wait_for_log_line("health check failed", |line| line["endpoint"] == name).await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
    assert_eq!(elsewhere.count(), 0);
}
