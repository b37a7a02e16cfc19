//! An injected panic in a request handler affects only that request.

use crate::support::{Client, Gateway, Latch, Upstream, UpstreamReply, client, get, put};

/// E3, E1, S5: 500 in S3's format, the stack in the log, nothing leaked; a download in flight and later requests are
/// not affected
#[tokio::test]
async fn a_panicking_request_is_500_and_affects_no_other() {
    let latch = Latch::new();
    let held = latch.clone();
    let upstream = Upstream::start(move |seen| {
        if seen.target.ends_with("/held") {
            UpstreamReply::ok("begin").then_body_when_open(&held, "end")
        } else {
            UpstreamReply::ok("x")
        }
    });
    let gateway = Gateway::builder().bucket("b", &upstream).chaos().set("server.workers", "1").start().await;
    let mut under_way = Client::connect(gateway.address()).await;
    under_way.send(client::message("GET", "/b/held", &[], None)).await;
    let mut answer = under_way.head().await;

    let large = vec![b'x'; 1 << 20];
    for body in [&b""[..], b"small", &large] {
        assert_eq!(gateway.post("/requests/crash").await.complete_status(), 202);
        let panicked = put(gateway.address(), "/b/k", body).await;
        assert_eq!((panicked.complete_status(), panicked.reason()), (500, "panic"), "{} bytes", body.len());
        assert!(panicked.text().contains("<Code>InternalError</Code>"), "{}", panicked.text());
        assert_eq!(get(gateway.address(), "/b/k").await.complete_status(), 200, "the next one is served");
    }
    let line = gateway.wait_for_log_line("panic", |line| line["panic"] == "chaos panic in a request").await;
    assert!(line["stack"].as_str().is_some_and(|stack| !stack.is_empty()), "{line}");
    assert_eq!(gateway.metric("errors_total{bucket=\"b\",reason=\"panic\"}").await, 3.0);

    latch.open_for_all();
    under_way.body(&mut answer, "GET").await;
    assert_eq!((answer.complete_status(), answer.text().as_str()), (200, "beginend"));
    gateway.wait_until_idle().await;
    let sent = upstream.seen().iter().filter(|seen| seen.method == "PUT").count();
    assert_eq!(sent, 0, "the panicking request was not forwarded");
}

/// E3: without `admin.chaos` neither a crash nor a stall can be injected
#[tokio::test]
async fn chaos_is_refused_when_off() {
    let upstream = Upstream::ok("x");
    let gateway = Gateway::in_front_of(&upstream).await;
    for path in ["/requests/crash", "/actors/limiter/stall?ms=1000", "/actors/limiter/crash"] {
        let answer = gateway.post(path).await;
        assert_eq!(answer.complete_status(), 403, "{path}");
        assert!(answer.text().contains("admin.chaos"), "{}", answer.text());
    }
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
}
