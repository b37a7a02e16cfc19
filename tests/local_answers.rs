//! The gateway's own answers are subject to the level, the in-flight slot and the rate limits.

use crate::support::{
    Client, Gateway, Response, Upstream, UpstreamReply, client, gateway, request, wait_for,
};

const REQUESTS: usize = 20;
const BURST: usize = 2;

/// A request that the gateway answers itself, and the status of its answer.
const LOCAL: [(&str, &str, u16); 10] = [
    ("GET", "/", 200),
    ("GET", "//x", 200),
    ("HEAD", "/", 405),
    ("GET", "/nowhere/k", 404),
    ("DELETE", "/no%20bucket/k", 404),
    ("GET", "/b/a/../c", 400),
    ("OPTIONS", "/pages/k", 200),
    ("TRACE", "/b/k", 405),
    ("POST", "/b/k", 411),
    ("GET", "/b/%00", 400),
];

fn builder(upstream: &Upstream) -> gateway::Builder {
    Gateway::builder()
        .bucket("b", upstream)
        .bucket("pages", upstream)
        .set("buckets.pages.cors.allowed_origins", "https://app.test")
        .set("buckets.pages.cors.allowed_methods", "GET")
}

async fn send_request(gateway: &Gateway, method: &str, target: &str) -> Response {
    let headers = [("origin", "https://app.test"), ("access-control-request-method", "GET")];
    let headers = if method == "OPTIONS" { &headers[..] } else { &[] };
    request(gateway.address(), method, target, headers, None).await
}

async fn probes_answer(gateway: &Gateway) {
    for probe in ["/-/livez", "/-/readyz"] {
        assert_eq!(gateway.get(probe).await.complete_status(), 200, "{probe}");
    }
}

/// L1: each local answer is charged to its client, and beyond the burst all are 429
#[tokio::test]
async fn local_answers_are_charged_to_their_client() {
    for (limit, reason) in [("per_ip", "rate_limit_ip"), ("global", "rate_limit_global")] {
        for (method, target, status) in LOCAL {
            let upstream = Upstream::ok("x");
            let gateway = builder(&upstream)
                .set(&format!("rate_limit.{limit}.requests_per_second"), "0.001")
                .set(&format!("rate_limit.{limit}.burst"), &BURST.to_string())
                .start()
                .await;
            let mut refused = 0;
            for at in 0..REQUESTS {
                let answer = send_request(&gateway, method, target).await;
                let expected = if at < BURST { status } else { 429 };
                assert_eq!(answer.complete_status(), expected, "{limit}: {method} {target}, request {at}");
                refused += usize::from(answer.reason() == reason);
            }
            assert_eq!(refused, REQUESTS - BURST);
            assert_eq!(upstream.count(), 0);
            probes_answer(&gateway).await;
        }
    }
}

/// X2, X3: at `exhausted` local answers are shed, but health requests are answered
#[tokio::test]
async fn local_answers_are_shed() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream).exhaust_at_half_of_descriptors().start().await;
    gateway.exhaust_descriptors();
    wait_for("the level is exhausted", || async {
        (gateway.status().await["level"] == "exhausted").then_some(())
    })
    .await;
    for (method, target, _) in LOCAL {
        let answer = send_request(&gateway, method, target).await;
        assert_eq!((answer.complete_status(), answer.reason()), (503, "exhausted"), "{method} {target}");
    }
    probes_answer(&gateway).await;
}

/// P2: local answers are refused while every in-flight slot is taken, and release their slot
#[tokio::test]
async fn local_answers_need_a_slot() {
    let upstream = Upstream::start(|_| UpstreamReply::hang());
    let gateway = builder(&upstream).set("server.max_concurrent_requests", "1").start().await;
    for (method, target, status) in LOCAL {
        assert_eq!(
            send_request(&gateway, method, target).await.complete_status(),
            status,
            "{method} {target}"
        );
        gateway.wait_until_idle().await;
    }
    let mut holder = Client::connect(gateway.address()).await;
    holder.send(client::message("GET", "/b/k", &[], None)).await;
    upstream.wait_until_in_flight(1).await;
    for (method, target, _) in LOCAL {
        let answer = send_request(&gateway, method, target).await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (503, "too_many_requests_in_flight"),
            "{method} {target}"
        );
    }
    probes_answer(&gateway).await;
}

/// L1: local answers and forwarded requests share the client's budget
#[tokio::test]
async fn local_answers_and_requests_share_a_budget() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "3")
        .start()
        .await;
    for (target, status) in
        [("/nowhere/k", 404), ("/", 200), ("/b/k", 200), ("/b/k", 429), ("/", 429), ("/x/k", 429)]
    {
        assert_eq!(gateway.get(target).await.complete_status(), status, "{target}");
    }
    assert_eq!(gateway.metric("unrouted_total{reason=\"rate_limit_ip\"}").await, 2.0);
}

/// L1, V1: a request with ambiguous framing closes its connection, also if a limit refuses it
#[tokio::test]
async fn a_limited_ambiguous_request_closes_its_connection() {
    let upstream = Upstream::ok("x");
    let gateway = builder(&upstream)
        .set("rate_limit.per_ip.requests_per_second", "0.001")
        .set("rate_limit.per_ip.burst", "1")
        .start()
        .await;
    let ambiguous =
        "POST /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for status in [400, 429] {
        let mut client = Client::connect(gateway.address()).await;
        client.send(format!("{ambiguous}GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(client.response("POST").await.complete_status(), status);
        assert!(client.is_closed().await, "{status}");
    }
    assert_eq!(upstream.count(), 0);
}
